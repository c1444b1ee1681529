//! What happens at once: revocations against token requests, one-time things used twice.

use futures_util::future::join_all;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::json;

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

    async fn a_create_repeated_at_once_under_one_key_makes_one(server: TestServer) {
        let admin = server.admin().await;
        let create = || {
            let request = admin.request(Method::POST, "/api/v1/clients").header("idempotency-key", "once");
            Answer::of(request.json(&json!({ "name": "the one" })))
        };
        let answers = join_all((0..8).map(|_| create())).await;
        assert!(answers.iter().all(|a| matches!(a.status, StatusCode::CREATED | StatusCode::CONFLICT)), "{answers:?}");
        let listed = admin.get("/api/v1/clients?name=the%20one").await.ok();
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    }
}
