//! Credentials: what people call API keys.

use std::sync::Arc;

use axum::extract::Path;
use keyward_model::client::{Client, ClientKind};
use keyward_model::credential::{Credential, EndReason, Purpose, State, StateName};
use keyward_model::event::Draft;
use keyward_model::id::{ClientId, CredentialId, UserId};
use keyward_model::key::Key;
use keyward_model::rights::{ResSet, Rights, ScopeSet};
use keyward_model::time::Timestamp;
use keyward_store::{CredentialFilter, TokensOf, Tx};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Begun, Json, Tagged, present, stale};
use crate::api::call::{Call, conflict};
use crate::api::callers::CallersInShort;
use crate::api::condition::IfMatch;
use crate::api::instant::Instant;
use crate::api::list::{List, page};
use crate::api::{Query, callers, changes, clients, id, line};
use crate::app::App;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// One secret of a client, without the secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Credential)]
pub struct CredentialView {
    /// `cred_…`: stands in every token got with it, as `cred`.
    #[schema(value_type = String)]
    pub id: CredentialId,
    /// Whose secret it is.
    #[schema(value_type = String)]
    pub client: ClientId,
    /// What people call it.
    pub label: String,
    /// `active`, `retiring`, `expired`, `revoked` or `purged`.
    #[schema(value_type = String)]
    pub state: StateName,
    /// Narrower scopes than the client's, if set.
    #[schema(value_type = Option<String>)]
    pub scope: Option<ScopeSet>,
    /// Narrower resources than the client's, if set.
    #[schema(value_type = Option<Vec<String>>)]
    pub res: Option<ResSet>,
    /// When it was issued.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Instant,
    /// Who issued it.
    #[schema(value_type = String)]
    pub created_by: UserId,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Instant>,
    /// The hard end of its retirement.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retire_at: Option<Instant>,
    /// Since when it is known to have leaked, if that retires it: nothing prolongs it any more.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub leaked_at: Option<Instant>,
    /// The credential that replaces it.
    #[schema(value_type = Option<String>)]
    pub successor: Option<CredentialId>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Instant>,
    /// Why it expired: `expires_at`, `retire_at`, `finished` or `bootstrap_used`.
    #[schema(value_type = Option<String>)]
    pub end_reason: Option<EndReason>,
    /// When its secret's hash is erased.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub purge_at: Option<Instant>,
    /// Who uses it, in short; only where one credential is shown, not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers: Option<CallersInShort>,
}

/// A credential just issued, with its secret: the only time it is shown.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct IssuedCredential {
    /// The credential.
    #[serde(flatten)]
    pub credential: CredentialView,
    /// The OAuth `client_id`.
    #[schema(value_type = String)]
    pub client_id: ClientId,
    /// The OAuth `client_secret`: the API key. `null` in the answer to a repetition, for it is shown once.
    pub client_secret: Option<String>,
}

impl std::fmt::Debug for IssuedCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedCredential").field("credential", &self.credential).finish_non_exhaustive()
    }
}

/// A credential to issue.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCredential {
    /// What people call it: at most 100 characters.
    #[serde(default)]
    pub label: String,
    /// When it ends by itself; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Instant>,
    /// Narrower scopes than the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<ScopeSet>,
    /// Narrower resources than the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub res: Option<ResSet>,
}

/// A change of a credential: what is absent stays as it is, `null` clears.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialChange {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When it ends by itself.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<Instant>>,
    /// Narrower scopes than the client's.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<Option<ScopeSet>>,
    /// Narrower resources than the client's.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub res: Option<Option<ResSet>>,
}

/// Which credentials to list.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct CredentialQuery {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Of this client.
    #[param(value_type = Option<String>)]
    pub client: Option<ClientId>,
    /// Of clients owned by this user.
    #[param(value_type = Option<String>)]
    pub owner: Option<UserId>,
    /// In this state.
    #[param(value_type = Option<String>)]
    pub state: Option<StateName>,
}

