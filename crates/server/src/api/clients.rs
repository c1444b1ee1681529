//! Clients.

mod device;
mod redirect_uris;

use std::sync::Arc;

use axum::extract::Path;
use keyward_model::client::{Client, ClientKind, Subject};
use keyward_model::event::Draft;
use keyward_model::id::{ApiId, ClientId, UserId};
use keyward_model::rights::{ResSet, Rights, ScopeSet};
use keyward_model::user::Activity;
use keyward_store::{ClientFilter, TokensOf, Tx};
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
use crate::oauth::status_list::last_token_dead;
use crate::respond::{ApiError, Problem, ProblemDetails};

pub use device::DeviceGrantView;

/// An application.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Client)]
pub struct ClientView {
    /// `client_…`: the OAuth `client_id`.
    #[schema(value_type = String)]
    pub id: ClientId,
    /// What people call it.
    pub name: String,
    /// `confidential` clients have credentials, `public` ones have none.
    #[schema(value_type = String)]
    pub kind: ClientKind,
    /// The user whose rights bound it and as whom it acts.
    #[schema(value_type = String)]
    pub owner: UserId,
    /// Its ceiling: space-separated scopes.
    #[schema(value_type = String)]
    pub scope: ScopeSet,
    /// Its ceiling: resource paths.
    #[schema(value_type = Vec<String>)]
    pub res: ResSet,
    /// Who its tokens name as `sub`: `owner` or `client`.
    #[schema(value_type = String)]
    pub subject: Subject,
    /// The APIs it may ask tokens for.
    #[schema(value_type = Vec<String>)]
    pub apis: Vec<ApiId>,
    /// Where browsers may be led back to after a user has let it in; none if users cannot.
    pub redirect_uris: Vec<String>,
    /// How devices are signed in through it; null if they are not.
    pub device_grant: Option<DeviceGrantView>,
    /// Since when it is disabled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Instant>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Instant,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Instant,
}

/// A client to register.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClient {
    /// What people call it: 1 to 100 characters.
    pub name: String,
    /// `confidential` (the default) or `public`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub kind: Option<ClientKind>,
    /// Its owner; the caller if absent. Only administrators may name somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub owner: Option<UserId>,
    /// Its ceiling: space-separated scopes; none if absent.
    #[serde(default)]
    #[schema(value_type = String)]
    pub scope: ScopeSet,
    /// Its ceiling: resource paths; if absent, those of the caller's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub res: Option<ResSet>,
    /// Who its tokens name as `sub`: `owner` (the default) or `client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub subject: Option<Subject>,
    /// The APIs it may ask tokens for.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub apis: Vec<ApiId>,
    /// Where browsers may be led back to after a user has let it in: `https://…`, a loopback address with any port, or a
    /// scheme of the program's own, as `com.example.app:/…`; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<String>,
    /// How devices are signed in through it; if absent, they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_grant: Option<DeviceGrantView>,
}

/// A change of a client: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientChange {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its ceiling: space-separated scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<ScopeSet>,
    /// Its ceiling: resource paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub res: Option<ResSet>,
    /// Who its tokens name as `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub subject: Option<Subject>,
    /// The APIs it may ask tokens for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub apis: Option<Vec<ApiId>>,
    /// Where browsers may be led back to, instead of where they are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uris: Option<Vec<String>>,
    /// How devices are signed in through it; null: no more. Those that are, stay so.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DeviceGrantView>)]
    pub device_grant: Option<Option<DeviceGrantView>>,
}

/// Which clients to list.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ClientQuery {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// With this name.
    pub name: Option<String>,
    /// Owned by this user.
    #[param(value_type = Option<String>)]
    pub owner: Option<UserId>,
    /// `active` or `disabled`.
    #[param(value_type = Option<String>)]
    pub state: Option<Activity>,
}

