//! Signing in: invitations to it, and the browsers in which a user is signed in.

use std::sync::Arc;

use axum::extract::Path;
use keyward_model::event::Draft;
use keyward_model::id::{LoginId, UserId};
use keyward_model::login::{Login, Method};
use keyward_model::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Done, Tagged};
use crate::api::call::{Call, Level};
use crate::api::instant::Instant;
use crate::api::list::{List, Paging, page};
use crate::api::users::find;
use crate::api::{Query, id};
use crate::app::App;
use crate::login::session;
use crate::pages::invitation;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// A link by which a user sets a password or passkey of their own, once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// Whom it lets in.
    #[schema(value_type = String)]
    pub user: UserId,
    /// The link. It is a secret, shown now and never again; one made later takes its place.
    pub link: String,
    /// When it ends if nobody uses it.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Instant,
}

/// A browser in which a user is signed in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Login)]
pub struct LoginView {
    /// `login_…`
    #[schema(value_type = String)]
    pub id: LoginId,
    /// `password`, `passkey` or `recovery_code`.
    #[schema(value_type = String)]
    pub method: Method,
    /// From which network; may be empty.
    pub network: String,
    /// What the browser calls itself; may be empty.
    pub user_agent: String,
    /// When they signed in.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Instant,
    /// When it was last used, to within five minutes.
    #[schema(value_type = String, format = DateTime)]
    pub seen_at: Instant,
    /// When it ends, however much it is used.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Instant,
}

impl From<Login> for LoginView {
    fn from(login: Login) -> Self {
        Self {
            id: login.id,
            method: login.method,
            network: login.network,
            user_agent: login.user_agent,
            created_at: Instant(login.created_at),
            seen_at: Instant(login.seen_at),
            ends_at: Instant(login.ends_at),
        }
    }
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(invite)).routes(routes!(list_logins, end_logins)).routes(routes!(end_login))
}

/// Invite a user to sign in: with the link they set a password or passkey, once
///
/// Who uses it is signed in as that user, and signed out everywhere else. What they signed in with before goes on working.
#[utoipa::path(post, path = "/api/v1/users/{id}/invitation", tag = "users",
    params(("id" = String, Path, description = "`user_…`, or `me` for the calling user")),
    responses((status = 201, body = Invitation), (status = "default", body = ProblemDetails)))]
async fn invite(call: Call, Path(path): Path<String>) -> Result<Tagged<Invitation>, ApiError> {
    let user = find(&call, &path).await?;
    call.require(Level::Admin)?;
    // Whoever has the link can become that user.
    call.require_handing_out(&user.rights)?;
    if user.disabled_at.is_some() {
        return Err(Problem::Conflict.because("this user is disabled; enable them first"));
    }
    let token = Secret::new(call.app.entropy.bytes()?);
    let expires_at = call.now.plus(call.app.sign_in.invitation_stands());
    let mut tx = call.begin().await?;
    tx.put_invitation(user.id, &call.app.hashing_key.hash(&token), call.now, expires_at).await?;
    let data = json!({ "expires_at": expires_at });
    tx.record(Draft { kind: "user.invited", subject: user.id.to_string(), data });
    call.commit(tx).await?;
    let link = invitation::link(&call.app.issuer, &token);
    let value = Invitation { user: user.id, link: link.clone(), expires_at: Instant(expires_at) };
    Ok(Tagged { value, version: 1, location: Some(format!("/api/v1/users/{}", user.id)) })
}

/// List the browsers in which a user is signed in
#[utoipa::path(get, path = "/api/v1/users/{id}/logins", tag = "users",
    params(("id" = String, Path, description = "`user_…`, or `me` for the calling user"), Paging),
    responses((status = 200, body = List<LoginView>), (status = "default", body = ProblemDetails)))]
async fn list_logins(
    call: Call,
    Path(path): Path<String>,
    Query(query): Query<Paging>,
) -> Result<axum::Json<List<LoginView>>, ApiError> {
    let user = find(&call, &path).await?;
    let page = page(query.limit, query.cursor.as_deref())?;
    let found = call.app.store.list_logins(user.id, call.app.sign_in.standing(call.now), &page).await?;
    Ok(axum::Json(List::of(found, &page, |login| login.id.to_string(), LoginView::from)))
}

/// Sign a user out of every browser
#[utoipa::path(delete, path = "/api/v1/users/{id}/logins", tag = "users",
    params(("id" = String, Path, description = "`user_…`, or `me` for the calling user")),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn end_logins(call: Call, Path(path): Path<String>) -> Result<Done, ApiError> {
    let user = find(&call, &path).await?;
    let mut tx = call.begin().await?;
    session::end_all(&mut tx, user.id, None, "revoked").await?;
    call.commit(tx).await?;
    Ok(Done)
}

/// Sign a user out of one browser
#[utoipa::path(delete, path = "/api/v1/users/{id}/logins/{login}", tag = "users",
    params(("id" = String, Path, description = "`user_…`, or `me` for the calling user"), ("login" = String, Path)),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn end_login(call: Call, Path((path, login)): Path<(String, String)>) -> Result<Done, ApiError> {
    let user = find(&call, &path).await?;
    let login = id(&login)?;
    let mut tx = call.begin().await?;
    if !session::end(&mut tx, user.id, login, "revoked").await? {
        return Err(Problem::NotFound.because("this login has ended, or never was"));
    }
    call.commit(tx).await?;
    Ok(Done)
}
