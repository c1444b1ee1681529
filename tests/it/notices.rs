//! Notices: who is told what of a key, when, and how often.

use std::time::Duration;

use keyward_tests::on_both_databases;
use keyward_tests::receiver::{Received, Receiver};
use keyward_tests::server::{Answer, Api, Db, Secrets, TestServer};
use serde_json::{Value, json};

use crate::authority::person;
use crate::callers::uses;
use crate::webhooks::new_webhook;

const DAY: Duration = Duration::from_secs(24 * 3600);
const LADDER: [&str; 5] = ["30", "14", "7", "3", "1"];

/// A key that ends after so many days.
async fn key_for(admin: &Api<'_>, server: &TestServer, days: u32) -> Secrets {
    let first = admin.orders_key().await;
    admin.issue(&first.client_id, &json!({ "label": "hall 3", "expires_at": instant(server, days) })).await
}

/// The instant so many days from now, by the server's clock.
fn instant(server: &TestServer, days: u32) -> String {
    let at = server.clock.now().plus(DAY * days);
    keyward_server::api::instant::Instant(at).to_string()
}

/// The rungs that the log says a key was told of.
async fn rungs(admin: &Api<'_>, key: &Secrets) -> Vec<String> {
    let path = format!("/api/v1/events?kind=notice.due&subject={}", key.credential());
    let events = admin.get(&path).await.ok()["items"].as_array().unwrap().clone();
    events.iter().map(|event| event["data"]["rung"].as_str().unwrap().to_owned()).collect()
}

/// What a key's notices say, the oldest first.
async fn notices(admin: &Api<'_>, key: &Secrets) -> Vec<Value> {
    let path = format!("/api/v1/notices?credential={}", key.credential());
    let mut found = admin.get(&path).await.ok()["items"].as_array().unwrap().clone();
    found.reverse();
    found
}

/// A day goes by, on which the key is used.
async fn day_of_use(server: &TestServer, key: &Secrets) {
    server.clock.advance(DAY);
    uses(server, key, "press 7").await;
    server.app.callers.flush().await.unwrap();
}

/// Tells Keyward, as a gateway would, that a key was used from this network just now.
async fn seen_from(server: &TestServer, admin: &Api<'_>, key: &Secrets, network: &str) {
    let now = instant(server, 0);
    let entry = json!({ "credential": key.credential(), "network": network, "last_seen_at": now, "count": 1 });
    admin.post("/api/v1/callers", &json!({ "callers": [entry] })).await.ok();
    server.app.callers.flush().await.unwrap();
}

/// The same of so many callers in one network that each have a name.
async fn seen_as(server: &TestServer, admin: &Api<'_>, key: &Secrets, network: &str, names: usize) {
    let now = instant(server, 0);
    let entry = |name| {
        json!({ "credential": key.credential(), "network": network, "instance": format!("i{name}"),
        "last_seen_at": now, "count": 1 })
    };
    let entries: Vec<_> = (0..names).map(entry).collect();
    admin.post("/api/v1/callers", &json!({ "callers": entries })).await.ok();
    server.app.callers.flush().await.unwrap();
}

