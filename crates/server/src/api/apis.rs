//! APIs: resource servers, each known by its audience.

mod identities;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use keyward_model::api::{Api, DEFAULT_TOKEN_LIFETIME, KEYWARD_AUDIENCE, MAX_TOKEN_LIFETIME};
use keyward_model::event::Draft;
use keyward_model::id::{ApiId, ClientId};
use keyward_model::jws::SigningAlgorithm;
use keyward_model::rights::{MAX_SET, Scope, ScopeSet};
use keyward_store::{StoreError, TokensOf, Tx};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Begun, Done, Json, Tagged, present, stale};
use crate::api::call::{Call, Level, conflict};
use crate::api::condition::IfMatch;
use crate::api::instant::Instant;
use crate::api::list::{List, Paging, page};
use crate::api::{Query, changes, id, name};
use crate::app::App;
use crate::respond::{ApiError, Problem, ProblemDetails};
use crate::signing_keys::{self, FirstKeys};

pub use identities::IdentityIssuerView;

/// Shorter-lived tokens would be asked for more often than they are used.
const MIN_TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// The longest audience, in bytes.
const MAX_AUDIENCE: usize = 255;

/// A resource server.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Api)]
pub struct ApiView {
    /// `api_…`.
    #[schema(value_type = String)]
    pub id: ApiId,
    /// What people call it.
    pub name: String,
    /// The `aud` of its tokens, and the `resource` by which clients ask for them (RFC 8707 §2); unique.
    pub audience: String,
    /// The scopes it knows; tokens for it carry no others.
    #[schema(value_type = Vec<String>)]
    pub scopes: Vec<Scope>,
    /// How long its tokens live.
    pub token_lifetime_seconds: u64,
    /// How its tokens are signed: `ES256`, `EdDSA` or `RS256`.
    #[schema(value_type = String)]
    pub signing_algorithm: SigningAlgorithm,
    /// The client as which it introspects the tokens it receives.
    #[schema(value_type = Option<String>)]
    pub client: Option<ClientId>,
    /// The clients whose identity tokens it accepts beside the client token of any client.
    #[schema(value_type = Vec<String>)]
    pub identity_clients: Vec<ClientId>,
    /// Issuers beside Keyward whose users it knows.
    pub identity_issuers: Vec<IdentityIssuerView>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Instant,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Instant,
}

/// An API to register.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApi {
    /// What people call it: 1 to 100 characters.
    pub name: String,
    /// An absolute URI without fragment (RFC 8707 §2), such as `https://api.example.org/`; unique.
    pub audience: String,
    /// The scopes it knows.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub scopes: Vec<Scope>,
    /// How long its tokens live: 60 to 86400, 600 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_lifetime_seconds: Option<u64>,
    /// How its tokens are signed: `ES256` (the default), `EdDSA` or `RS256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub signing_algorithm: Option<SigningAlgorithm>,
    /// The client as which it introspects the tokens it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub client: Option<ClientId>,
    /// The clients whose identity tokens it accepts beside the client token of any client; at most 64.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub identity_clients: Vec<ClientId>,
    /// Issuers beside Keyward whose users it knows; at most 16.
    #[serde(default)]
    pub identity_issuers: Vec<IdentityIssuerView>,
}

/// A change of an API: what is absent stays as it is, `null` clears.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiChange {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An absolute URI without fragment. Tokens for the old one are refused by whoever expects the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The scopes it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub scopes: Option<Vec<Scope>>,
    /// How long its tokens live: 60 to 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_lifetime_seconds: Option<u64>,
    /// How its tokens are signed: `ES256`, `EdDSA` or `RS256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub signing_algorithm: Option<SigningAlgorithm>,
    /// The client as which it introspects the tokens it receives.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub client: Option<Option<ClientId>>,
    /// The clients whose identity tokens it accepts beside the client token of any client; at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub identity_clients: Option<Vec<ClientId>>,
    /// Issuers beside Keyward whose users it knows; at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_issuers: Option<Vec<IdentityIssuerView>>,
}

impl From<Api> for ApiView {
    fn from(api: Api) -> Self {
        Self {
            id: api.id,
            name: api.name,
            audience: api.audience,
            scopes: api.scopes.iter().cloned().collect(),
            token_lifetime_seconds: api.token_lifetime.as_secs(),
            signing_algorithm: api.algorithm,
            client: api.client,
            identity_clients: api.identity_clients,
            identity_issuers: api.identity_issuers.into_iter().map(IdentityIssuerView::from).collect(),
            created_at: Instant(api.created_at),
            updated_at: Instant(api.updated_at),
        }
    }
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, change, delete))
}

