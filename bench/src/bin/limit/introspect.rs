//! Introspection, RFC 7662: authenticate the caller, verify one ES256 signature, answer with the claims.

use anyhow::Context as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, KeyPair as _, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Response};
use serde::Deserialize;

use crate::basic::Registered;
use crate::token::TokenEndpoint;
use crate::{form, now, respond};

pub(crate) struct IntrospectEndpoint {
    registered: Registered,
    key: ParsedPublicKey,
    sample: String,
}

/// The claims the verdict depends on.
#[derive(Deserialize)]
struct Lifetime {
    exp: u64,
}

/// The member of the token response that holds the token.
#[derive(Deserialize)]
struct Issued {
    access_token: String,
}

impl IntrospectEndpoint {
    /// Issues one token to ask about; the same client may ask.
    pub(crate) fn new(registered: Registered, key: EcdsaKeyPair, issuer: &str) -> anyhow::Result<Self> {
        let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref())?;
        let issuing = TokenEndpoint::new(registered, key, issuer);
        let issued = issuing.issue().context("no token could be issued")?;
        let issued: Issued = serde_json::from_slice(&issued)?;
        Ok(Self { registered: issuing.into_registered(), key: public, sample: issued.access_token })
    }

    pub(crate) fn sample(&self) -> &str {
        &self.sample
    }

    pub(crate) fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
        if !self.registered.authenticates(headers) {
            return respond::refused(401, "invalid_client");
        }
        match asked_token(body) {
            Some(token) => {
                respond::json(self.claims(token.as_bytes()).unwrap_or_else(|| br#"{"active":false}"#.to_vec()))
            }
            None => respond::refused(400, "invalid_request"),
        }
    }

    /// `{"active":true,` and the claims as they stand in the token; `None` when it does not verify.
    fn claims(&self, token: &[u8]) -> Option<Vec<u8>> {
        const BEFORE: &[u8] = br#"{"active":true,"#;
        let dot = token.iter().rposition(|&byte| byte == b'.')?;
        let (signed, signature) = token.split_at(dot);
        let mut room = [0; 96];
        let length = URL_SAFE_NO_PAD.decode_slice(signature.get(1..)?, &mut room).ok()?;
        self.key.verify_sig(signed, room.get(..length)?).ok()?;
        let dot = signed.iter().position(|&byte| byte == b'.')?;
        let payload = signed.get(dot + 1..)?;
        let mut answer = Vec::with_capacity(BEFORE.len() + payload.len());
        answer.extend_from_slice(BEFORE);
        URL_SAFE_NO_PAD.decode_vec(payload, &mut answer).ok()?;
        let lifetime: Lifetime = serde_json::from_slice(answer.get(BEFORE.len()..)?).ok()?;
        // The claims keep their closing brace; their opening one is already written.
        answer.remove(BEFORE.len());
        (lifetime.exp > now().as_secs()).then_some(answer)
    }
}

fn asked_token(body: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    let mut token = None;
    for pair in form::pairs(body) {
        let (name, value) = pair.ok()?;
        if name == "token" && token.replace(value).is_some() {
            return None;
        }
    }
    token
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;

    use super::*;

    #[test]
    fn its_own_token_is_active_and_a_changed_one_is_not() {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let registered = Registered::new("client_1", "secret").unwrap();
        let endpoint = IntrospectEndpoint::new(registered, key, "http://127.0.0.1:1").unwrap();
        let claims = endpoint.claims(endpoint.sample().as_bytes()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims.get("active"), Some(&true.into()));
        assert_eq!(claims.get("client_id"), Some(&"client_1".into()));
        let changed = endpoint.sample().replace(".ey", ".eZ");
        assert!(endpoint.claims(changed.as_bytes()).is_none());
    }
}
