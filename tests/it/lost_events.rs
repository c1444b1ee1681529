//! A failover or a copy put back loses the newest events under running servers; new ones get their numbers.

use std::time::Duration;

use keyward_tests::feed::{Stream, Told, poll};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, Db, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::timeout;

use crate::forward_auth::Ask;
use crate::status_list::List;

/// How long a change may take to be in force elsewhere.
const BOUND: Duration = Duration::from_secs(1);

async fn rename(admin: &Api<'_>, key: &Secrets, times: usize) {
    for n in 0..times {
        let name = json!({ "name": format!("renamed {n} of {times}") });
        admin.patch(&format!("/api/v1/clients/{}", key.client_id), &name).await.ok();
    }
}

/// The log ends here again, as in a copy from then. The servers are not told.
async fn lose_all_after(server: &TestServer, last: i64) {
    server
        .execute(&format!(
            "UPDATE event_head SET seq = {last}, hash = (SELECT hash FROM events WHERE seq = {last}) WHERE id = 1; \
             DELETE FROM events WHERE seq > {last}"
        ))
        .await;
}

async fn told_by(stream: &mut Stream) -> Told {
    timeout(BOUND * 2, stream.news()).await.expect("readers are told")
}

/// Whoever revokes after the loss finds it in force on all nodes, and so does who reads the feed of any.
async fn nothing_is_overlooked(nodes: &[&TestServer]) {
    let server = nodes[0];
    let admin = server.admin().await;
    let key = admin.orders_key().await;
    let last = server.app.store.last_event().await.unwrap();
    rename(&admin, &key, 8).await;
    let (mut streams, mut tokens) = (Vec::new(), Vec::new());
    let mut tip = None;
    for node in nodes {
        node.app.wait_until_applied(last + 8).await.unwrap();
        // Warm: each answers from its memory.
        tokens.push(node.token(&key, &[]).await);
        for _ in 0..2 {
            assert_eq!(Ask::with(node, tokens.last().unwrap()).status().await, 200);
        }
        let mut stream = Stream::open(node, None).await;
        tip = stream.next().await;
        streams.push(stream);
    }
    let tip = tip.unwrap();
    assert_eq!(tip.id, last + 8);
    lose_all_after(server, last).await;
    admin.revoke(&key).await;
    assert!(server.app.store.last_event().await.unwrap() < tip.id, "the new events have numbers of lost ones");
    assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::UNAUTHORIZED, "at once where it was revoked");
    assert_eq!(Ask::with(server, &tokens[0]).status().await, 401);
    for ((node, stream), token) in nodes.iter().zip(&mut streams).zip(&tokens) {
        let reset = told_by(stream).await;
        assert_eq!(reset.event, "reset");
        assert!(reset.id < tip.id, "{reset:?}");
        assert_eq!(Ask::with(node, token).status().await, 401);
        assert_eq!(node.token_answer(&key, &[]).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(List::of(server).await.known().ended.len(), 2, "the bootstrap key and this one");

    // The new log overtakes what was lost.
    rename(&admin, &key, 12).await;
    let second = admin.issue(&key.client_id, &json!({})).await;
    let end = server.app.store.last_event().await.unwrap();
    for node in nodes {
        node.app.wait_until_applied(end).await.unwrap();
        for after in [format!("{}&log={}", tip.id, tip.log), tip.id.to_string()] {
            let (_, told) = poll(node, &format!("?after={after}&wait=0")).await;
            assert_eq!(told[0].event, "reset", "{after}");
        }
        let (_, told) = poll(node, &format!("?after={end}&wait=0")).await;
        assert_eq!(told, [], "who knows the new log goes on");
    }
    admin.revoke(&second).await;
    for stream in &mut streams {
        assert_eq!(told_by(stream).await.event, "places");
    }
}

on_both_databases! {
    async fn what_is_revoked_after_a_loss_is_in_force_though_the_number_was_known(server: TestServer) {
        nothing_is_overlooked(&[&server]).await;
    }

    async fn after_a_restart_too_a_place_of_the_lost_log_is_not_continued(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let last = server.app.store.last_event().await.unwrap();
        rename(&admin, &key, 3).await;
        let lost = Stream::open(&server, None).await.next().await.unwrap();
        lose_all_after(&server, last).await;
        admin.revoke(&key).await;
        rename(&admin, &key, 5).await;
        let known = Stream::open(&server, None).await.next().await.unwrap();
        let server = server.restart().await;
        let request = |told: &Told| format!("?after={}&log={}&wait=0", told.id, told.log);
        assert_eq!(poll(&server, &request(&lost)).await.1[0].event, "reset");
        assert_eq!(poll(&server, &request(&known)).await.1, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_loss_both_nodes_know_what_is_revoked_on_one() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    nothing_is_overlooked(&[&one, &two]).await;
}