/// List APIs
#[utoipa::path(get, path = "/api/v1/apis", tag = "apis", params(Paging),
    responses((status = 200, body = List<ApiView>), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<Paging>) -> Result<axum::Json<List<ApiView>>, ApiError> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let mut found = call.app.store.list_apis().await?;
    found.retain(|api| page.after.as_ref().is_none_or(|after| *after < api.id.to_string()));
    found.sort_by_key(|api| api.id);
    Ok(axum::Json(List::of(found, &page, |a| a.id.to_string(), ApiView::from)))
}

/// Register an API
#[utoipa::path(post, path = "/api/v1/apis", tag = "apis", request_body = NewApi,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless for 24 hours")),
    responses((status = 201, body = ApiView), (status = "default", body = ProblemDetails)))]
async fn create(call: Call, body: Json<NewApi>) -> Result<Tagged<ApiView>, ApiError> {
    call.require(Level::Admin)?;
    if let Some(made) = body.made_before(&call).await? {
        return again(&call, &made).await;
    }
    let new = body.value.clone();
    let api = Api {
        id: ApiId::new(call.now, &call.app.entropy)?,
        name: name(new.name)?,
        audience: audience(new.audience)?,
        scopes: known_scopes(new.scopes)?,
        token_lifetime: new.token_lifetime_seconds.map_or(Ok(DEFAULT_TOKEN_LIFETIME), lifetime)?,
        algorithm: new.signing_algorithm.unwrap_or(SigningAlgorithm::Es256),
        client: new.client,
        identity_clients: identities::clients(&call, new.identity_clients).await?,
        identity_issuers: identities::issuers(&call, new.identity_issuers)?,
        created_at: call.now,
        updated_at: call.now,
        version: 1,
    };
    require_client(&call, api.client).await?;
    let keys = signing_keys::make_first(&call.app.store, api.algorithm, call.now, &call.app.entropy).await?;
    let mut tx = match body.begin(&call).await? {
        Begun::First(tx) => tx,
        Begun::Again(made) => return again(&call, &made).await,
    };
    prepare(&call, &mut tx, &api, keys).await?;
    tx.insert_api(&api).await.map_err(refused)?;
    body.note_made(&call, &mut tx, &api.id.to_string()).await?;
    tx.record(Draft { kind: "api.created", subject: api.id.to_string(), data: describe(&api) });
    call.commit(tx).await?;
    Ok(tagged(api, true))
}

/// The answer to a repetition.
async fn again(call: &Call, made: &str) -> Result<Tagged<ApiView>, ApiError> {
    Ok(tagged(find(call, id(made)?).await?, true))
}

/// Show an API
#[utoipa::path(get, path = "/api/v1/apis/{id}", tag = "apis", params(("id" = String, Path)),
    responses((status = 200, body = ApiView), (status = "default", body = ProblemDetails)))]
async fn get(call: Call, Path(path): Path<String>) -> Result<Tagged<ApiView>, ApiError> {
    Ok(tagged(find(&call, id(&path)?).await?, false))
}

