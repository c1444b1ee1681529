//! Users: people, whose rights bound every key they own.

use std::sync::Arc;

use axum::extract::Path;
use keyward_model::event::Draft;
use keyward_model::id::UserId;
use keyward_model::legible;
use keyward_model::rights::{ResSet, Rights, ScopeSet};
use keyward_model::user::{Activity, User};
use keyward_store::{StoreError, TokensOf, UserFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Begun, Done, Json, Tagged, present, stale};
use crate::api::call::{Call, Level, conflict};
use crate::api::condition::IfMatch;
use crate::api::instant::Instant;
use crate::api::list::{List, page};
use crate::api::{Query, changes, id, name, transfers};
use crate::app::App;
use crate::login::session;
use crate::notices;
use crate::oauth::status_list::last_token_dead;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// The calling user, wherever a path takes the id of a user.
const ME: &str = "me";

/// A person.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    /// `user_…`: stands in tokens as `sub`.
    #[schema(value_type = String)]
    pub id: UserId,
    /// What people call them; unique.
    pub name: String,
    /// Where notices go.
    pub email: Option<String>,
    /// What they may do, and so the most any of their keys may do: space-separated scopes.
    #[schema(value_type = String)]
    pub scope: ScopeSet,
    /// On what: resource paths.
    #[schema(value_type = Vec<String>)]
    pub res: ResSet,
    /// Since when they are disabled, with all their clients.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Instant>,
    /// When they were added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Instant,
    /// When they were last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Instant,
}

/// A user to add.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// What people call them: 1 to 100 characters; unique.
    pub name: String,
    /// Where notices go: an address with ASCII characters before the `@`; the domain is kept in its ASCII form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What they may do: space-separated scopes; nothing if absent.
    #[serde(default)]
    #[schema(value_type = String)]
    pub scope: ScopeSet,
    /// On what: resource paths; on nothing if absent.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub res: ResSet,
}

/// A change of a user: what is absent stays as it is, `null` clears.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// What people call them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where notices go.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub email: Option<Option<String>>,
    /// What they may do: space-separated scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<ScopeSet>,
    /// On what: resource paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub res: Option<ResSet>,
}

/// Which users to list.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct UserQuery {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// With this name.
    pub name: Option<String>,
    /// `active` or `disabled`.
    #[param(value_type = Option<String>)]
    pub state: Option<Activity>,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            name: user.name,
            email: user.email,
            scope: user.rights.scope,
            res: user.rights.res,
            disabled_at: user.disabled_at.map(Instant),
            created_at: Instant(user.created_at),
            updated_at: Instant(user.updated_at),
        }
    }
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, change, delete))
        .routes(routes!(disable))
        .routes(routes!(enable))
}

/// List users
///
/// A token that reaches no further than `keyward:self` sees its own user only.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(UserQuery),
    responses((status = 200, body = List<UserView>), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<UserQuery>) -> Result<axum::Json<List<UserView>>, ApiError> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let name = query.name.map(|name| legible::name(&name).into_owned());
    let Some(own) = call.only_of() else {
        let filter = UserFilter { name, activity: query.state };
        let found = call.app.store.list_users(&filter, &page).await?;
        return Ok(axum::Json(List::of(found, &page, |u| u.id.to_string(), UserView::from)));
    };
    let found = call.app.store.find_user(own).await?.filter(|user| {
        let activity = if user.disabled_at.is_some() { Activity::Disabled } else { Activity::Active };
        name.as_ref().is_none_or(|name| *name == user.name)
            && query.state.is_none_or(|state| state == activity)
            && page.after.as_ref().is_none_or(|after| *after < user.id.to_string())
    });
    Ok(axum::Json(List { items: found.into_iter().map(UserView::from).collect(), next_cursor: None }))
}

/// Add a user
#[utoipa::path(post, path = "/api/v1/users", tag = "users", request_body = NewUser,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless for 24 hours")),
    responses((status = 201, body = UserView), (status = "default", body = ProblemDetails)))]
