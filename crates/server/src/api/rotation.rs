//! Rotation: a credential is replaced without a pause, and the old one is ended when nobody uses it any more.
//!
//! Every handler makes one conditional statement of the store. When that finds nothing to change, the rules of
//! `keyward_model::credential` say of what is there now why.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use keyward_model::caller::{KEPT_UNSEEN, Outcome};
use keyward_model::credential::{Credential, EndReason, Refused, State, StateName, hard_end};
use keyward_model::event::Draft;
use keyward_model::id::CredentialId;
use keyward_model::rights::{ResSet, ScopeSet};
use keyward_model::time::Timestamp;
use keyward_store::{CallerFilter, CallerSummary, SeenCaller, StoreError, Tx};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Begun, Json, Tagged, present, stale};
use crate::api::call::Call;
use crate::api::callers::CallerView;
use crate::api::credentials::{
    CredentialView, IssuedCredential, NewCredential, again, describe, find, issued, make, require_handing_out,
    require_room, tagged,
};
use crate::api::id;
use crate::api::instant::Instant;
use crate::app::App;
use crate::respond::{ApiError, CallersRemain, Problem, ProblemDetails};

/// The most callers that a refusal names.
const NAMED: u16 = 20;
/// The most reporters that a refusal names.
const REPORTERS: usize = 3;
/// How long the quiet may be that is asked for. Whoever wants less does not want to know: that is `force`. Of more nobody
/// knows anything: those not seen for longer are forgotten.
const QUIET: RangeInclusive<Duration> = Duration::from_secs(60)..=KEPT_UNSEEN;

/// How a credential is replaced.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// What people call the successor; as the old one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When the successor ends by itself; `null` for never. If absent it lives as long as the old one was to live.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<Instant>>,
    /// The hard end of the old one, instead of `overlap_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retire_at: Option<Instant>,
    /// For how long the old one goes on; 7 days unless the server is set otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_seconds: Option<u64>,
    /// Narrower scopes than the client's, or `null` for those; as the old one's if absent.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<Option<ScopeSet>>,
    /// Narrower resources than the client's, or `null` for those; as the old one's if absent.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub res: Option<Option<ResSet>>,
}

/// Another hard end.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// The hard end, later or earlier than before.
    #[schema(value_type = String, format = DateTime)]
    pub retire_at: Instant,
}

/// How a rotation is finished, or cancelled: either ends a credential that may be in use.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    /// End it even if it is in use.
    #[serde(default)]
    pub force: bool,
    /// For how long nobody may have used it: from a minute to 90 days; 24 hours unless the server is set otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_for_seconds: Option<u64>,
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(rotate)).routes(routes!(cancel)).routes(routes!(extend)).routes(routes!(finish))
}

/// Rotate a credential: the answer holds its successor's API key, shown once
///
/// The old one retires: it works until its hard end.
#[utoipa::path(post, path = "/api/v1/credentials/{id}/rotate", tag = "credentials", request_body = Rotation,
    params(("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless for 24 hours")),
    responses((status = 201, body = IssuedCredential), (status = "default", body = ProblemDetails)))]
async fn rotate(
    call: Call,
    Path(path): Path<String>,
    body: Json<Rotation>,
) -> Result<Tagged<IssuedCredential>, ApiError> {
    let (old, client) = find(&call, id(&path)?).await?;
    call.require_management_of(&client)?;
    if let Some(made) = body.made_before(&call).await? {
        return again(&call, &made).await;
    }
    let retire_at = end_of_overlap(&call, &body.value)?;
    // Before anything is made: a bootstrap key would be used up by the attempt to rotate it.
    old.retire(retire_at, call.now)?;
    let mut tx = match body.begin(&call).await? {
        Begun::First(tx) => tx,
        Begun::Again(made) => return again(&call, &made).await,
    };
    require_room(&call, &mut tx, client.id, StateName::Retiring).await?;
    let (successor, key) = make(&call, &mut tx, &client, successor_of(&call, &old, body.value.clone())).await?;
    body.note_made(&call, &mut tx, &successor.id.to_string()).await?;
    let Some(old) = tx.retire_credential(&old, successor.id, retire_at, call.now).await? else {
        return Err(refusal(&mut tx, old.id, |old| old.retire(retire_at, call.now)).await);
    };
    let data = json!({ "client": client.id, "successor": successor.id, "retire_at": hard_end_of(&old) });
    record(&mut tx, "credential.rotated", &old, data);
    let mut data = describe(&successor);
    data.as_object_mut().and_then(|members| members.insert("replaces".to_owned(), json!(old.id)));
    record(&mut tx, "credential.issued", &successor, data);
    call.commit(tx).await?;
    Ok(issued(&call, successor, Some(key)))
}

