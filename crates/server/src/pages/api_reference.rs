//! The description of the API: for programs at `/openapi.json`, for people at `/docs`.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use utoipa::openapi::OpenApi;

use crate::app::App;
use crate::oauth::jwks::matches;

/// Everything served about the API, made once at the start.
pub(crate) struct Reference {
    document: Served,
}

/// Bytes that do not change while the server runs.
#[derive(Clone)]
struct Served {
    body: Bytes,
    content_type: HeaderValue,
    cache_control: HeaderValue,
    etag: String,
}

impl Reference {
    /// From the description of the REST API.
    pub(crate) fn new(document: OpenApi) -> Self {
        let json = serde_json::to_vec(&document).unwrap_or_default();
        Self { document: Served::new(json, "application/json", "public, max-age=300") }
    }

    /// `/openapi.json`, `/docs` and what it is dressed in.
    pub(crate) fn routes(self) -> Router<Arc<App>> {
        let Self { document } = self;
        Router::new().route("/openapi.json", get(async move |headers: HeaderMap| document.answer(&headers)))
    }
}

impl Served {
    fn new(body: Vec<u8>, content_type: &'static str, cache_control: &'static str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest.as_ref().get(..12).unwrap_or_default()));
        Self {
            body: body.into(),
            content_type: HeaderValue::from_static(content_type),
            cache_control: HeaderValue::from_static(cache_control),
            etag,
        }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| matches(known.as_bytes(), &self.etag));
        let mut response = if known {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            let mut response = Response::new(Body::from(self.body.clone()));
            response.headers_mut().insert(header::CONTENT_TYPE, self.content_type.clone());
            response
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, self.cache_control.clone());
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}
