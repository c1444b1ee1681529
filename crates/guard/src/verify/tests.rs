use super::*;
use crate::fixture::{ISSUER, KEYS, NOW, PLANT, STORE, claims, expect, key_set, published, signing_key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use keyward_model::id::KeyId;
use keyward_model::jws::{JwsError, PrivateKey, SigningAlgorithm, SigningKey};
use keyward_model::token::Audience;
use proptest::prelude::*;
use serde_json::{Value, json};

fn check(token: &str) -> Result<AccessTokenClaims, Refusal> {
    verify(token, &key_set(), &expect(), NOW)
}

/// A genuine signature over any payload and `typ`.
fn signed(typ: &str, payload: &str) -> String {
    KEYS[0].sign(typ, payload.as_bytes()).unwrap()
}

/// The usual claims as JSON with one of them changed, or left out where the value is `null`.
fn claims_with(name: &str, value: Value) -> String {
    let mut json = serde_json::to_value(claims()).unwrap();
    let members = json.as_object_mut().unwrap();
    match value {
        Value::Null => members.remove(name),
        value => members.insert(name.to_owned(), value),
    };
    json.to_string()
}

#[test]
fn a_token_says_exactly_this() {
    assert_eq!(
        serde_json::to_value(claims()).unwrap(),
        json!({
            "iss": "https://keyward.example",
            "aud": "https://plant.example/api",
            "sub": "user_00000000000000000000000008",
            "client_id": "client_00000000000000000000000007",
            "iat": 1_800_000_000,
            "exp": 1_800_000_600,
            "jti": "tok_00000000000000000000000009",
            "scope": "Supervisor Worker",
            "res": ["plant/7"],
            "cred": "cred_0000000000000000000000000a",
            "act": {"sub": "client_00000000000000000000000007"},
            "status": {"status_list": {"idx": 412, "uri": "https://keyward.example/status-lists/1"}},
        })
    );
}

#[test]
fn a_good_token_is_accepted_and_says_what_was_signed() {
    for key in KEYS.iter().chain([&signing_key(3, SigningAlgorithm::Rs256)]) {
        let keys = KeySet::from_jwks(&published([key]));
        let token = claims().sign(key).unwrap();
        assert_eq!(verify(&token, &keys, &expect(), NOW), Ok(claims()), "{}", key.algorithm());
    }
}

#[test]
fn what_a_token_allows_is_asked_plainly() {
    let claims = claims();
    assert_eq!(require_scope(&claims, "Worker"), Ok(()));
    assert_eq!(require_scope(&claims, "Work"), Err(Refusal::Scope("Work".into())));
    assert_eq!(require_scope(&claims, ""), Err(Refusal::Scope(String::new())));
    assert_eq!(require_res(&claims, "plant/7"), Ok(()));
    assert_eq!(require_res(&claims, "plant/7/line/3"), Ok(()));
    for beyond in ["plant", "plant/70", "*", "", "plant/7/..", "plant/7/../8", "plant/7/"] {
        assert_eq!(require_res(&claims, beyond), Err(Refusal::Res(beyond.into())), "{beyond}");
    }
}

#[test]
fn a_token_without_scope_or_res_allows_nothing() {
    for name in ["scope", "res"] {
        let claims = check(&signed(ACCESS_TOKEN, &claims_with(name, Value::Null))).unwrap();
        assert_eq!(claims.has_scope("Worker"), name != "scope");
        assert_eq!(claims.covers("plant/7"), name != "res");
    }
}

#[test]
fn a_required_claim_that_is_missing_or_of_another_type_is_refused() {
    for name in ["iss", "aud", "sub", "client_id", "iat", "exp", "jti"] {
        let verdict = check(&signed(ACCESS_TOKEN, &claims_with(name, Value::Null)));
        assert!(matches!(verdict, Err(Refusal::Claims(_))), "without {name}: {verdict:?}");
    }
    for (name, value) in [
        ("iss", json!(["https://keyward.example"])),
        ("aud", json!(7)),
        ("aud", json!([PLANT, 7])),
        ("aud", json!(vec![PLANT; 17])),
        ("aud", json!({ "a": PLANT })),
        ("sub", json!("tok_00000000000000000000000008")),
        ("sub", json!("somebody")),
        ("client_id", json!("user_00000000000000000000000008")),
        ("iat", json!("1800000000")),
        ("exp", json!("1800000600")),
        ("exp", json!(1.8e99)),
        ("exp", json!(true)),
        ("nbf", json!("0")),
        ("jti", json!(9)),
        ("scope", json!(["Worker"])),
        ("scope", json!("Worker \"")),
        ("res", json!("plant/7")),
        ("res", json!(["plant/../7"])),
        ("cred", json!("cred_")),
        ("act", json!({})),
        ("act", json!({ "sub": "user_00000000000000000000000008" })),
        ("status", json!({ "status_list": { "idx": -1, "uri": "x" } })),
    ] {
        let verdict = check(&signed(ACCESS_TOKEN, &claims_with(name, value.clone())));
        assert!(matches!(verdict, Err(Refusal::Claims(_))), "{name} = {value}: {verdict:?}");
    }
    for payload in ["", "null", "[]", "7", "{", "{}", "{}{}", "\u{0}"] {
        let verdict = check(&signed(ACCESS_TOKEN, payload));
        assert!(matches!(verdict, Err(Refusal::Claims(_))), "{payload:?}: {verdict:?}");
    }
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    let json = serde_json::to_string(&claims()).unwrap();
    for twice in ["\"exp\":4102444800", "\"scope\":\"Admin\"", "\"\\u0072es\":[\"*\"]", "\"aud\":\"a\""] {
        let payload = format!("{},{twice}}}", json.strip_suffix('}').unwrap());
        let verdict = check(&signed(ACCESS_TOKEN, &payload));
        assert!(matches!(verdict, Err(Refusal::Claims(_))), "{twice}: {verdict:?}");
    }
}

#[test]
fn claims_that_are_not_known_do_no_harm() {
    let payload = claims_with("tenant", json!({ "a": [1, { "b": null }] }));
    assert_eq!(check(&signed(ACCESS_TOKEN, &payload)), Ok(claims()));
}

#[test]
fn only_access_tokens_pass_for_access_tokens() {
    let payload = serde_json::to_string(&claims()).unwrap();
    for typ in ["at+jwt", "AT+JWT", "at+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert_eq!(check(&signed(typ, &payload)), Ok(claims()), "{typ}");
    }
    for typ in
        ["JWT", "jwt", "", "at", "at+jwt ", "dpop+jwt", "statuslist+jwt", "text/at+jwt", "application/", "a/b/at+jwt"]
    {
        assert_eq!(check(&signed(typ, &payload)), Err(Refusal::Type(Some(typ.to_owned()))), "{typ:?}");
    }
    assert_eq!(check(&handmade(&json!({ "alg": "ES256", "kid": KEYS[0].kid() }))), Err(Refusal::Type(None)));
}

/// A token with this header, its signature genuine.
fn handmade(header: &Value) -> String {
    let payload = serde_json::to_string(&claims()).unwrap();
    let der = KEYS[0].private().to_pkcs8().unwrap();
    let input = [header.to_string(), payload].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature =
        jsonwebtoken::crypto::sign(input.as_bytes(), &EncodingKey::from_ec_der(&der), Algorithm::ES256).unwrap();
    format!("{input}.{signature}")
}

#[test]
fn a_token_must_name_a_published_key() {
    let good = json!({ "alg": "ES256", "typ": "at+jwt", "kid": KEYS[0].kid() });
    assert_eq!(check(&handmade(&good)), Ok(claims()));
    assert_eq!(check(&handmade(&json!({ "alg": "ES256", "typ": "at+jwt" }))), Err(Refusal::KeyMissing));
    for kid in ["", "key_00000000000000000000000003", "../key", "key_00000000000000000000000001 "] {
        let verdict = check(&handmade(&json!({ "alg": "ES256", "typ": "at+jwt", "kid": kid })));
        assert_eq!(verdict, Err(Refusal::KeyUnknown(kid.to_owned())));
    }
    // A key that the token brings along is no key.
    let jwk = serde_json::to_value(KEYS[0].private().public().unwrap().to_jwk("mine")).unwrap();
    let verdict = check(&handmade(&json!({ "alg": "ES256", "typ": "at+jwt", "kid": "mine", "jwk": jwk })));
    assert_eq!(verdict, Err(Refusal::KeyUnknown("mine".to_owned())));
}

#[test]
fn the_key_decides_the_algorithm() {
    let rsa = signing_key(3, SigningAlgorithm::Rs256);
    let jwks = published(KEYS.iter().chain([&rsa]));
    let keys = KeySet::from_jwks(&jwks);
    let payload = serde_json::to_string(&claims()).unwrap();
    let parts = |alg: &str, kid: KeyId| {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": kid }).to_string();
        [header, payload.clone()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    };
    for key in KEYS.iter().chain([&rsa]) {
        for alg in ["none", "NONE", "HS256", "HS384", "HS512"] {
            let input = parts(alg, key.kid());
            for signature in ["", "AA"] {
                let verdict = verify(&format!("{input}.{signature}"), &keys, &expect(), NOW);
                assert_eq!(verdict, Err(Refusal::Jws(JwsError::Algorithm)));
            }
            // The published key as the secret of an HMAC: as JSON, and as the bare bytes of its parameters.
            let jwk = jwks.keys.iter().find(|jwk| jwk.kid == Some(key.kid().to_string())).unwrap();
            let bare = jwk.x.as_ref().or(jwk.n.as_ref()).map(|text| URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
            for secret in [serde_json::to_vec(jwk).unwrap(), bare] {
                let mac =
                    jsonwebtoken::crypto::sign(input.as_bytes(), &EncodingKey::from_secret(&secret), Algorithm::HS256)
                        .unwrap();
                let verdict = verify(&format!("{input}.{mac}"), &keys, &expect(), NOW);
                assert_eq!(verdict, Err(Refusal::Jws(JwsError::Algorithm)));
            }
        }
        for other in SigningAlgorithm::ALL.into_iter().filter(|alg| *alg != key.algorithm()) {
            for len in [64, 256] {
                let signature = URL_SAFE_NO_PAD.encode(vec![1; len]);
                let token = format!("{}.{signature}", parts(other.as_str(), key.kid()));
                let verdict = verify(&token, &keys, &expect(), NOW);
                assert_eq!(verdict, Err(Refusal::Jws(JwsError::AlgorithmMismatch)));
            }
        }
    }
    // One key's token under another key's name.
    let borrowed = SigningKey::new(
        KEYS[0].kid(),
        PrivateKey::from_pkcs8(rsa.algorithm(), &rsa.private().to_pkcs8().unwrap()).unwrap(),
    )
    .unwrap();
    let verdict = verify(&claims().sign(&borrowed).unwrap(), &keys, &expect(), NOW);
    assert_eq!(verdict, Err(Refusal::Jws(JwsError::AlgorithmMismatch)));
    let stranger = signing_key(1, SigningAlgorithm::Es256);
    let verdict = verify(&claims().sign(&stranger).unwrap(), &keys, &expect(), NOW);
    assert_eq!(verdict, Err(Refusal::Jws(JwsError::Signature)));
}

#[test]
fn critical_extensions_are_refused() {
    let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": KEYS[0].kid(), "crit": ["x"], "x": 1 });
    assert_eq!(check(&handmade(&header)), Err(Refusal::Jws(JwsError::Critical)));
}

#[test]
fn a_token_of_another_issuer_or_for_another_audience_is_refused() {
    let from = |iss: &str| AccessTokenClaims { iss: iss.to_owned(), ..claims() }.sign(&KEYS[0]).unwrap();
    for iss in ["", "https://keyward.example/", "https://KEYWARD.example", "http://keyward.example"] {
        assert_eq!(check(&from(iss)), Err(Refusal::Issuer(iss.to_owned())));
    }
    let meant_for = |aud: &[&str]| {
        let aud: Audience = aud.iter().copied().collect();
        (AccessTokenClaims { aud: aud.clone(), ..claims() }.sign(&KEYS[0]).unwrap(), aud)
    };
    for several in [[PLANT, STORE].as_slice(), &[STORE, PLANT], &[PLANT]] {
        let (token, aud) = meant_for(several);
        assert_eq!(check(&token).unwrap().aud, aud);
    }
    for others in [[].as_slice(), &[STORE], &[STORE, ISSUER], &["https://plant.example/api/"], &["*"]] {
        let (token, aud) = meant_for(others);
        assert_eq!(check(&token), Err(Refusal::Audience(aud)));
        // The issuer itself introspects tokens for all audiences.
        assert!(verify(&token, &key_set(), &Expect::of_any_audience(ISSUER), NOW).is_ok());
    }
    let issuer = verify(&from("https://other.example"), &key_set(), &Expect::of_any_audience(ISSUER), NOW);
    assert_eq!(issuer, Err(Refusal::Issuer("https://other.example".into())));
}

#[test]
fn an_array_with_one_audience_is_as_good_as_a_string() {
    let payload = claims_with("aud", json!([PLANT]));
    assert_eq!(check(&signed(ACCESS_TOKEN, &payload)), Ok(claims()));
}

#[test]
fn a_token_lives_to_the_second_plus_the_leeway() {
    let token = claims().sign(&KEYS[0]).unwrap();
    let exp = claims().exp;
    let ms = Duration::from_millis(1);
    let at = |expect: Expect, now| verify(&token, &key_set(), &expect, now);
    let strict = || expect().with_leeway(Duration::ZERO);
    assert!(at(strict(), exp.minus(ms)).is_ok());
    assert_eq!(at(strict(), exp), Err(Refusal::Expired(exp)));
    assert!(at(expect(), exp.plus(DEFAULT_LEEWAY).minus(ms)).is_ok());
    assert_eq!(at(expect(), exp.plus(DEFAULT_LEEWAY)), Err(Refusal::Expired(exp)));
    // However much is asked for, the leeway is bounded.
    let lenient = || expect().with_leeway(Duration::MAX);
    assert!(at(lenient(), exp.plus(MAX_LEEWAY).minus(ms)).is_ok());
    assert_eq!(at(lenient(), exp.plus(MAX_LEEWAY)), Err(Refusal::Expired(exp)));

    let iat = claims().iat;
    assert!(at(strict(), iat).is_ok());
    assert_eq!(at(strict(), iat.minus(ms)), Err(Refusal::IssuedInFuture(iat)));
    assert!(at(expect(), iat.minus(DEFAULT_LEEWAY)).is_ok());
    assert_eq!(at(expect(), iat.minus(DEFAULT_LEEWAY).minus(ms)), Err(Refusal::IssuedInFuture(iat)));
}

#[test]
fn a_token_for_later_is_refused_until_then() {
    let nbf = NOW.plus(Duration::from_secs(60));
    let token = AccessTokenClaims { nbf: Some(nbf), ..claims() }.sign(&KEYS[0]).unwrap();
    assert_eq!(check(&token), Err(Refusal::NotYetValid(nbf)));
    let ms = Duration::from_millis(1);
    let at = |now| verify(&token, &key_set(), &expect(), now);
    assert_eq!(at(nbf.minus(DEFAULT_LEEWAY).minus(ms)), Err(Refusal::NotYetValid(nbf)));
    assert!(at(nbf.minus(DEFAULT_LEEWAY)).is_ok());
}

#[test]
fn times_beyond_all_reason_overflow_nothing() {
    for exp in [i64::MIN, -1, 0] {
        let verdict = check(&signed(ACCESS_TOKEN, &claims_with("exp", json!(exp))));
        assert!(matches!(verdict, Err(Refusal::Expired(_))), "{exp}");
    }
    assert!(check(&signed(ACCESS_TOKEN, &claims_with("exp", json!(i64::MAX)))).is_ok());
    assert!(check(&signed(ACCESS_TOKEN, &claims_with("nbf", json!(i64::MIN)))).is_ok());
    for name in ["nbf", "iat"] {
        assert!(check(&signed(ACCESS_TOKEN, &claims_with(name, json!(i64::MAX)))).is_err(), "{name}");
    }
    let token = claims().sign(&KEYS[0]).unwrap();
    for now in [i64::MIN, i64::MAX] {
        assert!(verify(&token, &key_set(), &expect(), Timestamp::from_millis(now)).is_err());
    }
}

#[test]
fn an_oversized_token_is_refused() {
    let payload = claims_with("filler", json!("x".repeat(8 * 1024)));
    assert_eq!(check(&signed(ACCESS_TOKEN, &payload)), Err(Refusal::Jws(JwsError::TooLong)));
}

#[test]
fn no_damaged_token_is_accepted() {
    for key in KEYS.iter() {
        let token = claims().sign(key).unwrap();
        for at in 0..token.len() {
            let mut damaged = token.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            assert!(check(std::str::from_utf8(&damaged).unwrap()).is_err(), "{} changed at {at}", key.algorithm());
        }
    }
}

#[test]
fn of_two_keys_with_one_name_the_first_counts_and_odd_ones_are_skipped() {
    let [first, second] = [signing_key(5, SigningAlgorithm::Es256), signing_key(5, SigningAlgorithm::Es256)];
    let mut jwks = published([&first, &second]);
    let mut nameless = published([&KEYS[1]]).keys;
    nameless[0].kid = None;
    jwks.keys.append(&mut nameless);
    let keys = KeySet::from_jwks(&jwks);
    assert_eq!(keys.len(), 1);
    assert!(verify(&claims().sign(&first).unwrap(), &keys, &expect(), NOW).is_ok());
    assert!(verify(&claims().sign(&second).unwrap(), &keys, &expect(), NOW).is_err());
}

fn oracle_algorithm(key: &SigningKey) -> Algorithm {
    match key.algorithm() {
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
        SigningAlgorithm::Rs256 => Algorithm::RS256,
    }
}

#[test]
fn another_library_accepts_our_tokens() {
    for key in KEYS.iter() {
        let jwk = serde_json::to_value(&published([key]).keys[0]).unwrap();
        let mut validation = Validation::new(oracle_algorithm(key));
        validation.set_audience(&[PLANT]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let decoding_key = DecodingKey::from_jwk(&serde_json::from_value(jwk).unwrap()).unwrap();
        let token = claims().sign(key).unwrap();
        let read = jsonwebtoken::decode::<AccessTokenClaims>(token.as_str(), &decoding_key, &validation).unwrap();
        assert_eq!(read.claims, claims());
    }
}

#[test]
fn tokens_made_by_another_library_are_accepted() {
    for key in KEYS.iter() {
        let der = key.private().to_pkcs8().unwrap();
        let encoding_key = match key.algorithm() {
            SigningAlgorithm::Es256 => EncodingKey::from_ec_der(&der),
            _ => EncodingKey::from_ed_der(&der),
        };
        let header = Header {
            typ: Some("at+jwt".into()),
            kid: Some(key.kid().to_string()),
            ..Header::new(oracle_algorithm(key))
        };
        let token = jsonwebtoken::encode(&header, &claims(), &encoding_key).unwrap();
        assert_eq!(check(&token), Ok(claims()));
    }
}

proptest! {
    #[test]
    fn no_token_makes_the_verifier_panic(text in "\\PC{0,300}", dotted in "[A-Za-z0-9_.=-]{0,300}") {
        prop_assert!(check(&text).is_err());
        prop_assert!(check(&dotted).is_err());
    }

    #[test]
    fn no_signed_payload_makes_the_verifier_panic(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check(&KEYS[1].sign(ACCESS_TOKEN, &payload).unwrap()).is_err());
    }

    #[test]
    fn no_value_of_a_claim_makes_the_verifier_panic(name in "iss|aud|sub|iat|nbf|exp|scope|res|act|status", text in ".{0,40}", number: i64) {
        let _ = check(&signed(ACCESS_TOKEN, &claims_with(&name, json!(text))));
        let _ = check(&signed(ACCESS_TOKEN, &claims_with(&name, json!([text]))));
        let _ = check(&signed(ACCESS_TOKEN, &claims_with(&name, json!(number))));
    }
}
