//! Users of another issuer, a company's own OpenID provider, at the gateway.

use std::time::Duration;

use keyward_tests::on_both_databases;
use keyward_tests::provider::{Mood, Provider};
use keyward_tests::server::{Api, Db, Secrets, TestServer};
use serde_json::{Value, json};

use crate::forward_auth::{Ask, place_of_orders, told};

/// The orders API trusts the provider, whose users may do this at most; the administrator, a key for it, and
/// a client token.
async fn trusting<'a>(server: &'a TestServer, provider: &Provider, rights: Value) -> (Api<'a>, Secrets, String) {
    let admin = server.admin().await;
    let key = admin.orders_key().await;
    let mut trusted = json!({ "issuer": provider.issuer(), "audience": "plant-web" });
    for (name, value) in rights.as_object().unwrap() {
        trusted[name] = value.clone();
    }
    admin.patch(&place_of_orders(&admin).await, &json!({ "identity_issuers": [trusted] })).await.ok();
    let token = server.token(&key, &[]).await;
    (admin, key, token)
}

fn ask<'a>(server: &'a TestServer, token: &str, identity: &str) -> Ask<'a> {
    Ask::with(server, token).header("identity-token", identity)
}

fn all() -> Value {
    json!({ "scope": "Admin", "res": ["*"] })
}

on_both_databases! {
    async fn a_user_of_a_trusted_issuer_is_told_with_who_vouches_for_them(server: TestServer) {
        let provider = Provider::start().await;
        let (admin, _, token) = trusting(&server, &provider, json!({ "scope": "Supervisor", "res": ["plant/7/line/3"] })).await;
        let identity = provider.token(server.clock.now(), &json!({}));
        let told = told(&ask(&server, &token, &identity).answer().await);
        assert_eq!((&told["user"], &told["user-issuer"]), (&json!("anna@login"), &json!(provider.issuer())));
        assert_eq!((&told["modified-by"], &told["scope"], &told["res"]), (&json!("anna@login"), &json!("Worker"), &json!("plant/7/line/3")));
        assert!(told["subject"].as_str().unwrap().starts_with("user_"), "the client still acts as its owner");
        for changes in [json!({ "aud": "store-web" }), json!({ "exp": 1 }), json!({ "sub": told["subject"] }), json!({ "sub": " anna" })] {
            let answer = ask(&server, &token, &provider.token(server.clock.now(), &changes)).answer().await;
            assert_eq!(answer.status.as_u16(), 401, "{changes}");
        }
        admin.patch(&place_of_orders(&admin).await, &json!({ "identity_issuers": [] })).await.ok();
        assert_eq!(ask(&server, &token, &identity).status().await, 401, "an issuer that is trusted no more");
    }

    async fn an_issuer_that_never_answered_keeps_its_users_out_and_nobody_else(server: TestServer) {
        let provider = Provider::start().await;
        provider.is(Mood::Away);
        let (_, _, token) = trusting(&server, &provider, all()).await;
        let identity = provider.token(server.clock.now(), &json!({}));
        let answer = ask(&server, &token, &identity).answer().await;
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate"), answer.header("retry-after")), (503, "", "1"));
        assert_eq!(Ask::with(&server, &token).status().await, 200);
        provider.is(Mood::Good);
        until(async || ask(&server, &token, &identity).status().await == 200).await;
    }
}

/// Tries until it is so: the server fetches by itself.
async fn until(is_so: impl AsyncFn() -> bool) {
    let trying = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), trying).await.expect("it becomes so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_key_is_asked_for_once_in_a_while() {
    let (server, provider) = (TestServer::start(Db::Sqlite).await, Provider::start().await);
    let (_, _, token) = trusting(&server, &provider, all()).await;
    let before = provider.token(server.clock.now(), &json!({}));
    assert_eq!(ask(&server, &token, &before).status().await, 200);
    assert_eq!(provider.asked(), 1);
    provider.rotate();
    let after = provider.token(server.clock.now(), &json!({}));
    let refused = ask(&server, &token, &after).answer().await;
    assert_eq!(refused.body["error_description"], "identity token: the token is not signed by a known key");
    until(async || ask(&server, &token, &after).status().await == 200).await;
    assert_eq!(ask(&server, &token, &before).status().await, 401, "its key was withdrawn");
    for _ in 0..10 {
        provider.rotate();
        let unknown = provider.token(server.clock.now(), &json!({}));
        assert_eq!(ask(&server, &token, &unknown).status().await, 401);
    }
    assert_eq!(provider.asked(), 2, "whoever sends tokens cannot make the server ask at will");
    server.clock.advance(Duration::from_secs(31));
    let last = provider.token(server.clock.now(), &json!({}));
    until(async || ask(&server, &token, &last).status().await == 200).await;
    assert_eq!(provider.asked(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_token_that_does_not_count_makes_nobody_ask() {
    let (server, provider) = (TestServer::start(Db::Sqlite).await, Provider::start().await);
    trusting(&server, &provider, all()).await;
    until(async || provider.asked() == 1).await;
    provider.rotate();
    let unknown = provider.token(server.clock.now(), &json!({}));
    assert_eq!(ask(&server, "no.token.atall", &unknown).status().await, 401);
    assert_eq!(provider.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_could_not_be_fetched_again_for_a_day_are_not_trusted() {
    let (server, provider) = (TestServer::start(Db::Sqlite).await, Provider::start().await);
    let (_, key, token) = trusting(&server, &provider, all()).await;
    let identity = provider.token(server.clock.now(), &json!({}));
    assert_eq!(ask(&server, &token, &identity).status().await, 200);
    provider.is(Mood::Away);
    server.clock.advance(Duration::from_secs(24 * 3600));
    let (token, identity) = (server.token(&key, &[]).await, provider.token(server.clock.now(), &json!({})));
    assert_eq!(ask(&server, &token, &identity).status().await, 503);
    provider.is(Mood::Good);
    until(async || ask(&server, &token, &identity).status().await == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_misbehaves_gives_no_keys() {
    for mood in [Mood::Redirects, Mood::Impostor, Mood::Endless] {
        let (server, provider) = (TestServer::start(Db::Sqlite).await, Provider::start().await);
        provider.is(mood);
        let (_, _, token) = trusting(&server, &provider, all()).await;
        let identity = provider.token(server.clock.now(), &json!({}));
        assert_eq!(ask(&server, &token, &identity).status().await, 503, "{mood:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_is_not_on_the_public_internet_is_asked_only_where_the_settings_open_its_network() {
    let server = TestServer::start_with(Db::Sqlite, |config| config.gateway.allow_networks.clear()).await;
    let provider = Provider::start().await;
    let (_, _, token) = trusting(&server, &provider, all()).await;
    let identity = provider.token(server.clock.now(), &json!({}));
    assert_eq!(ask(&server, &token, &identity).status().await, 503);
    assert_eq!(provider.asked(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_issuer_holds_up_its_users_for_a_bounded_time_and_nobody_else() {
    let (server, provider) = (TestServer::start(Db::Sqlite).await, Provider::start().await);
    provider.is(Mood::Silent);
    let (_, _, token) = trusting(&server, &provider, all()).await;
    let identity = provider.token(server.clock.now(), &json!({}));
    let waiting = async { ask(&server, &token, &identity).status().await };
    let others = async {
        for _ in 0..5 {
            assert_eq!(Ask::with(&server, &token).status().await, 200);
        }
    };
    let (status, ()) =
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(waiting, others) }).await.unwrap();
    assert_eq!(status, 503);
}
