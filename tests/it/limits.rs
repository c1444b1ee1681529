//! How much an ordinary caller may add to what is kept: changes in a while, clients, credentials.

use futures_util::future::join_all;
use keyward_tests::server::{Answer, Api, Db, TestServer};
use reqwest::StatusCode;
use serde_json::json;

use crate::authority::person;
use crate::callers::{api_of, callers, counts, gateway};

/// A server on which three of each are too many.
async fn narrow(db: Db) -> TestServer {
    TestServer::start_with(db, |config| {
        config.limits.changes_burst = 20;
        config.limits.changes_per_minute = 1;
        config.limits.clients_per_owner = 3;
        config.limits.credentials_per_client = 2;
    })
    .await
}

fn count(answers: &[Answer], status: StatusCode) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_ends_so_many_tokens_and_then_waits_as_told() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = narrow(db).await;
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let end = async |token: &str| Answer::of(server.form("/revoke", &key, &[("token", token)])).await;
        let mut last = String::new();
        for _ in 0..20 {
            last = server.token(&key, &[]).await;
            assert_eq!(end(&last).await.status, StatusCode::OK);
        }
        let further = server.token(&key, &[]).await;
        let refused = end(&further).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!((refused.header("retry-after"), &refused.body["error"]), ("60", &json!("temporarily_unavailable")));
        assert_eq!(server.introspect(&key, &further).await["active"], true);
        for harmless in [&last, "nonsense"] {
            assert_eq!(end(harmless).await.status, StatusCode::OK, "what changes nothing costs nothing");
        }
        let others = Answer::of(server.form("/revoke", &admin.secrets, &[("token", &admin.token)])).await;
        assert_eq!(others.status, StatusCode::OK, "each client has a budget of its own");
        server.clock.advance(std::time::Duration::from_secs(60));
        assert_eq!(end(&further).await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_manages_their_own_makes_so_many_changes_and_then_waits_as_told() {
    let server = narrow(Db::Sqlite).await;
    let admin = server.admin().await;
    let (_, olga) = person(&admin, &server, "olga", "keyward:self").await;
    let path = format!("/api/v1/clients/{}", olga.new_client(json!({})).await);
    for n in 1..20 {
        olga.patch(&path, &json!({ "name": format!("name {n}") })).await.ok();
    }
    let refused = olga.patch(&path, &json!({ "name": "one more" })).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.body);
    assert_eq!((refused.header("retry-after"), &refused.body["type"]), ("60", &json!("urn:keyward:problem:too-many")));
    assert_eq!(olga.get(&path).await.ok()["name"], "name 19");
    for n in 0..30 {
        admin.patch(&path, &json!({ "name": format!("by an administrator {n}") })).await.ok();
    }
    server.clock.advance(std::time::Duration::from_secs(60));
    olga.patch(&path, &json!({ "name": "one more" })).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_reports_callers_so_often_and_then_waits_as_told() {
    let server = narrow(Db::Sqlite).await;
    let admin = server.admin().await;
    let key = admin.orders_key().await;
    let gateway = gateway(&admin, &server, &api_of(&admin, &key).await).await;
    let report = json!({ "callers": [{
        "credential": key.credential(), "network": "192.0.2.7", "last_seen_at": "2026-11-23T12:00:00Z", "count": 1,
    }] });
    for _ in 0..20 {
        gateway.post("/api/v1/callers", &report).await.ok();
    }
    let refused = gateway.post("/api/v1/callers", &report).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (StatusCode::TOO_MANY_REQUESTS, "60"),
        "{}",
        refused.body
    );
    assert_eq!(counts(&callers(&admin, &key).await), [("", 20, 0)]);
    for _ in 0..30 {
        admin.post("/api/v1/callers", &report).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_owns_no_more_clients_than_one_may_however_many_are_made_at_once() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = narrow(db).await;
        let admin = server.admin().await;
        let (user, olga) = person(&admin, &server, "olga", "keyward:self").await;
        let make = async |api: &Api<'_>| {
            let new = json!({ "name": "another", "owner": user["id"], "res": ["plant"] });
            api.post("/api/v1/clients", &new).await
        };
        let answers = join_all((0..8).map(|_| make(&olga))).await;
        assert_eq!(count(&answers, StatusCode::CREATED), 2, "with the one that she calls by: {answers:?}");
        assert_eq!(count(&answers, StatusCode::CONFLICT), 6, "{answers:?}");
        let refused = make(&olga).await;
        assert!(refused.body["detail"].as_str().unwrap().contains("(3)"), "{}", refused.body);
        make(&admin).await.created();
        let listed = olga.get("/api/v1/clients?name=another").await.ok();
        for client in listed["items"].as_array().unwrap() {
            olga.delete(&format!("/api/v1/clients/{}", client["id"].as_str().unwrap())).await;
        }
        make(&olga).await.created();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_no_more_working_keys_than_one_may_however_many_are_issued_at_once() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = narrow(db).await;
        let admin = server.admin().await;
        let (_, olga) = person(&admin, &server, "olga", "keyward:self").await;
        let client = olga.new_client(json!({ "name": "mine" })).await;
        let path = format!("/api/v1/clients/{client}/credentials");
        let soon = json!({ "expires_at": "2026-11-23T13:00:00Z" });
        let answers = join_all((0..8).map(|_| olga.post(&path, &soon))).await;
        assert_eq!(count(&answers, StatusCode::CREATED), 2, "{answers:?}");
        assert_eq!(count(&answers, StatusCode::CONFLICT), 6, "{answers:?}");
        admin.issue(&client, &json!({})).await;
        server.clock.advance(std::time::Duration::from_secs(3600));
        let olga = server.api(&olga.secrets).await;
        let key = olga.issue(&client, &json!({})).await;
        assert_eq!(olga.post(&path, &json!({})).await.status, StatusCode::CONFLICT, "what expired counts no more");
        olga.revoke(&key).await;
        olga.issue(&client, &json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_as_many_keys_as_one_may_can_still_rotate_each_of_them() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = narrow(db).await;
        let admin = server.admin().await;
        let (_, olga) = person(&admin, &server, "olga", "keyward:self").await;
        let client = olga.new_client(json!({ "name": "mine" })).await;
        let keys = [olga.issue(&client, &json!({})).await, olga.issue(&client, &json!({})).await];
        for key in &keys {
            olga.post(&format!("/api/v1/credentials/{}/rotate", key.credential()), &json!({})).await.created();
        }
        let third = olga.get(&format!("/api/v1/clients/{client}/credentials?state=active")).await.ok();
        let third = third["items"][0]["id"].as_str().unwrap().to_owned();
        let refused = olga.post(&format!("/api/v1/credentials/{third}/rotate"), &json!({})).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "retiring keys have a bound too");
        assert!(refused.body["detail"].as_str().unwrap().contains("as many retiring keys"), "{}", refused.body);
    }
}
