//! Client authentication: `client_secret_basic`, RFC 6749 §2.3.1, one HMAC and one constant-time compare.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::form;

/// Room for the decoded `client_id:client_secret`, escapes included; longer ones are refused.
const MAX_DECODED: usize = 512;

/// The one client there is: its id and its secret as Keyward would keep it, a keyed hash.
pub(crate) struct Registered {
    client_id: String,
    hash_key: hmac::Key,
    hash: hmac::Tag,
}

impl Registered {
    /// Hashes the secret under a fresh random key.
    pub(crate) fn new(client_id: &str, secret: &str) -> anyhow::Result<Self> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key)?;
        let hash_key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Ok(Self { client_id: client_id.to_owned(), hash: hmac::sign(&hash_key, secret.as_bytes()), hash_key })
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether the `Authorization` header carries this client's id and secret.
    pub(crate) fn authenticates(&self, headers: &HeaderMap) -> bool {
        self.check(headers).is_some()
    }

    fn check(&self, headers: &HeaderMap) -> Option<()> {
        let value = headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, credentials) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let mut room = [0; MAX_DECODED];
        let length = STANDARD.decode_slice(credentials, &mut room).ok()?;
        let decoded = room.get(..length)?;
        let colon = decoded.iter().position(|&byte| byte == b':')?;
        let (client_id, secret) = decoded.split_at(colon);
        let client_id = form::decode(client_id).ok()?;
        let secret = form::decode(secret.get(1..)?).ok()?;
        let hash = hmac::sign(&self.hash_key, secret.as_bytes());
        verify_slices_are_equal(hash.as_ref(), self.hash.as_ref()).ok()?;
        (client_id == self.client_id).then_some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use super::*;

    fn answer(value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        Registered::new("client_1", "a b:c").unwrap().authenticates(&headers)
    }

    #[test]
    fn both_halves_are_form_decoded_before_they_are_compared() {
        assert!(answer(&format!("Basic {}", STANDARD.encode("client%5F1:a+b%3Ac"))));
    }

    #[test]
    fn a_wrong_secret_a_wrong_id_and_a_broken_header_are_refused() {
        for credentials in ["client_1:wrong", "client_2:a+b%3Ac", "client_1"] {
            assert!(!answer(&format!("Basic {}", STANDARD.encode(credentials))));
        }
        for value in ["Basic", "Basic !", "Bearer Y2xpZW50"] {
            assert!(!answer(value));
        }
        assert!(!answer(&format!("Basic {}", STANDARD.encode("x".repeat(600)))));
    }
}
