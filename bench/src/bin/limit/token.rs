//! Token requests: the client credentials grant, RFC 6749 §4.4, with the claims of Keyward's tokens.

use std::borrow::Cow;
use std::io::Write as _;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::EcdsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Response};

use crate::basic::Registered;
use crate::{form, now, respond};

/// Names the one signing key; as long as Keyward's.
pub(crate) const KEY_ID: &str = "key_01jd9zq3m8f2vbn6c4x7k5r1ts";
/// Bytes of an ES256 signature and of its base64url form.
const SIGNATURE: usize = 64;
const SIGNATURE_TEXT: usize = 86;
const LIFETIME_SECONDS: u64 = 600;
const GRANTED_SCOPE: &str = "Worker";
const GRANTED_RES: &str = "plant/7";

/// Everything a token is made of, ready when the request comes.
pub(crate) struct TokenEndpoint {
    registered: Registered,
    key: EcdsaKeyPair,
    random: SystemRandom,
    /// `base64url(header).`
    header: String,
    issuer: String,
}

impl TokenEndpoint {
    pub(crate) fn new(registered: Registered, key: EcdsaKeyPair, issuer: &str) -> Self {
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{KEY_ID}"}}"#);
        Self {
            registered,
            key,
            random: SystemRandom::new(),
            header: format!("{}.", URL_SAFE_NO_PAD.encode(header)),
            issuer: issuer.to_owned(),
        }
    }

    /// Gives the client back when no more tokens are to be issued.
    pub(crate) fn into_registered(self) -> Registered {
        self.registered
    }

    pub(crate) fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
        if !self.registered.authenticates(headers) {
            return respond::refused(401, "invalid_client");
        }
        match Asked::read(body) {
            Some(asked) if asked.is_granted() => {}
            Some(_) => return respond::refused(400, "invalid_scope"),
            None => return respond::refused(400, "invalid_request"),
        }
        match self.issue() {
            Some(body) => respond::json(body),
            None => respond::refused(500, "server_error"),
        }
    }

    /// The response body, RFC 6749 §5.1, with a fresh token in it.
    pub(crate) fn issue(&self) -> Option<Vec<u8>> {
        const BEFORE: &[u8] = br#"{"access_token":""#;
        let mut claims = Vec::with_capacity(640);
        self.write_claims(&mut claims)?;
        let mut body =
            Vec::with_capacity(BEFORE.len() + self.header.len() + claims.len() * 4 / 3 + SIGNATURE_TEXT + 128);
        body.extend_from_slice(BEFORE);
        body.extend_from_slice(self.header.as_bytes());
        append_base64(&mut body, &claims)?;
        let signature = self.key.sign(&self.random, body.get(BEFORE.len()..)?).ok()?;
        debug_assert_eq!(signature.as_ref().len(), SIGNATURE);
        body.push(b'.');
        append_base64(&mut body, signature.as_ref())?;
        write!(body, r#"","token_type":"Bearer","expires_in":{LIFETIME_SECONDS},"scope":"{GRANTED_SCOPE}"}}"#).ok()?;
        Some(body)
    }

    fn write_claims(&self, claims: &mut Vec<u8>) -> Option<()> {
        let Self { registered, issuer, .. } = self;
        let now = now();
        let issued_at = now.as_secs();
        let expires_at = issued_at + LIFETIME_SECONDS;
        let id = token_id(now.as_millis() as u64)?;
        let id = str::from_utf8(&id).ok()?;
        let client_id = registered.client_id();
        write!(
            claims,
            r#"{{"iss":"{issuer}","aud":"https://plant.example/api","sub":"user_01jd9zq3m8f2vbn6c4x7k5r1tv","client_id":"{client_id}","iat":{issued_at},"exp":{expires_at},"jti":"tok_{id}","scope":"{GRANTED_SCOPE}","res":["{GRANTED_RES}"],"cred":"cred_01jd9zq3m8f2vbn6c4x7k5r1tw","act":{{"sub":"{client_id}"}},"status":{{"status_list":{{"idx":7,"uri":"{issuer}/status-lists/1"}}}}}}"#
        )
        .ok()
    }
}

/// What the form asks for.
struct Asked<'body> {
    scope: Option<Cow<'body, str>>,
    res: Option<Cow<'body, str>>,
}

impl<'body> Asked<'body> {
    /// `None` for anything but one `grant_type=client_credentials` with each other parameter at most once.
    fn read(body: &'body [u8]) -> Option<Self> {
        let mut grant_type = None;
        let mut scope = None;
        let mut res = None;
        for pair in form::pairs(body) {
            let (name, value) = pair.ok()?;
            let seen = match name.as_ref() {
                "grant_type" => &mut grant_type,
                "scope" => &mut scope,
                "res" => &mut res,
                _ => continue,
            };
            if seen.replace(value).is_some() {
                return None;
            }
        }
        (grant_type? == "client_credentials").then_some(Self { scope, res })
    }

    fn is_granted(&self) -> bool {
        self.scope.as_deref().unwrap_or(GRANTED_SCOPE) == GRANTED_SCOPE
            && self.res.as_deref().unwrap_or(GRANTED_RES) == GRANTED_RES
    }
}

/// The 26 characters of a TypeID: a UUIDv7 in Crockford's base32, 2 + 25 × 5 bits.
fn token_id(unix_milliseconds: u64) -> Option<[u8; 26]> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(random.get_mut(6..)?).ok()?;
    let mut bits = u128::from_be_bytes(random);
    bits |= u128::from(unix_milliseconds) << 80;
    bits = bits & !(0xf << 76) | 7 << 76;
    bits = bits & !(0b11 << 62) | 0b10 << 62;
    let mut text = [0; 26];
    for (place, letter) in text.iter_mut().rev().enumerate() {
        *letter = *ALPHABET.get((bits >> (5 * place)) as usize & 31)?;
    }
    Some(text)
}

/// Appends the base64url form of `bytes` in place.
fn append_base64(to: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let from = to.len();
    to.resize(from + bytes.len().div_ceil(3) * 4, 0);
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, to.get_mut(from..)?).ok()?;
    to.truncate(from + written);
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, KeyPair as _, UnparsedPublicKey,
    };

    use super::*;

    #[test]
    fn an_issued_token_verifies_and_holds_every_claim_of_keyward() {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref().to_vec());
        let registered = Registered::new("client_1", "secret").unwrap();
        let endpoint = TokenEndpoint::new(registered, key, "http://127.0.0.1:1");
        let body: serde_json::Value = serde_json::from_slice(&endpoint.issue().unwrap()).unwrap();
        let token = body.get("access_token").unwrap().as_str().unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        public.verify(signed.as_bytes(), &signature).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        for claim in ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "scope", "res", "cred", "act", "status"] {
            assert!(claims.get(claim).is_some(), "{claim} is missing");
        }
    }

    #[test]
    fn a_repeated_parameter_or_a_missing_grant_type_is_refused() {
        for body in [
            &b"scope=Worker"[..],
            b"grant_type=password",
            b"grant_type=client_credentials&grant_type=client_credentials",
        ] {
            assert!(Asked::read(body).is_none());
        }
        let asked = Asked::read(b"grant_type=client_credentials&scope=Admin").unwrap();
        assert!(!asked.is_granted());
    }

    #[test]
    fn token_ids_are_version_7_and_sort_by_time() {
        let (early, late) = (token_id(1).unwrap(), token_id(1 << 40).unwrap());
        assert!(early < late);
        assert_ne!(token_id(1).unwrap(), early);
    }
}