async fn create(call: Call, body: Json<NewUser>) -> Result<Tagged<UserView>, ApiError> {
    call.require(Level::Admin)?;
    if let Some(made) = body.made_before(&call).await? {
        return again(&call, &made).await;
    }
    let new = body.value.clone();
    let user = User {
        id: UserId::new(call.now, &call.app.entropy)?,
        name: name(new.name)?,
        email: new.email.map(email).transpose()?,
        rights: Rights { scope: new.scope, res: new.res },
        disabled_at: None,
        created_at: call.now,
        updated_at: call.now,
        version: 1,
    };
    call.require_handing_out(&user.rights)?;
    let mut tx = match body.begin(&call).await? {
        Begun::First(tx) => tx,
        Begun::Again(made) => return again(&call, &made).await,
    };
    tx.insert_user(&user).await.map_err(taken)?;
    body.note_made(&call, &mut tx, &user.id.to_string()).await?;
    tx.record(Draft { kind: "user.created", subject: user.id.to_string(), data: describe(&user) });
    call.commit(tx).await?;
    Ok(tagged(user, true))
}

/// The answer to a repetition.
async fn again(call: &Call, made: &str) -> Result<Tagged<UserView>, ApiError> {
    Ok(tagged(find(call, made).await?, true))
}

/// Show a user
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users",
    params(("id" = String, Path, description = "`user_…`, or `me` for the calling user")),
    responses((status = 200, body = UserView), (status = "default", body = ProblemDetails)))]
async fn get(call: Call, Path(path): Path<String>) -> Result<Tagged<UserView>, ApiError> {
    Ok(tagged(find(&call, &path).await?, false))
}

/// Change a user: lower rights are in force for all their keys at once
#[utoipa::path(patch, path = "/api/v1/users/{id}", tag = "users", request_body = UserChange,
    params(("id" = String, Path, description = "`user_…`, or `me` for the calling user"),
        ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 200, body = UserView), (status = "default", body = ProblemDetails)))]
async fn change(
    call: Call,
    Path(path): Path<String>,
    if_match: IfMatch,
    body: Json<UserChange>,
) -> Result<Tagged<UserView>, ApiError> {
    let mut user = find(&call, &path).await?;
    call.require(Level::Admin)?;
    if_match.require(user.version)?;
    let change = body.value;
    let before = user.clone();
    if let Some(new) = change.name {
        user.name = name(new)?;
    }
    if let Some(new) = change.email {
        user.email = new.map(email).transpose()?;
    }
    user.rights.scope = change.scope.unwrap_or(user.rights.scope);
    user.rights.res = change.res.unwrap_or(user.rights.res);
    require_no_loss_of_own(&call, &user, &before.rights)?;
    // Whoever may not hand out the rights of a user may not become that user by a new e-mail address either.
    call.require_handing_out(&user.rights)?;
    save(&call, &before, user, "user.changed").await
}

/// Disable a user: every key of every client they own stops at once
#[utoipa::path(post, path = "/api/v1/users/{id}/disable", tag = "users", params(("id" = String, Path)),
    responses((status = 200, body = UserView), (status = "default", body = ProblemDetails)))]
async fn disable(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Tagged<UserView>, ApiError> {
    let user = find(&call, &path).await?;
    call.require(Level::Admin)?;
    if_match.require(user.version)?;
    require_another(&call, &user, "disable")?;
    if user.disabled_at.is_some() {
        // Whoever did it may still be waiting for it to be in force.
        call.app.catch_up_with_log().await?;
        return Ok(tagged(user, false));
    }
    let disabled = User { disabled_at: Some(call.now), ..user.clone() };
    save(&call, &user, disabled, "user.disabled").await
}

/// Enable a disabled user again
#[utoipa::path(post, path = "/api/v1/users/{id}/enable", tag = "users", params(("id" = String, Path)),
    responses((status = 200, body = UserView), (status = "default", body = ProblemDetails)))]
