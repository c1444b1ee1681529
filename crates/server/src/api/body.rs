//! Bodies and repetitions: what the REST API reads besides its parameters.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use keyward_store::{Made, Tx};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::call::Call;
use crate::app::App;
use crate::respond::{ApiError, Problem, json_response};

/// The largest body the REST API reads unless it says otherwise, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The longest `Idempotency-Key`, in bytes.
const MAX_KEY: usize = 128;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A JSON body of at most `MOST` bytes, read strictly.
pub struct Json<T, const MOST: usize = MAX_BODY> {
    /// What it says.
    pub value: T,
    /// Names this very request, to tell a repetition from another request.
    digest: String,
    repeat_key: Option<String>,
}

impl<T: DeserializeOwned, const MOST: usize> FromRequest<Arc<App>> for Json<T, MOST> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let repeat_key = repeat_key(&request)?;
        let path = request.uri().path().to_owned();
        if essence(&request) != "application/json" {
            return Err(Problem::MediaType.because("send Content-Type: application/json"));
        }
        let body = collect(request, MOST, app.body_timeout).await?;
        require_object(&body)?;
        let value = serde_json::from_slice(&body).map_err(|error| {
            let kind = if error.is_data() { Problem::Invalid } else { Problem::Malformed };
            kind.because(error.to_string())
        })?;
        let mut context = digest::Context::new(&SHA256);
        context.update(path.as_bytes());
        context.update(b"\0");
        context.update(&body);
        Ok(Self { value, digest: URL_SAFE_NO_PAD.encode(context.finish()), repeat_key })
    }
}

/// An array would be read as the members of an object in their order.
pub(crate) fn require_object(json: &[u8]) -> Result<(), ApiError> {
    if json.trim_ascii_start().starts_with(b"{") {
        return Ok(());
    }
    Err(Problem::Malformed.because("the body must be a JSON object"))
}

/// The content type without its parameters, in lower case.
pub(crate) fn essence(request: &Request) -> String {
    let content_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default();
    String::from_utf8_lossy(essence.trim_ascii()).to_ascii_lowercase()
}

/// A whole body of at most so many bytes.
pub(crate) async fn collect(request: Request, most: usize, within: Duration) -> Result<Bytes, ApiError> {
    let collected = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(within, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::TooLarge.because(format!("no body here is larger than {} KiB", most / 1024)))
        }
        Ok(Err(_)) => Err(Problem::Malformed.because("the body could not be read to its end")),
        Err(_) => Err(Problem::TooSlow.because("send the whole body at once")),
    }
}

fn repeat_key(request: &Request) -> Result<Option<String>, ApiError> {
    let Some(key) = request.headers().get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().ok().filter(|k| !k.is_empty() && k.len() <= MAX_KEY);
    key.map(|k| Some(k.to_owned()))
        .ok_or_else(|| Problem::Malformed.because("Idempotency-Key must have 1 to 128 visible ASCII characters"))
}

impl<T, const MOST: usize> Json<T, MOST> {
    /// What an earlier request with the same `Idempotency-Key` made, if this is its repetition.
    pub async fn made_before(&self, call: &Call) -> Result<Option<String>, ApiError> {
        let Some(key) = &self.repeat_key else { return Ok(None) };
        self.same(call.app.store.find_made(&actor(call), key).await?)
    }

    /// Starts what this request makes, unless it is a repetition of one that was under way until now.
    pub async fn begin(&self, call: &Call) -> Result<Begun, ApiError> {
        let mut tx = call.begin().await?;
        let Some(key) = &self.repeat_key else { return Ok(Begun::First(tx)) };
        let Some(made) = self.same(tx.find_made(&actor(call), key).await?)? else { return Ok(Begun::First(tx)) };
        call.app.settle(tx, &call.origin()).await?;
        Ok(Begun::Again(made))
    }

    fn same(&self, made: Option<Made>) -> Result<Option<String>, ApiError> {
        match made {
            Some(made) if made.request != self.digest => {
                Err(Problem::Conflict.because("this Idempotency-Key was used for another request; use a new one"))
            }
            made => Ok(made.map(|made| made.made)),
        }
    }

    /// Notes what this request makes, so that a repetition makes nothing.
    pub async fn note_made(&self, call: &Call, tx: &mut Tx, made: &str) -> Result<(), ApiError> {
        let Some(key) = &self.repeat_key else { return Ok(()) };
        let made = Made { request: self.digest.clone(), made: made.to_owned() };
        Ok(tx.insert_made(&actor(call), key, &made, call.now).await?)
    }
}

/// How a request that may be repeated begins.
pub enum Begun {
    /// It is the first: this transaction makes what it asks for.
    First(Tx),
    /// It is a repetition: this was made by the first.
    Again(String),
}

fn actor(call: &Call) -> String {
    // Of a client that many people use, each device session repeats its own requests and nobody else's.
    call.session().map_or_else(|| call.client().id.to_string(), |session| session.to_string())
}

/// Somebody else was faster.
pub fn stale() -> ApiError {
    Problem::Stale.because("somebody changed it meanwhile: read it again, then repeat your change")
}

/// A member of a change: absent leaves as it is, `null` clears.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A thing with its version as `ETag`.
pub struct Tagged<T> {
    /// The thing.
    pub value: T,
    /// Its version.
    pub version: i64,
    /// Where it is, if it was made just now.
    pub location: Option<String>,
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let status = if self.location.is_some() { StatusCode::CREATED } else { StatusCode::OK };
        let mut response = json_response(status, &self.value);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", self.version)) {
            headers.insert(header::ETAG, etag);
        }
        if let Some(location) = self.location.and_then(|l| HeaderValue::try_from(l).ok()) {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}

/// `204 No Content`.
pub struct Done;

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}
