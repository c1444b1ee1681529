//! What happens at once: revocations against token requests, one-time things used twice.

use std::time::Duration;

use futures_util::future::join_all;
use keyward_model::time::Timestamp;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Secrets, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::rotation::{path, rfc3339, rotate};

/// The arrows that a credential has taken, the oldest first.
pub(crate) async fn arrows_of(api: &Api<'_>, key: &Secrets) -> Vec<String> {
    let kinds = api.kinds_of(&key.credential()).await;
    kinds.iter().filter_map(|kind| kind.strip_prefix("credential.")).map(str::to_owned).collect()
}

/// Every arrow along and out of a retirement at once, by turns over these ways to the server: one out of it is taken, and
/// each that was taken is told once.
pub(crate) async fn every_arrow_at_once(ways: &[&Api<'_>], key: &Secrets, now: Timestamp) {
    let later = json!({ "retire_at": rfc3339(now.plus(Duration::from_secs(20 * 24 * 3600))) });
    let (nothing, forced) = (json!({}), json!({ "force": true }));
    let arrows =
        [("extend", &later), ("cancel", &nothing), ("finish", &nothing), ("finish", &forced), ("revoke", &nothing)];
    // An odd number of arrows: over two ways each goes both.
    let asking = arrows.iter().cycle().zip(ways.iter().cycle()).take(30);
    let answers = join_all(asking.map(|((action, body), way)| {
        let path = path(key, action);
        async move { (*action, way.post(&path, body).await) }
    }))
    .await;
    let may_be = [StatusCode::OK, StatusCode::CONFLICT, StatusCode::PRECONDITION_FAILED];
    assert!(answers.iter().all(|(_, answer)| may_be.contains(&answer.status)), "{answers:?}");
    let seen = ways[0].get(&format!("/api/v1/credentials/{}", key.credential())).await.ok();
    let told = arrows_of(ways[0], key).await;
    let extended = told[2..].iter().take_while(|arrow| *arrow == "rotation_extended").count();
    let done = |arrow| answers.iter().filter(|(action, a)| *action == arrow && a.status == StatusCode::OK).count();
    assert_eq!(extended, done("extend"), "{answers:?}");
    // A cancelled rotation leaves an active key, which a revocation may then end; any other end is the last.
    let outcome = match (seen["state"].as_str().unwrap(), seen["end_reason"].as_str()) {
        ("active", None) => &["rotation_cancelled"][..],
        ("expired", Some("finished")) => &["finished"],
        ("revoked", None) if done("cancel") > 0 => &["rotation_cancelled", "revoked"],
        ("revoked", None) => &["revoked"],
        other => panic!("{other:?}: {answers:?}"),
    };
    assert_eq!(told[2 + extended..], *outcome, "{answers:?}");
}

on_both_databases! {
    async fn after_a_revocation_is_acknowledged_no_token_is_issued(server: TestServer) {
        const RACERS: usize = 50;
        let admin = server.admin().await;
        let client = admin.orders_key().await.client_id;
        let nothing = json!({});
        let keys = join_all((0..RACERS).map(|_| admin.issue(&client, &nothing))).await;
        let witness = &admin.issue(&client, &nothing).await;
        let (server, admin) = (&server, &admin);
        join_all(keys.iter().map(|key| async move {
            let asking = join_all((0..5).map(|_| server.token_answer(key, &[])));
            let revoking = async {
                admin.revoke(key).await;
                // Acknowledged: from here on nothing may succeed.
                join_all((0..5).map(|_| server.token_answer(key, &[]))).await
            };
            let (before, after) = tokio::join!(asking, revoking);
            let refused = |a: &Answer| matches!(a.status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS);
            assert!(after.iter().all(refused), "{after:?}");
            for answer in before.iter().filter(|answer| answer.status == StatusCode::OK) {
                let token = answer.body["access_token"].as_str().unwrap();
                assert_eq!(server.introspect(witness, token).await, json!({ "active": false }));
            }
        }))
        .await;
    }

    async fn a_revocation_asked_for_several_times_at_once_is_in_force_for_whoever_is_answered(server: TestServer) {
        let admin = server.admin().await;
        let client = admin.orders_key().await.client_id;
        let nothing = json!({});
        let keys = join_all((0..20).map(|_| admin.issue(&client, &nothing))).await;
        let (server, admin) = (&server, &admin);
        join_all(keys.iter().flat_map(|key| (0..4).map(move |_| key)).map(|key| async move {
            admin.revoke(key).await;
            let answer = server.token_answer(key, &[]).await;
            assert_ne!(answer.status, StatusCode::OK, "{answer:?}");
        }))
        .await;
    }

    async fn the_bootstrap_key_gives_one_key_however_many_ask_at_once(server: TestServer) {
        let api = server.api(&server.bootstrap()).await;
        let client = api.get("/api/v1/clients").await.body["items"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/clients/{client}/credentials");
        let nothing = json!({});
        let answers = join_all((0..10).map(|_| api.post(&path, &nothing))).await;
        let made = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
        assert_eq!(made, 1, "{answers:?}");
        assert_eq!(server.token_answer(&server.bootstrap(), &[]).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(api.get("/api/v1/clients").await.status, StatusCode::UNAUTHORIZED, "its token has ended with it");
    }

    async fn of_two_changes_of_the_same_version_one_is_told(server: TestServer) {
        let admin = server.admin().await;
        let client = admin.orders_key().await.client_id;
        let path = format!("/api/v1/clients/{client}");
        let etag = admin.get(&path).await.header("etag").to_owned();
        let change = |name: String| {
            Answer::of(admin.request(Method::PATCH, &path).header("if-match", &etag).json(&json!({ "name": name })))
        };
        let answers = join_all((0..8).map(|n| change(format!("name {n}")))).await;
        let won = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(won, 1, "{answers:?}");
        assert!(answers.iter().all(|a| matches!(a.status, StatusCode::OK | StatusCode::PRECONDITION_FAILED)));
    }

    async fn however_many_act_on_a_rotation_at_once_it_has_one_outcome(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let (rotate, nothing) = (path(&key, "rotate"), json!({}));
        let rotating = join_all((0..20).map(|_| admin.post(&rotate, &nothing))).await;
        let won: Vec<_> = rotating.iter().filter(|answer| answer.status == StatusCode::CREATED).collect();
        assert_eq!(won.len(), 1, "{rotating:?}");
        let successor = won[0].body["id"].as_str().unwrap();
        for lost in rotating.iter().filter(|answer| answer.status != StatusCode::CREATED) {
            assert_eq!(lost.status, StatusCode::CONFLICT, "{lost:?}");
            assert!(lost.body["detail"].as_str().unwrap().contains(successor), "who lost is told who won: {lost:?}");
        }
        let listed = admin.get(&format!("/api/v1/clients/{}/credentials", key.client_id)).await.ok();
        assert_eq!(listed["items"].as_array().unwrap().len(), 2, "what lost left nothing behind");

        every_arrow_at_once(&[&admin], &key, server.clock.now()).await;
    }

    async fn at_its_hard_end_a_key_ends_once_whatever_is_asked_for_at_that_moment(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let new = rotate(&admin, &key, json!({ "overlap_seconds": 3600 })).await;
        server.clock.advance(Duration::from_secs(3600));
        let admin = &server.api(&admin.secrets).await;
        let later = json!({ "retire_at": rfc3339(server.clock.now().plus(Duration::from_secs(3600))) });
        let forced = json!({ "force": true });
        let arrows = [("extend", &later), ("cancel", &forced)];
        let asking = join_all(arrows.iter().cycle().take(12).map(|(action, body)| {
            let path = path(&key, action);
            async move { admin.post(&path, body).await }
        }));
        let (answers, ended) = tokio::join!(asking, join_all((0..4).map(|_| server.app.run_schedule())));
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        assert!(answers.iter().all(|answer| answer.status == StatusCode::CONFLICT), "{answers:?}");
        let seen = admin.get(&format!("/api/v1/credentials/{}", key.credential())).await.ok();
        assert_eq!((&seen["state"], &seen["end_reason"]), (&json!("expired"), &json!("retire_at")));
        assert_eq!(arrows_of(admin, &key).await, ["issued", "rotated", "expired"]);
        assert_eq!(arrows_of(admin, &new).await, ["issued"], "its successor goes on");
    }

    async fn a_create_repeated_at_once_under_one_key_makes_one(server: TestServer) {
        let admin = server.admin().await;
        let create = || {
            let request = admin.request(Method::POST, "/api/v1/clients").header("idempotency-key", "once");
            Answer::of(request.json(&json!({ "name": "the one" })))
        };
        let answers = join_all((0..8).map(|_| create())).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED), "{answers:?}");
        let listed = admin.get("/api/v1/clients?name=the%20one").await.ok();
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    }

    async fn whoever_repeats_a_create_that_is_under_way_is_told_what_was_made(server: TestServer) {
        let admin = server.admin().await;
        let keys = format!("/api/v1/clients/{}/credentials", admin.orders_key().await.client_id);
        for (path, body) in [
            (keys.as_str(), json!({ "label": "the one" })),
            ("/api/v1/users", json!({ "name": "the one" })),
            ("/api/v1/scopes", json!({ "name": "the-one" })),
            ("/api/v1/apis", json!({ "name": "the one", "audience": "https://one.example" })),
            ("/api/v1/webhooks", json!({ "name": "the one", "url": "https://one.example" })),
        ] {
            let create = || Answer::of(admin.request(Method::POST, path).header("idempotency-key", path).json(&body));
            let answers = join_all((0..8).map(|_| create())).await;
            let named = |answer: &Answer| (answer.body["id"].clone(), answer.body["name"].clone());
            for answer in &answers {
                assert_eq!(answer.status, StatusCode::CREATED, "{path}: {}", answer.body);
                assert_eq!(named(answer), named(&answers[0]), "{path}");
                assert!(!answer.header("location").is_empty(), "{path}");
            }
            let shows = |answer: &&Answer| ["client_secret", "secret"].iter().any(|name| answer.body[name].is_string());
            let has_secret = path == keys || path == "/api/v1/webhooks";
            let shown = answers.iter().filter(shows).count();
            assert_eq!(shown, usize::from(has_secret), "{path}: a secret is shown once");
        }
    }

    async fn of_two_requests_under_one_key_the_other_is_told_so(server: TestServer) {
        let admin = server.admin().await;
        let create = |name: &'static str| {
            let request = admin.request(Method::POST, "/api/v1/users").header("idempotency-key", "shared");
            Answer::of(request.json(&json!({ "name": name })))
        };
        let (one, two) = tokio::join!(create("one"), create("two"));
        let (won, lost) = if one.status == StatusCode::CREATED { (one, two) } else { (two, one) };
        assert_eq!((won.status, lost.status), (StatusCode::CREATED, StatusCode::CONFLICT));
        assert!(lost.body["detail"].as_str().unwrap().contains("used for another request"), "{}", lost.body);
    }

    async fn two_administrators_cannot_disable_each_other(server: TestServer) {
        let admin = server.admin().await;
        let apis = admin.get("/api/v1/apis?limit=1").await.ok();
        let other = json!({ "name": "other", "scope": "keyward:admin", "res": ["*"] });
        let other = admin.post("/api/v1/users", &other).await.created()["id"].as_str().unwrap().to_owned();
        let client = json!({ "owner": other, "scope": "keyward:admin", "apis": [apis["items"][0]["id"]] });
        let rival = server.api(&admin.issue(&admin.new_client(client).await, &json!({})).await).await;
        let me = admin.get("/api/v1/users/me").await.ok()["id"].as_str().unwrap().to_owned();
        let (theirs, mine) = (format!("/api/v1/users/{other}/disable"), format!("/api/v1/users/{me}/disable"));
        let (one, two) = tokio::join!(admin.act(&theirs), rival.act(&mine));
        let done = [&one, &two].iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(done, 1, "{one:?} {two:?}");
    }

    async fn what_was_taken_while_a_body_was_on_its_way_counts(server: TestServer) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let admin = server.admin().await;
        let apis = admin.get("/api/v1/apis").await.ok();
        let own = &apis["items"][0]["id"];
        let client = admin.new_client(json!({ "scope": "keyward:admin", "apis": [own] })).await;
        let key = admin.orders_key().await;
        let suspect = server.api(&admin.issue(&client, &json!({})).await).await;
        let mut slow = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        let head = format!(
            "POST /api/v1/clients/{}/credentials HTTP/1.1\r\nHost: keyward\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{",
            key.client_id, suspect.token
        );
        slow.write_all(head.as_bytes()).await.unwrap();
        // The head has been judged once the server waits for the rest of the body.
        tokio::time::sleep(Duration::from_millis(300)).await;
        admin.revoke(&suspect.secrets).await;
        slow.write_all(b"}").await.unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
        assert!(!answer.contains("kw_"));
    }

    async fn a_key_narrowed_while_it_is_rotated_has_no_wider_successor(server: TestServer) {
        let admin = server.admin().await;
        let client = admin.orders_key().await.client_id;
        for _ in 0..10 {
            let key = admin.issue(&client, &json!({})).await;
            let path = format!("/api/v1/credentials/{}", key.credential());
            let (rotate, narrower) = (format!("{path}/rotate"), json!({ "res": ["plant/7/line/1"] }));
            let nothing = json!({});
            let narrow = Answer::of(admin.request(Method::PATCH, &path).json(&narrower));
            let (narrowed, rotated) = tokio::join!(narrow, admin.post(&rotate, &nothing));
            let may_lose = |answer: &Answer| [StatusCode::CONFLICT, StatusCode::PRECONDITION_FAILED].contains(&answer.status);
            assert!(rotated.status == StatusCode::CREATED || may_lose(&rotated), "{rotated:?}");
            assert!(narrowed.status == StatusCode::OK || may_lose(&narrowed), "{narrowed:?}");
            let events = admin.get(&format!("/api/v1/events?subject={}", key.credential())).await.ok();
            let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
            let at = |kind| kinds.iter().position(|other| *other == kind);
            if let (Some(changed), Some(turned)) = (at("credential.changed"), at("credential.rotated"))
                && changed < turned
            {
                assert_eq!(rotated.body["res"], narrower["res"], "{kinds:?}");
            }
        }
    }
}
