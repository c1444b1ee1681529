//! Answers to gateways: let the request in, or what whoever sent it is to be told. Never a redirect: machines cannot log in.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use keyward_guard::Refusal;
use serde::Serialize;

use super::{BASIC, OAuthError, json_response, no_store, retry_after};
use crate::meter;
use crate::request::{UNMARKED, mark};

/// Why a request is not let in.
#[derive(Debug)]
pub(crate) enum GatewayError {
    /// Its tokens do not do.
    Refused(Refusal),
    /// Its key does not do.
    Client(OAuthError),
    /// Its path, which is told, may be another one to the API than to the gateway. No token would help.
    Ambiguous(String),
    /// The gateway asks what cannot be answered. Whoever sent the request can do nothing about it.
    Misconfigured(String),
}

impl From<Refusal> for GatewayError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<OAuthError> for GatewayError {
    fn from(error: OAuthError) -> Self {
        Self::Client(error)
    }
}

/// What callers of one API are challenged with.
pub(crate) struct Realm<'a> {
    /// The audience of the API: what a token for it is asked by.
    pub(crate) audience: &'a str,
    /// Whether a key itself would be taken too.
    pub(crate) takes_keys: bool,
}

#[derive(Serialize)]
struct Refused<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    error_description: &'a str,
}

/// The headers that let a request in, with what the API is to be told. They are remembered and copied, so what every answer
/// carries has its place among them: a copy need not grow.
pub(crate) fn letting_in(told: HeaderMap) -> HeaderMap {
    let mut headers = told;
    no_store(&mut headers);
    mark(&mut headers, UNMARKED);
    headers
}

/// The request may go on.
pub(crate) fn let_in(headers: HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers;
    response
}

/// The request must not go on.
pub(crate) fn turn_away(error: GatewayError, realm: &Realm<'_>) -> Response {
    let refusal = match error {
        GatewayError::Refused(refusal) => refusal,
        GatewayError::Client(error) => return error.into_response(),
        GatewayError::Ambiguous(path) => {
            tracing::info!(
                path,
                audience = realm.audience,
                "a path was refused at the gateway: servers read it differently"
            );
            let error_description = "servers read this path in different ways; send it without empty and dot segments, and \
                without ; \\ # and encoded . / \\ ; # %";
            let mut response = json_response(StatusCode::FORBIDDEN, &Refused { error: None, error_description });
            no_store(response.headers_mut());
            return response;
        }
        GatewayError::Misconfigured(why) => {
            meter::MISCONFIGURED_GATEWAYS.increment();
            tracing::error!(%why, "a gateway asks what cannot be answered: no request of this route is let in");
            let error_description =
                "the gateway before this API is not set up rightly; its operator finds more in Keyward's log";
            let body = Refused { error: Some("server_error"), error_description };
            return json_response(StatusCode::INTERNAL_SERVER_ERROR, &body);
        }
    };
    tracing::info!(cause = %refusal, audience = realm.audience, "a request was refused at the gateway");
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let description = refusal.description();
    let body = Refused { error: refusal.code().map(|code| code.as_str()), error_description: &description };
    let mut response = json_response(status, &body);
    no_store(response.headers_mut());
    let challenge = refusal.challenge(realm.audience).and_then(|challenge| HeaderValue::try_from(challenge).ok());
    response.headers_mut().extend(challenge.map(|challenge| (header::WWW_AUTHENTICATE, challenge)));
    if realm.takes_keys && refusal == Refusal::Missing {
        response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(BASIC));
    }
    retry_after(&mut response, (status == StatusCode::SERVICE_UNAVAILABLE).then_some(Duration::from_secs(1)));
    response
}