/// Undo a rotation: the credential is active again, its successor is revoked, if nobody uses that
#[utoipa::path(post, path = "/api/v1/credentials/{id}/cancel", tag = "credentials", request_body = Finish,
    params(("id" = String, Path)),
    responses((status = 200, body = CredentialView),
        (status = 409, body = CallersRemain, description = "Callers of the successor remain, or it is not retiring"),
        (status = "default", body = ProblemDetails)))]
async fn cancel(call: Call, Path(path): Path<String>, body: Json<Finish>) -> Result<Tagged<CredentialView>, ApiError> {
    let (old, client) = find(&call, id(&path)?).await?;
    call.require_management_of(&client)?;
    require_handing_out(&call, &client, &old)?;
    let Some(successor) = old.successor else {
        return Err(old.cancel(None, call.now).map_or_else(Into::into, |_| stale()));
    };
    let cancel = ending(&call, &body.value)?;
    let mut tx = begin_an_end(&call, &old).await?;
    let Some((old, callers)) = tx.cancel_retirement(&old, successor, &cancel).await? else {
        let of_it = tx.find_credential(successor).await?;
        let refusal = refusal(&mut tx, old.id, |old| old.cancel(of_it.as_ref(), call.now)).await;
        drop(tx);
        let in_use = of_it.is_some_and(|successor| successor.state_at(call.now).authenticates());
        let is_in_the_way = refusal.problem == Problem::Stale && in_use && !cancel.force;
        return Err(if is_in_the_way { callers_remain(&call, successor, &cancel, &BY_CANCEL).await } else { refusal });
    };
    let data = json!({
        "client": client.id, "successor": successor, "forced": cancel.force, "callers": callers,
        "quiet_for_seconds": call.now.since(cancel.quiet_since).as_secs(),
    });
    record(&mut tx, "credential.rotation_cancelled", &old, data);
    // A successor that has ended by itself needs no end.
    if let Some(revoked) = tx.revoke_credential(successor, call.now).await? {
        let data = json!({ "client": client.id, "was": State::Active.name(), "replaces": old.id });
        record(&mut tx, "credential.revoked", &revoked, data);
    }
    call.commit(tx).await?;
    Ok(tagged(&call, old))
}

/// Move the hard end of a retiring credential
///
/// It stays capped by the credential's own expiry.
#[utoipa::path(post, path = "/api/v1/credentials/{id}/extend", tag = "credentials", request_body = Extension,
    params(("id" = String, Path)),
    responses((status = 200, body = CredentialView), (status = "default", body = ProblemDetails)))]
async fn extend(
    call: Call,
    Path(path): Path<String>,
    body: Json<Extension>,
) -> Result<Tagged<CredentialView>, ApiError> {
    let (old, client) = find(&call, id(&path)?).await?;
    call.require_management_of(&client)?;
    require_handing_out(&call, &client, &old)?;
    let retire_at = checked(&call, body.value.retire_at.0, "retire_at")?;
    let mut tx = call.begin().await?;
    let Some(old) = tx.extend_retirement(&old, retire_at, call.now).await? else {
        return Err(refusal(&mut tx, old.id, |old| old.extend(retire_at, call.now)).await);
    };
    let data = json!({ "client": client.id, "successor": old.successor, "retire_at": hard_end_of(&old) });
    record(&mut tx, "credential.rotation_extended", &old, data);
    call.commit(tx).await?;
    Ok(tagged(&call, old))
}

