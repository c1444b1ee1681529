//! What stops when a user is disabled, to be looked at before.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use keyward_model::id::UserId;
use keyward_model::user::User;
use keyward_store::{Belongings, CallerFilter, ClientFilter, CredentialFilter, Page};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::apis::ApiView;
use crate::api::call::Call;
use crate::api::callers::CallerView;
use crate::api::clients::ClientView;
use crate::api::credentials::{self, CredentialView};
use crate::api::instant::Instant;
use crate::api::{Query, users};
use crate::app::App;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// Entries of each kind that are shown; the total counts all.
const MOST_SHOWN: u16 = 50;
/// Days for which callers are looked at, unless others are asked for.
const USUAL_DAYS: u16 = 30;
/// Callers are not remembered for longer.
const MOST_DAYS: u16 = 90;

/// What stops when a user is disabled.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Impact {
    /// Who.
    #[schema(value_type = String)]
    pub user: UserId,
    /// What people call them.
    pub name: String,
    /// Since when they are disabled: then all of this has stopped.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Instant>,
    /// Callers were looked for from this instant on.
    #[schema(value_type = String, format = DateTime)]
    pub since: Instant,
    /// Their clients.
    pub clients: Part<ClientView>,
    /// The credentials of these that authenticate.
    pub credentials: Part<CredentialView>,
    /// Who was let in with those, the one last seen first.
    pub callers: Part<CallerView>,
    /// The APIs whose own client is one of theirs: they cannot ask about tokens any more.
    pub apis: Part<ApiView>,
}

/// Some of many.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Part<T> {
    /// How many there are.
    pub total: i64,
    /// The first 50 of them.
    pub items: Vec<T>,
}

/// How far to look back.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ImpactQuery {
    /// Callers of so many days: 1 to 90, 30 if absent.
    pub days: Option<u16>,
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(impact))
}

/// Show what stops when a user is disabled
#[utoipa::path(get, path = "/api/v1/users/{id}/impact", tag = "users",
    params(("id" = String, Path, description = "`user_…`, or `me` for the calling user"), ImpactQuery),
    responses((status = 200, body = Impact), (status = "default", body = ProblemDetails)))]
async fn impact(
    call: Call,
    Path(path): Path<String>,
    Query(query): Query<ImpactQuery>,
) -> Result<axum::Json<Impact>, ApiError> {
    let days = query.days.unwrap_or(USUAL_DAYS);
    if days == 0 || days > MOST_DAYS {
        return Err(Problem::Malformed.because(format!("days must be 1 to {MOST_DAYS}")));
    }
    let user = users::find(&call, &path).await?;
    let since = Instant(call.now.minus(Duration::from_secs(u64::from(days) * 24 * 3600)));
    // Whoever asks is told of everything that this node has seen.
    call.app.callers.flush().await?;
    Ok(axum::Json(gather(&call, user, since).await?))
}

async fn gather(call: &Call, user: User, since: Instant) -> Result<Impact, ApiError> {
    let (store, now, owner) = (&call.app.store, call.now, Some(user.id));
    let first = Page { after: None, limit: MOST_SHOWN };
    let total: Belongings = store.count_belongings(user.id, since.0, now).await?;
    let clients = store.list_clients(&ClientFilter { owner, ..ClientFilter::default() }, &first).await?;
    let filter = CredentialFilter { owner, authenticates_at: Some(now), ..CredentialFilter::default() };
    let credentials = store.list_credentials(&filter, &first).await?;
    let filter = CallerFilter {
        owner,
        since: Some(since.0),
        outcome: Some(keyward_model::caller::Outcome::Accepted),
        authenticated: true,
        ..CallerFilter::default()
    };
    let callers = store.list_callers(&filter, now, None, MOST_SHOWN).await?;
    let registry = call.app.registry.load_full();
    let apis = store.list_apis_of_owner(user.id, MOST_SHOWN).await?;
    let apis = apis.into_iter().filter_map(|id| registry.api(id)).map(|api| ApiView::from((**api).clone()));
    Ok(Impact {
        user: user.id,
        name: user.name,
        disabled_at: user.disabled_at.map(Instant),
        since,
        clients: part(total.clients, clients.into_iter().map(ClientView::from)),
        credentials: part(total.credentials, credentials.into_iter().map(|c| credentials::view(c, now))),
        callers: part(total.callers, callers.into_iter().map(CallerView::from)),
        apis: part(total.apis, apis),
    })
}

/// A list of the store holds one entry more than was asked for where there are more.
fn part<T>(total: i64, items: impl Iterator<Item = T>) -> Part<T> {
    Part { total, items: items.take(MOST_SHOWN.into()).collect() }
}