/// Change an API
///
/// Of Keyward's own API, `urn:keyward:api`, only the name and the lifetime of its tokens can be changed.
#[utoipa::path(patch, path = "/api/v1/apis/{id}", tag = "apis", request_body = ApiChange,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 200, body = ApiView), (status = "default", body = ProblemDetails)))]
async fn change(
    call: Call,
    Path(path): Path<String>,
    if_match: IfMatch,
    body: Json<ApiChange>,
) -> Result<Tagged<ApiView>, ApiError> {
    call.require(Level::Admin)?;
    let mut api = find(&call, id(&path)?).await?;
    if_match.require(api.version)?;
    let (before, change) = (api.clone(), body.value);
    if api.audience == KEYWARD_AUDIENCE {
        require_harmless(&change)?;
    }
    if let Some(new) = change.name {
        api.name = name(new)?;
    }
    if let Some(new) = change.audience {
        api.audience = audience(new)?;
    }
    if let Some(new) = change.scopes {
        api.scopes = known_scopes(new)?;
    }
    if let Some(new) = change.token_lifetime_seconds {
        api.token_lifetime = lifetime(new)?;
    }
    api.algorithm = change.signing_algorithm.unwrap_or(api.algorithm);
    if let Some(new) = change.client {
        require_client(&call, new).await?;
        api.client = new;
    }
    if let Some(new) = change.identity_clients {
        api.identity_clients = identities::clients(&call, new).await?;
    }
    if let Some(new) = change.identity_issuers {
        api.identity_issuers = identities::issuers(&call, new)?;
    }
    api.updated_at = call.now;
    let keys = signing_keys::make_first(&call.app.store, api.algorithm, call.now, &call.app.entropy).await?;
    let mut tx = call.begin().await?;
    prepare(&call, &mut tx, &api, keys).await?;
    let Some(api) = tx.update_api(&api, api.version).await.map_err(refused)? else { return Err(stale()) };
    let mut data = changes::between(&describe(&before), &describe(&api));
    // Its tokens would say a scope that it knows no more, or be for an audience that nobody has.
    if before.scopes.first_beyond(&api.scopes).is_some() || before.audience != api.audience {
        changes::end_tokens(&call, &mut tx, TokensOf::Api(api.id), &mut data).await?;
    }
    tx.record(Draft { kind: "api.changed", subject: api.id.to_string(), data });
    call.commit(tx).await?;
    Ok(tagged(api, false))
}

/// Delete an API that no client may ask tokens for
#[utoipa::path(delete, path = "/api/v1/apis/{id}", tag = "apis",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn delete(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Done, ApiError> {
    call.require(Level::Admin)?;
    let api = find(&call, id(&path)?).await?;
    if_match.require(api.version)?;
    if api.audience == KEYWARD_AUDIENCE {
        return Err(Problem::Conflict.because("Keyward's own API cannot be deleted"));
    }
    let mut tx = call.begin().await?;
    if !tx.delete_api(api.id, api.version).await.map_err(in_use)? {
        return Err(stale());
    }
    tx.record(Draft { kind: "api.deleted", subject: api.id.to_string(), data: describe(&api) });
    call.commit(tx).await?;
    Ok(Done)
}

async fn find(call: &Call, id: ApiId) -> Result<Api, ApiError> {
    let found = call.app.store.list_apis().await?.into_iter().find(|api| api.id == id);
    found.ok_or_else(|| Problem::NotFound.because("there is no such API"))
}

/// What must be there before the API is: its scopes, and keys of its algorithm.
async fn prepare(call: &Call, tx: &mut Tx, api: &Api, keys: Option<FirstKeys>) -> Result<(), ApiError> {
    let catalogue = tx.list_scopes().await?;
    if let Some(unknown) = api.scopes.iter().find(|s| !catalogue.iter().any(|entry| entry.name == **s)) {
        return Err(ApiError::field("scopes", format!("there is no scope {unknown}; add it to the catalogue first")));
    }
    identities::require_known_scopes(api)?;
    if let Some(keys) = keys {
        let master = call.app.master_of(tx).await?;
        signing_keys::publish_first(tx, &keys, &master, call.now).await?;
    }
    Ok(())
}

fn known_scopes(scopes: Vec<Scope>) -> Result<ScopeSet, ApiError> {
    if scopes.len() > MAX_SET {
        return Err(ApiError::field("scopes", format!("an API may know at most {MAX_SET} scopes")));
    }
    // A token for another API must never be worth anything at Keyward's own.
    if let Some(scope) = scopes.iter().find(|s| s.is_keyward()) {
        return Err(ApiError::field("scopes", format!("{scope} is for Keyward's own API only")));
    }
    Ok(scopes.into_iter().collect())
}

fn lifetime(seconds: u64) -> Result<Duration, ApiError> {
    let lifetime = Duration::from_secs(seconds);
    if (MIN_TOKEN_LIFETIME..=MAX_TOKEN_LIFETIME).contains(&lifetime) {
        return Ok(lifetime);
    }
    let (least, most) = (MIN_TOKEN_LIFETIME.as_secs(), MAX_TOKEN_LIFETIME.as_secs());
    Err(ApiError::field("token_lifetime_seconds", format!("must be {least} to {most} seconds")))
}

async fn require_client(call: &Call, client: Option<ClientId>) -> Result<(), ApiError> {
    let Some(client) = client else { return Ok(()) };
    match call.app.store.find_client(client).await? {
        Some(_) => Ok(()),
        None => Err(ApiError::field("client", "there is no such client")),
    }
}

