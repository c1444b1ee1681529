//! The two-token rule: no headers make it panic, and nobody gets in who has no genuine tokens that belong together.
//!
//! Lines: the value of Authorization, that of Identity-Token. With `=` in front of a line the rest is a payload under a
//! genuine signature.
#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use keyward_guard::{Expect, IDENTITY_TOKEN, KeySet, Keys, Policy, Presented, TrustedIssuer};
use keyward_model::id::KeyId;
use keyward_model::jws::{ACCESS_TOKEN, PrivateKey, SigningAlgorithm, SigningKey};
use keyward_model::time::Timestamp;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const LOGIN: &str = "https://login.example";

struct Api {
    keys: [SigningKey; 2],
    known: Keys,
    policy: Policy,
}

static API: LazyLock<Api> = LazyLock::new(|| {
    let keys = [1, 2].map(|id| {
        let private = PrivateKey::generate(SigningAlgorithm::EdDsa).expect("a key can be made");
        SigningKey::new(KeyId::from_uuid(Uuid::from_u128(id)), private).expect("a key can be named")
    });
    let set = |key: &SigningKey| -> KeySet {
        [(key.kid().to_string(), key.private().public().expect("a public half"))].into_iter().collect()
    };
    let known = Keys::new(set(&keys[0])).with(LOGIN, set(&keys[1]));
    let trusted = TrustedIssuer { issuer: LOGIN.to_owned(), audience: "plant-web".to_owned(), rights: None };
    let policy = Policy::new(Expect::new("https://keyward.example", "https://plant.example/api")).trust(trusted);
    Api { keys, known, policy }
});

fn add(headers: &mut HeaderMap, name: HeaderName, line: &str, key: &SigningKey, typ: &str) -> bool {
    let (genuine, value) = match line.strip_prefix('=') {
        Some(payload) => (true, key.sign(typ, payload.as_bytes()).expect("any payload can be signed")),
        None => (false, line.to_owned()),
    };
    let value = if name == IDENTITY_TOKEN || !genuine { value } else { format!("Bearer {value}") };
    // What no header can hold is not sent.
    let Ok(value) = HeaderValue::try_from(value) else { return true };
    headers.append(name, value);
    genuine
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut headers = HeaderMap::new();
    let mut all_genuine = true;
    if let Some(line) = lines.next() {
        all_genuine &= add(&mut headers, http::header::AUTHORIZATION, line, &API.keys[0], ACCESS_TOKEN);
    }
    for line in lines.take(2) {
        let (line, key, typ) = match line.strip_prefix('~') {
            Some(line) => (line, &API.keys[1], "JWT"),
            None => (line, &API.keys[0], ACCESS_TOKEN),
        };
        all_genuine &= add(&mut headers, IDENTITY_TOKEN, line, key, typ);
    }
    let verdict = Presented::of(&headers).and_then(|presented| API.policy.check(&presented, &API.known, NOW));
    match verdict {
        Ok(caller) => {
            assert!(all_genuine, "forged");
            let client = caller.client_token();
            assert!(caller.scope().iter().all(|scope| client.has_scope(scope.as_str())));
            assert!(caller.res().iter().all(|res| client.res.covers(res)));
            assert!(!caller.modified_by().is_empty());
        }
        Err(refusal) => {
            assert!(matches!(refusal.status(), 400 | 401 | 403 | 503) && !refusal.to_string().is_empty());
            assert!(refusal.challenge("plant").is_none_or(|challenge| challenge.is_ascii()));
        }
    }
});