/// Waits until so many notices have arrived, and gives them by the time they tell of: each is sent on its own, so they arrive
/// in any order, and twice when a day that goes by ends the lease of whoever is sending.
async fn told(receiver: &Receiver, count: usize) -> Vec<Received> {
    let distinct = || {
        let mut seen = receiver.received();
        let mut ids = std::collections::HashSet::new();
        seen.retain(|received| ids.insert(received.headers["webhook-id"].clone()));
        seen
    };
    let waiting = async {
        while distinct().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("they arrive");
    let mut distinct = distinct();
    assert_eq!(distinct.len(), count);
    distinct.sort_by_key(|received| json(&received.body)["timestamp"].as_str().unwrap().to_owned());
    distinct
}

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

on_both_databases! {
    async fn each_rung_of_the_ladder_is_told_once_and_a_restart_changes_nothing(server: TestServer) {
        let receiver = Receiver::start().await;
        let (secrets, key) = {
            let admin = server.admin().await;
            new_webhook(&admin, &receiver, &[]).await;
            (admin.secrets.clone(), key_for(&admin, &server, 40).await)
        };
        uses(&server, &key, "press 7").await;
        let mut server = server;
        for day in 1..=39 {
            day_of_use(&server, &key).await;
            for _ in 0..2 {
                server.app.find_notices().await.unwrap();
            }
            if day == 20 {
                server = server.restart().await;
            }
        }
        let admin = server.api(&secrets).await;
        assert_eq!(rungs(&admin, &key).await, LADDER);

        let received = told(&receiver, 5).await;
        let body = json(&received[0].body);
        assert_eq!(body["type"], "credential.ending");
        assert_eq!(body["timestamp"], "2026-12-03T12:00:00Z");
        assert_eq!(body["data"]["ends_at"], "2027-01-02T12:00:00Z");
        assert_eq!(body["data"]["credential"], json!({ "id": key.credential(), "name": "hall 3" }));
        assert_eq!(body["data"]["client"]["name"], "orders-sync");
        assert_eq!(body["data"]["next"], format!("keyward credential rotate {}", key.credential()));
        let caller = &body["data"]["callers"][0];
        assert_eq!((&caller["instance"], &caller["user_agent"]), (&json!("press 7"), &json!("press/2")));
        for received in &received {
            assert!(!received.body.contains(&key.client_secret), "a secret is told");
        }
    }

    async fn the_hard_end_of_a_rotation_has_its_ladder_and_finishing_ends_it(server: TestServer) {
        let receiver = Receiver::start().await;
        let (secrets, old, finished) = {
            let admin = server.admin().await;
            new_webhook(&admin, &receiver, &["credential.ending"]).await;
            // One has an expiry of its own, which is later than its hard end and no longer counts.
            let old = admin.orders_key().await;
            let members = json!({ "label": "hall 4", "expires_at": instant(&server, 60) });
            let finished = admin.issue(&old.client_id, &members).await;
            for key in [&old, &finished] {
                uses(&server, key, "press 7").await;
                let path = format!("/api/v1/credentials/{}/rotate", key.credential());
                admin.post(&path, &json!({ "retire_at": instant(&server, 40) })).await.created();
            }
            (admin.secrets.clone(), old, finished)
        };
        for day in 1..=39 {
            day_of_use(&server, &old).await;
            for _ in 0..2 {
                server.app.find_notices().await.unwrap();
            }
            if day == 12 {
                let path = format!("/api/v1/credentials/{}/finish", finished.credential());
                server.api(&secrets).await.post(&path, &json!({ "force": true })).await.ok();
            }
        }
        let admin = server.api(&secrets).await;
        assert_eq!(rungs(&admin, &old).await, LADDER);
        assert_eq!(rungs(&admin, &finished).await, ["30"], "its end has come, and nobody is told of it any more");
        let received = told(&receiver, 6).await;
        let bodies = received.iter().map(|received| json(&received.body));
        let of_old: Vec<_> = bodies.filter(|body| body["data"]["credential"]["id"] == old.credential()).collect();
        assert_eq!(of_old.len(), LADDER.len());
        for body in &of_old {
            assert_eq!((&body["data"]["state"], &body["data"]["ends_at"]), (&json!("retiring"), &json!("2027-01-02T12:00:00Z")));
        }
        assert_eq!(of_old[0]["data"]["next"], format!("keyward credential watch {}", old.credential()));
    }

    async fn a_key_that_nobody_uses_ends_in_silence(server: TestServer) {
        let admin = server.admin().await;
        let (secrets, never) = (admin.secrets.clone(), key_for(&admin, &server, 40).await);
        let long_ago = admin.issue(&never.client_id, &json!({ "expires_at": instant(&server, 80) })).await;
        uses(&server, &long_ago, "press 7").await;
        server.app.callers.flush().await.unwrap();
        for _ in 0..79 {
            server.clock.advance(DAY);
            server.app.find_notices().await.unwrap();
        }
        let admin = server.api(&secrets).await;
        assert_eq!(rungs(&admin, &never).await, [""; 0]);
        assert_eq!(rungs(&admin, &long_ago).await, [""; 0], "last used 31 days before anything could be told");
        uses(&server, &long_ago, "press 7").await;
        server.app.callers.flush().await.unwrap();
        server.app.find_notices().await.unwrap();
        assert_eq!(rungs(&admin, &long_ago).await, ["1"], "whoever comes back is told at once");
    }

    async fn a_deadline_that_moves_starts_its_ladder_anew(server: TestServer) {
        let admin = server.admin().await;
        let (secrets, key) = (admin.secrets.clone(), key_for(&admin, &server, 20).await);
        for _ in 0..7 {
            day_of_use(&server, &key).await;
            server.app.find_notices().await.unwrap();
        }
        let admin = server.api(&secrets).await;
        assert_eq!(rungs(&admin, &key).await, ["14"], "the 30 days were over when it was issued");
        let change = json!({ "expires_at": instant(&server, 14) });
        admin.patch(&format!("/api/v1/credentials/{}", key.credential()), &change).await.ok();
        for _ in 0..2 {
            server.app.find_notices().await.unwrap();
        }
        assert_eq!(rungs(&admin, &key).await, ["14", "14"]);
    }

    async fn keys_that_cannot_be_used_are_told_to_nobody(server: TestServer) {
        let admin = server.admin().await;
        let (secrets, key) = (admin.secrets.clone(), key_for(&admin, &server, 15).await);
        day_of_use(&server, &key).await;
        let admin = server.api(&secrets).await;
        admin.act(&format!("/api/v1/clients/{}/disable", key.client_id)).await.ok();
        server.app.find_notices().await.unwrap();
        assert_eq!(rungs(&admin, &key).await, [""; 0]);
        admin.act(&format!("/api/v1/clients/{}/enable", key.client_id)).await.ok();
        server.app.find_notices().await.unwrap();
        assert_eq!(rungs(&admin, &key).await, ["14"]);
    }

    async fn whoever_still_tries_a_revoked_key_is_told_of_once_a_day(server: TestServer) {
        let admin = server.admin().await;
        let (secrets, key) = (admin.secrets.clone(), admin.orders_key().await);
        admin.revoke(&key).await;
        server.app.find_notices().await.unwrap();
        assert_eq!(notices(&admin, &key).await.len(), 0, "nobody tried it");
        for _ in 0..2 {
            crate::callers::ask(&server, &key, "press 7").await;
            server.app.callers.flush().await.unwrap();
            server.app.find_notices().await.unwrap();
        }
        let told = notices(&admin, &key).await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["kind"], "credential.revoked_in_use");
        assert_eq!(told[0]["body"]["data"]["revoked_at"], "2026-11-23T12:00:00Z");
        assert_eq!(told[0]["body"]["data"]["callers"][0]["instance"], "press 7");
        server.clock.advance(DAY);
        crate::callers::ask(&server, &key, "press 7").await;
        server.app.callers.flush().await.unwrap();
        server.app.find_notices().await.unwrap();
        let admin = server.api(&secrets).await;
        assert_eq!(notices(&admin, &key).await.len(), 2);
    }

    async fn a_new_network_and_a_revoked_key_in_use_are_told_as_soon_as_their_callers_are_written_down(server: TestServer) {
        let (admin, receiver) = (server.admin().await, Receiver::start().await);
        new_webhook(&admin, &receiver, &[]).await;
        let (secrets, key) = (admin.secrets.clone(), admin.orders_key().await);
        let revoked = admin.issue(&key.client_id, &json!({})).await;
        uses(&server, &key, "press 7").await;
        server.app.callers.flush().await.unwrap();
        server.clock.advance(2 * DAY);
        let admin = server.api(&secrets).await;
        admin.revoke(&revoked).await;
        // Nobody asks the server to look, and its own next look is a minute away.
        seen_from(&server, &admin, &key, "198.51.100.1").await;
        let body = |received: &Received| json(&received.body);
        let first = body(&told(&receiver, 1).await[0]);
        assert_eq!((&first["type"], &first["data"]["network"]), (&json!("credential.new_network"), &json!("198.51.100.1")));
        crate::callers::ask(&server, &revoked, "press 8").await;
        server.app.callers.flush().await.unwrap();
        let second = body(&told(&receiver, 2).await[1]);
        assert_eq!(second["type"], "credential.revoked_in_use");
        assert_eq!(second["data"]["credential"]["id"], revoked.credential());
    }

    async fn a_network_that_is_only_reported_is_told_though_nothing_else_happens(server: TestServer) {
        let receiver = Receiver::start().await;
        let (token, key) = {
            let admin = server.admin().await;
            new_webhook(&admin, &receiver, &[]).await;
            let key = admin.orders_key().await;
            seen_from(&server, &admin, &key, "192.0.2.1").await;
            server.clock.advance(2 * DAY);
            (server.api(&admin.secrets).await.token, key)
        };
        // Everything that was counted until now is written down by the stop: nobody uses a key from here on.
        let server = server.restart().await;
        server.clock.advance(Duration::from_secs(1));
        let entry = json!({ "credential": key.credential(), "network": "198.51.100.1", "last_seen_at": instant(&server, 0), "count": 1 });
        let report = server.http.post(format!("{}/api/v1/callers", server.url())).bearer_auth(token);
        Answer::of(report.json(&json!({ "callers": [entry] }))).await.ok();
        let told = json(&told(&receiver, 1).await[0].body);
        assert_eq!((&told["type"], &told["data"]["network"]), (&json!("credential.new_network"), &json!("198.51.100.1")));
    }

    async fn a_network_that_a_proxy_vouches_for_is_told_by_itself(server: TestServer) {
        let receiver = Receiver::start().await;
        let (secrets, key) = {
            let admin = server.admin().await;
            new_webhook(&admin, &receiver, &[]).await;
            (admin.secrets.clone(), admin.orders_key().await)
        };
        let server = server.restart_with(|config| {
            config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            config.callers.flush_s = 1;
        }).await;
        let from = async |network: &str| {
            let form = server.form("/token", &key, &[("grant_type", "client_credentials")]);
            Answer::of(form.header("x-forwarded-for", network)).await.ok();
        };
        from("192.0.2.1").await;
        from("2001:db8::1").await;
        server.clock.advance(2 * DAY);
        from("2001:db8::2").await;
        from("198.51.100.1").await;
        let told = json(&told(&receiver, 1).await[0].body);
        assert_eq!((&told["type"], &told["data"]["network"]), (&json!("credential.new_network"), &json!("198.51.100.1")));
        let admin = server.api(&secrets).await;
        assert_eq!(notices(&admin, &key).await.len(), 1, "the others were known");
    }

    async fn a_revoked_key_of_somebody_disabled_is_told_of_to_nobody(server: TestServer) {
        let admin = server.admin().await;
        let (owner, _) = person(&admin, &server, "leaver", "keyward:self").await;
        let api = admin.new_api("https://orders.example", &["Worker"]).await;
        let members = json!({ "owner": owner["id"], "scope": "Worker", "res": ["plant/7"], "apis": [api] });
        let key = admin.issue(&admin.new_client(members).await, &json!({})).await;
        admin.revoke(&key).await;
        let owner = format!("/api/v1/users/{}", owner["id"].as_str().unwrap());
        let client = format!("/api/v1/clients/{}", key.client_id);
        let told = async || {
            server.app.find_notices().await.unwrap();
            notices(&admin, &key).await.len()
        };
        // The server looks by itself too, as soon as callers are written down: from then on one of the two is disabled.
        admin.act(&format!("{owner}/disable")).await.ok();
        crate::callers::ask(&server, &key, "press 7").await;
        server.app.callers.flush().await.unwrap();
        assert_eq!(told().await, 0, "its owner is disabled");
        admin.act(&format!("{client}/disable")).await.ok();
        admin.act(&format!("{owner}/enable")).await.ok();
        assert_eq!(told().await, 0, "its client is disabled");
        admin.act(&format!("{client}/enable")).await.ok();
        assert_eq!(told().await, 1);
    }

    async fn notices_of_long_ago_are_forgotten_however_many_there_are(server: TestServer) {
        let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120) INSERT INTO notices \
                    SELECT 'notice_01h455vb4pex5vsknk08' || (400000 + i), 'webhook.test', '', 0, 'r' || i, '{}', 1 FROM n";
        let admin = server.admin().await;
        server.execute(rows).await;
        assert_eq!(admin.get("/api/v1/notices?limit=200").await.ok()["items"].as_array().unwrap().len(), 120);
        server.app.find_notices().await.unwrap();
        assert_eq!(admin.get("/api/v1/notices").await.ok()["items"], json!([]));
    }

    async fn no_number_of_names_hides_a_new_network(server: TestServer) {
        let admin = server.admin().await;
        let (secrets, key) = (admin.secrets.clone(), admin.orders_key().await);
        // A fleet of one network, of more callers than are told apart.
        seen_as(&server, &admin, &key, "192.0.2.1", 70).await;
        server.clock.advance(2 * DAY);
        let admin = server.api(&secrets).await;
        seen_as(&server, &admin, &key, "192.0.2.1", 70).await;
        server.clock.advance(Duration::from_secs(1));
        seen_as(&server, &admin, &key, "198.51.100.1", 70).await;
        server.app.find_notices().await.unwrap();
        let told = notices(&admin, &key).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["body"]["data"]["network"], "198.51.100.1");
    }

    async fn however_many_networks_are_reported_one_that_the_server_itself_sees_is_told(server: TestServer) {
        let admin = server.admin().await;
        let (secrets, key) = (admin.secrets.clone(), admin.orders_key().await);
        for network in 0..64 {
            seen_from(&server, &admin, &key, &format!("192.0.2.{network}")).await;
        }
        server.clock.advance(2 * DAY);
        uses(&server, &key, "press 7").await;
        server.app.callers.flush().await.unwrap();
        server.app.find_notices().await.unwrap();
        let told = notices(&server.api(&secrets).await, &key).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["body"]["data"]["network"], "127.0.0.1");
    }

    async fn a_key_that_is_at_home_everywhere_is_left_out(server: TestServer) {
        let admin = server.admin().await;
        let (secrets, key) = (admin.secrets.clone(), admin.orders_key().await);
        for network in 0..64 {
            seen_from(&server, &admin, &key, &format!("192.0.2.{network}")).await;
        }
        server.clock.advance(2 * DAY);
        let admin = server.api(&secrets).await;
        seen_from(&server, &admin, &key, "198.51.100.1").await;
        server.app.find_notices().await.unwrap();
        assert_eq!(notices(&admin, &key).await.len(), 0);
    }

    async fn a_new_network_is_told_of_once_the_key_has_a_history(server: TestServer) {
        let admin = server.admin().await;
        let (secrets, key) = (admin.secrets.clone(), admin.orders_key().await);
        for network in ["192.0.2.1", "192.0.2.2"] {
            seen_from(&server, &admin, &key, network).await;
        }
        server.app.find_notices().await.unwrap();
        assert_eq!(notices(&admin, &key).await.len(), 0, "on its first day every network is new");
        server.clock.advance(2 * DAY);
        let admin = server.api(&secrets).await;
        seen_from(&server, &admin, &key, "192.0.2.1").await;
        server.app.find_notices().await.unwrap();
        assert_eq!(notices(&admin, &key).await.len(), 0, "a known network");
        for network in ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"] {
            server.clock.advance(Duration::from_secs(1));
            seen_from(&server, &admin, &key, network).await;
            for _ in 0..2 {
                server.app.find_notices().await.unwrap();
            }
        }
        let networks: Vec<_> =
            notices(&admin, &key).await.iter().map(|notice| notice["body"]["data"]["network"].clone()).collect();
        assert_eq!(networks, ["198.51.100.1", "198.51.100.2", "198.51.100.3"], "a roaming key does not flood");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_at_once_tell_and_send_each_rung_once() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    let receiver = Receiver::start().await;
    let admin = one.admin().await;
    new_webhook(&admin, &receiver, &[]).await;
    let (secrets, key) = (admin.secrets.clone(), key_for(&admin, &one, 31).await);
    for _ in 0..30 {
        day_of_use(&one, &key).await;
        let (first, second) = tokio::join!(one.app.find_notices(), two.app.find_notices());
        first.and(second).unwrap();
        let (first, second) = tokio::join!(one.app.send_notices(), two.app.send_notices());
        first.and(second).unwrap();
    }
    assert_eq!(rungs(&one.api(&secrets).await, &key).await, LADDER);
    told(&receiver, 5).await;
}
