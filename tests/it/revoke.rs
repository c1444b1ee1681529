//! Token revocation: RFC 7009.

use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::json;

async fn revoke(server: &TestServer, secrets: &Secrets, token: &str) -> Answer {
    Answer::of(server.form("/revoke", secrets, &[("token", token), ("token_type_hint", "access_token")])).await
}

on_both_databases! {
    async fn a_revoked_token_is_inactive_at_once_and_others_stay(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let (one, two) = (server.token(&key, &[]).await, server.token(&key, &[]).await);
        assert_eq!(revoke(&server, &key, &one).await.status, StatusCode::OK);
        assert_eq!(server.introspect(&key, &one).await, json!({ "active": false }));
        assert_eq!(server.introspect(&key, &two).await["active"], true);
        assert_eq!(revoke(&server, &key, &one).await.status, StatusCode::OK, "revoking twice is no error");
    }

    async fn a_revoked_token_opens_keywards_own_api_no_more(server: TestServer) {
        let admin = server.admin().await;
        assert_eq!(admin.get("/api/v1/clients").await.status, StatusCode::OK);
        assert_eq!(revoke(&server, &admin.secrets, &admin.token).await.status, StatusCode::OK);
        let answer = admin.get("/api/v1/clients").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.header("www-authenticate").contains("invalid_token"), "{:?}", answer.headers);
    }

    async fn another_clients_token_is_refused(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let answer = revoke(&server, &admin.secrets, &token).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(server.introspect(&key, &token).await["active"], true);
    }

    async fn what_is_no_token_needs_no_revoking(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        assert_eq!(revoke(&server, &key, "nonsense").await.status, StatusCode::OK);
    }

    async fn a_revoked_token_stays_revoked_through_a_restart(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let token = server.token(&key, &[]).await;
        assert_eq!(revoke(&server, &key, &token).await.status, StatusCode::OK);
        let server = server.restart().await;
        assert_eq!(server.introspect(&key, &token).await, json!({ "active": false }));
    }
}