/// A credential as it stands at `now`.
pub(super) fn view(credential: Credential, now: Timestamp) -> CredentialView {
    let state = credential.state_at(now);
    CredentialView {
        state: state.name(),
        retire_at: match state {
            State::Retiring { retire_at } => Some(Instant(retire_at)),
            _ => None,
        },
        ended_at: state.ended_at().map(Instant),
        end_reason: match state {
            State::Expired { reason, .. } => Some(reason),
            _ => None,
        },
        purge_at: credential.purge_at(now).filter(|_| credential.secret_hash.is_some()).map(Instant),
        id: credential.id,
        client: credential.client,
        label: credential.label,
        scope: credential.scope,
        res: credential.res,
        created_at: Instant(credential.created_at),
        created_by: credential.created_by,
        expires_at: credential.expires_at.map(Instant),
        leaked_at: credential.leaked_at.map(Instant),
        successor: credential.successor,
        callers: None,
    }
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_of_client, issue))
        .routes(routes!(list))
        .routes(routes!(get, change))
        .routes(routes!(revoke))
}

/// List the credentials of a client
#[utoipa::path(get, path = "/api/v1/clients/{id}/credentials", tag = "credentials",
    params(("id" = String, Path), CredentialQuery),
    responses((status = 200, body = List<CredentialView>), (status = "default", body = ProblemDetails)))]
async fn list_of_client(
    call: Call,
    Path(path): Path<String>,
    Query(query): Query<CredentialQuery>,
) -> Result<axum::Json<List<CredentialView>>, ApiError> {
    let client = clients::find(&call, id(&path)?).await?;
    listed(&call, CredentialQuery { client: Some(client.id), ..query }).await
}

/// List credentials
#[utoipa::path(get, path = "/api/v1/credentials", tag = "credentials", params(CredentialQuery),
    responses((status = 200, body = List<CredentialView>), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<CredentialQuery>) -> Result<axum::Json<List<CredentialView>>, ApiError> {
    if let Some(client) = query.client {
        clients::find(&call, client).await?;
    }
    listed(&call, query).await
}

async fn listed(call: &Call, query: CredentialQuery) -> Result<axum::Json<List<CredentialView>>, ApiError> {
    let page = page(query.limit, query.cursor.as_deref())?;
    if let (Some(own), Some(asked)) = (call.only_of(), query.owner)
        && own != asked
    {
        return Ok(axum::Json(List { items: Vec::new(), next_cursor: None }));
    }
    let filter = CredentialFilter {
        client: query.client,
        owner: call.only_of().or(query.owner),
        state: query.state.map(|state| (state, call.now)),
        ..CredentialFilter::default()
    };
    let found = call.app.store.list_credentials(&filter, &page).await?;
    Ok(axum::Json(List::of(found, &page, |c| c.id.to_string(), |c| view(c, call.now))))
}

/// Issue a credential: the answer holds the API key, shown once
#[utoipa::path(post, path = "/api/v1/clients/{id}/credentials", tag = "credentials", request_body = NewCredential,
    params(("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless for 24 hours")),
    responses((status = 201, body = IssuedCredential), (status = "default", body = ProblemDetails)))]
async fn issue(
    call: Call,
    Path(path): Path<String>,
    body: Json<NewCredential>,
) -> Result<Tagged<IssuedCredential>, ApiError> {
    let client = clients::find(&call, id(&path)?).await?;
    call.require_management_of(&client)?;
    if let Some(made) = body.made_before(&call).await? {
        return again(&call, &made).await;
    }
    if client.kind == ClientKind::Public {
        return Err(Problem::Conflict.because("a public client has no credentials"));
    }
    let mut tx = match body.begin(&call).await? {
        Begun::First(tx) => tx,
        Begun::Again(made) => return again(&call, &made).await,
    };
    require_room(&call, &mut tx, client.id, StateName::Active).await?;
    let (credential, key) = make(&call, &mut tx, &client, body.value.clone()).await?;
    body.note_made(&call, &mut tx, &credential.id.to_string()).await?;
    tx.record(Draft { kind: "credential.issued", subject: credential.id.to_string(), data: describe(&credential) });
    call.commit(tx).await?;
    Ok(issued(&call, credential, Some(key)))
}

/// Makes a credential for a client, if it may hold what is asked for and the caller may hand that out.
pub(super) async fn make(
    call: &Call,
    tx: &mut Tx,
    client: &Client,
    new: NewCredential,
) -> Result<(Credential, Key), ApiError> {
    let key = Key::generate(CredentialId::new(call.now, &call.app.entropy)?, &call.app.entropy)?;
    let credential = Credential {
        id: key.credential,
        client: client.id,
        label: line(new.label, "label")?,
        purpose: Purpose::General,
        secret_hash: Some(call.app.hashing_key.hash(&key.secret)),
        scope: new.scope,
        res: new.res,
        state: State::Active,
        expires_at: future(call, new.expires_at)?,
        leaked_at: None,
        successor: None,
        status_index: tx.next_status_index().await?,
        created_by: call.user(),
        created_at: call.now,
        updated_at: call.now,
        version: 1,
    };
    require_narrower(call, client, &credential)?;
    use_up_bootstrap(call, tx).await?;
    tx.insert_credential(&credential).await.map_err(conflict)?;
    Ok((credential, key))
}

