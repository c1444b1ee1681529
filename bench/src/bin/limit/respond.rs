//! Responses with the headers that Keyward's OAuth endpoints send, but for the request id, which only a log needs.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};

/// A 200 with a JSON body that must not be stored, RFC 6749 §5.1.
pub(crate) fn json(body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = with_cache(Bytes::from(body), HeaderValue::from_static("no-store"));
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// A 200 with a JSON body and its `Cache-Control`.
pub(crate) fn with_cache(body: Bytes, cache: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, cache);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An error in the form of RFC 6749 §5.2.
pub(crate) fn refused(status: u16, code: &str) -> Response<Full<Bytes>> {
    let mut response = json(format!(r#"{{"error":"{code}"}}"#).into_bytes());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    response
}
