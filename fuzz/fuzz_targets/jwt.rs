//! The verifier: no bytes make it panic, and none but its own issuer's pass.
//!
//! The first byte chooses: a whole token, a header of one's own, or a payload under a genuine signature, without which
//! nothing would ever reach the claims.
#![no_main]

use std::sync::LazyLock;

use keyward_guard::{Expect, KeySet, MAX_LEEWAY, Refusal, bearer, verify};
use keyward_model::id::KeyId;
use keyward_model::jws::{ACCESS_TOKEN, Compact, PrivateKey, SigningAlgorithm, SigningKey};
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

struct Issuer {
    key: SigningKey,
    keys: KeySet,
    expect: Expect,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let private = PrivateKey::generate(SigningAlgorithm::EdDsa).expect("a key can be made");
    let key = SigningKey::new(KeyId::from_uuid(Uuid::from_u128(1)), private).expect("a key can be named");
    let public = key.private().public().expect("a key has a public half");
    let keys = [(key.kid().to_string(), public)].into_iter().collect();
    Issuer { key, keys, expect: Expect::new("https://keyward.example", "https://plant.example/api") }
});

fn check(token: &str) -> Result<AccessTokenClaims, Refusal> {
    let verdict = verify(token, &ISSUER.keys, &ISSUER.expect, NOW);
    if let Err(refusal) = &verdict {
        assert!(refusal.challenge("plant").is_some_and(|challenge| challenge.is_ascii()));
        assert!(!refusal.to_string().is_empty());
    }
    verdict
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((b'p', payload)) => {
            let token = ISSUER.key.sign(ACCESS_TOKEN, payload).expect("any payload can be signed");
            let Ok(claims) = check(&token) else { return };
            assert_eq!(claims.iss, "https://keyward.example");
            assert!(claims.aud.contains("https://plant.example/api"));
            assert!(claims.exp.plus(MAX_LEEWAY) > NOW && claims.iat <= NOW.plus(MAX_LEEWAY));
            let written = serde_json::to_vec(&claims).expect("claims can be written");
            let read: AccessTokenClaims = serde_json::from_slice(&written).expect("what is written can be read");
            assert_eq!(read, claims);
        }
        Some((b'h', header)) => {
            // The encoder of the project is behind `sign`: the payload it encodes is the header wanted here.
            let signed = ISSUER.key.sign("", header).expect("any payload can be signed");
            let Some(header) = signed.split('.').nth(1) else { return };
            let token = format!("{header}.e30.AAAA");
            if let Ok(compact) = Compact::parse(&token) {
                assert!(compact.kid().is_none_or(|kid| kid.len() <= header.len()));
            }
            assert!(check(&token).is_err());
        }
        Some((_, token)) => {
            if let Ok(token) = std::str::from_utf8(token) {
                assert!(check(token).is_err(), "forged");
            }
            if let Ok(token) = bearer(token) {
                assert!(check(token).is_err(), "forged");
            }
        }
        None => {}
    }
});