/// Active and retiring keys count apart: whoever has as many active ones as one may can still replace each of them.
pub(super) async fn require_room(call: &Call, tx: &mut Tx, client: ClientId, state: StateName) -> Result<(), ApiError> {
    let working = tx.count_working_credentials(client, state, call.now).await?;
    let what = format!("this client has as many {state} keys as one may");
    call.require_room(working, call.app.limits.credentials_per_client, &what)
}

/// The answer to a repetition: the secret was shown to the first.
pub(super) async fn again(call: &Call, made: &str) -> Result<Tagged<IssuedCredential>, ApiError> {
    let (credential, _) = find(call, id(made)?).await?;
    Ok(issued(call, credential, None))
}

/// Show a credential, never its secret
#[utoipa::path(get, path = "/api/v1/credentials/{id}", tag = "credentials", params(("id" = String, Path)),
    responses((status = 200, body = CredentialView), (status = "default", body = ProblemDetails)))]
async fn get(call: Call, Path(path): Path<String>) -> Result<Tagged<CredentialView>, ApiError> {
    let (credential, _) = find(&call, id(&path)?).await?;
    let callers = Some(callers::in_short(&call, credential.id).await?);
    let shown = tagged(&call, credential);
    Ok(Tagged { value: CredentialView { callers, ..shown.value }, ..shown })
}

/// Change a credential that has not ended
#[utoipa::path(patch, path = "/api/v1/credentials/{id}", tag = "credentials", request_body = CredentialChange,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 200, body = CredentialView), (status = "default", body = ProblemDetails)))]
async fn change(
    call: Call,
    Path(path): Path<String>,
    if_match: IfMatch,
    body: Json<CredentialChange>,
) -> Result<Tagged<CredentialView>, ApiError> {
    let (mut credential, client) = find(&call, id(&path)?).await?;
    let before = credential.clone();
    call.require_management_of(&client)?;
    if_match.require(credential.version)?;
    if credential.purpose == Purpose::Bootstrap {
        return Err(Problem::Conflict.because("the bootstrap key is what it is: issue a key of your own with it"));
    }
    if !credential.state_at(call.now).authenticates() {
        return Err(Problem::Conflict.because("this credential has ended; issue a new one"));
    }
    let change = body.value;
    if let Some(label) = change.label {
        credential.label = line(label, "label")?;
    }
    if let Some(expires_at) = change.expires_at {
        credential.expires_at = future(&call, expires_at)?;
    }
    credential.scope = change.scope.unwrap_or(credential.scope);
    credential.res = change.res.unwrap_or(credential.res);
    require_narrower(&call, &client, &credential)?;
    let mut tx = call.begin().await?;
    let Some(credential) = tx.update_credential(&credential, credential.version, call.now).await? else {
        return Err(stale());
    };
    let mut data = changes::between(&describe(&before), &describe(&credential));
    if is_lowered(&call, &before, &credential) {
        changes::end_tokens(&call, &mut tx, TokensOf::Credential(credential.id), &mut data).await?;
    }
    tx.record(Draft { kind: "credential.changed", subject: credential.id.to_string(), data });
    call.commit(tx).await?;
    Ok(tagged(&call, credential))
}

/// Revoke a credential at once
#[utoipa::path(post, path = "/api/v1/credentials/{id}/revoke", tag = "credentials", params(("id" = String, Path)),
    responses((status = 200, body = CredentialView), (status = "default", body = ProblemDetails)))]
async fn revoke(call: Call, Path(path): Path<String>) -> Result<Tagged<CredentialView>, ApiError> {
    let (credential, client) = find(&call, id(&path)?).await?;
    call.require_stopping_of(&client)?;
    let mut tx = call.begin().await?;
    let Some(revoked) = tx.revoke_credential(credential.id, call.now).await? else {
        // Revoking what is revoked changes nothing; what ended otherwise has ended all the same.
        call.app.settle(tx, &call.origin()).await?;
        return Ok(tagged(&call, credential));
    };
    let data = json!({ "client": client.id, "was": credential.state_at(call.now).name() });
    tx.record(Draft { kind: "credential.revoked", subject: revoked.id.to_string(), data });
    call.commit(tx).await?;
    Ok(tagged(&call, revoked))
}