/// Finish a rotation: end the old credential now, if nobody uses it any more
#[utoipa::path(post, path = "/api/v1/credentials/{id}/finish", tag = "credentials", request_body = Finish,
    params(("id" = String, Path)),
    responses((status = 200, body = CredentialView),
        (status = 409, body = CallersRemain, description = "Callers remain, or it is not retiring"),
        (status = "default", body = ProblemDetails)))]
async fn finish(call: Call, Path(path): Path<String>, body: Json<Finish>) -> Result<Tagged<CredentialView>, ApiError> {
    let (old, client) = find(&call, id(&path)?).await?;
    call.require_stopping_of(&client)?;
    let finish = ending(&call, &body.value)?;
    let mut tx = begin_an_end(&call, &old).await?;
    let Some((finished, callers)) = tx.finish_retirement(old.id, &finish).await? else {
        return unfinished(&call, tx, old.id, &finish).await;
    };
    let data = json!({
        "client": client.id, "successor": finished.successor, "forced": finish.force, "callers": callers,
        "quiet_for_seconds": call.now.since(finish.quiet_since).as_secs(),
    });
    record(&mut tx, "credential.finished", &finished, data);
    call.commit(tx).await?;
    Ok(tagged(&call, finished))
}

/// Starts a change that callers may stand in the way of. Whoever came a moment ago counts, on whichever node; the others are
/// asked within the budget, and not for a key that has ended. Of one that works they are, also if it is not retiring: it may
/// be a moment later, when it is judged.
async fn begin_an_end(call: &Call, old: &Credential) -> Result<Tx, ApiError> {
    call.pay()?;
    if old.state_at(call.now).authenticates() {
        call.app.callers.flush_everywhere().await?;
    }
    call.begin_paid().await
}

/// What stands in the way of a `finish`; nothing if it is the repetition of one that was done.
async fn unfinished(
    call: &Call,
    mut tx: Tx,
    id: CredentialId,
    finish: &keyward_store::Finish,
) -> Result<Tagged<CredentialView>, ApiError> {
    let Some(old) = tx.find_credential(id).await? else { return Err(stale()) };
    if matches!(old.state, State::Expired { reason: EndReason::Finished, .. }) {
        call.app.settle(tx, &call.origin()).await?;
        return Ok(tagged(call, old));
    }
    old.finish(call.now)?;
    drop(tx);
    Err(callers_remain(call, id, finish, &BY_FINISH).await)
}

/// From when on nobody may have used what is to be ended, unless it is forced.
fn ending(call: &Call, asked: &Finish) -> Result<keyward_store::Finish, ApiError> {
    let quiet_for = asked.quiet_for_seconds.map_or_else(|| call.app.rotation.quiet_for(), Duration::from_secs);
    if !QUIET.contains(&quiet_for) {
        return Err(ApiError::field(
            "quiet_for_seconds",
            "from 60 to 7776000: callers that were not seen for 90 days are forgotten; to end it whoever uses it, say force",
        ));
    }
    Ok(keyward_store::Finish { now: call.now, quiet_since: call.now.minus(quiet_for), force: asked.force })
}

/// What a refusal calls the credential that is in use, and what to do about it.
struct InUse {
    what: &'static str,
    then: &'static str,
}

const BY_FINISH: InUse =
    InUse { what: "this credential", then: "move them to its successor, or end it under them with force" };
const BY_CANCEL: InUse = InUse {
    what: "its successor",
    then: "move them back to this credential, or end the successor under them with force",
};

/// Names who uses the credential that would end, those that the server saw itself first: whatever others report, it hides
/// none of them, and it stands beside the name of who says so.
async fn callers_remain(
    call: &Call,
    credential: CredentialId,
    ending: &keyward_store::Finish,
    in_use: &InUse,
) -> ApiError {
    match remaining(call, credential, ending.quiet_since).await {
        // Whoever was in the way has been forgotten meanwhile.
        Ok((summary, _)) if summary.is_empty() => stale(),
        Ok((summary, callers)) => {
            let count = summary.iter().map(|seen| seen.recent).sum::<i64>();
            let callers = callers.into_iter().map(CallerView::from).collect();
            let detail = format!(
                "{count} {} used {} in the last {}{}: {}",
                if count == 1 { "caller" } else { "callers" },
                in_use.what,
                span(call.now.since(ending.quiet_since)),
                by_whose_word(&summary),
                in_use.then,
            );
            ApiError { callers, ..Problem::CallersRemain.because(detail) }
        }
        Err(error) => error.into(),
    }
}

