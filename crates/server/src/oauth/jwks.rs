//! The public signing keys: RFC 7517 §5.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::app::App;
use crate::oauth::status_list::{NO_STORE, Wanted, require_applied};
use crate::respond::OAuthError;

/// Verifiers may keep the keys for five minutes: a key is published longer than that before it signs.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300, stale-while-revalidate=600");

/// `GET /jwks`
pub async fn jwks(
    State(app): State<Arc<App>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    let is_for_one = require_applied(&app, wanted).await?;
    let keys = app.key_ring.load();
    let unchanged = headers.get(header::IF_NONE_MATCH).is_some_and(|known| matches(known.as_bytes(), &keys.etag));
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(keys.jwks.to_string()));
        let content_type = HeaderValue::from_static("application/jwk-set+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    };
    let cache_control = if is_for_one { NO_STORE } else { CACHE_CONTROL };
    response.headers_mut().insert(header::CACHE_CONTROL, cache_control);
    if let Ok(etag) = HeaderValue::from_str(&keys.etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Whether an `If-None-Match` names this entity tag (RFC 9110 §13.1.2: weak comparison).
pub fn matches(if_none_match: &[u8], etag: &str) -> bool {
    if_none_match.split(|b| *b == b',').any(|one| {
        let one = one.trim_ascii();
        one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == etag.as_bytes()
    })
}
