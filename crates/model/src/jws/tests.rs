use super::*;
use crate::entropy::Entropy;
use crate::time::Timestamp;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header as OracleHeader, Validation};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// RFC 7515 §A.3.
const ES256_JWK: &str = r#"{"kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const ES256_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// RFC 8037 §A.2 and §A.4.
const EDDSA_JWK: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const EDDSA_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
    hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

/// RFC 7515 §A.2, the private half too: making an RSA key takes long.
const RS256_JWK: &str = include_str!("../../testdata/rfc7515-a2.json");
const RS256_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

/// One key of each kind.
static KEYS: LazyLock<[SigningKey; 3]> = LazyLock::new(|| {
    let entropy = Entropy::seeded(1);
    SigningAlgorithm::ALL.map(|algorithm| {
        let private = match algorithm {
            SigningAlgorithm::Rs256 => PrivateKey::from_pkcs8(algorithm, &rs256_pkcs8()).unwrap(),
            _ => PrivateKey::generate(algorithm).unwrap(),
        };
        SigningKey::new(KeyId::new(Timestamp::from_millis(1), &entropy).unwrap(), private).unwrap()
    })
});

fn rs256_pkcs8() -> Vec<u8> {
    let jwk: Value = serde_json::from_str(RS256_JWK).unwrap();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let pair = rsa::KeyPair::from_components(&rsa::KeyPairComponents {
        public_key: rsa::PublicKeyComponents { n: part("n"), e: part("e") },
        d: part("d"),
        p: part("p"),
        q: part("q"),
        dP: part("dp"),
        dQ: part("dq"),
        qInv: part("qi"),
    })
    .unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    der.as_ref().to_vec()
}

fn key(algorithm: SigningAlgorithm) -> &'static SigningKey {
    KEYS.iter().find(|key| key.algorithm() == algorithm).unwrap()
}

fn public(jwk: &str) -> PublicKey {
    PublicKey::from_jwk(&serde_json::from_str(jwk).unwrap()).unwrap()
}

