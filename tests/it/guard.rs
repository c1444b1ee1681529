//! The guard of an API in front of a real server: what it finds out by itself, and when.

use std::sync::Arc;
use std::time::Duration;

use keyward_guard::{Builder, Guard, Refusal, StartError, Unreachable};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Db, TestServer};
use reqwest::header::HeaderMap;
use serde_json::json;

/// The audience of the API of `orders_key`.
pub(crate) const ORDERS: &str = "https://orders.example";

/// A guard that goes by the server's clock.
pub(crate) fn guard(server: &TestServer) -> Builder {
    let clock = server.clock.clone();
    Guard::discover(server.url()).audience(ORDERS).clock(move || clock.now())
}

pub(crate) fn bearing(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers
}

/// Waits for what comes by itself.
pub(crate) async fn until(what: &str, mut come: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if come() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came: {what}");
}

on_both_databases! {
    async fn an_api_needs_the_issuers_url_and_its_own_audience_and_nothing_else(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let guard = guard(&server).await.unwrap();
        let token = bearing(&server.token(&key, &[]).await);
        let caller = guard.check(&token).unwrap();
        assert_eq!(caller.client().to_string(), key.client_id);
        assert_eq!(caller.credential().map(|id| id.to_string()), Some(key.credential()));
        assert_eq!((caller.user(), caller.allows("Worker", "plant/7/line/3")), (None, true));
        assert_eq!(caller.require("Admin", "plant/7"), Err(Refusal::Scope("Admin".into())));
        assert_eq!(caller.require("Worker", "plant/8"), Err(Refusal::Res("plant/8".into())));
        // The administrator's token is for another API.
        assert!(matches!(guard.check(&bearing(&admin.token)), Err(Refusal::Audience(_))));
        server.clock.advance(Duration::from_secs(631));
        assert!(matches!(guard.check(&token), Err(Refusal::Expired(_))));
    }

    async fn a_revoked_key_is_over_where_its_tokens_are_used(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let second = admin.issue(&key.client_id, &json!({})).await;
        let guard = guard(&server).await.unwrap();
        let [first, second] = [server.token(&key, &[]).await, server.token(&second, &[]).await].map(|t| bearing(&t));
        assert!(guard.check(&first).is_ok() && guard.check(&second).is_ok());
        admin.revoke(&key).await;
        guard.refresh().await.unwrap();
        until("it is refused", || matches!(guard.check(&first), Err(Refusal::Ended(_)))).await;
        assert!(guard.check(&second).is_ok(), "another key of the same client");

        let client = format!("/api/v1/clients/{}", key.client_id);
        admin.act(&format!("{client}/disable")).await.ok();
        guard.refresh().await.unwrap();
        until("the client is disabled", || matches!(guard.check(&second), Err(Refusal::Ended(_)))).await;
        admin.act(&format!("{client}/enable")).await.ok();
        guard.refresh().await.unwrap();
        until("the client is enabled", || guard.check(&second).is_ok()).await;
        assert!(guard.check(&first).is_err());
    }

    async fn the_first_token_of_a_new_signing_key_is_accepted_and_those_of_a_withdrawn_one_are_not(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let guard = guard(&server).await.unwrap();
        let before = bearing(&server.token(&key, &[]).await);
        assert!(guard.check(&before).is_ok() && guard.check(&before).is_ok());
        admin.post("/api/v1/signing-keys/rotate", &json!({ "immediately": true })).await.ok();
        // The guard has read the keys a moment ago, so for ten seconds no name of a key makes it read them again.
        guard.refresh().await.unwrap();
        let after = bearing(&server.token(&key, &[]).await);
        assert!(guard.admit(&after).await.is_ok());
        assert!(matches!(guard.check(&before), Err(Refusal::KeyUnknown(_))));
    }

    async fn a_guard_outlives_a_restart_of_its_issuer(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let guard = guard(&server).await.unwrap();
        let token = bearing(&server.token(&key, &[]).await);
        let bootstrap = admin.secrets.clone();
        let mut server = server;
        server.stop_serving().await;
        assert!(guard.check(&token).is_ok());
        assert!(matches!(guard.refresh().await, Err(StartError::Unreachable { .. })));
        assert!(guard.check(&token).is_ok(), "accepted on trust for a while");
        server.clock.advance(Duration::from_secs(301));
        let refusal = guard.check(&token).unwrap_err();
        assert_eq!((refusal.status(), refusal.challenge("orders")), (503, None), "{refusal}");

        let server = server.restart().await;
        until("it knows again", || guard.check(&token).is_ok()).await;
        server.api(&bootstrap).await.revoke(&key).await;
        guard.refresh().await.unwrap();
        until("it is refused", || matches!(guard.check(&token), Err(Refusal::Ended(_)))).await;
    }

    async fn an_api_may_start_before_its_issuer_and_may_live_without(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = bearing(&server.token(&key, &[]).await);
        let lenient = guard(&server).unreachable(Unreachable::AcceptUntilExpiry).await.unwrap();
        let mut server = server;
        server.stop_serving().await;
        let error = guard(&server).await.err().unwrap().to_string();
        assert!(error.contains("start_unready"), "{error}");
        let early = guard(&server).start_unready().unwrap();
        assert_eq!(early.check(&token).unwrap_err().status(), 503);
        server.clock.advance(Duration::from_secs(599));
        assert!(lenient.check(&token).is_ok());
        server.clock.advance(Duration::from_secs(31));
        assert!(matches!(lenient.check(&token), Err(Refusal::Expired(_))));

        let server = server.restart().await;
        let token = bearing(&server.token(&key, &[]).await);
        until("the issuer is there", || early.check(&token).is_ok()).await;
    }
}

#[tokio::test]
async fn an_issuer_that_calls_itself_otherwise_is_not_believed() {
    let settings = |config: &mut keyward_server::config::Config| {
        config.server.issuer = "https://keyward.example".to_owned();
    };
    let server = TestServer::start_with(Db::Sqlite, settings).await;
    let error = guard(&server).await.err().unwrap().to_string();
    assert!(error.contains("https://keyward.example"), "{error}");
}

#[tokio::test]
async fn over_tls_only_an_issuer_whose_certificate_is_trusted_is_believed() {
    let directory = keyward_tests::run::subdirectory("guard-tls");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(directory.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let server = TestServer::start_with(Db::Sqlite, |config| {
        config.server.tls_certificate = directory.join("cert.pem");
        config.server.tls_key = directory.join("key.pem");
    })
    .await;
    let clock = server.clock.clone();
    let builder = || {
        let clock = clock.clone();
        Guard::discover(format!("https://{}", server.address())).audience(ORDERS).clock(move || clock.now())
    };
    let error = builder().await.err().unwrap().to_string();
    assert!(error.contains("certificate"), "{error}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let guard = builder().tls(config).await.unwrap();
    assert_eq!(guard.check(&HeaderMap::new()).unwrap_err(), Refusal::Missing);
    assert!(guard.refresh().await.is_ok());
}
