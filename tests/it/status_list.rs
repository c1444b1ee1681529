//! The status list (IETF Token Status List), as a verifier sees it that has only the token and the key set.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_tests::feed::Verifier;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// A verified list.
pub(crate) struct List {
    etag: String,
    signer: String,
    claims: Value,
    bits: Vec<u8>,
}

impl List {
    pub(crate) async fn of(server: &TestServer) -> Self {
        let uri = format!("{}/status-lists/1", server.url());
        let answer = server.http.get(&uri).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/statuslist+jwt");
        let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        let jwt = answer.text().await.unwrap();
        let jwks: jsonwebtoken::jwk::JwkSet =
            server.http.get(format!("{}/jwks", server.url())).send().await.unwrap().json().await.unwrap();
        let header = jsonwebtoken::decode_header(&jwt).unwrap();
        assert_eq!(header.typ.as_deref(), Some("statuslist+jwt"));
        let signer = header.kid.unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(jwks.find(&signer).unwrap()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        // The clock of the test stands still; the library's does not.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Value>(&jwt, &key, &validation).unwrap().claims;
        assert_eq!(claims["sub"], uri);
        let left = claims["exp"].as_i64().unwrap() - server.clock.now().as_seconds();
        assert!(left >= 300, "a copy must stay usable for a while: {left} s");
        let compressed = URL_SAFE_NO_PAD.decode(claims["status_list"]["lst"].as_str().unwrap()).unwrap();
        let mut bits = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&*compressed), &mut bits).unwrap();
        Self { etag, signer, claims, bits }
    }

    /// The single tokens it names.
    pub(crate) fn tokens(&self) -> BTreeSet<String> {
        let tokens = self.claims["revoked_tokens"].as_array().cloned().unwrap_or_default();
        tokens.iter().map(|jti| jti.as_str().unwrap().to_owned()).collect()
    }

    /// What a verifier knows that has just fetched it.
    pub(crate) fn known(&self) -> Verifier {
        let ended = (0..self.bits.len() * 8).filter(|index| self.refuses(*index)).map(|index| index as u64).collect();
        Verifier { ended, tokens: self.tokens() }
    }

    pub(crate) fn refuses(&self, index: usize) -> bool {
        self.bits[index / 8] >> (index % 8) & 1 == 1
    }
}

/// The place that a token of this key names.
async fn index(server: &TestServer, key: &Secrets) -> usize {
    let claims = claims(&server.token(key, &[]).await);
    assert_eq!(claims["status"]["status_list"]["uri"], format!("{}/status-lists/1", server.url()));
    place(&claims)
}

/// What a token says.
pub(crate) fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// The place that claims name.
pub(crate) fn place(claims: &Value) -> usize {
    claims["status"]["status_list"]["idx"].as_u64().unwrap().try_into().unwrap()
}

/// The status of an answer to somebody who has the list with this tag.
async fn again(server: &TestServer, etag: &str) -> StatusCode {
    let request = server.http.get(format!("{}/status-lists/1", server.url())).header("if-none-match", etag);
    request.send().await.unwrap().status()
}