fn token(header: &str, payload: &str, signature: &[u8]) -> String {
    [header.as_bytes(), payload.as_bytes(), signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

fn refusal(header: &str) -> JwsError {
    Compact::parse(&token(header, "{}", &[0; 64])).map(|_| ()).unwrap_err()
}

#[test]
fn the_examples_of_the_rfcs_verify() {
    let claims = b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}".as_slice();
    for (jwk, text, payload) in [
        (ES256_JWK, ES256_TOKEN, claims),
        (RS256_JWK, RS256_TOKEN, claims),
        (EDDSA_JWK, EDDSA_TOKEN, b"Example of Ed25519 signing".as_slice()),
    ] {
        assert_eq!(Compact::parse(text).unwrap().verify(&public(jwk)).unwrap(), payload);
    }
}

#[test]
fn what_is_signed_is_read_back_with_its_header() {
    for key in KEYS.iter() {
        for typ in [ACCESS_TOKEN, "statuslist+jwt", "with \"quotes\""] {
            let text = key.sign(typ, b"{\"a\":1}").unwrap();
            let compact = Compact::parse(&text).unwrap();
            assert_eq!(compact.algorithm(), key.algorithm());
            assert_eq!(compact.typ(), Some(typ));
            assert_eq!(compact.kid(), Some(key.kid().to_string().as_str()));
            assert_eq!(compact.verify(&key.private().public().unwrap()).unwrap(), b"{\"a\":1}");
        }
    }
}

#[test]
fn a_token_takes_exactly_the_memory_it_needs() {
    for key in KEYS.iter() {
        let token = key.sign(ACCESS_TOKEN, &[b' '; 301]).unwrap();
        assert_eq!(token.len(), token.capacity(), "{}", key.algorithm());
    }
}

#[test]
fn keys_survive_sealing_and_publishing() {
    for key in KEYS.iter() {
        let der = key.private().to_pkcs8().unwrap();
        let again = PrivateKey::from_pkcs8(key.algorithm(), &der).unwrap();
        let public = again.public().unwrap();
        assert_eq!(public, key.private().public().unwrap());

        let published = serde_json::to_string(&Jwks { keys: vec![public.to_jwk("k1")] }).unwrap();
        let read: Jwks = serde_json::from_str(&published).unwrap();
        assert_eq!(read.keys[0].kid.as_deref(), Some("k1"));
        assert_eq!(read.keys[0].r#use.as_deref(), Some("sig"));
        assert_eq!(PublicKey::from_jwk(&read.keys[0]).unwrap(), public);
        assert!(!published.contains("null") && !published.contains("\"d\""));

        for other in SigningAlgorithm::ALL.into_iter().filter(|a| *a != key.algorithm()) {
            assert!(PrivateKey::from_pkcs8(other, &der).is_err(), "a {} key as {other}", key.algorithm());
        }
    }
}

#[test]
fn debug_shows_no_private_key() {
    for key in KEYS.iter() {
        assert_eq!(format!("{:?}", key.private()), "[redacted]");
        assert!(format!("{key:?}").contains("[redacted]"));
    }
}

#[test]
fn rsa_keys_outside_2048_to_4096_bits_are_refused() {
    assert!(PublicKey::rs256(&[0xff; 256], &[3]).is_ok());
    assert!(PublicKey::rs256(&[0x01; 512], &[3]).is_ok());
    assert_eq!(PublicKey::rs256(&[0xff; 513], &[3]).unwrap_err(), KeyRejected::Size);
    assert_eq!(PublicKey::rs256(&[0xff; 255], &[3]).unwrap_err(), KeyRejected::Size);
    assert_eq!(PublicKey::rs256(&[0x7f; 256], &[3]).unwrap_err(), KeyRejected::Size);
    assert_eq!(PublicKey::rs256(&[0xfe; 256], &[3]).unwrap_err(), KeyRejected::Parameters);
}

#[test]
fn signatures_up_to_the_longest_rsa_key_are_read() {
    let header = "{\"alg\":\"RS256\"}";
    let verdict = |len| {
        let text = token(header, "{}", &vec![1; len]);
        Compact::parse(&text).and_then(|compact| compact.verify(&PublicKey::rs256(&[0xff; 512], &[3]).unwrap()))
    };
    assert_eq!(verdict(512), Err(JwsError::Signature));
    assert_eq!(verdict(513), Err(JwsError::Form));
}

#[test]
fn a_generated_key_of_each_kind_signs() {
    for algorithm in SigningAlgorithm::ALL {
        let private = PrivateKey::generate(algorithm).unwrap();
        let public = private.public().unwrap();
        let text = SigningKey::new(KEYS[0].kid(), private).unwrap().sign(ACCESS_TOKEN, b"{}").unwrap();
        assert_eq!(Compact::parse(&text).unwrap().verify(&public).unwrap(), b"{}");
    }
}

#[test]
fn rs256_signs_as_the_rfc_does() {
    let (input, signature) = RS256_TOKEN.rsplit_once('.').unwrap();
    let signed = key(SigningAlgorithm::Rs256).private().sign(input.as_bytes()).unwrap();
    assert_eq!(URL_SAFE_NO_PAD.encode(signed.as_bytes()), signature);
}

#[test]
fn no_damaged_token_verifies() {
    for key in KEYS.iter() {
        let public = key.private().public().unwrap();
        let text = key.sign(ACCESS_TOKEN, b"{\"sub\":\"user\",\"n\":12}").unwrap();
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).unwrap();
            let verdict = Compact::parse(&damaged).and_then(|compact| compact.verify(&public));
            assert!(verdict.is_err(), "{} changed at {at}", key.algorithm());
        }
        for len in 0..text.len() {
            let verdict = Compact::parse(&text[..len]).and_then(|compact| compact.verify(&public));
            assert!(verdict.is_err(), "{} cut to {len}", key.algorithm());
        }
    }
}

