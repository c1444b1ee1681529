//! Callers: from where credentials are used, and what others report of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use keyward_model::caller::{Caller, KEPT_UNSEEN, Network, NetworkError, Outcome, Sightings};
use keyward_model::credential::StateName;
use keyward_model::id::{ClientId, CredentialId};
use keyward_store::{CallerCount, CallerFilter, CallerPlace, CountedCaller, SeenCaller, StoreError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Begun, Json};
use crate::api::call::{Call, Level};
use crate::api::instant::Instant;
use crate::api::list::{List, page};
use crate::api::{Query, clients, credentials, id, users};
use crate::app::App;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// The most entries of one report.
const MOST_REPORTED: usize = 500;
/// The largest report, in bytes: so many entries as long as they may usefully be.
const MAX_REPORT: usize = 320 * 1024;
/// The largest count of one entry.
const MOST_COUNTED: i64 = 1_000_000_000;
/// How far the clock of whoever reports may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// One place a credential is used from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Caller)]
pub struct CallerView {
    /// The credential it uses.
    #[schema(value_type = String)]
    pub credential: CredentialId,
    /// What people call that credential.
    pub label: String,
    /// Where that credential stands: `active`, `retiring`, `expired`, `revoked` or `purged`.
    #[schema(value_type = String)]
    pub state: StateName,
    /// Whose credential it is.
    #[schema(value_type = String)]
    pub client: ClientId,
    /// An IPv4 address or an IPv6 `/64`; empty in an entry that counts all callers beyond 64, of those that the server saw
    /// or of those that one client reported.
    pub network: String,
    /// Its `User-Agent`; `other` in such an entry.
    pub user_agent: String,
    /// What it calls itself: `Keyward-Instance` or `instance` in its requests.
    pub instance: String,
    /// When it was first seen.
    #[schema(value_type = String, format = DateTime)]
    pub first_seen_at: Instant,
    /// When it was last seen.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen_at: Instant,
    /// How often it was let in.
    pub accepted: i64,
    /// How often it came with the right secret after the credential's end.
    pub refused: i64,
    /// The client that reported it; `null` if Keyward saw it itself.
    #[schema(value_type = Option<String>)]
    pub reporter: Option<ClientId>,
}

/// Which callers to list.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct CallerQuery {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Seen at this instant or later.
    #[param(value_type = Option<String>)]
    pub since: Option<Instant>,
    /// `accepted` or `refused`: at least once so.
    #[param(value_type = Option<String>)]
    pub outcome: Option<Outcome>,
}

/// What a gateway or an API saw of credentials, by the `cred` of the tokens it was shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallerReport {
    /// At most 500 entries, in at most 320 KiB.
    pub callers: Vec<ReportedCaller>,
}

/// One caller of a report.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportedCaller {
    /// The `cred` of its tokens.
    #[schema(value_type = String)]
    pub credential: CredentialId,
    /// Its address, or its IPv6 `/64`.
    pub network: String,
    /// Its `User-Agent`.
    #[serde(default)]
    pub user_agent: String,
    /// What it calls itself.
    #[serde(default)]
    pub instance: String,
    /// When it was first seen since the last report; `last_seen_at` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_seen_at: Option<Instant>,
    /// When it was last seen.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen_at: Instant,
    /// How often it was seen since the last report.
    pub count: i64,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallersCounted {
    /// Entries that were counted.
    pub counted: usize,
    /// Entries about credentials that do not exist, or on which this client may not report.
    pub unknown: usize,
}

/// The callers of one credential in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallersInShort {
    /// How many were let in and seen within `[rotation] quiet_hours`: those that would be in the way of `finish` now.
    pub seen_in_window: i64,
    /// When one was last seen, whatever became of it; `null` if none is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<Instant>,
}

/// The callers of a credential in short, those among them that this node has seen just now.
pub(super) async fn in_short(call: &Call, credential: CredentialId) -> Result<CallersInShort, ApiError> {
    call.app.callers.flush_if_possible().await;
    let since = call.now.minus(call.app.rotation.quiet_for());
    let summary = call.app.store.summarize_callers(credential, since).await?;
    Ok(CallersInShort {
        seen_in_window: summary.iter().map(|seen| seen.recent).sum(),
        last_seen_at: summary.iter().map(|seen| Instant(seen.last_seen_at)).max_by_key(|at| at.0),
    })
}

