//! Errors as HTTP responses: one type per audience, and the only place that picks a status.

mod gateway;
mod oauth;

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use keyward_model::entropy::EntropyError;
use keyward_model::legible::legible;
use keyward_store::StoreError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::callers::CallerView;
use crate::meter;

pub(crate) use gateway::{GatewayError, Realm, let_in, letting_in, turn_away};
pub use oauth::{ErrorCode, OAuthError};
pub(crate) use oauth::{Told, printable};

/// Bytes that hold a token response, so that writing it does not grow the buffer.
const USUAL_BODY: usize = 1280;
/// What whoever shows a key is challenged with (RFC 7617 §2).
const BASIC: &str = "Basic realm=\"keyward\", charset=\"UTF-8\"";

/// What kind of refusal the REST API answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The request cannot be read.
    Malformed,
    /// A value does not fit.
    Invalid,
    /// No token, or one that does not count.
    Unauthorized,
    /// The token's rights do not reach so far.
    Forbidden,
    /// There is no such thing, or none the token may see.
    NotFound,
    /// The method is not for this path.
    MethodNotAllowed,
    /// It contradicts what there is.
    Conflict,
    /// The key to be ended is in use.
    CallersRemain,
    /// It has changed since it was read.
    Stale,
    /// A budget, for changes or for reports, is used up.
    TooMany,
    /// The body is larger than anything of ours.
    TooLarge,
    /// The body took too long.
    TooSlow,
    /// Not JSON.
    MediaType,
    /// The database does not answer.
    Unavailable,
}

impl Problem {
    /// The last part of its `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Conflict => "conflict",
            Self::CallersRemain => "callers-remain",
            Self::Stale => "stale",
            Self::TooMany => "too-many",
            Self::TooLarge => "too-large",
            Self::TooSlow => "too-slow",
            Self::MediaType => "media-type",
            Self::Unavailable => "unavailable",
        }
    }

    /// The HTTP status it comes with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict | Self::CallersRemain => StatusCode::CONFLICT,
            Self::Stale => StatusCode::PRECONDITION_FAILED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What kind, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The request cannot be read",
            Self::Invalid => "A value does not fit",
            Self::Unauthorized => "A valid access token is needed",
            Self::Forbidden => "The access token's rights do not reach so far",
            Self::NotFound => "There is no such thing here",
            Self::MethodNotAllowed => "This path does not take that method",
            Self::Conflict => "This contradicts what there is",
            Self::CallersRemain => "The credential is still in use",
            Self::Stale => "It has changed since it was read",
            Self::TooMany => "Too many requests at once",
            Self::TooLarge => "The body is too large",
            Self::TooSlow => "The body took too long to arrive",
            Self::MediaType => "The body must be JSON",
            Self::Unavailable => "The database does not answer",
        }
    }

    /// This problem with its particulars.
    pub fn because(self, detail: impl Into<Cow<'static, str>>) -> ApiError {
        let detail = detail.into();
        ApiError { problem: self, detail, field: None, challenge: None, retry_after: None, callers: Vec::new() }
    }
}

/// A refusal of the REST API (RFC 9457).
#[derive(Debug)]
pub struct ApiError {
    /// Which kind.
    pub problem: Problem,
    /// What happened this time and what to do next.
    pub detail: Cow<'static, str>,
    /// Which member of the body it is about.
    pub field: Option<&'static str>,
    /// The `WWW-Authenticate` value (RFC 6750 §3).
    pub challenge: Option<String>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// Who is in the way of [`Problem::CallersRemain`].
    pub callers: Vec<CallerView>,
}

impl ApiError {
    /// A member of the body that does not fit.
    pub fn field(field: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field), ..Problem::Invalid.because(detail) }
    }
}