/// Keyward's server relies on the rest of its own API being as it is.
fn require_harmless(change: &ApiChange) -> Result<(), ApiError> {
    let name_or_lifetime = ApiChange {
        name: change.name.clone(),
        token_lifetime_seconds: change.token_lifetime_seconds,
        ..ApiChange::default()
    };
    if *change != name_or_lifetime {
        let only = "of Keyward's own API only name and token_lifetime_seconds can be changed";
        return Err(Problem::Conflict.because(only));
    }
    Ok(())
}

fn refused(error: StoreError) -> ApiError {
    if error.is_conflict_on("apis.audience") {
        return Problem::Conflict.because("another API has this audience");
    }
    conflict(error)
}

fn in_use(error: StoreError) -> ApiError {
    if error.is_conflict_on(StoreError::FOREIGN_KEY) {
        return Problem::Conflict.because("clients may ask tokens for this API; take it out of their apis first");
    }
    conflict(error)
}

fn tagged(api: Api, made: bool) -> Tagged<ApiView> {
    let location = made.then(|| format!("/api/v1/apis/{}", api.id));
    Tagged { version: api.version, value: api.into(), location }
}

fn describe(api: &Api) -> serde_json::Value {
    json!({
        "name": api.name, "audience": api.audience, "scopes": api.scopes,
        "token_lifetime_seconds": api.token_lifetime.as_secs(), "signing_algorithm": api.algorithm, "client": api.client,
        "identity_clients": api.identity_clients, "identity_issuers": api.identity_issuers,
    })
}

fn audience(text: String) -> Result<String, ApiError> {
    if text.len() > MAX_AUDIENCE || !is_absolute_uri(&text) {
        let rule = "must be an absolute URI without fragment (RFC 8707 §2), such as https://api.example.org/";
        return Err(ApiError::field("audience", format!("{rule}, at most {MAX_AUDIENCE} bytes")));
    }
    Ok(text)
}

/// `absolute-URI` of RFC 3986 §4.3, with something after the scheme.
fn is_absolute_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_is_right = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
        None => ("", rest),
    };
    let has_content = if rest.starts_with("//") { !authority.is_empty() } else { !path.is_empty() };
    // Brackets stand around an IPv6 address and nowhere else (§3.2.2).
    scheme_is_right && has_content && is_made_of(authority, b"[]:@") && is_made_of(path, b"/:@?")
}

/// Whether a text is made of `unreserved`, `sub-delims`, `pct-encoded` (RFC 3986 §2) and these.
fn is_made_of(text: &str, further: &[u8]) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&b) || further.contains(&b);
    let mut parts = text.split('%');
    parts.next().is_some_and(|first| first.bytes().all(legal))
        && parts.all(|part| {
            let mut bytes = part.bytes();
            let mut digit = || bytes.next().is_some_and(|b| b.is_ascii_hexdigit());
            digit() && digit() && bytes.all(legal)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_an_absolute_uri_without_fragment() {
        for right in [
            "https://api.example.org",
            "https://api.example.org/",
            "https://user@api.example.org:8443/v1/things?x=1&y=%C3%A4",
            "https://[2001:db8::1]/",
            "urn:example:lager",
            "urn:keyward:api",
            "com.example.app:/api",
        ] {
            assert!(is_absolute_uri(right), "{right}");
        }
        for wrong in [
            "",
            "lager",
            "/lager",
            "//api.example.org/",
            "https:",
            "https://",
            "https:///path",
            "urn:",
            "1urn:x",
            "ht tp://x",
            "https://api.example.org/#part",
            "https://api.example.org/a b",
            "https://api.example.org/%zz",
            "https://api.example.org/%a",
            "https://api.example.org/[x]",
            "https://exämple.org/",
            "https://api.example.org/\n",
            "https://api.example.org/\"",
        ] {
            assert!(!is_absolute_uri(wrong), "{wrong}");
        }
    }

    #[test]
    fn an_audience_has_an_end() {
        let of_length = |length: usize| format!("urn:x:{}", "a".repeat(length - 6));
        assert!(audience(of_length(MAX_AUDIENCE)).is_ok());
        assert!(audience(of_length(MAX_AUDIENCE + 1)).is_err());
    }

    #[test]
    fn a_token_lives_a_minute_to_a_day() {
        assert!(lifetime(59).is_err());
        assert!(lifetime(60).is_ok());
        assert!(lifetime(86_400).is_ok());
        assert!(lifetime(86_401).is_err());
        assert!(lifetime(u64::MAX).is_err());
    }
}