impl From<Client> for ClientView {
    fn from(client: Client) -> Self {
        Self {
            id: client.id,
            name: client.name,
            kind: client.kind,
            owner: client.owner,
            scope: client.rights.scope,
            res: client.rights.res,
            subject: client.subject,
            apis: client.apis,
            redirect_uris: redirect_uris::texts(&client.redirect_uris),
            device_grant: client.device.map(DeviceGrantView::from),
            disabled_at: client.disabled_at.map(Instant),
            created_at: Instant(client.created_at),
            updated_at: Instant(client.updated_at),
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

/// The client, if it exists and the caller may see it.
pub(super) async fn find(call: &Call, id: ClientId) -> Result<Client, ApiError> {
    let client = call.app.store.find_client(id).await?;
    let client = client.ok_or_else(|| Problem::NotFound.because("there is no such client"))?;
    call.require_sight_of(&client)?;
    Ok(client)
}

/// List clients
#[utoipa::path(get, path = "/api/v1/clients", tag = "clients", params(ClientQuery),
    responses((status = 200, body = List<ClientView>), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<ClientQuery>) -> Result<axum::Json<List<ClientView>>, ApiError> {
    let page = page(query.limit, query.cursor.as_deref())?;
    // Whoever may see only their own asks for their own, whatever they ask for.
    if let (Some(own), Some(asked)) = (call.only_of(), query.owner)
        && own != asked
    {
        return Ok(axum::Json(List { items: Vec::new(), next_cursor: None }));
    }
    let filter = ClientFilter { name: query.name, owner: call.only_of().or(query.owner), activity: query.state };
    let found = call.app.store.list_clients(&filter, &page).await?;
    Ok(axum::Json(List::of(found, &page, |c| c.id.to_string(), ClientView::from)))
}

/// Register a client
#[utoipa::path(post, path = "/api/v1/clients", tag = "clients", request_body = NewClient,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless for 24 hours")),
    responses((status = 201, body = ClientView), (status = "default", body = ProblemDetails)))]
async fn create(call: Call, body: Json<NewClient>) -> Result<Tagged<ClientView>, ApiError> {
    if let Some(made) = body.made_before(&call).await? {
        return again(&call, &made).await;
    }
    let new = body.value.clone();
    let owner = new.owner.unwrap_or(call.user());
    if owner != call.user() {
        call.require(Level::Admin)?;
        if call.app.store.find_user(owner).await?.is_none() {
            return Err(ApiError::field("owner", "there is no such user"));
        }
    }
    let client = Client {
        id: ClientId::new(call.now, &call.app.entropy)?,
        name: name(new.name)?,
        kind: new.kind.unwrap_or(ClientKind::Confidential),
        owner,
        redirect_uris: redirect_uris::redirect_uris(new.redirect_uris)?,
        device: new.device_grant.map(|device| device.policy(&new.scope)),
        rights: Rights { scope: new.scope, res: new.res.unwrap_or_else(|| call.res().clone()) },
        subject: new.subject.unwrap_or(Subject::Owner),
        apis: apis(&call, new.apis)?,
        disabled_at: None,
        created_at: call.now,
        updated_at: call.now,
        version: 1,
    };
    call.require_handing_out(&client.rights)?;
    let mut tx = match body.begin(&call).await? {
        Begun::First(tx) => tx,
        Begun::Again(made) => return again(&call, &made).await,
    };
    require_room(&call, &mut tx, owner).await?;
    tx.insert_client(&client).await.map_err(conflict)?;
    body.note_made(&call, &mut tx, &client.id.to_string()).await?;
    tx.record(Draft { kind: "client.created", subject: client.id.to_string(), data: describe(&client) });
    call.commit(tx).await?;
    Ok(tagged(client, true))
}

/// Refuses another client for who owns as many as one may.
pub(super) async fn require_room(call: &Call, tx: &mut Tx, owner: UserId) -> Result<(), ApiError> {
    let owned = tx.count_clients(owner).await?;
    call.require_room(owned, call.app.limits.clients_per_owner, "this user owns as many clients as one may")
}

/// The answer to a repetition.
async fn again(call: &Call, made: &str) -> Result<Tagged<ClientView>, ApiError> {
    Ok(tagged(find(call, id(made)?).await?, true))
}

/// Show a client
#[utoipa::path(get, path = "/api/v1/clients/{id}", tag = "clients", params(("id" = String, Path)),
    responses((status = 200, body = ClientView), (status = "default", body = ProblemDetails)))]
async fn get(call: Call, Path(path): Path<String>) -> Result<Tagged<ClientView>, ApiError> {
    Ok(tagged(find(&call, id(&path)?).await?, false))
}

/// Change a client
#[utoipa::path(patch, path = "/api/v1/clients/{id}", tag = "clients", request_body = ClientChange,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 200, body = ClientView), (status = "default", body = ProblemDetails)))]
async fn change(
    call: Call,
    Path(path): Path<String>,
    if_match: IfMatch,
    body: Json<ClientChange>,
) -> Result<Tagged<ClientView>, ApiError> {
    let before = find(&call, id(&path)?).await?;
    call.require_management_of(&before)?;
    if_match.require(before.version)?;
    let (mut client, change) = (before.clone(), body.value);
    if let Some(new) = change.name {
        client.name = name(new)?;
    }
    client.rights.scope = change.scope.unwrap_or(client.rights.scope);
    client.rights.res = change.res.unwrap_or(client.rights.res);
    client.subject = change.subject.unwrap_or(client.subject);
    if let Some(new) = change.apis {
        client.apis = apis(&call, new)?;
    }
    if let Some(new) = change.redirect_uris {
        client.redirect_uris = redirect_uris::redirect_uris(new)?;
    }
    if let Some(device) = change.device_grant {
        client.device = device.map(|device| device.policy(&client.rights.scope));
    }
    call.require_handing_out(&client.rights)?;
    save(&call, &before, client, "client.changed").await
}

/// Disable a client: all its credentials and tokens stop at once
#[utoipa::path(post, path = "/api/v1/clients/{id}/disable", tag = "clients", params(("id" = String, Path)),
    responses((status = 200, body = ClientView), (status = "default", body = ProblemDetails)))]