/// The body of a refusal (RFC 9457 §3.1).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// `urn:keyward:problem:` and what kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time and what to do next.
    pub detail: String,
    /// Which member of the body it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// The body of the refusal to end a key that is in use.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CallersRemain {
    /// What every refusal says.
    #[serde(flatten)]
    pub problem: ProblemDetails,
    /// Who was seen, the most recent first, before those whom only others report; at most 20.
    pub callers: Vec<CallerView>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.problem.status();
        let body = ProblemDetails {
            kind: format!("urn:keyward:problem:{}", self.problem.as_str()),
            title: self.problem.title().to_owned(),
            status: status.as_u16(),
            detail: legible(&self.detail).into_owned(),
            field: self.field.map(str::to_owned),
        };
        let mut response = if self.problem == Problem::CallersRemain {
            json_response(status, &CallersRemain { problem: body, callers: self.callers })
        } else {
            json_response(status, &body)
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        no_store(headers);
        if let Some(challenge) = self.challenge.and_then(|c| HeaderValue::try_from(c).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        let soon = (self.problem == Problem::Unavailable).then_some(Duration::from_secs(1));
        retry_after(&mut response, self.retry_after.or(soon));
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        meter::DATABASE_ERRORS.increment();
        tracing::error!(%error, "the database failed");
        Problem::Unavailable.because("nothing was changed or the change is not confirmed; look, then try again")
    }
}

impl From<EntropyError> for ApiError {
    fn from(error: EntropyError) -> Self {
        tracing::error!(%error, "no random bytes");
        Problem::Unavailable.because("the server cannot issue anything at the moment")
    }
}

impl From<crate::app::StartError> for ApiError {
    fn from(error: crate::app::StartError) -> Self {
        tracing::error!(%error, "a key could not be made or opened");
        Problem::Unavailable.because("the server's keys cannot be used at the moment; its log says why")
    }
}

/// What kind of refusal a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageProblem {
    /// The request cannot be read.
    Unreadable,
    /// A form of another site, of another login or of none.
    Foreign,
    /// Not the right name, password, code or passkey.
    Wrong,
    /// There is no such page.
    NotFound,
    /// A link that worked once.
    Ended,
    /// No application that may send people here, or not from where it says.
    Application,
    /// Something that may not be chosen.
    Invalid,
    /// It is not any more what the page showed.
    Changed,
    /// Tried too often.
    TooMany,
    /// Too much to do at this moment.
    Busy,
    /// A fault of our own.
    Unavailable,
}

impl PageProblem {
    /// The HTTP status it comes with.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Unreadable | Self::Application => StatusCode::BAD_REQUEST,
            Self::Foreign | Self::Wrong => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Ended => StatusCode::GONE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Changed => StatusCode::CONFLICT,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A refusal that a page shows. `pages/frame.rs` writes the page, in the language of whoever asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageError {
    /// Which kind.
    pub(crate) problem: PageProblem,
    /// When trying again makes sense.
    pub(crate) retry_after: Option<Duration>,
}

impl PageError {
    /// Tried too often: when to try again.
    pub(crate) fn too_many(wait: Duration) -> Self {
        Self { problem: PageProblem::TooMany, retry_after: Some(wait) }
    }

    /// A fault of our own: the log says which.
    pub(crate) fn fault(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %error, "a page could not be given");
        PageProblem::Unavailable.into()
    }
}

impl From<PageProblem> for PageError {
    fn from(problem: PageProblem) -> Self {
        let soon = problem.status() == StatusCode::SERVICE_UNAVAILABLE;
        Self { problem, retry_after: soon.then_some(Duration::from_secs(1)) }
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        meter::DATABASE_ERRORS.increment();
        Self::fault(&error)
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = html_response(String::new(), Some(self.problem), self.retry_after);
        response.extensions_mut().insert(self);
        response
    }
}

/// A page; with a problem, one that says so.
pub(crate) fn html_response(html: String, problem: Option<PageProblem>, wait: Option<Duration>) -> Response {
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = problem.map_or(StatusCode::OK, PageProblem::status);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    retry_after(&mut response, wait);
    response
}

/// Leads a browser on to another page of ours, with `GET` whatever it came with (RFC 9110 §15.4.4).
pub(crate) fn see_other(path: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(place) = HeaderValue::try_from(path) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// A JSON answer.
pub fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let mut json = Vec::with_capacity(USUAL_BODY);
    if serde_json::to_writer(&mut json, body).is_err() {
        // Our own types always serialise; an empty body would be noticed at once.
        json.clear();
    }
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn retry_after(response: &mut Response, wait: Option<Duration>) {
    if let Some(wait) = wait {
        // Whole seconds, rounded up (RFC 9110 §10.2.3): whoever waits as told is not refused again.
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
    }
}

/// What was true of one request says nothing of the next.
fn no_store(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
