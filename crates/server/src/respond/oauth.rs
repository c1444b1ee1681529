//! Refusals of the OAuth endpoints (RFC 6749 §5.2): which words there are, and which status each comes with.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use keyward_model::entropy::EntropyError;
use keyward_model::jws::JwsError;
use keyward_model::legible::legible;
use keyward_store::StoreError;
use serde::Serialize;

use super::{BASIC, json_response, no_store, retry_after};
use crate::meter;
use crate::oauth::grants::device_code::Polling;
use crate::oauth::key_warning::EndedKey;

/// Error codes of the OAuth endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// RFC 6749 §5.2
    InvalidRequest,
    /// RFC 6749 §5.2
    InvalidClient,
    /// RFC 6749 §5.2
    InvalidGrant,
    /// RFC 6749 §5.2
    UnauthorizedClient,
    /// RFC 6749 §5.2
    UnsupportedGrantType,
    /// RFC 6749 §5.2
    InvalidScope,
    /// RFC 8707 §2
    InvalidTarget,
    /// RFC 8628 §3.5
    AuthorizationPending,
    /// RFC 8628 §3.5
    SlowDown,
    /// RFC 8628 §3.5
    AccessDenied,
    /// RFC 8628 §3.5
    ExpiredToken,
    /// RFC 6749 §4.1.2.1, here for too many failed authentications or changes.
    TemporarilyUnavailable,
    /// RFC 6749 §4.1.2.1, for faults of our own.
    ServerError,
}

impl ErrorCode {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::AccessDenied => "access_denied",
            Self::ExpiredToken => "expired_token",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }

    /// The HTTP status it comes with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest
            | Self::InvalidGrant
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType
            | Self::InvalidScope
            | Self::InvalidTarget
            | Self::AuthorizationPending
            | Self::SlowDown
            | Self::AccessDenied
            | Self::ExpiredToken => StatusCode::BAD_REQUEST,
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::TemporarilyUnavailable => StatusCode::TOO_MANY_REQUESTS,
            Self::ServerError => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// This error with what the client may know of its cause.
    pub fn because(self, description: impl Into<Cow<'static, str>>) -> OAuthError {
        let description = description.into();
        OAuthError { code: self, description, retry_after: None, ended_key: None, polling: None, is_told: false }
    }
}

/// A refusal of an OAuth endpoint (RFC 6749 §5.2).
#[derive(Debug)]
pub struct OAuthError {
    /// Which.
    pub code: ErrorCode,
    /// What the client may know.
    pub description: Cow<'static, str>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// What programs read of a key that has ended.
    pub(crate) ended_key: Option<EndedKey>,
    /// What a device that polls may read.
    pub(crate) polling: Option<Polling>,
    /// The log has told of it, or of many like it at once.
    pub(crate) is_told: bool,
}

impl OAuthError {
    /// The same, and when trying again makes sense.
    pub(crate) fn retry_in(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The same to a device that polls, which is no news for the log.
    pub(crate) fn with(self, polling: Polling) -> Self {
        Self { polling: Some(polling), is_told: true, ..self }
    }
}

/// Goes with an answer of which the log has told: no line of its own is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told;

#[derive(Serialize)]
struct OAuthErrorBody<'a> {
    error: &'static str,
    error_description: &'a str,
    #[serde(flatten)]
    ended_key: Option<EndedKey>,
    #[serde(flatten)]
    polling: Option<Polling>,
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let error_description = &printable(&legible(&self.description));
        let (error, ended_key) = (self.code.as_str(), self.ended_key);
        let body = OAuthErrorBody { error, error_description, ended_key, polling: self.polling };
        let mut response = json_response(self.code.status(), &body);
        let headers = response.headers_mut();
        no_store(headers);
        if self.code == ErrorCode::InvalidClient {
            // RFC 6749 §5.2: "the authorization server MUST respond with an HTTP 401 status code and include the
            // "WWW-Authenticate" response header field matching the authentication scheme used by the client."
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(BASIC));
        }
        retry_after(&mut response, self.retry_after);
        if self.is_told {
            response.extensions_mut().insert(Told);
        }
        response
    }
}

impl From<StoreError> for OAuthError {
    fn from(error: StoreError) -> Self {
        meter::DATABASE_ERRORS.increment();
        tracing::error!(%error, "the database failed");
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..ErrorCode::ServerError.because("the server's database does not answer; try again")
        }
    }
}

impl From<EntropyError> for OAuthError {
    fn from(error: EntropyError) -> Self {
        tracing::error!(%error, "no random bytes");
        ErrorCode::ServerError.because("the server cannot issue anything at the moment")
    }
}

impl From<JwsError> for OAuthError {
    fn from(error: JwsError) -> Self {
        tracing::error!(%error, "signing failed");
        ErrorCode::ServerError.because("the server cannot sign anything at the moment")
    }
}

/// RFC 6749 §4.1.2.1 and §5.2 allow only these characters in `error_description`.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' ' | '!' | '#'..='[' | ']'..='~') { c } else { '?' }).collect()
}
