//! The REST API under `/api/v1`, and its description.

pub mod apis;
pub mod body;
pub mod call;
pub mod callers;
pub mod changes;
pub mod clients;
pub mod condition;
pub mod credentials;
pub mod device_sessions;
pub mod events;
pub mod impact;
pub mod instant;
pub mod list;
pub mod logins;
pub mod notices;
pub mod reports;
pub mod rotation;
pub mod scopes;
pub mod signing_keys;
pub mod transfers;
pub mod users;
pub mod webhooks;

use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use http::request::Parts;
use keyward_model::key::find_all;
use keyward_model::legible::{self, is_unseen};
use serde::de::DeserializeOwned;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ClientCredentials, Flow, OAuth2, Scopes, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::respond::{ApiError, Problem};

/// All paths of the REST API, and their description (OpenAPI 3.1).
pub fn router() -> (Router<Arc<App>>, OpenApi) {
    let (router, mut document) = OpenApiRouter::new()
        .merge(users::router())
        .merge(logins::router())
        .merge(clients::router())
        .merge(credentials::router())
        .merge(rotation::router())
        .merge(callers::router())
        .merge(transfers::router())
        .merge(device_sessions::router())
        .merge(impact::router())
        .merge(reports::router())
        .merge(scopes::router())
        .merge(apis::router())
        .merge(signing_keys::router())
        .merge(notices::router())
        .merge(webhooks::router())
        .merge(events::router())
        .split_for_parts();
    document.info.title = "Keyward".to_owned();
    document.info.version = "v1".to_owned();
    document.info.description = Some(
        "Manage users, clients, credentials, device sessions, scopes, APIs, signing keys and webhooks. Every request carries an access token for \
         the audience urn:keyward:api, got at /token; errors are problem details (RFC 9457)."
            .to_owned(),
    );
    let scopes = Scopes::from_iter([
        ("keyward:admin", "Manage everything"),
        ("keyward:support", "See everything; stop clients and credentials"),
        ("keyward:self", "Manage one's own clients"),
    ]);
    let flow = Flow::ClientCredentials(ClientCredentials::new("/token", scopes));
    let components = document.components.get_or_insert_with(Default::default);
    components.add_security_scheme("oauth2", SecurityScheme::OAuth2(OAuth2::new([flow])));
    document.security = Some(vec![SecurityRequirement::new("oauth2", ["keyward:self"])]);
    (router, document)
}

/// Query parameters, read strictly: an unknown one is an error, for a filter that does not filter misleads.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|error| Problem::Malformed.because(error.body_text()))
    }
}

/// An identifier from a path; one that cannot exist is one that does not exist.
fn id<T: FromStr>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| Problem::NotFound.because("this is not an identifier of what the path names"))
}

/// A name for people: 1 to 100 characters, all of them visible.
fn name(text: String) -> Result<String, ApiError> {
    line(text, "name").and_then(|text| {
        if text.is_empty() { Err(ApiError::field("name", "a name must not be empty")) } else { Ok(text) }
    })
}

/// A line for people: at most 100 characters, all of them visible.
pub(crate) fn line(text: String, field: &'static str) -> Result<String, ApiError> {
    const MOST: usize = 100;
    let text = legible::name(&text);
    if text.chars().count() > MOST || text.chars().any(is_unseen) {
        return Err(ApiError::field(field, format!("at most {MOST} characters, all of them visible")));
    }
    // What is written here is shown to many and kept in the log for ever.
    if find_all(text.as_bytes()).next().is_some() {
        return Err(ApiError::field(field, "holds an API key: a key belongs into no name or label"));
    }
    Ok(text.into_owned())
}