#[test]
fn a_key_is_never_used_with_another_algorithm() {
    for signer in KEYS.iter() {
        let text = signer.sign(ACCESS_TOKEN, b"{}").unwrap();
        for other in KEYS.iter().filter(|other| other.algorithm() != signer.algorithm()) {
            let verdict = Compact::parse(&text).unwrap().verify(&other.private().public().unwrap());
            assert_eq!(verdict, Err(JwsError::AlgorithmMismatch));
        }
    }
    // The header lies about the algorithm while the signature is genuine over exactly these bytes.
    let private = key(SigningAlgorithm::Es256).private();
    let input = ["{\"alg\":\"RS256\"}", "{}"].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = URL_SAFE_NO_PAD.encode(private.sign(input.as_bytes()).unwrap().as_bytes());
    let text = format!("{input}.{signature}");
    let verdict = Compact::parse(&text).unwrap().verify(&private.public().unwrap());
    assert_eq!(verdict, Err(JwsError::AlgorithmMismatch));
}

#[test]
fn only_the_closed_list_of_algorithms_is_read() {
    for alg in ["none", "None", "NONE", "HS256", "HS512", "ES384", "PS256", "RS512", "es256", "ES256 ", "Ed25519", ""] {
        assert_eq!(refusal(&json!({ "alg": alg }).to_string()), JwsError::Algorithm, "{alg}");
    }
    assert!(Compact::parse(&token("{\"alg\":\"ES256\"}", "{}", &[])).unwrap().verify(&public(ES256_JWK)).is_err());
}

#[test]
fn headers_that_two_readers_could_read_differently_are_refused() {
    for header in [
        "",
        "null",
        "[]",
        "\"ES256\"",
        "{}",
        "{\"alg\":null}",
        "{\"alg\":[\"ES256\"]}",
        "{\"alg\":\"ES256\"",
        "{\"alg\":\"ES256\"}{}",
        "{\"alg\":\"ES256\"} x",
        "{\"alg\":\"ES256\",\"kid\":7}",
        "{\"alg\":\"ES256\",\"kid\":null}",
        "{\"alg\":\"ES256\",\"alg\":\"ES256\"}",
        "{\"alg\":\"none\",\"alg\":\"ES256\"}",
        "{\"alg\":\"ES256\",\"\\u0061lg\":\"none\"}",
        "{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"typ\":\"JWT\"}",
        "{\"alg\":\"ES256\",\"x\":1,\"x\":2}",
        "{\"alg\":\"ES256\",\"x\":1,\"\\u0078\":2}",
        "{\"alg\":\"ES\n256\"}",
    ] {
        assert_eq!(refusal(header), JwsError::Header, "{header}");
    }
}

#[test]
fn critical_extensions_are_refused() {
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!(null), json!("b64")] {
        assert_eq!(refusal(&json!({ "alg": "ES256", "crit": crit, "b64": false }).to_string()), JwsError::Critical);
    }
}

#[test]
fn only_three_segments_of_strict_base64url_are_read() {
    let (header, payload) = ("eyJhbGciOiJFUzI1NiJ9", "e30");
    for text in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}=.{payload}.AA"),
        format!("{header}.{payload}.AA=="),
        format!("{header}.{payload}.AB"), // bits set behind the last byte
        format!("{header}.{payload}.A+"),
        format!("{header}.{payload}.A/"),
        format!(" {header}.{payload}.AA"),
        format!("{header}.{payload}.AA\n"),
        format!("{header}.{payload}.ÄÄ"),
    ] {
        let verdict = Compact::parse(&text).and_then(|compact| compact.verify(&public(ES256_JWK)));
        assert!(verdict.is_err(), "{text:?}");
    }
    // Encrypted tokens have five segments.
    for more in ["AA.AA", "AA.AA.AA"] {
        assert_eq!(Compact::parse(&format!("{header}.{payload}.{more}")).map(|_| ()), Err(JwsError::Form));
    }
    // The payload is looked at only once its signature holds; then it is read as strictly.
    let private = key(SigningAlgorithm::EdDsa).private();
    for payload in ["e30=", "e31", "e3 0", ""] {
        let input = format!("eyJhbGciOiJFZERTQSJ9.{payload}");
        let signature = URL_SAFE_NO_PAD.encode(private.sign(input.as_bytes()).unwrap().as_bytes());
        let text = format!("{input}.{signature}");
        let verdict = Compact::parse(&text).unwrap().verify(&private.public().unwrap());
        assert_eq!(verdict.is_ok(), payload.is_empty(), "{payload:?}");
    }
}

