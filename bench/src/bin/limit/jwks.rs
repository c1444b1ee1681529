//! The key set, rendered once.

use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::HeaderValue;

use crate::respond;
use crate::token::KEY_ID;

pub(crate) struct JwksEndpoint {
    document: Bytes,
}

impl JwksEndpoint {
    pub(crate) fn new(key: &EcdsaKeyPair) -> Self {
        // An uncompressed point: 0x04, then 32 bytes each of x and y.
        let point = key.public_key().as_ref();
        let coordinate = |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
        let document = format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"{KEY_ID}","x":"{}","y":"{}"}}]}}"#,
            coordinate(1),
            coordinate(33),
        );
        Self { document: Bytes::from(document) }
    }

    pub(crate) fn answer(&self) -> Response<Full<Bytes>> {
        respond::with_cache(self.document.clone(), HeaderValue::from_static("public, max-age=300"))
    }
}
