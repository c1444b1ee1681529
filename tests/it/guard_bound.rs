//! The bound that is stated: with the feed, no guard accepts a token more than a second after its revocation was answered.
#![expect(clippy::print_stdout, reason = "the figures are what docs/revocation.md speaks of")]

use std::time::Duration;

use futures_util::future::join_all;
use keyward_guard::Guard;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Db, Secrets, TestServer};
use reqwest::header::HeaderMap;
use serde_json::json;
use tokio::time::Instant;

use crate::guard::{bearing, guard, until};

const GUARDS: usize = 100;
const BOUND: Duration = Duration::from_secs(1);

/// So many APIs that follow the feed of this node.
async fn guards(server: &TestServer) -> Vec<Guard> {
    let guards: Vec<Guard> =
        join_all((0..GUARDS).map(|_| guard(server).into_future())).await.into_iter().map(Result::unwrap).collect();
    until("all follow the feed", || guards.iter().all(|guard| guard.measures().feed_connected)).await;
    guards
}

/// How long it takes from now until the last of them refuses.
async fn last_to_refuse(guards: &[Guard], request: &HeaderMap) -> Duration {
    let answered = Instant::now();
    until("all refuse", || guards.iter().all(|guard| guard.check(request).is_err())).await;
    answered.elapsed()
}

on_both_databases! {
    async fn a_hundred_guards_refuse_within_a_second_of_the_answer(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let client = format!("/api/v1/clients/{}", key.client_id);
        let guards = guards(&server).await;
        let token = async |key: &Secrets| bearing(&server.token(key, &[]).await);
        let mut took = Vec::new();
        for round in 0..5 {
            let key = admin.issue(&key.client_id, &json!({})).await;
            let request = token(&key).await;
            assert!(guards.iter().all(|guard| guard.check(&request).is_ok()), "round {round}");
            admin.revoke(&key).await;
            took.push(("a credential is revoked", last_to_refuse(&guards, &request).await));
        }
        let request = token(&key).await;
        let form = server.form("/revoke", &key, &[("token", request["authorization"].to_str().unwrap().trim_start_matches("Bearer "))]);
        assert!(form.send().await.unwrap().status().is_success());
        took.push(("a single token is revoked", last_to_refuse(&guards, &request).await));
        let request = token(&key).await;
        admin.patch(&client, &json!({ "res": ["plant/7/line/3"] })).await.ok();
        took.push(("rights are lowered", last_to_refuse(&guards, &request).await));
        let request = token(&key).await;
        admin.act(&format!("{client}/disable")).await.ok();
        took.push(("a client is disabled", last_to_refuse(&guards, &request).await));
        println!("until the last of {GUARDS} guards refused: {took:?}");
        assert!(took.iter().all(|(_, time)| *time <= BOUND), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_answered_is_in_force_within_a_second_too() {
    let server = TestServer::start(Db::Postgres).await;
    let other = server.another_node().await;
    let admin = server.admin().await;
    let key = admin.orders_key().await;
    let guards = guards(&server).await;
    let request = bearing(&server.token(&key, &[]).await);
    assert!(guards.iter().all(|guard| guard.check(&request).is_ok()));
    admin.at(&other).revoke(&key).await;
    let took = last_to_refuse(&guards, &request).await;
    println!("until the last of {GUARDS} guards of another node refused: {took:?}");
    assert!(took <= BOUND, "{took:?}");
}