impl From<SeenCaller> for CallerView {
    fn from(seen: SeenCaller) -> Self {
        Self {
            credential: seen.credential,
            label: seen.label,
            state: seen.state,
            client: seen.client,
            network: seen.network,
            user_agent: seen.user_agent,
            instance: seen.instance,
            first_seen_at: Instant(seen.sightings.first_seen_at),
            last_seen_at: Instant(seen.sightings.last_seen_at),
            accepted: seen.sightings.accepted,
            refused: seen.sightings.refused,
            reporter: seen.reporter,
        }
    }
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_of_credential))
        .routes(routes!(list_of_client))
        .routes(routes!(list_of_user))
        .routes(routes!(report))
}

/// List the callers of a credential, the one last seen first
#[utoipa::path(get, path = "/api/v1/credentials/{id}/callers", tag = "callers", params(("id" = String, Path), CallerQuery),
    responses((status = 200, body = List<CallerView>), (status = "default", body = ProblemDetails)))]
async fn list_of_credential(
    call: Call,
    Path(path): Path<String>,
    Query(query): Query<CallerQuery>,
) -> Result<axum::Json<List<CallerView>>, ApiError> {
    let (credential, _) = credentials::find(&call, id(&path)?).await?;
    listed(&call, CallerFilter { credential: Some(credential.id), ..CallerFilter::default() }, query).await
}

/// List the callers of all credentials of a client, the one last seen first
#[utoipa::path(get, path = "/api/v1/clients/{id}/callers", tag = "callers", params(("id" = String, Path), CallerQuery),
    responses((status = 200, body = List<CallerView>), (status = "default", body = ProblemDetails)))]
async fn list_of_client(
    call: Call,
    Path(path): Path<String>,
    Query(query): Query<CallerQuery>,
) -> Result<axum::Json<List<CallerView>>, ApiError> {
    let client = clients::find(&call, id(&path)?).await?;
    listed(&call, CallerFilter { client: Some(client.id), ..CallerFilter::default() }, query).await
}

/// List the callers of all credentials that a user answers for, the one last seen first
#[utoipa::path(get, path = "/api/v1/users/{id}/callers", tag = "callers",
    params(("id" = String, Path, description = "`user_…`, or `me` for the calling user"), CallerQuery),
    responses((status = 200, body = List<CallerView>), (status = "default", body = ProblemDetails)))]
async fn list_of_user(
    call: Call,
    Path(path): Path<String>,
    Query(query): Query<CallerQuery>,
) -> Result<axum::Json<List<CallerView>>, ApiError> {
    let user = users::find(&call, &path).await?;
    listed(&call, CallerFilter { owner: Some(user.id), ..CallerFilter::default() }, query).await
}

async fn listed(call: &Call, of: CallerFilter, query: CallerQuery) -> Result<axum::Json<List<CallerView>>, ApiError> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let after = page.after.as_deref().map(str::parse::<CallerPlace>).transpose();
    let after = after.map_err(|_| Problem::Malformed.because("cursor must be the next_cursor of a page"))?;
    let filter = CallerFilter { since: query.since.map(|at| at.0), outcome: query.outcome, ..of };
    // Whoever asks is told of everything that this node has seen.
    call.app.callers.flush_if_possible().await;
    let found = call.app.store.list_callers(&filter, call.now, after.as_ref(), page.limit).await?;
    Ok(axum::Json(List::of(found, &page, |caller| caller.place().to_string(), CallerView::from)))
}

/// Report who uses credentials, as a gateway or an API sees it
///
/// For administrators, and for the own client of an API about credentials of clients that may use that API. Counts are
/// added to what is known: report each use once, or repeat a report under the same `Idempotency-Key`.
#[utoipa::path(post, path = "/api/v1/callers", tag = "callers", request_body = CallerReport,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless for 24 hours")),
    responses((status = 200, body = CallersCounted), (status = "default", body = ProblemDetails)))]
