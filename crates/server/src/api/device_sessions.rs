//! Device sessions: where somebody is logged in.

use std::sync::Arc;

use axum::extract::Path;
use keyward_model::device_session::{DeviceSession, SessionEnd, SessionState};
use keyward_model::event::Draft;
use keyward_model::id::{ClientId, DeviceSessionId, UserId};
use keyward_model::rights::{ResSet, ScopeSet};
use keyward_model::time::Timestamp;
use keyward_store::DeviceSessionFilter;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::Tagged;
use crate::api::call::Call;
use crate::api::instant::Instant;
use crate::api::list::{List, page};
use crate::api::{Query, id};
use crate::app::App;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// A user's login through a client, on a device or in a terminal.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceSession)]
pub struct DeviceSessionView {
    /// `session_…`: the `sid` of its identity tokens.
    #[schema(value_type = String)]
    pub id: DeviceSessionId,
    /// Who logged in.
    #[schema(value_type = String)]
    pub user: UserId,
    /// Through which client.
    #[schema(value_type = String)]
    pub client: ClientId,
    /// What people call it; may be empty.
    pub label: String,
    /// What the user let the client have: space-separated scopes.
    #[schema(value_type = String)]
    pub scope: ScopeSet,
    /// What the user let the client have: resource paths.
    #[schema(value_type = Vec<String>)]
    pub res: ResSet,
    /// When the user proved who they are.
    #[schema(value_type = String, format = DateTime)]
    pub authenticated_at: Instant,
    /// How they proved it, in the words of RFC 8176 §2, e.g. `pop mfa` for a passkey; empty if it is not known.
    pub amr: String,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Instant,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Instant>,
    /// Why: `revoked` or `expired`.
    #[schema(value_type = Option<String>)]
    pub end_reason: Option<SessionEnd>,
    /// The network address it was begun from.
    pub created_from: Option<String>,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Instant,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Instant,
}

/// Which device sessions to list.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DeviceSessionQuery {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Of this user.
    #[param(value_type = Option<String>)]
    pub user: Option<UserId>,
    /// Through this client.
    #[param(value_type = Option<String>)]
    pub client: Option<ClientId>,
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(revoke))
}

/// List device sessions
///
/// A token that reaches no further than `keyward:self` sees the sessions of its own user. Those that ended stay for 30
/// days.
#[utoipa::path(get, path = "/api/v1/device-sessions", tag = "device sessions", params(DeviceSessionQuery),
    responses((status = 200, body = List<DeviceSessionView>), (status = "default", body = ProblemDetails)))]
async fn list(
    call: Call,
    Query(query): Query<DeviceSessionQuery>,
) -> Result<axum::Json<List<DeviceSessionView>>, ApiError> {
    let page = page(query.limit, query.cursor.as_deref())?;
    // Whoever may see only their own asks for their own, whatever they ask for.
    if let (Some(own), Some(asked)) = (call.only_of(), query.user)
        && own != asked
    {
        return Ok(axum::Json(List { items: Vec::new(), next_cursor: None }));
    }
    let filter = DeviceSessionFilter { user: call.only_of().or(query.user), client: query.client };
    let found = call.app.store.list_device_sessions(&filter, &page).await?;
    Ok(axum::Json(List::of(found, &page, |session| session.id.to_string(), |session| view(session, call.now))))
}

/// Show a device session
#[utoipa::path(get, path = "/api/v1/device-sessions/{id}", tag = "device sessions", params(("id" = String, Path)),
    responses((status = 200, body = DeviceSessionView), (status = "default", body = ProblemDetails)))]
async fn get(call: Call, Path(path): Path<String>) -> Result<Tagged<DeviceSessionView>, ApiError> {
    let session = find(&call, id(&path)?).await?;
    Ok(tagged(&call, session))
}

/// End a device session at once, with all its tokens
#[utoipa::path(post, path = "/api/v1/device-sessions/{id}/revoke", tag = "device sessions",
    params(("id" = String, Path)),
    responses((status = 200, body = DeviceSessionView), (status = "default", body = ProblemDetails)))]
async fn revoke(call: Call, Path(path): Path<String>) -> Result<Tagged<DeviceSessionView>, ApiError> {
    let session = find(&call, id(&path)?).await?;
    let mut tx = call.begin().await?;
    let Some(revoked) = tx.revoke_device_session(session.id, call.now).await? else {
        // Ending what has ended changes nothing.
        call.app.settle(tx, &call.origin()).await?;
        return Ok(tagged(&call, find(&call, session.id).await?));
    };
    tx.record(draft("device_session.revoked", &revoked));
    call.commit(tx).await?;
    Ok(tagged(&call, revoked))
}

/// The session, if it exists and the caller may see it; whoever sees it may end it.
async fn find(call: &Call, id: DeviceSessionId) -> Result<DeviceSession, ApiError> {
    let found = call.app.store.find_device_session(id).await?;
    found
        .filter(|session| call.only_of().is_none_or(|own| own == session.user))
        .ok_or_else(|| Problem::NotFound.because("there is no such device session"))
}

fn tagged(call: &Call, session: DeviceSession) -> Tagged<DeviceSessionView> {
    Tagged { version: session.version, value: view(session, call.now), location: None }
}

fn view(session: DeviceSession, now: Timestamp) -> DeviceSessionView {
    let (ended_at, end_reason) = match session.state_at(now) {
        SessionState::Active => (None, None),
        SessionState::Ended { ended_at, reason } => (Some(Instant(ended_at)), Some(reason)),
    };
    DeviceSessionView {
        id: session.id,
        user: session.user,
        client: session.client,
        label: session.label,
        scope: session.rights.scope,
        res: session.rights.res,
        authenticated_at: Instant(session.authenticated_at),
        amr: session.amr,
        expires_at: Instant(session.expires_at),
        ended_at,
        end_reason,
        created_from: session.created_from,
        created_at: Instant(session.created_at),
        updated_at: Instant(session.updated_at),
    }
}

/// What the log says of a session.
pub fn draft(kind: &'static str, session: &DeviceSession) -> Draft {
    let mut data = json!({ "user": session.user, "client": session.client });
    if let (SessionState::Active, Value::Object(members)) = (session.state, &mut data) {
        members.insert("label".to_owned(), json!(session.label));
        members.insert("scope".to_owned(), json!(session.rights.scope));
        members.insert("res".to_owned(), json!(session.rights.res));
        members.insert("amr".to_owned(), json!(session.amr));
        members.insert("expires_at".to_owned(), json!(session.expires_at));
    }
    Draft { kind, subject: session.id.to_string(), data }
}