async fn enable(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Tagged<UserView>, ApiError> {
    let user = find(&call, &path).await?;
    call.require(Level::Admin)?;
    call.require_handing_out(&user.rights)?;
    if_match.require(user.version)?;
    if user.disabled_at.is_none() {
        return Ok(tagged(user, false));
    }
    let enabled = User { disabled_at: None, ..user.clone() };
    save(&call, &user, enabled, "user.enabled").await
}

/// Delete a user who owns no clients
#[utoipa::path(delete, path = "/api/v1/users/{id}", tag = "users",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn delete(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Done, ApiError> {
    let user = find(&call, &path).await?;
    call.require(Level::Admin)?;
    if_match.require(user.version)?;
    require_another(&call, &user, "delete")?;
    let mut tx = call.begin().await?;
    for offer in tx.remove_transfers_of(user.id).await? {
        tx.record(transfers::ended(&offer, call.now, "user_deleted"));
    }
    // Their device sessions go with them; verifiers offline must go on finding those ended.
    tx.keep_status_indices(TokensOf::User(user.id), last_token_dead(call.now)).await?;
    if !tx.delete_user(user.id, user.version).await.map_err(owns_clients)? {
        return Err(stale());
    }
    tx.record(Draft { kind: "user.deleted", subject: user.id.to_string(), data: describe(&user) });
    call.commit(tx).await?;
    Ok(Done)
}

/// The user, if there is one and the caller may see them.
pub(super) async fn find(call: &Call, path: &str) -> Result<User, ApiError> {
    let nobody = || Problem::NotFound.because("there is no such user");
    let wanted = if path == ME { call.user() } else { id(path)? };
    if call.only_of().is_some_and(|own| own != wanted) {
        return Err(nobody());
    }
    call.app.store.find_user(wanted).await?.ok_or_else(nobody)
}

async fn save(call: &Call, before: &User, user: User, kind: &'static str) -> Result<Tagged<UserView>, ApiError> {
    let user = User { updated_at: call.now, ..user };
    let mut tx = call.begin().await?;
    let Some(user) = tx.update_user(&user, user.version).await.map_err(taken)? else { return Err(stale()) };
    let mut data = changes::between(&describe(before), &describe(&user));
    if before.rights.is_lowered_to(&user.rights, &call.app.registry.load().catalogue) {
        changes::end_tokens(call, &mut tx, TokensOf::User(user.id), &mut data).await?;
    }
    if user.disabled_at.is_some() {
        // Enabled again, they sign in again: a browser left open meanwhile is not let in.
        session::end_all(&mut tx, user.id, None, "user_disabled").await?;
    }
    tx.record(Draft { kind, subject: user.id.to_string(), data });
    call.commit(tx).await?;
    Ok(tagged(user, false))
}

/// Whoever stops themselves may be the last who could undo it.
fn require_another(call: &Call, user: &User, what: &str) -> Result<(), ApiError> {
    if user.id != call.user() {
        return Ok(());
    }
    Err(Problem::Conflict.because(format!("nobody can {what} themselves; let another administrator do it")))
}

/// Whoever lowers their own `keyward:admin` may be the last who could give it back.
fn require_no_loss_of_own(call: &Call, user: &User, before: &Rights) -> Result<(), ApiError> {
    let registry = call.app.registry.load();
    let administers = |rights: &Rights| registry.catalogue.expand(&rights.scope).contains("keyward:admin");
    let lowered = !administers(&user.rights) || before.res.first_beyond(&user.rights.res).is_some();
    if user.id == call.user() && administers(before) && lowered {
        return Err(Problem::Conflict.because(
            "nobody can take keyward:admin from themselves or narrow its res; let another administrator do it",
        ));
    }
    Ok(())
}

fn taken(error: StoreError) -> ApiError {
    if error.is_conflict_on("users.name") {
        return Problem::Conflict.because("another user has this name");
    }
    conflict(error)
}

fn owns_clients(error: StoreError) -> ApiError {
    if error.is_conflict_on(StoreError::FOREIGN_KEY) {
        return Problem::Conflict.because("this user owns clients; delete those first, or disable the user instead");
    }
    conflict(error)
}

fn tagged(user: User, made: bool) -> Tagged<UserView> {
    let location = made.then(|| format!("/api/v1/users/{}", user.id));
    Tagged { version: user.version, value: user.into(), location }
}

fn describe(user: &User) -> serde_json::Value {
    json!({
        "name": user.name, "email": user.email, "scope": user.rights.scope, "res": user.rights.res,
        "disabled_at": user.disabled_at,
    })
}

/// As mail is sent to it.
fn email(text: String) -> Result<String, ApiError> {
    notices::address(&text).map(|address| address.to_string()).map_err(|why| ApiError::field("email", why))
}
