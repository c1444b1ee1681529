//! A rotation is judged by what all nodes have seen, however short a time ago (PostgreSQL).

use std::time::Duration;

use keyward_tests::server::{Answer, Api, Db, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::rotation::{path, rotate};

/// The sessions by which nodes listen.
pub(crate) const LISTENING: &str = "pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted \
                         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
/// How long anything may take here.
const AT_MOST: Duration = Duration::from_secs(30);
/// So long that nobody who waits for it is taken for one who was answered.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Two nodes that hear each other, and write callers down when they are asked only.
async fn two_nodes() -> (TestServer, TestServer) {
    let one = TestServer::start_with(Db::Postgres, |config| config.callers.flush_s = 3600).await;
    let two = one.another_node_with(|config| config.callers.flush_s = 3600).await;
    listening(&one, 2).await;
    (one, two)
}

async fn listening(server: &TestServer, nodes: i64) {
    let all = async {
        while server.count(&format!("SELECT COUNT(*) FROM {LISTENING}")).await != nodes {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(AT_MOST, all).await.expect("they do not listen");
}

async fn use_at(node: &TestServer, key: &Secrets, instance: &str) {
    node.token(key, &[("instance", instance)]).await;
}

/// Whom a refusal names.
fn named(refused: &Answer) -> Vec<&str> {
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
    assert_eq!(refused.body["type"], "urn:keyward:problem:callers-remain", "{}", refused.body);
    let callers = refused.body["callers"].as_array().unwrap();
    let mut named: Vec<_> = callers.iter().map(|caller| caller["instance"].as_str().unwrap()).collect();
    named.sort_unstable();
    named
}

/// What the last event about a key says.
async fn last_of(api: &Api<'_>, key: &Secrets, kind: &str) -> Value {
    let events = api.get(&format!("/api/v1/events?subject={}", key.credential())).await.ok();
    let last = events["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["kind"], kind);
    last["data"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_used_the_old_key_a_moment_ago_on_another_node_keeps_it_from_being_finished() {
    let (one, two) = two_nodes().await;
    let admin = one.admin().await;
    let old = admin.orders_key().await;
    rotate(&admin, &old, json!({})).await;
    use_at(&two, &old, "press 7").await;
    let finish = path(&old, "finish");
    assert_eq!(named(&admin.post(&finish, &json!({})).await), ["press 7"]);
    use_at(&two, &old, "press 8").await;
    assert_eq!(named(&admin.post(&finish, &json!({})).await), ["press 7", "press 8"]);
    use_at(&two, &old, "press 9").await;
    assert_eq!(admin.post(&finish, &json!({ "force": true })).await.ok()["state"], "expired");
    let told = last_of(&admin, &old, "credential.finished").await;
    assert_eq!((&told["forced"], &told["callers"]), (&json!(true), &json!(3)), "who is cut off is counted everywhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_used_the_successor_a_moment_ago_on_another_node_keeps_its_rotation_from_being_cancelled() {
    let (one, two) = two_nodes().await;
    let admin = one.admin().await;
    let old = admin.orders_key().await;
    let new = rotate(&admin, &old, json!({})).await;
    use_at(&two, &new, "press 7").await;
    let cancel = path(&old, "cancel");
    assert_eq!(named(&admin.post(&cancel, &json!({})).await), ["press 7"]);
    use_at(&two, &new, "press 8").await;
    assert_eq!(admin.post(&cancel, &json!({ "force": true })).await.ok()["state"], "active");
    let told = last_of(&admin, &old, "credential.rotation_cancelled").await;
    assert_eq!((&told["forced"], &told["callers"]), (&json!(true), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_waits_for_nobody_when_it_is_alone_and_only_until_the_others_have_answered() {
    let one = TestServer::start(Db::Postgres).await;
    let asked = async || tokio::time::timeout(AT_MOST, one.app.store.ask_others(FOR_EVER)).await;
    listening(&one, 1).await;
    assert_eq!(asked().await, Ok(Ok(0)), "alone");
    let two = one.another_node().await;
    listening(&one, 2).await;
    assert_eq!(asked().await, Ok(Ok(0)), "answered");
    drop(two);
    listening(&one, 1).await;
    assert_eq!(asked().await, Ok(Ok(0)), "alone again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_answer_keeps_no_key_from_being_finished() {
    let one = TestServer::start(Db::Postgres).await;
    let admin = one.admin().await;
    let old = admin.orders_key().await;
    rotate(&admin, &old, json!({})).await;
    listening(&one, 1).await;
    // As a node does that listens, and then stands still.
    let (client, connection) =
        tokio_postgres::connect(one.database_url().unwrap(), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let listen = format!("SELECT pg_try_advisory_lock_shared(classid::int4, objid::int4) FROM {LISTENING}");
    client.query_one(&listen, &[]).await.unwrap();
    assert_eq!(one.app.store.ask_others(Duration::from_millis(50)).await, Ok(1), "it is waited for");
    let finish = path(&old, "finish");
    let finished = tokio::time::timeout(AT_MOST, admin.post(&finish, &json!({}))).await;
    assert_eq!(finished.expect("it waits for ever").ok()["state"], "expired");
    drop(client);
    connection.await.unwrap().unwrap();
}
