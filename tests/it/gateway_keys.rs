//! Keys at the gateway: `Authorization: Basic` where a token belongs, if the settings allow it.

use std::time::Duration;

use keyward_tests::provider::Provider;
use keyward_tests::server::{Answer, Db, Secrets, TestServer};
use keyward_tests::tokens;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::callers::callers;
use crate::forward_auth::{Ask, place_of_orders, told};
use crate::rotation::{path, rotate};

/// Declares tests that run on both databases, with keys allowed at the gateway.
macro_rules! with_keys {
    ($(async fn $name:ident($server:ident: $server_type:ty) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn story($server: $server_type) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                story(start(Db::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgresql() {
                story(start(Db::Postgres).await).await;
            }
        }
    )*};
}

async fn start(db: Db) -> TestServer {
    TestServer::start_with(db, |config| config.gateway.basic = true).await
}

fn basic(key: &Secrets) -> String {
    use base64::Engine as _;
    let pair = format!("{}:{}", key.client_id, key.client_secret);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

fn ask<'a>(server: &'a TestServer, key: &Secrets) -> Ask<'a> {
    Ask { headers: vec![("authorization", basic(key))], ..Ask::with(server, "") }
}

with_keys! {
    async fn a_key_is_let_in_as_its_token_would_be(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let token = server.token(&key, &[]).await;
        let by_key = told(&ask(&server, &key).asking("scope", "Worker").asking("res", "plant/7/line/3").answer().await);
        assert_eq!(by_key, told(&Ask::with(&server, &token).answer().await));
        assert_eq!(ask(&server, &key).asking("scope", "Supervisor").status().await, 403);
        assert_eq!(ask(&server, &key).asking("res", "plant/8").status().await, 403);
        assert_eq!(Ask::with(&server, &token).status().await, 200, "tokens are taken as before");
    }

    async fn whoever_sends_nothing_is_told_both_ways(server: TestServer) {
        server.admin().await.orders_key().await;
        let missing = Ask { headers: vec![], ..Ask::with(&server, "") }.answer().await;
        let challenges: Vec<_> = missing.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges, [r#"Bearer realm="https://orders.example""#, r#"Basic realm="keyward", charset="UTF-8""#]);
    }

    async fn a_key_that_does_not_do_gets_the_answer_of_the_token_endpoint(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let same = async |key: &Secrets| {
            let (here, there) = (ask(&server, key).answer().await, server.token_answer(key, &[]).await);
            assert_eq!((here.status, &here.body), (there.status, &there.body));
            assert_eq!(here.header("www-authenticate"), there.header("www-authenticate"));
            here
        };
        let unknown = Secrets { client_id: "client_01h455vb4pex5vsknk084sn02q".to_owned(), ..key.clone() };
        let wrong = Secrets { client_secret: "wrong".to_owned(), ..key.clone() };
        assert_eq!(same(&unknown).await.body, same(&wrong).await.body, "nobody learns which was wrong");
        admin.revoke(&key).await;
        let ended = same(&key).await;
        assert_eq!((ended.status, &ended.body["key_state"]), (StatusCode::UNAUTHORIZED, &json!("revoked")));
        server.app.callers.flush().await.unwrap();
        let outcomes: Vec<_> = callers(&admin, &key).await.into_iter().map(|caller| caller["refused"].clone()).collect();
        assert!(outcomes.iter().any(|count| count.as_i64() > Some(0)), "who still comes with it is known: {outcomes:?}");
    }

    async fn a_key_for_another_api_is_not_let_in(server: TestServer) {
        let admin = server.admin().await;
        admin.orders_key().await;
        let api = admin.new_api("https://stock.example", &["Worker"]).await;
        let client = admin.new_client(json!({ "scope": "Worker", "res": ["plant/7"], "apis": [api] })).await;
        let answer = ask(&server, &admin.issue(&client, &json!({})).await).answer().await;
        assert_eq!((answer.status, &answer.body["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
    }

    async fn whoever_comes_with_a_key_is_counted_and_warned_of_its_end(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        assert_eq!(ask(&server, &old).answer().await.header("keyward-key-expires"), "");
        let new = rotate(&admin, &old, json!({})).await;
        let from = ask(&server, &old).header("user-agent", "press/7").header("keyward-instance", "hall 3");
        assert_eq!(from.answer().await.header("keyward-key-expires"), "Mon, 30 Nov 2026 12:00:00 GMT");
        let seen = callers(&admin, &old).await;
        let press = seen.iter().find(|caller| caller["user_agent"] == "press/7").unwrap();
        assert_eq!((&press["instance"], &press["network"]), (&json!("hall 3"), &json!("127.0.0.1")));
        let refused = admin.post(&path(&old, "finish"), &json!({})).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "it is in use: {}", refused.body);
        assert_eq!(ask(&server, &new).answer().await.header("keyward-key-expires"), "");
    }

    async fn a_user_goes_with_a_key_as_with_a_token(server: TestServer) {
        let (admin, provider) = (server.admin().await, Provider::start().await);
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let own = tokens::identity(&server, &token, &json!({ "res": ["plant/7/line/3"] })).await;
        let by_key = told(&ask(&server, &key).header("identity-token", &own).answer().await);
        assert_eq!(by_key, told(&Ask::with(&server, &token).header("identity-token", &own).answer().await));
        let trusted = json!([{ "issuer": provider.issuer(), "audience": "plant-web", "scope": "Worker", "res": ["plant"] }]);
        admin.patch(&place_of_orders(&admin).await, &json!({ "identity_issuers": trusted })).await.ok();
        let foreign = provider.token(server.clock.now(), &json!({}));
        let told = told(&ask(&server, &key).header("identity-token", foreign).answer().await);
        assert_eq!((&told["modified-by"], &told["res"]), (&json!("anna@login"), &json!("plant/7")));
        assert_eq!(ask(&server, &key).header("identity-token", "a b").status().await, 400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_setting_a_key_is_no_token() {
    let server = TestServer::start(Db::Sqlite).await;
    let key = server.admin().await.orders_key().await;
    let answer = ask(&server, &key).answer().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="https://orders.example""#);
    assert_eq!(answer.body["error"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_at_the_gateway_and_at_the_token_endpoint_have_one_budget() {
    let server = TestServer::start_with(Db::Sqlite, |config| {
        config.gateway.basic = true;
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        (config.limits.failures_burst, config.limits.failures_per_minute) = (2, 1);
    })
    .await;
    let key = server.admin().await.orders_key().await;
    let wrong = Secrets { client_secret: "wrong".to_owned(), ..key.clone() };
    let from = |secrets: &Secrets, address: &str| ask(&server, secrets).header("x-forwarded-for", address);
    let at_token = server.form("/token", &wrong, &[("grant_type", "client_credentials")]);
    assert_eq!(Answer::of(at_token.header("x-forwarded-for", "198.51.100.7")).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(from(&wrong, "198.51.100.7").status().await, 401);
    let slowed = from(&wrong, "198.51.100.7").answer().await;
    assert_eq!((slowed.status.as_u16(), slowed.header("retry-after")), (429, "60"));
    assert_eq!(from(&key, "198.51.100.7").status().await, 200, "the right key is always let in");
    server.clock.advance(Duration::from_secs(60));
    assert_eq!(from(&wrong, "198.51.100.7").status().await, 401);
}
