//! The question of a device is held until somebody has decided: on every node, and not against a server that stops.

use std::sync::Arc;
use std::time::Duration;

use keyward_server::device_grants::{approve, deny, watch};
use keyward_tests::devices::Device;
use keyward_tests::server::{Answer, Db, TestServer};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::device_grants::scene;

const PATIENCE: Duration = Duration::from_secs(30);

async fn holding(db: Db) -> TestServer {
    TestServer::start_with(db, |config| config.device_grants.hold_s = 8).await
}

/// A poll that is on its way to a server while the test goes on.
fn sent(server: &TestServer, device: &Device) -> JoinHandle<Answer> {
    let form = [
        ("grant_type", keyward_tests::devices::DEVICE_CODE.to_owned()),
        ("client_id", device.client.clone()),
        ("device_code", device.device_code().to_owned()),
    ];
    let request = server.http.post(format!("{}/token", server.url())).form(&form);
    tokio::spawn(async move { Answer::of(request).await })
}

/// Waits until the server says that it holds a poll, or the poll was answered.
async fn held(server: &TestServer, poll: &JoinHandle<Answer>) -> bool {
    tokio::time::timeout(PATIENCE, async {
        loop {
            let metrics =
                server.http.get(format!("{}/metrics", server.url())).send().await.unwrap().text().await.unwrap();
            // Other tests of this process hold theirs.
            if metrics.lines().any(|line| line.starts_with("keyward_device_polls_held ") && !line.ends_with(" 0")) {
                return true;
            }
            if poll.is_finished() {
                return false;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap()
}

/// The answer to a poll that was held when `decide` began. On a slow machine eight seconds may be over before that is done:
/// then once more.
async fn answered_after(server: &TestServer, device: &Device, decide: impl AsyncFn(bool)) -> Answer {
    for attempt in 0..5 {
        server.clock.advance(Duration::from_secs(5));
        let poll = sent(server, device);
        if held(server, &poll).await {
            decide(attempt == 0).await;
            let answer = poll.await.unwrap();
            if answer.error().1 != "authorization_pending" {
                return answer;
            }
        }
    }
    panic!("no poll was held while somebody decided")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_is_held_hears_of_the_decision() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = holding(db).await;
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let olgas = server.browser_of(&olga);
        for approved in [true, false] {
            let device = server.device(&tv, &[]).await;
            assert_eq!(
                device.answer["interval"], 2,
                "with a hold between them, questions may follow each other sooner"
            );
            let asked = server.enter(&olgas, &device).await.unwrap();
            let answer = answered_after(&server, &device, async |first| match (first, approved) {
                (false, _) => {}
                (true, true) => drop(approve(&server.app, &olgas, asked.id, asked.consent(false)).await.unwrap()),
                (true, false) => deny(&server.app, &olgas, asked.id).await.unwrap(),
            })
            .await;
            let expected = if approved { (200, "") } else { (400, "access_denied") };
            assert_eq!(answer.error(), expected, "{}", answer.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_one_node_holds_hears_of_what_another_was_told() {
    let server = holding(Db::Postgres).await;
    let other = server.another_node().await;
    let admin = server.admin().await;
    let (tv, olga) = scene(&server, &admin, json!({})).await;
    let (device, olgas) = (server.device(&tv, &[]).await, server.browser_of(&olga));
    let asked = other.enter(&olgas, &device).await.unwrap();
    let answer = answered_after(&server, &device, async |first| {
        if first {
            approve(&other.app, &olgas, asked.id, asked.consent(false)).await.unwrap();
        }
    })
    .await;
    let tokens = answer.ok();
    assert_eq!(other.poll(&device, &[]).await.ok(), tokens, "and the other gives the same again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_waits_for_no_poll_and_the_next_one_finds_it_again() {
    for db in [Db::Sqlite, Db::Postgres] {
        let mut server = holding(db).await;
        let (device, olga) = {
            let admin = server.admin().await;
            let (tv, olga) = scene(&server, &admin, json!({})).await;
            (server.device(&tv, &[]).await, olga)
        };
        let poll = sent(&server, &device);
        held(&server, &poll).await;
        assert!(server.stop_serving().await, "all that was under way is finished");
        assert_eq!(poll.await.unwrap().error(), (400, "authorization_pending"));
        let server = server.restart().await;
        server.let_in(&server.browser_of(&olga), &device).await;
        server.poll(&device, &[]).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_left_a_poll_is_answered_at_once() {
    let server = TestServer::start_with(Db::Sqlite, |config| {
        config.device_grants.hold_s = 8;
        config.device_grants.held_polls = 0;
    })
    .await;
    let admin = server.admin().await;
    let (tv, _) = scene(&server, &admin, json!({})).await;
    let device = server.device(&tv, &[]).await;
    assert_eq!(device.answer["interval"], 5);
    assert_eq!(server.poll(&device, &[]).await.error(), (400, "authorization_pending"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_hears_that_the_device_has_come() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let (tv, olga) = scene(&server, &admin, json!({})).await;
    let (device, olgas) = (server.device(&tv, &[]).await, server.browser_of(&olga));
    let asked = server.enter(&olgas, &device).await.unwrap();
    approve(&server.app, &olgas, asked.id, asked.consent(false)).await.unwrap();
    let state = server.app.store.find_device_grant(asked.id).await.unwrap().unwrap().state;
    let (app, user) = (Arc::clone(&server.app), olgas.user);
    let page = tokio::spawn(async move { watch(&app, user, asked.id, &state, PATIENCE).await });
    server.poll(&device, &[]).await.ok();
    assert_eq!(page.await.unwrap().unwrap().name().as_str(), "redeemed");
    let stranger = "user_00000000000000000000000000".parse().unwrap();
    let pending = keyward_model::device_grant::GrantState::Pending;
    assert!(watch(&server.app, stranger, asked.id, &pending, Duration::ZERO).await.is_err());
}