#[test]
fn oversized_tokens_are_refused_before_they_are_read() {
    let long = format!("{ES256_TOKEN}{}", "A".repeat(MAX_TOKEN));
    assert_eq!(Compact::parse(&long).map(|_| ()).unwrap_err(), JwsError::TooLong);
    let header = json!({ "alg": "ES256", "x": "y".repeat(MAX_HEADER) }).to_string();
    assert_eq!(refusal(&header), JwsError::TooLong);
    let fits = key(SigningAlgorithm::Es256).sign(ACCESS_TOKEN, &[b' '; 5 * 1024]).unwrap();
    assert!(fits.len() < MAX_TOKEN && Compact::parse(&fits).is_ok());
}

#[test]
fn keys_that_cannot_verify_signatures_are_refused() {
    let with = |jwk: &str, change: Value| {
        let mut jwk: Value = serde_json::from_str(jwk).unwrap();
        for (name, value) in change.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        PublicKey::from_jwk(&serde_json::from_value(jwk).unwrap())
    };
    for allowed in [json!({"use": "sig"}), json!({"alg": "ES256"}), json!({"key_ops": ["verify"]}), json!({"kid": "a"})]
    {
        assert!(with(ES256_JWK, allowed).is_ok());
    }
    for (jwk, change, why) in [
        (ES256_JWK, json!({"use": "enc"}), KeyRejected::Kind),
        (ES256_JWK, json!({"alg": "ES384"}), KeyRejected::Kind),
        (ES256_JWK, json!({"alg": "HS256"}), KeyRejected::Kind),
        (ES256_JWK, json!({"key_ops": ["sign"]}), KeyRejected::Kind),
        (ES256_JWK, json!({"crv": "P-384"}), KeyRejected::Kind),
        (ES256_JWK, json!({"crv": "secp256k1"}), KeyRejected::Kind),
        (ES256_JWK, json!({"kty": "oct"}), KeyRejected::Kind),
        (ES256_JWK, json!({"kty": "OKP"}), KeyRejected::Kind),
        (ES256_JWK, json!({"x": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}), KeyRejected::Parameters), // off the curve
        (ES256_JWK, json!({"x": "AA"}), KeyRejected::Parameters),
        (ES256_JWK, json!({"y": "*"}), KeyRejected::Parameters),
        (ES256_JWK, json!({"y": null}), KeyRejected::Parameters),
        (EDDSA_JWK, json!({"x": "AA"}), KeyRejected::Parameters),
        (EDDSA_JWK, json!({"crv": "X25519"}), KeyRejected::Kind),
        (EDDSA_JWK, json!({"alg": "ES256"}), KeyRejected::Kind),
        (RS256_JWK, json!({"alg": "PS256"}), KeyRejected::Kind),
        (RS256_JWK, json!({"n": "AQAB"}), KeyRejected::Size),
        (RS256_JWK, json!({"e": "AQ"}), KeyRejected::Parameters),
        (RS256_JWK, json!({"e": "AAEAAQ"}), KeyRejected::Parameters), // a leading zero
        (RS256_JWK, json!({"e": "AQAA"}), KeyRejected::Parameters),   // even
        (RS256_JWK, json!({"e": "AQAAAAE"}), KeyRejected::Parameters), // makes each verification slow
        (RS256_JWK, json!({"e": null}), KeyRejected::Parameters),
    ] {
        assert_eq!(with(jwk, change.clone()).unwrap_err(), why, "{change}");
    }
}

