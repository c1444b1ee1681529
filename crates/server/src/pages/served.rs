//! What is made once and served as it is until the server ends.

use axum::body::{Body, Bytes};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::oauth::jwks::matches;

/// Bytes that do not change while the server runs.
pub(crate) struct Served {
    body: Bytes,
    content_type: &'static str,
    etag: String,
}

impl Served {
    /// Of this type.
    pub(crate) fn new(body: Vec<u8>, content_type: &'static str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let version = URL_SAFE_NO_PAD.encode(digest.as_ref().get(..12).unwrap_or_default());
        Self { body: body.into(), content_type, etag: format!("\"{version}\"") }
    }

    /// Names this very content.
    pub(crate) fn version(&self) -> &str {
        self.etag.trim_matches('"')
    }

    /// The content, for good if it is asked for by its version. While nodes are replaced one by one, a page of one may ask
    /// another for a version that this one does not have.
    pub(crate) fn answer_at(&self, uri: &Uri, request: &HeaderMap) -> Response {
        let is_exact = uri.query() == Some(self.version());
        self.answer(request, if is_exact { "public, max-age=31536000, immutable" } else { "no-cache" })
    }

    /// The content, or word that it is the one the client has (RFC 9110 §13.1.2).
    pub(crate) fn answer(&self, request: &HeaderMap, cache_control: &'static str) -> Response {
        let known = request.get(header::IF_NONE_MATCH).is_some_and(|known| matches(known.as_bytes(), &self.etag));
        let mut response = Response::new(if known { Body::empty() } else { Body::from(self.body.clone()) });
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        response
    }
}