async fn disable(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Tagged<ClientView>, ApiError> {
    let client = find(&call, id(&path)?).await?;
    call.require_stopping_of(&client)?;
    if_match.require(client.version)?;
    if client.disabled_at.is_some() {
        // Whoever did it may still be waiting for it to be in force.
        call.app.catch_up_with_log().await?;
        return Ok(tagged(client, false));
    }
    let disabled = Client { disabled_at: Some(call.now), ..client.clone() };
    save(&call, &client, disabled, "client.disabled").await
}

/// Enable a disabled client again
#[utoipa::path(post, path = "/api/v1/clients/{id}/enable", tag = "clients", params(("id" = String, Path)),
    responses((status = 200, body = ClientView), (status = "default", body = ProblemDetails)))]
async fn enable(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Tagged<ClientView>, ApiError> {
    let client = find(&call, id(&path)?).await?;
    call.require_management_of(&client)?;
    call.require_handing_out(&client.rights)?;
    if_match.require(client.version)?;
    if client.disabled_at.is_none() {
        return Ok(tagged(client, false));
    }
    let enabled = Client { disabled_at: None, ..client.clone() };
    save(&call, &client, enabled, "client.enabled").await
}

/// Delete a client with its credentials
#[utoipa::path(delete, path = "/api/v1/clients/{id}", tag = "clients", params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn delete(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Done, ApiError> {
    let client = find(&call, id(&path)?).await?;
    call.require_management_of(&client)?;
    if_match.require(client.version)?;
    let mut tx = call.begin().await?;
    require_unnamed(&mut tx, client.id).await?;
    if let Some(offer) = tx.remove_transfer(client.id).await? {
        tx.record(transfers::ended(&offer, call.now, "client_deleted"));
    }
    let credentials = tx.list_credential_ids(client.id).await?;
    // Their tokens may still be about; verifiers offline must go on finding them ended.
    tx.keep_status_indices(TokensOf::Client(client.id), last_token_dead(call.now)).await?;
    if !tx.delete_client(client.id, client.version).await.map_err(conflict)? {
        return Err(stale());
    }
    for credential in credentials {
        let data = json!({ "client": client.id });
        tx.record(Draft { kind: "credential.deleted", subject: credential.to_string(), data });
    }
    tx.record(Draft { kind: "client.deleted", subject: client.id.to_string(), data: describe(&client) });
    call.commit(tx).await?;
    Ok(Done)
}

/// Otherwise an API would lose the client that introspects its tokens, and nobody would have said so.
async fn require_unnamed(tx: &mut Tx, client: ClientId) -> Result<(), ApiError> {
    match tx.list_apis().await?.iter().find(|api| api.client == Some(client)) {
        None => Ok(()),
        Some(api) => Err(Problem::Conflict.because(format!(
            "the API {} ({}) introspects as this client; let an administrator give that API another one first",
            api.name, api.id
        ))),
    }
}

async fn save(
    call: &Call,
    before: &Client,
    mut client: Client,
    kind: &'static str,
) -> Result<Tagged<ClientView>, ApiError> {
    client.updated_at = call.now;
    let mut tx = call.begin().await?;
    if !tx.update_client(&client, client.version).await.map_err(conflict)? {
        return Err(stale());
    }
    client.version += 1;
    let mut data = changes::between(&describe(before), &describe(&client));
    if is_lowered(call, before, &client) {
        changes::end_tokens(call, &mut tx, TokensOf::Client(client.id), &mut data).await?;
    }
    tx.record(Draft { kind, subject: client.id.to_string(), data });
    call.commit(tx).await?;
    Ok(tagged(client, false))
}

/// Whether some token of before could not be issued any more.
fn is_lowered(call: &Call, before: &Client, after: &Client) -> bool {
    before.rights.is_lowered_to(&after.rights, &call.app.registry.load().catalogue)
        || before.apis.iter().any(|api| !after.apis.contains(api))
}

fn tagged(client: Client, made: bool) -> Tagged<ClientView> {
    let location = made.then(|| format!("/api/v1/clients/{}", client.id));
    Tagged { version: client.version, value: client.into(), location }
}

fn describe(client: &Client) -> serde_json::Value {
    let device = client.device.as_ref().map(|d| json!({ "scope": d.scope, "confirmation": d.confirmation }));
    json!({
        "name": client.name, "kind": client.kind, "owner": client.owner, "scope": client.rights.scope,
        "res": client.rights.res, "subject": client.subject, "apis": client.apis, "device_grant": device,
        "redirect_uris": redirect_uris::texts(&client.redirect_uris),
        "disabled_at": client.disabled_at,
    })
}

fn apis(call: &Call, mut apis: Vec<ApiId>) -> Result<Vec<ApiId>, ApiError> {
    const MOST: usize = 32;
    apis.sort_unstable();
    apis.dedup();
    if apis.len() > MOST {
        return Err(ApiError::field("apis", format!("a client may use at most {MOST} APIs")));
    }
    let registry = call.app.registry.load();
    match apis.iter().find(|api| registry.api(**api).is_none()) {
        Some(unknown) => Err(ApiError::field("apis", format!("there is no API {unknown}"))),
        None => Ok(apis),
    }
}