async fn report(call: Call, body: Json<CallerReport, MAX_REPORT>) -> Result<axum::Json<CallersCounted>, ApiError> {
    let reporter = call.client().id;
    let limited_to = if call.level == Level::Admin { None } else { Some(require_api(&call, reporter)?) };
    if let Some(made) = body.made_before(&call).await? {
        return again(&made);
    }
    let reported = &body.value.callers;
    if reported.len() > MOST_REPORTED {
        return Err(ApiError::field("callers", format!("at most {MOST_REPORTED} entries; send several reports")));
    }
    // All or nothing: a report is read to its end before any of it counts.
    let read = reported.iter().enumerate();
    let read = read.map(|(n, entry)| seen(&call, reporter, entry).map_err(|error| in_entry(n, error)));
    let mut counts = read.collect::<Result<Vec<_>, _>>()?;
    let credentials: HashSet<CredentialId> = counts.iter().map(|count| count.credential).collect();
    let credentials: Vec<CredentialId> = credentials.into_iter().collect();
    let reportable = call.app.store.list_reportable(&credentials, limited_to).await?;
    counts.retain(|count| reportable.contains(&count.credential));
    let answer = CallersCounted { counted: counts.len(), unknown: reported.len() - counts.len() };
    // Written down at once, unlike what the server itself sees: what was answered is counted, and counted once.
    let mut tx = match body.begin(&call).await? {
        Begun::First(tx) => tx,
        Begun::Again(made) => return again(&made),
    };
    tx.count_callers(&counts).await?;
    body.note_made(&call, &mut tx, &format!("{} {}", answer.counted, answer.unknown)).await?;
    call.commit(tx).await?;
    // A network that a report tells of is told of as soon as one that the server itself sees.
    call.app.callers.note_written(&counts);
    Ok(axum::Json(answer))
}

/// The answer to a repetition: what the first was told.
fn again(made: &str) -> Result<axum::Json<CallersCounted>, ApiError> {
    let parts =
        made.split_once(' ').and_then(|(counted, unknown)| Some((counted.parse().ok()?, unknown.parse().ok()?)));
    let (counted, unknown) =
        parts.ok_or_else(|| StoreError::Corrupt("idempotency_keys.made is no report".to_owned()))?;
    Ok(axum::Json(CallersCounted { counted, unknown }))
}

/// The client, if it is the own client of an API.
fn require_api(call: &Call, client: ClientId) -> Result<ClientId, ApiError> {
    if call.app.registry.load().apis().any(|api| api.client == Some(client)) {
        return Ok(client);
    }
    Err(Problem::Forbidden.because(
        "callers are reported by the own client of an API, or by administrators; `keyward api change API --client \
         CLIENT` makes a client an API's own",
    ))
}

fn seen(call: &Call, reporter: ClientId, entry: &ReportedCaller) -> Result<CallerCount, ApiError> {
    let network: Network =
        entry.network.parse().map_err(|error: NetworkError| ApiError::field("network", error.to_string()))?;
    let last_seen_at = entry.last_seen_at.0;
    if last_seen_at > call.now.plus(CLOCK_SKEW) {
        return Err(ApiError::field("last_seen_at", "must not lie in the future; is the clock right?"));
    }
    let first_seen_at = entry.first_seen_at.map_or(last_seen_at, |at| at.0);
    if first_seen_at > last_seen_at {
        return Err(ApiError::field("first_seen_at", "must not be later than last_seen_at"));
    }
    // Counting them would bring back what is forgotten by then.
    let oldest = call.now.minus(KEPT_UNSEEN);
    for (field, at) in [("last_seen_at", last_seen_at), ("first_seen_at", first_seen_at)] {
        if at < oldest {
            return Err(ApiError::field(field, "must not be more than 90 days ago: older callers are forgotten"));
        }
    }
    if !(1..=MOST_COUNTED).contains(&entry.count) {
        return Err(ApiError::field("count", format!("must be 1 to {MOST_COUNTED}")));
    }
    let caller = Caller::new(network, entry.user_agent.as_bytes(), &entry.instance).into_owned();
    let caller = CountedCaller::Known(Caller { reporter: Some(reporter), ..caller });
    let sightings = Sightings {
        first_seen_at: first_seen_at.min(call.now),
        last_seen_at: last_seen_at.min(call.now),
        accepted: entry.count,
        refused: 0,
    };
    Ok(CallerCount { credential: entry.credential, caller, sightings })
}

fn in_entry(n: usize, error: ApiError) -> ApiError {
    ApiError { detail: format!("entry {}: {}", n + 1, error.detail).into(), ..error }
}
