//! The answer to a request that is refused: RFC 6750 §3, and never a redirect.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::Refusal;

/// The protection space of a challenge where nobody named one.
pub const DEFAULT_REALM: &str = "api";

/// In how many seconds it is worth another try where nothing was known.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

impl Refusal {
    /// The answer: status, challenge, and a small JSON body with `error` and `error_description`. The refusal itself is
    /// among its extensions, for whoever logs.
    pub fn response<B: From<String>>(&self, realm: &str) -> Response<B> {
        let error = match self.code() {
            Some(code) => code.as_str(),
            None if self.status() == 503 => "temporarily_unavailable",
            None => "token_missing",
        };
        let body = json!({ "error": error, "error_description": self.description() });
        let mut response = Response::new(B::from(body.to_string()));
        *response.status_mut() = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status() == 503 {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        self.write_challenge(realm, headers);
        response.extensions_mut().insert(self.clone());
        response
    }

    pub(crate) fn write_challenge(&self, realm: &str, headers: &mut HeaderMap) {
        if let Some(Ok(challenge)) = self.challenge(realm).map(HeaderValue::try_from) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_status_challenge_and_body() {
        for (refusal, status, error, challenge) in [
            (Refusal::Missing, 401, "token_missing", Some("Bearer realm=\"plant\"")),
            (Refusal::Kind, 401, "invalid_token", Some("Bearer realm=\"plant\", error=\"invalid_token\", ")),
            (Refusal::Request, 400, "invalid_request", Some("Bearer realm=\"plant\", error=\"invalid_request\", ")),
            (Refusal::Res("a".into()), 403, "insufficient_scope", Some("Bearer realm=\"plant\", ")),
            (Refusal::Unknowable("x"), 503, "temporarily_unavailable", None),
        ] {
            let response: Response<String> = refusal.response("plant");
            let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(response.status().as_u16(), status);
            let told = header(WWW_AUTHENTICATE);
            assert!(challenge.map_or(told.is_none(), |begin| told.unwrap().starts_with(begin)), "{told:?}");
            assert_eq!(header(RETRY_AFTER).is_some(), status == 503);
            let body: serde_json::Value = serde_json::from_str(response.body()).unwrap();
            assert_eq!((&body["error"], &body["error_description"]), (&json!(error), &json!(refusal.description())));
            assert_eq!(response.extensions().get(), Some(&refusal));
        }
    }
}