#[test]
fn one_odd_key_does_not_cost_the_others() {
    let text =
        format!("{{\"keys\":[7,{{\"kty\":5}},{{\"x\":\"y\"}},{ES256_JWK},{{\"kty\":\"oct\",\"k\":\"AA\"}}],\"a\":1}}");
    let jwks: Jwks = serde_json::from_str(&text).unwrap();
    assert_eq!(jwks.keys.iter().filter(|jwk| PublicKey::from_jwk(jwk).is_ok()).count(), 1);
    assert!(serde_json::from_str::<Jwks>("{}").is_err());
}

fn oracle_algorithm(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
        SigningAlgorithm::Rs256 => Algorithm::RS256,
    }
}

#[test]
fn another_library_reads_our_tokens_with_our_published_keys() {
    for key in KEYS.iter() {
        let text = key.sign(ACCESS_TOKEN, b"{\"aud\":\"a\",\"exp\":4102444800}").unwrap();
        let jwk = key.private().public().unwrap().to_jwk(&key.kid().to_string());
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(serde_json::to_value(jwk).unwrap()).unwrap();
        let mut expected = Validation::new(oracle_algorithm(key.algorithm()));
        expected.set_audience(&["a"]);
        let read =
            jsonwebtoken::decode::<Value>(text.as_str(), &DecodingKey::from_jwk(&jwk).unwrap(), &expected).unwrap();
        assert_eq!(read.claims["aud"], "a");
        assert_eq!(read.header.kid, Some(key.kid().to_string()));
        assert_eq!(read.header.typ.as_deref(), Some(ACCESS_TOKEN));
    }
}

#[test]
fn tokens_of_another_library_are_read() {
    for key in KEYS.iter() {
        let der = key.private().to_pkcs8().unwrap();
        let encoding_key = match key.algorithm() {
            SigningAlgorithm::Es256 => EncodingKey::from_ec_der(&der),
            SigningAlgorithm::EdDsa => EncodingKey::from_ed_der(&der),
            // It wants the RSAPrivateKey inside, which begins after 26 bytes of wrapping.
            SigningAlgorithm::Rs256 => EncodingKey::from_rsa_der(&der[26..]),
        };
        let header = OracleHeader { kid: Some("k".into()), ..OracleHeader::new(oracle_algorithm(key.algorithm())) };
        let text = jsonwebtoken::encode(&header, &json!({"sub": "ü"}), &encoding_key).unwrap();
        let compact = Compact::parse(&text).unwrap();
        assert_eq!(compact.kid(), Some("k"));
        let payload = compact.verify(&key.private().public().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), json!({"sub": "ü"}));
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", dots in "[A-Za-z0-9_.-]{0,200}") {
        let _ = Compact::parse(&text);
        let _ = Compact::parse(&dots);
    }

    #[test]
    fn no_header_makes_the_parser_panic(header in prop::collection::vec(any::<u8>(), 0..200), tail in ".{0,60}") {
        let _ = Compact::parse(&format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header)));
        let _ = Compact::parse(&token(&format!("{{\"alg\":\"ES256\",{tail}}}"), "{}", &[0; 64]));
    }

    #[test]
    fn no_jwk_makes_the_parser_panic(x in prop::collection::vec(any::<u8>(), 0..70), n in prop::collection::vec(any::<u8>(), 250..520)) {
        let _ = PublicKey::es256(&x);
        let _ = PublicKey::eddsa(&x);
        let _ = PublicKey::rs256(&n, &x);
    }

    #[test]
    fn every_payload_survives(payload in prop::collection::vec(any::<u8>(), 0..400)) {
        let key = key(SigningAlgorithm::EdDsa);
        let text = key.sign("any", &payload).unwrap();
        let public = key.private().public().unwrap();
        prop_assert_eq!(Compact::parse(&text).unwrap().verify(&public).unwrap(), payload);
    }
}
