//! How a device session begins: with its tokens or not at all.

use std::time::Duration;

use keyward_model::device_session::MOST_SESSIONS;
use keyward_tests::on_both_databases;
use keyward_tests::server::TestServer;
use serde_json::json;

use crate::authority::{ids, person};
use crate::device_sessions::tv;
use crate::status_list::claims;

on_both_databases! {
    async fn a_session_begins_with_an_identity_token_and_a_refresh_token(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (tv, gateway) = tv(&admin).await;
        let begun = server.begin_tokens(olga["id"].as_str().unwrap(), &tv, ("Supervisor", "plant/7")).await.unwrap();
        let (access, refresh) = (begun["access_token"].as_str().unwrap(), begun["refresh_token"].as_str().unwrap());
        assert_eq!((&begun["token_type"], &begun["expires_in"]), (&json!("Bearer"), &json!(300)));
        assert!(refresh.starts_with("kwr_") && refresh.len() == 75, "{refresh}");
        let said = claims(access);
        assert_eq!((&said["sub"], &said["scope"]), (&olga["id"], &json!("Worker")), "no more than olga has");
        assert_eq!(server.introspect(&gateway, access).await["active"], true);

        let shown = hers.get("/api/v1/device-sessions").await.ok();
        assert_eq!(shown["items"][0]["id"], said["sid"]);
        assert_eq!((&shown["items"][0]["amr"], &shown["items"][0]["label"]), (&json!("pwd"), &json!("hall 3")));
        assert_eq!(shown["items"][0]["expires_at"], "2027-02-21T12:00:00Z", "after 90 days");
        let told = admin.get(&format!("/api/v1/events?subject={}", said["sid"].as_str().unwrap())).await.ok();
        assert_eq!(told["items"][0]["data"]["amr"], "pwd");
        assert!(!told.to_string().contains(refresh) && !shown.to_string().contains(refresh));
    }

    async fn no_session_begins_for_a_disabled_user_or_client_and_none_without_rights(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let user = olga["id"].as_str().unwrap();
        let (tv, _) = tv(&admin).await;
        for path in [format!("/api/v1/clients/{tv}"), format!("/api/v1/users/{user}")] {
            admin.act(&format!("{path}/disable")).await.ok();
            let refused = server.begin_tokens(user, &tv, ("Worker", "plant")).await.unwrap_err();
            assert_eq!(refused.code.as_str(), "invalid_grant", "{path}");
            admin.act(&format!("{path}/enable")).await.ok();
        }
        let refused = server.begin_tokens(user, &tv, ("", "")).await.unwrap_err();
        assert_eq!(refused.code.as_str(), "invalid_scope");
        assert!(ids(&admin.get("/api/v1/device-sessions").await.ok()).is_empty(), "a refusal leaves nothing");
    }

    async fn one_session_too_many_ends_the_one_unused_for_longest(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let user = olga["id"].as_str().unwrap();
        let (tv, gateway) = tv(&admin).await;
        let (first, token) = server.sign_in(user, &tv, ("Worker", "plant")).await;
        for _ in 0..MOST_SESSIONS {
            server.clock.advance(Duration::from_millis(1));
            server.begin_session(user, &tv, ("Worker", "plant")).await;
        }
        assert_eq!(server.introspect(&gateway, &token).await["active"], true);
        server.begin_tokens(user, &tv, ("Worker", "plant")).await.unwrap();
        assert_eq!(server.introspect(&gateway, &token).await["active"], false);
        let ended = admin.get(&format!("/api/v1/device-sessions/{first}")).await.ok();
        assert_eq!(ended["end_reason"], "revoked");
    }
}