on_both_databases! {
    async fn a_revoked_credential_is_refused_even_after_its_client_is_deleted(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let index = index(&server, &key).await;
        assert!(!List::of(&server).await.refuses(index));
        admin.revoke(&key).await;
        assert!(List::of(&server).await.refuses(index));
        assert_eq!(admin.delete(&format!("/api/v1/clients/{}", key.client_id)).await.status, StatusCode::NO_CONTENT);
        assert!(List::of(&server).await.refuses(index), "deleting the client must not bring its tokens back");
    }

    async fn an_acknowledged_revocation_is_in_the_very_next_list(server: TestServer) {
        let admin = server.admin().await;
        let first = admin.orders_key().await;
        let mut keys = vec![first.clone()];
        for _ in 0..20 {
            keys.push(admin.issue(&first.client_id, &json!({})).await);
        }
        for key in &keys {
            let index = index(&server, key).await;
            let revoked = async {
                admin.revoke(key).await;
                List::of(&server).await
            };
            // Somebody else asks all the time, so a list may be under way when the bit changes.
            let (after, ..) = tokio::join!(revoked, List::of(&server), List::of(&server), List::of(&server));
            assert!(after.refuses(index));
        }
    }

    async fn the_list_stays_the_same_while_its_bits_do(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let before = List::of(&server).await;
        let other = admin.issue(&key.client_id, &json!({ "label": "another" })).await;
        admin.patch(&format!("/api/v1/clients/{}", key.client_id), &json!({ "name": "renamed" })).await.ok();
        server.clock.advance(Duration::from_secs(20));
        let after = List::of(&server).await;
        assert_eq!((&after.etag, &after.claims), (&before.etag, &before.claims));
        assert_eq!(again(&server, &before.etag).await, StatusCode::NOT_MODIFIED);

        let admin = server.api(&admin.secrets).await;
        admin.revoke(&other).await;
        assert_eq!(again(&server, &before.etag).await, StatusCode::OK, "the bits are others");
        let changed = List::of(&server).await;
        assert_eq!(changed.bits.len(), before.bits.len());
        assert_ne!(changed.etag, before.etag);
    }

    async fn a_list_is_signed_anew_while_copies_of_it_are_still_good(server: TestServer) {
        let first = List::of(&server).await;
        server.clock.advance(Duration::from_secs(300));
        assert_eq!(again(&server, &first.etag).await, StatusCode::OK);
        let second = List::of(&server).await;
        assert_eq!(second.bits, first.bits);
        assert!(second.claims["exp"].as_i64() > first.claims["exp"].as_i64());
    }

    async fn a_deadline_that_passes_shows_without_any_event(server: TestServer) {
        let admin = server.admin().await;
        let client = admin.orders_key().await.client_id;
        let key = admin.issue(&client, &json!({ "expires_at": "2026-11-23T12:02:00Z" })).await;
        let index = index(&server, &key).await;
        assert!(!List::of(&server).await.refuses(index));
        server.clock.advance(Duration::from_secs(120));
        assert!(List::of(&server).await.refuses(index));
    }

    async fn single_tokens_stand_in_the_list_until_they_are_dead(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        assert!(List::of(&server).await.claims.get("revoked_tokens").is_none(), "nothing without a token");
        let (one, two) = (server.token(&key, &[]).await, server.token(&key, &[]).await);
        let before = List::of(&server).await;
        Answer::of(server.form("/revoke", &key, &[("token", &one)])).await.ok();
        let after = List::of(&server).await;
        assert_eq!(after.tokens(), BTreeSet::from([claims(&one)["jti"].as_str().unwrap().to_owned()]));
        assert!(!after.refuses(place(&claims(&two))), "the others go on");
        assert_eq!(after.bits, before.bits);
        // Ten minutes of life, and five that verifiers may be lenient by.
        server.clock.advance(Duration::from_secs(899));
        assert_eq!(List::of(&server).await.tokens().len(), 1);
        server.clock.advance(Duration::from_secs(16));
        assert!(List::of(&server).await.claims.get("revoked_tokens").is_none());
    }

    async fn list_and_keys_can_be_asked_for_from_a_place_in_the_log_on(server: TestServer) {
        let last = server.app.store.last_event().await.unwrap();
        for path in ["/status-lists/1", "/jwks"] {
            let asked = async |query: &str| Answer::of(server.http.get(format!("{}{path}{query}", server.url()))).await;
            let usual = asked("").await;
            assert!(usual.header("cache-control").starts_with("public, max-age="), "{path}");
            let now = asked(&format!("?applied={last}")).await;
            assert_eq!((now.status, now.header("cache-control")), (StatusCode::OK, "no-store"), "{path}");
            assert_eq!(now.header("etag"), usual.header("etag"));
            let early = asked(&format!("?applied={}", last + 1)).await;
            assert_eq!((early.status, early.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"), "{path}");
            assert_eq!(asked("?applied=soon").await.status, StatusCode::BAD_REQUEST, "{path}");
        }
    }

    async fn a_list_signed_by_a_withdrawn_key_is_not_served(server: TestServer) {
        let admin = server.admin().await;
        let before = List::of(&server).await;
        admin.post("/api/v1/signing-keys/rotate", &json!({ "immediately": true })).await.ok();
        assert_eq!(again(&server, &before.etag).await, StatusCode::OK);
        let after = List::of(&server).await;
        assert_eq!(after.bits, before.bits);
        assert_ne!(after.signer, before.signer);
    }
}
