//! Device sessions and the identity tokens they give: whose they are, and what ends them.

use std::collections::BTreeSet;
use std::time::Duration;

use keyward_model::token::{AccessTokenClaims, TokenKind};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Secrets, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::authority::{ids, own_api, person};
use crate::status_list::{List, claims, place};

/// A public client for a new API that introspects with the key.
pub(crate) async fn tv(admin: &Api<'_>) -> (String, Secrets) {
    let gateway = admin.new_client(json!({ "name": "gateway" })).await;
    let gateway = admin.issue(&gateway, &json!({})).await;
    let api = json!({ "name": "plant", "audience": "https://plant.example", "scopes": ["Admin", "Supervisor", "Worker"],
        "client": gateway.client_id });
    let api = admin.post("/api/v1/apis", &api).await.created();
    let tv = json!({ "name": "tv", "kind": "public", "scope": "Supervisor", "res": ["*"], "apis": [api["id"]] });
    (admin.new_client(tv).await, gateway)
}

fn path(session: &str) -> String {
    format!("/api/v1/device-sessions/{session}")
}

/// What all that judge an identity token say: introspection, the list, and whether there is a next one.
async fn counts(server: &TestServer, gateway: &Secrets, session: &str, token: &str) -> bool {
    let active = server.introspect(gateway, token).await["active"] == true;
    assert_eq!(active, !List::of(server).await.refuses(place(&claims(token))), "the list and introspection differ");
    assert_eq!(active, server.identity_token(session, None).await.is_ok(), "the next token");
    active
}