pub(super) async fn find(call: &Call, id: CredentialId) -> Result<(Credential, Client), ApiError> {
    let nothing = || Problem::NotFound.because("there is no such credential");
    let credential = call.app.store.find_credential(id).await?.ok_or_else(nothing)?;
    let client = clients::find(call, credential.client).await.map_err(|error| match error.problem {
        Problem::NotFound => nothing(),
        _ => error,
    })?;
    Ok((credential, client))
}

fn future(call: &Call, at: Option<Instant>) -> Result<Option<Timestamp>, ApiError> {
    match at {
        Some(at) if at.0 <= call.now => Err(ApiError::field("expires_at", "must lie in the future")),
        at => Ok(at.map(|at| at.0)),
    }
}

/// A credential may only narrow its client.
fn require_narrower(call: &Call, client: &Client, credential: &Credential) -> Result<(), ApiError> {
    let registry = call.app.registry.load();
    let ceiling = registry.catalogue.expand(&client.rights.scope);
    if let Some(beyond) = credential.scope.as_ref().and_then(|s| s.first_beyond(&ceiling)) {
        return Err(ApiError::field("scope", format!("{beyond} is more than the client has")));
    }
    if let Some(beyond) = credential.res.as_ref().and_then(|r| r.first_beyond(&client.rights.res)) {
        return Err(ApiError::field("res", format!("{beyond} is more than the client has")));
    }
    require_handing_out(call, client, credential)
}

/// Whether some token of before could not be issued any more. Whatever a credential holds of its own, its client could
/// have had more when the token was issued.
fn is_lowered(call: &Call, before: &Credential, after: &Credential) -> bool {
    let registry = call.app.registry.load();
    let scope = match (&before.scope, &after.scope) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(before), Some(after)) => {
            let expand = |scope| registry.catalogue.expand(scope);
            expand(before).first_beyond(&expand(after)).is_some()
        }
    };
    let res = match (&before.res, &after.res) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(before), Some(after)) => before.first_beyond(after).is_some(),
    };
    scope || res
}

/// Nobody hands out, or keeps alive for longer, what holds more than their own token.
pub(super) fn require_handing_out(call: &Call, client: &Client, credential: &Credential) -> Result<(), ApiError> {
    let own = Rights {
        scope: credential.scope.clone().unwrap_or_else(|| client.rights.scope.clone()),
        res: credential.res.clone().unwrap_or_else(|| client.rights.res.clone()),
    };
    call.require_handing_out(&own)
}

/// The bootstrap key is for the first key only: of two uses at once, one is refused.
async fn use_up_bootstrap(call: &Call, tx: &mut Tx) -> Result<(), ApiError> {
    let Some(used) = call.credential().filter(|used| used.purpose == Purpose::Bootstrap) else { return Ok(()) };
    if !tx.use_up_bootstrap_credential(used.id, call.now).await? {
        return Err(Problem::Conflict.because("the bootstrap key has been used; go on with the key it gave"));
    }
    let data = json!({ "client": used.client, "reason": EndReason::BootstrapUsed });
    tx.record(Draft { kind: "credential.expired", subject: used.id.to_string(), data });
    Ok(())
}

pub(super) fn tagged(call: &Call, credential: Credential) -> Tagged<CredentialView> {
    Tagged { version: credential.version, value: view(credential, call.now), location: None }
}

pub(super) fn issued(call: &Call, credential: Credential, key: Option<Key>) -> Tagged<IssuedCredential> {
    let location = Some(format!("/api/v1/credentials/{}", credential.id));
    let version = credential.version;
    let client_id = credential.client;
    let client_secret = key.map(|key| key.reveal().to_string());
    let value = IssuedCredential { credential: view(credential, call.now), client_id, client_secret };
    Tagged { version, value, location }
}

pub(super) fn describe(credential: &Credential) -> serde_json::Value {
    json!({
        "client": credential.client, "label": credential.label, "scope": credential.scope, "res": credential.res,
        "expires_at": credential.expires_at,
    })
}
