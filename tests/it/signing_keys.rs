//! Signing keys over the REST API.

use std::time::Duration;

use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::authority::person;

const KEYS: &str = "/api/v1/signing-keys";

async fn states(api: &Api<'_>) -> Vec<(String, String)> {
    let list = api.get(KEYS).await.ok();
    assert_eq!(list["next_cursor"], Value::Null);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(|key| (text(&key["id"]), text(&key["state"]))).collect()
}

on_both_databases! {
    async fn a_rotation_shows_whose_turn_it_is_and_when_the_next_begins(server: TestServer) {
        let admin = server.admin().await;
        let before = states(&admin).await;
        let [(first, _), (second, _)] = before.as_slice() else { panic!("{before:?}") };
        assert_eq!(before.iter().map(|(_, state)| state.as_str()).collect::<Vec<_>>(), ["current", "next"]);

        let after = admin.post(&format!("{KEYS}/rotate"), &json!({})).await.ok();
        let keys = after["items"].as_array().unwrap();
        let turns: Vec<&Value> = keys.iter().map(|key| &key["state"]).collect();
        assert_eq!(turns, ["current", "next", "next"], "the next key was published only just now");
        assert_eq!((&keys[0]["id"], &keys[1]["id"]), (&json!(first), &json!(second)));
        assert_eq!(keys[0]["retire_at"], keys[1]["activate_at"]);
        assert!(keys[0]["remove_at"].as_str() > keys[0]["retire_at"].as_str());
        assert_eq!(keys[2]["activate_at"], Value::Null);

        server.clock.advance(Duration::from_secs(3600));
        let admin = server.api(&admin.secrets).await;
        let turns: Vec<String> = states(&admin).await.into_iter().map(|(_, state)| state).collect();
        assert_eq!(turns, ["previous", "current", "next"]);
    }

    async fn a_key_that_was_skipped_never_signs(server: TestServer) {
        let admin = server.admin().await;
        admin.post(&format!("{KEYS}/rotate"), &json!({})).await.ok();
        // The key that was to follow in a while is overtaken by a rotation that cannot wait.
        let after = admin.post(&format!("{KEYS}/rotate"), &json!({ "immediately": true })).await.ok();
        let turns: Vec<&Value> = after["items"].as_array().unwrap().iter().map(|key| &key["state"]).collect();
        assert_eq!(turns, ["current", "next"], "those before are withdrawn");
        server.clock.advance(Duration::from_secs(3600));
        let admin = server.api(&admin.secrets).await;
        let turns: Vec<String> = states(&admin).await.into_iter().map(|(_, state)| state).collect();
        assert_eq!(turns, ["current", "next"]);
    }

    async fn what_nobody_signs_with_is_not_rotated(server: TestServer) {
        let admin = server.admin().await;
        let rotate = format!("{KEYS}/rotate");
        let refused = admin.post(&rotate, &json!({ "algorithm": "EdDSA" })).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
        let new = json!({ "name": "x", "audience": "https://x.example", "signing_algorithm": "EdDSA" });
        admin.post("/api/v1/apis", &new).await.created();
        admin.post(&rotate, &json!({ "algorithm": "EdDSA" })).await.ok();
        assert_eq!(admin.post(&rotate, &json!({ "algorithm": "none" })).await.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(states(&admin).await.len(), 5);
    }

    async fn everybody_sees_the_keys_and_administrators_rotate_them(server: TestServer) {
        let admin = server.admin().await;
        let (_, sam) = person(&admin, &server, "sam", "keyward:support").await;
        let (_, olga) = person(&admin, &server, "olga", "keyward:self").await;
        assert_eq!(states(&olga).await, states(&sam).await);
        let text = olga.get(KEYS).await.ok().to_string();
        assert!(!text.contains("sealed") && !text.contains("\"d\""), "{text}");
        assert_eq!(sam.post(&format!("{KEYS}/rotate"), &json!({})).await.status, StatusCode::FORBIDDEN);
        assert_eq!(states(&admin).await.len(), 2);
    }
}
