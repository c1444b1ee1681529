//! Token introspection: RFC 7662.

use std::time::Duration;

use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, TestServer};
use reqwest::StatusCode;
use serde_json::json;

on_both_databases! {
    async fn a_client_learns_everything_of_its_own_token(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let seen = server.introspect(&key, &token).await;
        let me = admin.get("/api/v1/users/me").await.ok();
        assert_eq!(seen["active"], true);
        assert_eq!(seen["token_type"], "Bearer");
        assert_eq!(seen["client_id"], key.client_id);
        assert_eq!(seen["sub"], me["id"]);
        assert_eq!(seen["act"], json!({ "sub": key.client_id }));
        assert_eq!(seen["scope"], "Worker");
        assert_eq!(seen["res"], json!(["plant/7"]));
        assert_eq!(seen["aud"], "https://orders.example");
        assert_eq!(seen["iss"], server.url());
        assert_eq!(seen["cred"], key.credential());
        assert_eq!(seen["exp"].as_i64().unwrap() - seen["iat"].as_i64().unwrap(), 600);
    }

    async fn an_api_introspects_the_tokens_it_receives_and_nobody_elses(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let gateway = admin.new_client(json!({ "name": "orders-api" })).await;
        let gateway = admin.issue(&gateway, &json!({})).await;
        assert_eq!(server.introspect(&gateway, &token).await, json!({ "active": false }), "not its business yet");

        let apis = admin.get("/api/v1/apis").await.ok();
        let orders = apis["items"].as_array().unwrap().iter().find(|api| api["audience"] == "https://orders.example").unwrap();
        let path = format!("/api/v1/apis/{}", orders["id"].as_str().unwrap());
        admin.patch(&path, &json!({ "client": gateway.client_id })).await.ok();
        assert_eq!(server.introspect(&gateway, &token).await["active"], true);
        let own = server.token(&admin.secrets, &[]).await;
        assert_eq!(server.introspect(&gateway, &own).await, json!({ "active": false }), "a token for another API");
    }

    async fn a_token_is_inactive_once_its_client_may_not_use_the_api_any_more(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        admin.patch(&format!("/api/v1/clients/{}", key.client_id), &json!({ "apis": [] })).await.ok();
        assert_eq!(server.introspect(&key, &token).await, json!({ "active": false }));
    }

    async fn tokens_that_ended_are_inactive(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        server.clock.advance(Duration::from_secs(700));
        assert_eq!(server.introspect(&key, &token).await, json!({ "active": false }));
    }

    async fn what_is_no_token_is_inactive_and_no_error(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let token = server.token(&key, &[]).await;
        let (head, _) = token.rsplit_once('.').unwrap();
        for text in ["x", "a.b.c", key.client_secret.as_str(), head, &format!("{head}.AAAA"), &"x".repeat(9000)] {
            assert_eq!(server.introspect(&key, text).await, json!({ "active": false }), "{text}");
        }
    }

    async fn introspection_needs_authentication_and_a_token(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let anonymous = server.http.post(format!("{}/introspect", server.url())).form(&[("token", "x")]);
        let answer = Answer::of(anonymous).await;
        assert_eq!((answer.status, &answer.body["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
        let answer = Answer::of(server.form("/introspect", &key, &[])).await;
        assert_eq!((answer.status, &answer.body["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_request")));
    }
}