/// How many callers there are by whose word, and the most recent of them.
async fn remaining(
    call: &Call,
    credential: CredentialId,
    since: Timestamp,
) -> Result<(Vec<CallerSummary>, Vec<SeenCaller>), StoreError> {
    let store = &call.app.store;
    let mut summary = store.summarize_callers(credential, since).await?;
    summary.retain(|seen| seen.recent > 0);
    let filter = |is_reported| CallerFilter {
        credential: Some(credential),
        since: Some(since),
        outcome: Some(Outcome::Accepted),
        is_reported: Some(is_reported),
        ..CallerFilter::default()
    };
    let mut callers = store.list_callers(&filter(false), call.now, None, NAMED).await?;
    callers.extend(store.list_callers(&filter(true), call.now, None, NAMED).await?);
    callers.truncate(NAMED.into());
    Ok((summary, callers))
}

/// ` (2 of them as client_… reports)`; nothing if the server saw them all.
fn by_whose_word(summary: &[CallerSummary]) -> String {
    let reported = || summary.iter().filter_map(|seen| Some((seen.reporter?, seen.recent)));
    let named = reported().take(REPORTERS).map(|(reporter, count)| format!("{count} of them as {reporter} reports"));
    let mut named: Vec<_> = named.collect();
    if reported().count() > REPORTERS {
        named.push("more as others report".to_owned());
    }
    if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) }
}

/// Whole hours where they say it exactly.
fn span(window: Duration) -> String {
    match window.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds => format!("{seconds} s"),
    }
}

fn end_of_overlap(call: &Call, rotation: &Rotation) -> Result<Timestamp, ApiError> {
    match (rotation.retire_at, rotation.overlap_seconds) {
        (Some(_), Some(_)) => Err(ApiError::field("retire_at", "say either retire_at or overlap_seconds")),
        (Some(at), None) => checked(call, at.0, "retire_at"),
        (None, Some(seconds)) => checked(call, call.now.plus(Duration::from_secs(seconds)), "overlap_seconds"),
        (None, None) => Ok(call.now.plus(call.app.rotation.overlap())),
    }
}

fn checked(call: &Call, wanted: Timestamp, field: &'static str) -> Result<Timestamp, ApiError> {
    hard_end(wanted, call.now, call.app.rotation.max_overlap()).map_err(|no| ApiError::field(field, no.to_string()))
}

/// The successor is what the old one is, but for what is said otherwise. The expiry cannot be the same: a key is rotated
/// because its own is near. So it is given the same time again.
fn successor_of(call: &Call, old: &Credential, rotation: Rotation) -> NewCredential {
    let again = old.expires_at.map(|at| Instant(call.now.plus(at.since(old.created_at))));
    NewCredential {
        label: rotation.label.unwrap_or_else(|| old.label.clone()),
        expires_at: rotation.expires_at.unwrap_or(again),
        scope: rotation.scope.unwrap_or_else(|| old.scope.clone()),
        res: rotation.res.unwrap_or_else(|| old.res.clone()),
    }
}

fn hard_end_of(credential: &Credential) -> Option<Timestamp> {
    match credential.state {
        State::Retiring { retire_at } => Some(retire_at),
        _ => None,
    }
}

fn record(tx: &mut Tx, kind: &'static str, credential: &Credential, data: Value) {
    tx.record(Draft { kind, subject: credential.id.to_string(), data });
}

/// Why a statement found nothing to change: nobody else changes anything before this transaction ends, so what the
/// rules say of the credential now is the reason.
async fn refusal(tx: &mut Tx, id: CredentialId, arrow: impl FnOnce(&Credential) -> Result<State, Refused>) -> ApiError {
    match tx.find_credential(id).await {
        Ok(Some(credential)) => arrow(&credential).map_or_else(Into::into, |_| stale()),
        Ok(None) => stale(),
        Err(error) => error.into(),
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Problem::Conflict.because(refused.to_string())
    }
}
