//! Several nodes on one PostgreSQL: a change on one is in force on the others within a second.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_tests::on_both_databases;
use keyward_tests::postgres::PrivateCluster;
use keyward_tests::server::{Db, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::caller_nodes::LISTENING;
use crate::forward_auth::Ask;
use crate::races::{arrows_of, every_arrow_at_once};
use crate::rotation::{path, rotate};

/// How long a change may take to be in force elsewhere.
const BOUND: Duration = Duration::from_secs(1);

/// The second node knows all that was done on the first: only what comes then is measured.
async fn caught_up(two: &TestServer, one: &TestServer) {
    let last = one.app.store.last_event().await.unwrap();
    two.app.wait_until_applied(last).await.unwrap();
}

async fn refused_within_the_bound(node: &TestServer, key: &Secrets) {
    let waiting = async {
        while node.token_answer(key, &[]).await.status == StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, waiting).await.expect("the other node still lets the key in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_revoked_on_one_node_stops_on_the_other_within_a_second() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    let admin = one.admin().await;
    let key = admin.orders_key().await;
    caught_up(&two, &one).await;
    // Warm: the second node answers from its memory.
    let token = two.token(&key, &[]).await;
    assert_eq!(two.introspect(&key, &token).await["active"], true);
    admin.revoke(&key).await;
    assert_eq!(one.token_answer(&key, &[]).await.status, StatusCode::UNAUTHORIZED, "at once where it was revoked");
    refused_within_the_bound(&two, &key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_made_on_one_node_is_in_force_on_the_other_within_a_second() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    let admin = one.admin().await;
    let old = admin.orders_key().await;
    caught_up(&two, &one).await;
    // Warm: the second node answers from its memory.
    two.token(&old, &[]).await;
    let new = rotate(&admin, &old, json!({})).await;
    two.token(&new, &[]).await;
    let warned = async {
        while two.token_answer(&old, &[]).await.body["key_state"] != "retiring" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, warned).await.expect("the other node does not warn");
    admin.post(&path(&old, "finish"), &json!({ "force": true })).await.ok();
    assert_eq!(one.token_answer(&old, &[]).await.status, StatusCode::UNAUTHORIZED, "at once where it was finished");
    refused_within_the_bound(&two, &old).await;
    assert_eq!(two.token_answer(&new, &[]).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_rotations_on_two_nodes_at_once_one_wins() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    let admin = one.admin().await;
    let key = admin.orders_key().await;
    caught_up(&two, &one).await;
    let (path, nothing) = (path(&key, "rotate"), json!({}));
    let there = admin.at(&two);
    let rotations = (0..10).map(|n| if n % 2 == 0 { admin.post(&path, &nothing) } else { there.post(&path, &nothing) });
    let answers = futures_util::future::join_all(rotations).await;
    let won = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
    assert_eq!(won, 1, "{answers:?}");
    assert!(answers.iter().all(|a| matches!(a.status, StatusCode::CREATED | StatusCode::CONFLICT)), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_arrows_on_two_nodes_at_once_one_ends_the_retirement() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    let admin = one.admin().await;
    let key = admin.orders_key().await;
    rotate(&admin, &key, json!({})).await;
    caught_up(&two, &one).await;
    every_arrow_at_once(&[&admin, &admin.at(&two)], &key, one.clock.now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_schedules_of_two_nodes_find_at_once_is_told_once() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    let admin = one.admin().await;
    let key = admin.orders_key().await;
    rotate(&admin, &key, json!({ "overlap_seconds": 3600 })).await;
    let both = async || {
        let (here, there) = tokio::join!(one.app.run_schedule(), two.app.run_schedule());
        here.and(there).unwrap();
        arrows_of(&one.api(&admin.secrets).await, &key).await
    };
    one.clock.advance(Duration::from_secs(3600));
    assert_eq!(both().await, ["issued", "rotated", "expired"]);
    one.clock.advance(Duration::from_secs(31 * 24 * 3600));
    assert_eq!(both().await, ["issued", "rotated", "expired", "purged"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_client_and_a_disabled_owner_stop_on_the_other_node() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    let admin = one.admin().await;
    let api = admin.new_api("https://stock.example", &["Worker"]).await;
    let owner =
        admin.post("/api/v1/users", &json!({ "name": "olga", "scope": "Worker", "res": ["*"] })).await.created();
    let client = admin.new_client(json!({ "owner": owner["id"], "scope": "Worker", "apis": [api] })).await;
    let (by_owner, by_client) = (admin.issue(&client, &json!({})).await, admin.orders_key().await);
    caught_up(&two, &one).await;
    for key in [&by_owner, &by_client] {
        two.token(key, &[]).await;
    }
    admin.act(&format!("/api/v1/clients/{}/disable", by_client.client_id)).await.ok();
    refused_within_the_bound(&two, &by_client).await;
    admin.act(&format!("/api/v1/users/{}/disable", owner["id"].as_str().unwrap())).await.ok();
    refused_within_the_bound(&two, &by_owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_polling_brings_the_change_within_the_bound() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    let admin = one.admin().await;
    let key = admin.orders_key().await;
    caught_up(&two, &one).await;
    two.token(&key, &[]).await;
    // Ends every connection that listens; the nodes reconnect with a back-off and poll meanwhile.
    let (client, connection) =
        tokio_postgres::connect(one.database_url().unwrap(), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let ended = format!("SELECT pg_terminate_backend(pid) FROM {LISTENING}");
    assert!(!client.query(&ended, &[]).await.unwrap().is_empty(), "nobody was listening");
    admin.revoke(&key).await;
    refused_within_the_bound(&two, &key).await;
    drop(client);
    connection.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_doubted_as_soon_as_one_that_refuses() {
    for (stop, revive) in [
        (PrivateCluster::freeze as fn(&PrivateCluster), PrivateCluster::thaw as fn(&PrivateCluster)),
        (PrivateCluster::kill_9, PrivateCluster::start_again),
    ] {
        let cluster = PrivateCluster::start();
        let server = TestServer::start_on(cluster.database().await).await;
        let key = server.admin().await.orders_key().await;
        server.token(&key, &[]).await;
        stop(&cluster);
        let stopped = Instant::now();
        // Who is not answered at once is not answered from memory.
        let from_memory = async || {
            let request = server.form("/token", &key, &[("grant_type", "client_credentials")]);
            let answer = request.timeout(Duration::from_millis(250)).send().await;
            answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
        };
        assert!(from_memory().await, "a moment is no outage");
        while from_memory().await {
            assert!(stopped.elapsed() < Duration::from_secs(10), "it is never doubted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let took = stopped.elapsed();
        assert!((1200..3200).contains(&took.as_millis()), "{took:?}");
        revive(&cluster);
        let again = async {
            while !from_memory().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), again).await.expect("the doubt does not end");
    }
}

on_both_databases! {
    async fn after_a_doubt_everything_is_read_anew(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        assert_eq!(server.token_answer(&key, &[]).await.body["expires_in"], 600);
        let token = server.token(&key, &[]).await;
        for _ in 0..2 {
            assert_eq!(Ask::with(&server, &token).status().await, 200);
        }
        server.execute("ALTER TABLE events RENAME TO away").await;
        // As after a failover to a database that knows of other things than the log that was followed.
        server.execute("UPDATE apis SET token_lifetime_s = 300 WHERE audience = 'https://orders.example'").await;
        server.execute("UPDATE clients SET res = 'plant/7/line/3' WHERE name = 'orders-sync'").await;
        let until = async |member: &str, value: serde_json::Value| {
            let waiting = async {
                loop {
                    let token = server.token_answer(&key, &[]).await.body;
                    let payload = token["access_token"].as_str().and_then(|token| token.split('.').nth(1));
                    let claims = payload.map(|payload| URL_SAFE_NO_PAD.decode(payload).unwrap());
                    let claims: serde_json::Value = serde_json::from_slice(&claims.unwrap()).unwrap();
                    if token[member] == value || claims[member] == value {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(member);
        };
        until("res", json!(["plant/7/line/3"])).await;
        assert_eq!(Ask::with(&server, &token).status().await, 401, "it says more than may be granted by now");
        assert_eq!(server.token_answer(&key, &[]).await.body["expires_in"], 600, "in doubt, what is kept as a whole stays");
        server.execute("ALTER TABLE away RENAME TO events").await;
        until("expires_in", json!(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_find_an_empty_database_one_makes_the_first_start() {
    let (one, two) = TestServer::start_two_at_once().await;
    assert!(one.was_first() != two.was_first(), "there must be exactly one bootstrap key");
    let (first, other) = if one.was_first() { (one, two) } else { (two, one) };
    let key = first.admin().await.orders_key().await;
    caught_up(&other, &first).await;
    let token = other.token(&key, &[]).await;
    assert_eq!(first.introspect(&key, &token).await["active"], true, "signed by the keys both share");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_master_key_does_not_start() {
    let one = TestServer::start(Db::Postgres).await;
    let mut config = keyward_server::config::Config::defaults().unwrap();
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.server.data = keyward_tests::run::subdirectory("stranger");
    let options = keyward_store::Options::new(one.database_url().unwrap().parse().unwrap());
    let surroundings = keyward_server::app::Surroundings {
        store: keyward_store::Store::open(&options).await.unwrap(),
        clock: one.clock.clone(),
        entropy: keyward_model::entropy::Entropy::system(),
        master_key: keyward_server::master_key::MasterKeySource::from_config(&config, None),
        patience: Default::default(),
    };
    let refused = keyward_server::Server::start(&config, surroundings).await.err().expect("it started");
    assert!(refused.to_string().contains("master"), "{refused}");
    assert!(!config.server.data.join("master.key").exists(), "a second master key must not be made");
}