on_both_databases! {
    async fn an_identity_token_says_what_session_client_and_user_have_in_common(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (tv, gateway) = tv(&admin).await;
        let user = olga["id"].as_str().unwrap();
        let (session, token) = server.sign_in(user, &tv, ("Supervisor", "plant/7 office")).await;
        let said = claims(&token);
        let read: AccessTokenClaims = serde_json::from_value(said.clone()).unwrap();
        assert_eq!(read.kind(), Some(TokenKind::Identity));
        assert_eq!((&said["sub"], &said["client_id"], &said["sid"]), (&olga["id"], &json!(tv), &json!(session)));
        assert_eq!((&said["scope"], &said["res"]), (&json!("Worker"), &json!(["plant/7"])));
        assert_eq!(said["aud"], "https://plant.example");
        assert_eq!(said["auth_time"], server.clock.now().as_seconds());
        assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 300);
        assert!(said.get("act").is_none() && said.get("cred").is_none(), "{said}");
        let seen = server.introspect(&gateway, &token).await;
        assert_eq!((&seen["active"], &seen["sid"], &seen["auth_time"]), (&json!(true), &said["sid"], &said["auth_time"]));
        assert_eq!(seen["sub"], olga["id"]);

        let refused = Answer::of(server.http.get(format!("{}/api/v1/clients", server.url())).bearer_auth(&token)).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        drop(hers);
    }

    async fn a_person_s_own_token_of_a_public_client_manages_keyward_with_that_person_s_rights(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let own = own_api(&admin).await;
        let terminal = json!({ "name": "terminal", "kind": "public", "scope": "keyward:admin", "apis": [own] });
        let terminal = admin.new_client(terminal).await;
        let (session, token) = server.sign_in(olga["id"].as_str().unwrap(), &terminal, ("keyward:admin", "*")).await;
        let hers = admin.with_token(&token);
        assert_eq!(hers.get("/api/v1/users/me").await.ok()["id"], olga["id"]);
        assert_eq!(hers.get("/api/v1/events").await.status, StatusCode::FORBIDDEN, "she is no administrator");
        let new = json!({ "name": "press 7" });
        let again = |key: &'static str| hers.request(Method::POST, "/api/v1/clients").header("idempotency-key", key);
        let made = Answer::of(again("once").json(&new)).await.created();
        assert_eq!(made["owner"], olga["id"]);
        assert_eq!(Answer::of(again("once").json(&new)).await.created()["id"], made["id"]);
        let told = admin.get(&format!("/api/v1/events?subject={}", made["id"].as_str().unwrap())).await.ok();
        let by = json!({ "user": olga["id"], "client": terminal, "session": session });
        assert_eq!(told["items"][0]["actor"], by);

        hers.act(&format!("{}/revoke", path(&session))).await.ok();
        assert_eq!(hers.get("/api/v1/users/me").await.status, StatusCode::UNAUTHORIZED);
    }

    async fn a_person_s_own_token_of_a_confidential_client_does_not_stand_alone(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let own = own_api(&admin).await;
        let portal = json!({ "name": "portal", "scope": "keyward:admin", "apis": [own] });
        let portal = admin.new_client(portal).await;
        let key = admin.issue(&portal, &json!({})).await;
        let session = server.begin_session(olga["id"].as_str().unwrap(), &portal, ("keyward:self", "*")).await;
        let token = server.identity_token(&session, Some(&key.credential())).await.unwrap();
        let refused = admin.with_token(&token).get("/api/v1/users/me").await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains("confidential client"), "{}", refused.body);
    }

    async fn a_token_never_outlives_its_session(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let (tv, _) = tv(&admin).await;
        let session = server.begin_session(olga["id"].as_str().unwrap(), &tv, ("Worker", "plant")).await;
        server.clock.advance(Duration::from_secs(3_500));
        let said = claims(&server.identity_token(&session, None).await.unwrap());
        assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 100);
        server.clock.advance(Duration::from_secs(100));
        assert!(server.identity_token(&session, None).await.is_err());
    }

    async fn everybody_sees_and_ends_their_own_and_support_everybodys(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let (_, support) = person(&admin, &server, "sue", "keyward:support").await;
        let (tv, gateway) = tv(&admin).await;
        let (session, token) = server.sign_in(olga["id"].as_str().unwrap(), &tv, ("Worker", "plant")).await;
        let (other, _) = server.sign_in(sam["id"].as_str().unwrap(), &tv, ("Worker", "plant")).await;
        let all = "/api/v1/device-sessions";
        assert_eq!(ids(&hers.get(all).await.ok()), [session.as_str()]);
        let seen = support.get(all).await.ok();
        assert_eq!(BTreeSet::from_iter(ids(&seen)), BTreeSet::from([session.as_str(), other.as_str()]));
        let of_sam = format!("{all}?user={}", sam["id"].as_str().unwrap());
        assert_eq!(ids(&admin.get(&of_sam).await.ok()), [other.as_str()]);
        assert!(ids(&hers.get(&of_sam).await.ok()).is_empty());
        assert_eq!(ids(&admin.get(&format!("{all}?client={tv}&limit=1")).await.ok()).len(), 1);
        assert_eq!(his.get(&path(&session)).await.status, StatusCode::NOT_FOUND);
        assert_eq!(his.act(&format!("{}/revoke", path(&session))).await.status, StatusCode::NOT_FOUND);

        let shown = hers.get(&path(&session)).await.ok();
        assert_eq!(shown, json!({
            "id": session, "user": olga["id"], "client": tv, "label": "hall 3", "scope": "Worker", "res": ["plant"],
            "authenticated_at": "2026-11-23T12:00:00Z", "amr": "", "expires_at": "2026-11-23T13:00:00Z", "ended_at": null,
            "end_reason": null, "created_from": "192.0.2.7", "created_at": "2026-11-23T12:00:00Z",
            "updated_at": "2026-11-23T12:00:00Z",
        }));
        assert!(counts(&server, &gateway, &session, &token).await);
        let ended = hers.act(&format!("{}/revoke", path(&session))).await.ok();
        assert_eq!((&ended["ended_at"], &ended["end_reason"]), (&json!("2026-11-23T12:00:00Z"), &json!("revoked")));
        assert!(!counts(&server, &gateway, &session, &token).await);
        assert_eq!(hers.act(&format!("{}/revoke", path(&session))).await.ok(), ended, "twice changes nothing");
        support.act(&format!("{}/revoke", path(&other))).await.ok();
        let told = hers.get(&format!("/api/v1/events?subject={session}")).await.ok();
        let kinds: Vec<&Value> = told["items"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
        assert_eq!(kinds, ["device_session.created", "device_session.revoked"]);
        assert_eq!(his.get(&format!("/api/v1/events?subject={session}")).await.status, StatusCode::FORBIDDEN);
    }

    async fn whoever_logged_in_names_a_session_and_support_does_not(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (_, his) = person(&admin, &server, "sam", "keyward:self").await;
        let (_, support) = person(&admin, &server, "sue", "keyward:support").await;
        let (tv, _) = tv(&admin).await;
        let session = server.begin_session(olga["id"].as_str().unwrap(), &tv, ("Worker", "plant")).await;
        let (path, name) = (path(&session), json!({ "label": "TV, hall 4" }));
        let etag = hers.get(&path).await.header("etag").to_owned();
        assert_eq!(his.patch(&path, &name).await.status, StatusCode::NOT_FOUND);
        assert_eq!(support.patch(&path, &name).await.status, StatusCode::FORBIDDEN);
        assert_eq!(hers.patch(&path, &name).await.ok()["label"], "TV, hall 4");
        let stale = Answer::of(hers.request(Method::PATCH, &path).header("if-match", etag).json(&name)).await;
        assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
        assert_eq!(admin.patch(&path, &json!({ "label": "TV" })).await.ok()["label"], "TV");
        for refused in [json!({ "label": "x".repeat(101) }), json!({ "label": "a\u{200b}b" }), json!({})] {
            assert_eq!(hers.patch(&path, &refused).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
        }
        let told = hers.get(&format!("/api/v1/events?subject={session}&kind=device_session.renamed")).await.ok();
        assert_eq!(told["items"][0]["data"], json!({ "label": { "old": "hall 3", "new": "TV, hall 4" } }));
        assert_eq!(told["items"].as_array().unwrap().len(), 2);
        hers.act(&format!("{path}/revoke")).await.ok();
        assert_eq!(hers.patch(&path, &name).await.status, StatusCode::CONFLICT);
    }

    async fn a_disabled_client_or_user_stops_a_session_and_enabling_lets_it_go_on(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let (tv, gateway) = tv(&admin).await;
        let (session, token) = server.sign_in(olga["id"].as_str().unwrap(), &tv, ("Worker", "plant")).await;
        for path in [format!("/api/v1/clients/{tv}"), format!("/api/v1/users/{}", olga["id"].as_str().unwrap())] {
            admin.act(&format!("{path}/disable")).await.ok();
            assert!(!counts(&server, &gateway, &session, &token).await, "{path}");
            admin.act(&format!("{path}/enable")).await.ok();
            assert!(counts(&server, &gateway, &session, &token).await, "{path}");
        }
    }

    async fn lowered_rights_of_client_and_user_end_its_tokens_and_the_next_has_less(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let (tv, gateway) = tv(&admin).await;
        let (session, token) = server.sign_in(olga["id"].as_str().unwrap(), &tv, ("Worker", "plant")).await;
        admin.patch(&format!("/api/v1/clients/{tv}"), &json!({ "res": ["plant/7", "plant/8"] })).await.ok();
        assert_eq!(server.introspect(&gateway, &token).await["active"], false);
        assert!(List::of(&server).await.refuses(place(&claims(&token))));
        let token = server.identity_token(&session, None).await.unwrap();
        assert_eq!(claims(&token)["res"], json!(["plant/7", "plant/8"]));
        let user = format!("/api/v1/users/{}", olga["id"].as_str().unwrap());
        admin.patch(&user, &json!({ "res": ["plant/7"] })).await.ok();
        assert!(List::of(&server).await.refuses(place(&claims(&token))));
        assert_eq!(claims(&server.identity_token(&session, None).await.unwrap())["res"], json!(["plant/7"]));
    }

    async fn what_is_deleted_takes_its_sessions_along_and_their_tokens_stay_ended(server: TestServer) {
        let admin = server.admin().await;
        let (tv, gateway) = tv(&admin).await;
        let guest = json!({ "name": "guest", "scope": "Worker", "res": ["plant"] });
        let guest = admin.post("/api/v1/users", &guest).await.created();
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let (of_guest, first) = server.sign_in(guest["id"].as_str().unwrap(), &tv, ("Worker", "plant")).await;
        let (of_olga, second) = server.sign_in(olga["id"].as_str().unwrap(), &tv, ("Worker", "plant")).await;
        let user = format!("/api/v1/users/{}", guest["id"].as_str().unwrap());
        assert_eq!(admin.delete(&user).await.status, StatusCode::NO_CONTENT);
        assert!(!counts(&server, &gateway, &of_guest, &first).await);
        assert!(counts(&server, &gateway, &of_olga, &second).await);
        assert_eq!(admin.delete(&format!("/api/v1/clients/{tv}")).await.status, StatusCode::NO_CONTENT);
        assert!(!counts(&server, &gateway, &of_olga, &second).await);
        assert_eq!(admin.get(&path(&of_olga)).await.status, StatusCode::NOT_FOUND);
    }

    async fn an_expired_session_is_over_before_anything_writes_it_down_and_goes_after_thirty_days(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let (tv, gateway) = tv(&admin).await;
        let (session, _) = server.sign_in(olga["id"].as_str().unwrap(), &tv, ("Worker", "plant")).await;
        server.clock.advance(Duration::from_secs(3_599));
        let token = server.identity_token(&session, None).await.unwrap();
        assert!(counts(&server, &gateway, &session, &token).await);
        // The list is looked at anew after 15 seconds, whatever happens.
        server.clock.advance(Duration::from_secs(15));
        assert!(server.identity_token(&session, None).await.is_err());
        assert!(List::of(&server).await.refuses(place(&claims(&token))));
        let admin = server.api(&admin.secrets).await;
        assert_eq!(admin.get(&path(&session)).await.ok()["end_reason"], "expired");
        server.app.run_schedule().await.unwrap();
        server.app.run_schedule().await.unwrap();
        let told = admin.get(&format!("/api/v1/events?subject={session}&kind=device_session.expired")).await.ok();
        assert_eq!(told["items"].as_array().unwrap().len(), 1);
        server.clock.advance(Duration::from_secs(30 * 24 * 3600 + 1));
        server.app.run_schedule().await.unwrap();
        assert_eq!(server.api(&admin.secrets).await.get(&path(&session)).await.status, StatusCode::NOT_FOUND);
    }
}
