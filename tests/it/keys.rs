//! Discovery (RFC 8414), the key set (RFC 7517) and the turns of signing keys.

use std::time::Duration;

use keyward_server::master_key::{self, MasterKeySource};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Db, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn get(server: &TestServer, path: &str) -> Answer {
    Answer::of(server.http.get(format!("{}{path}", server.url()))).await
}

async fn published(server: &TestServer) -> Vec<String> {
    let keys = get(server, "/jwks").await.body["keys"].clone();
    keys.as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn signer(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

on_both_databases! {
    async fn discovery_names_every_endpoint_by_the_issuer(server: TestServer) {
        let metadata = get(&server, "/.well-known/oauth-authorization-server").await;
        assert_eq!(metadata.status, StatusCode::OK);
        let url = server.url();
        assert_eq!(metadata.body["issuer"], url);
        for (member, path) in [
            ("token_endpoint", "/token"),
            ("jwks_uri", "/jwks"),
            ("introspection_endpoint", "/introspect"),
            ("revocation_endpoint", "/revoke"),
        ] {
            assert_eq!(metadata.body[member], format!("{url}{path}"));
        }
        let grants = ["client_credentials", "authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"];
        assert_eq!(metadata.body["grant_types_supported"], json!(grants));
        let methods = json!(["client_secret_basic", "client_secret_post", "none"]);
        assert_eq!(metadata.body["token_endpoint_auth_methods_supported"], methods);
        let methods = json!(["client_secret_basic", "client_secret_post"]);
        assert_eq!(metadata.body["introspection_endpoint_auth_methods_supported"], methods);
        assert_eq!(get(&server, "/.well-known/openid-configuration").await.body, metadata.body);
    }

    async fn the_key_set_is_cached_by_its_etag(server: TestServer) {
        let first = get(&server, "/jwks").await;
        assert!(first.header("cache-control").contains("max-age"));
        let etag = first.header("etag");
        let again = server.http.get(format!("{}/jwks", server.url())).header("if-none-match", etag);
        assert_eq!(Answer::of(again).await.status, StatusCode::NOT_MODIFIED);
        for key in first.body["keys"].as_array().unwrap() {
            assert!(key.get("d").is_none(), "a private half in the key set");
        }
        let admin = server.admin().await;
        admin.post("/api/v1/signing-keys/rotate", &json!({})).await.ok();
        let changed = server.http.get(format!("{}/jwks", server.url())).header("if-none-match", etag);
        assert_eq!(Answer::of(changed).await.status, StatusCode::OK);
    }

    async fn the_next_key_is_published_before_it_signs_and_the_old_one_stays(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let before = server.token(&key, &[]).await;
        let (old, waiting) = (signer(&before), published(&server).await);
        assert_eq!(waiting.len(), 2, "one signs, one waits: {waiting:?}");

        // The waiting key was published only just now: its turn begins when every verifier has seen it.
        admin.post("/api/v1/signing-keys/rotate", &json!({})).await.ok();
        assert_eq!(signer(&server.token(&key, &[]).await), old);
        server.clock.advance(Duration::from_secs(15 * 60));
        let after = server.token(&key, &[]).await;
        assert_ne!(signer(&after), old);
        assert!(waiting.contains(&signer(&after)), "a key signs that was not published before");
        assert!(published(&server).await.contains(&old), "its tokens are still alive");

        server.clock.advance(DAY + Duration::from_secs(600));
        server.app.run_schedule().await.unwrap();
        let last = server.app.store.last_event().await.unwrap();
        server.app.wait_until_applied(last).await.unwrap();
        assert!(!published(&server).await.contains(&old), "its last token is dead");
    }

    async fn a_key_that_was_published_long_enough_signs_at_once(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        server.clock.advance(Duration::from_secs(3600));
        let admin = server.api(&admin.secrets).await;
        let old = signer(&server.token(&key, &[]).await);
        admin.post("/api/v1/signing-keys/rotate", &json!({})).await.ok();
        assert_ne!(signer(&server.token(&key, &[]).await), old);
    }

    async fn a_leaked_key_is_replaced_immediately(server: TestServer) {
        let admin = server.admin().await;
        let old = signer(&admin.token);
        admin.post("/api/v1/signing-keys/rotate", &json!({ "immediately": true })).await.ok();
        assert_ne!(signer(&server.token(&admin.secrets, &[]).await), old);
        assert!(!published(&server).await.contains(&old), "what a thief signs must not verify any more");
        assert_eq!(admin.get("/api/v1/clients").await.status, StatusCode::UNAUTHORIZED, "nor what it signed before");
    }

    async fn keys_change_by_themselves_when_they_are_old(server: TestServer) {
        let admin = server.admin().await;
        let old = signer(&server.token(&admin.secrets, &[]).await);
        server.clock.advance(DAY * 89);
        server.app.run_schedule().await.unwrap();
        assert_eq!(signer(&server.token(&admin.secrets, &[]).await), old);
        server.clock.advance(DAY);
        server.app.run_schedule().await.unwrap();
        let new = signer(&server.token(&admin.secrets, &[]).await);
        assert_ne!(new, old);
        // And only once.
        server.app.run_schedule().await.unwrap();
        assert_eq!(signer(&server.token(&admin.secrets, &[]).await), new);
    }

    async fn every_api_chooses_its_algorithm(server: TestServer) {
        let admin = server.admin().await;
        for algorithm in ["ES256", "EdDSA", "RS256"] {
            let audience = format!("https://{algorithm}.example");
            let new = json!({ "name": algorithm, "audience": audience, "scopes": ["Worker"], "signing_algorithm": algorithm });
            let api = admin.post("/api/v1/apis", &new).await.created()["id"].clone();
            let client = admin.new_client(json!({ "scope": "Worker", "apis": [api] })).await;
            let key = admin.issue(&client, &json!({})).await;
            let token = server.token(&key, &[]).await;
            let header: Value = serde_json::from_slice(&base64::Engine::decode(
                &base64::engine::general_purpose::URL_SAFE_NO_PAD, token.split('.').next().unwrap()).unwrap()).unwrap();
            assert_eq!(header["alg"], algorithm);
            assert_eq!(header["typ"], "at+jwt");
            assert_eq!(server.introspect(&key, &token).await["active"], true);
        }
    }

    async fn nothing_stays_under_an_old_master_key_however_much_is_rotated_at_once(server: TestServer) {
        let admin = server.admin().await;
        let source = MasterKeySource::File { path: server.directory.join("master.key"), create: true };
        let store = &server.app.store;
        let replace = || master_key::rotate(store, &source, None, &server.app.entropy);
        let nothing = json!({});
        let rotate = || admin.post("/api/v1/signing-keys/rotate", &nothing);
        for round in 0..5 {
            let audience = format!("https://{round}.example");
            let algorithm = if round == 0 { "EdDSA" } else { "ES256" };
            let api = json!({ "name": "x", "audience": audience, "signing_algorithm": algorithm });
            let (one, _, two, _, made) =
                tokio::join!(replace(), rotate(), replace(), rotate(), admin.post("/api/v1/apis", &api));
            assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
            made.created();
        }
        let master = source.load(&store.list_sealed_secrets().await.unwrap()).unwrap();
        let rows = store.list_signing_keys().await.unwrap();
        assert!(rows.len() >= 4 + 5, "{} keys", rows.len());
        for row in rows {
            master.open(&format!("signing key {}", row.key.id), &row.key.sealed).unwrap();
        }
        assert_eq!(std::fs::read_to_string(server.directory.join("master.key")).unwrap().lines().count(), 1);
        let secrets = admin.secrets.clone();
        server.restart().await.token(&secrets, &[]).await;
    }

    async fn tokens_outlive_a_restart(server: TestServer) {
        let admin = server.admin().await;
        let (secrets, token) = (admin.secrets.clone(), admin.token.clone());
        let server = server.restart().await;
        assert_eq!(server.introspect(&secrets, &token).await["active"], true);
        server.token(&secrets, &[]).await;
    }
}

#[tokio::test]
async fn the_master_key_file_is_private_and_everything_is_sealed_anew_under_another() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = TestServer::start(Db::Sqlite).await;
    let file = server.directory.join("master.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let admin = server.admin().await;
    let (secrets, old) = (admin.secrets.clone(), std::fs::read_to_string(&file).unwrap());

    let source = MasterKeySource::File { path: file.clone(), create: true };
    let resealed = master_key::rotate(&server.app.store, &source, None, &server.app.entropy).await.unwrap();
    assert_eq!(resealed, 3, "the hashing key and two signing keys");
    let new = std::fs::read_to_string(&file).unwrap();
    assert_ne!(new, old);
    assert_eq!(new.lines().count(), 1);

    // The running server goes on, makes new keys under the new master key, and so does the next start.
    admin.post("/api/v1/signing-keys/rotate", &json!({ "immediately": true })).await.ok();
    let server = server.restart().await;
    server.token(&secrets, &[]).await;

    // With the old master key nothing opens.
    std::fs::write(&file, old).unwrap();
    let refused = source.load(&server.app.store.list_sealed_secrets().await.unwrap());
    assert!(refused.unwrap_err().to_string().contains("sealed under a master key that"));
}
