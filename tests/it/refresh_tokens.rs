//! Refresh tokens: RFC 6749 §6, rotated as RFC 9700 §4.14.2 wants it.

use std::collections::BTreeSet;
use std::time::Duration;

use keyward_model::entropy::Entropy;
use keyward_model::refresh_token::RefreshToken;
use keyward_model::secret::{HashingKey, Secret};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Secrets, TestServer};
use serde_json::{Value, json};

use crate::authority::person;
use crate::device_sessions::tv;
use crate::status_list::{List, claims, place};

/// A TV in which olga signed in, and what watches over the API it uses.
struct Tv {
    client: String,
    user: String,
    gateway: Secrets,
    begun: Value,
}

impl Tv {
    async fn of(server: &TestServer, admin: &Api<'_>) -> Self {
        let (olga, _) = person(admin, server, "olga", "keyward:self").await;
        let (client, gateway) = tv(admin).await;
        let user = olga["id"].as_str().unwrap().to_owned();
        let begun = server.begin_tokens(&user, &client, ("Worker", "plant")).await.unwrap();
        Self { client, user, gateway, begun }
    }
}

fn member<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_else(|| panic!("{name} of {answer}"))
}

/// What a public client is answered that comes with this refresh token.
async fn refresh(server: &TestServer, client: &str, token: &Value, further: &[(&str, &str)]) -> Answer {
    let own = [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token.as_str().unwrap())];
    Answer::of(server.http.post(format!("{}/token", server.url())).form(&[&own, further].concat())).await
}

on_both_databases! {
    async fn a_refresh_gives_an_identity_token_and_the_next_refresh_token(server: TestServer) {
        let tv = Tv::of(&server, &server.admin().await).await;
        server.clock.advance(Duration::from_secs(400));
        let answer = refresh(&server, &tv.client, &tv.begun["refresh_token"], &[]).await;
        assert_eq!((answer.header("cache-control"), answer.header("pragma")), ("no-store", "no-cache"));
        let next = answer.ok();
        assert_ne!(next["refresh_token"], tv.begun["refresh_token"]);
        let (before, said) = (claims(member(&tv.begun, "access_token")), claims(member(&next, "access_token")));
        assert_eq!((&said["sid"], &said["sub"], &said["scope"]), (&before["sid"], &before["sub"], &before["scope"]));
        assert_eq!(said["auth_time"], before["auth_time"], "a refresh is no new proof");
        assert_eq!(server.introspect(&tv.gateway, member(&next, "access_token")).await["active"], true);
        let third = refresh(&server, &tv.client, &next["refresh_token"], &[]).await.ok();
        assert_eq!(claims(member(&third, "access_token"))["sid"], before["sid"]);
    }

    async fn a_lost_answer_is_given_again_byte_by_byte_for_a_minute(server: TestServer) {
        let tv = Tv::of(&server, &server.admin().await).await;
        let first = &tv.begun["refresh_token"];
        let given = refresh(&server, &tv.client, first, &[]).await;
        server.clock.advance(Duration::from_secs(59));
        let again = refresh(&server, &tv.client, first, &[]).await;
        assert_eq!(again.text, given.text);
        let other = refresh(&server, &tv.client, first, &[("res", "plant/7")]).await;
        assert_eq!(other.error(), (400, "invalid_request"), "that was another request");
        let next = refresh(&server, &tv.client, &again.ok()["refresh_token"], &[]).await.ok();
        assert_eq!(server.introspect(&tv.gateway, member(&next, "access_token")).await["active"], true);
    }

    async fn a_token_that_comes_again_later_ends_the_session_for_everybody(server: TestServer) {
        let admin = server.admin().await;
        let tv = Tv::of(&server, &admin).await;
        let first = &tv.begun["refresh_token"];
        let given = refresh(&server, &tv.client, first, &[]).await.ok();
        // What it gave was used: whoever comes with the first one is somebody else, though its minute is not over.
        let next = refresh(&server, &tv.client, &given["refresh_token"], &[]).await.ok();
        assert_eq!(refresh(&server, &tv.client, first, &[]).await.error(), (400, "invalid_grant"));
        assert_eq!(refresh(&server, &tv.client, &next["refresh_token"], &[]).await.error(), (400, "invalid_grant"));
        let token = member(&next, "access_token");
        assert_eq!(server.introspect(&tv.gateway, token).await["active"], false);
        assert!(List::of(&server).await.refuses(place(&claims(token))));
        let session = claims(token)["sid"].clone();
        let told = admin.get(&format!("/api/v1/events?subject={}", session.as_str().unwrap())).await.ok();
        let last = told["items"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["kind"], &last["data"]["because"]), (&json!("device_session.revoked"), &json!("refresh_token_reused")));
        assert_eq!(last["actor"], json!({ "client": tv.client }));
    }

    async fn after_its_minute_the_token_before_ends_the_session_too(server: TestServer) {
        let tv = Tv::of(&server, &server.admin().await).await;
        let first = &tv.begun["refresh_token"];
        let given = refresh(&server, &tv.client, first, &[]).await.ok();
        server.clock.advance(Duration::from_secs(60));
        assert_eq!(refresh(&server, &tv.client, first, &[]).await.error(), (400, "invalid_grant"));
        assert_eq!(refresh(&server, &tv.client, &given["refresh_token"], &[]).await.error(), (400, "invalid_grant"));
    }

    async fn a_made_up_token_ends_nothing_though_it_names_the_session(server: TestServer) {
        let tv = Tv::of(&server, &server.admin().await).await;
        let session = claims(member(&tv.begun, "access_token"))["sid"].as_str().unwrap().parse().unwrap();
        let elsewhere = HashingKey::new(&Secret::new([7; 32]));
        let made_up = RefreshToken::generate(session, &elsewhere, &Entropy::seeded(1)).unwrap();
        for text in [made_up.reveal().as_str(), "kwr_", "nonsense"] {
            assert_eq!(refresh(&server, &tv.client, &json!(text), &[]).await.error(), (400, "invalid_grant"), "{text}");
            let revoked = [("client_id", tv.client.as_str()), ("token", text)];
            Answer::of(server.http.post(format!("{}/revoke", server.url())).form(&revoked)).await.ok();
        }
        refresh(&server, &tv.client, &tv.begun["refresh_token"], &[]).await.ok();
    }

    async fn nobody_but_its_client_can_use_it_or_end_its_session(server: TestServer) {
        let admin = server.admin().await;
        let tv = Tv::of(&server, &admin).await;
        let token = &tv.begun["refresh_token"];
        let other = admin.new_client(json!({ "name": "radio", "kind": "public" })).await;
        assert_eq!(refresh(&server, &other, token, &[]).await.error(), (400, "invalid_grant"));
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap())];
        let confidential = Answer::of(server.form("/token", &tv.gateway, &form)).await;
        assert_eq!(confidential.error(), (400, "invalid_grant"));
        let form = [("token", token.as_str().unwrap()), ("client_id", other.as_str())];
        let revoked = Answer::of(server.http.post(format!("{}/revoke", server.url())).form(&form)).await;
        assert_eq!(revoked.error(), (400, "unauthorized_client"));
        assert_eq!(server.introspect(&tv.gateway, token.as_str().unwrap()).await, json!({ "active": false }));
        refresh(&server, &tv.client, token, &[]).await.ok();
    }

    async fn a_request_narrows_its_token_and_never_widens_it(server: TestServer) {
        let admin = server.admin().await;
        let tv = Tv::of(&server, &admin).await;
        let narrow = refresh(&server, &tv.client, &tv.begun["refresh_token"], &[("res", "plant/7")]).await.ok();
        assert_eq!(claims(member(&narrow, "access_token"))["res"], json!(["plant/7"]));
        for beyond in [("scope", "Supervisor"), ("res", "office"), ("res", "*")] {
            let answer = refresh(&server, &tv.client, &narrow["refresh_token"], &[beyond]).await;
            assert_eq!(answer.error(), (400, "invalid_scope"), "{beyond:?}");
        }
        let other = refresh(&server, &tv.client, &narrow["refresh_token"], &[("resource", "https://other.example")]).await;
        assert_eq!(other.error(), (400, "invalid_target"));
        let whole = refresh(&server, &tv.client, &narrow["refresh_token"], &[]).await.ok();
        assert_eq!(claims(member(&whole, "access_token"))["res"], json!(["plant"]), "the session has what it had");

        admin.patch(&format!("/api/v1/users/{}", tv.user), &json!({ "res": ["plant/8"] })).await.ok();
        let lowered = refresh(&server, &tv.client, &whole["refresh_token"], &[]).await.ok();
        assert_eq!(claims(member(&lowered, "access_token"))["res"], json!(["plant/8"]), "what olga has now");
    }

    async fn a_disabled_user_or_client_gets_nothing_until_enabled(server: TestServer) {
        let admin = server.admin().await;
        let tv = Tv::of(&server, &admin).await;
        let token = &tv.begun["refresh_token"];
        for (path, refusal) in [
            (format!("/api/v1/users/{}", tv.user), (400, "invalid_grant")),
            (format!("/api/v1/clients/{}", tv.client), (401, "invalid_client")),
        ] {
            admin.act(&format!("{path}/disable")).await.ok();
            assert_eq!(refresh(&server, &tv.client, token, &[]).await.error(), refusal, "{path}");
            admin.act(&format!("{path}/enable")).await.ok();
        }
        refresh(&server, &tv.client, token, &[]).await.ok();
    }

    async fn a_session_ends_after_thirty_days_unused_and_after_ninety_in_any_case(server: TestServer) {
        let admin = server.admin().await;
        let tv = Tv::of(&server, &admin).await;
        let mut token = tv.begun["refresh_token"].clone();
        for _ in 0..3 {
            server.clock.advance(Duration::from_secs(29 * 24 * 3600));
            server.app.run_schedule().await.unwrap();
            token = refresh(&server, &tv.client, &token, &[]).await.ok()["refresh_token"].clone();
        }
        server.clock.advance(Duration::from_secs(3 * 24 * 3600));
        assert_eq!(refresh(&server, &tv.client, &token, &[]).await.error(), (400, "invalid_grant"), "day 90");

        let begun = server.begin_tokens(&tv.user, &tv.client, ("Worker", "plant")).await.unwrap();
        server.clock.advance(Duration::from_secs(30 * 24 * 3600));
        assert_eq!(refresh(&server, &tv.client, &begun["refresh_token"], &[]).await.error(), (400, "invalid_grant"));
        server.app.run_schedule().await.unwrap();
        let expired = "SELECT count(*) FROM device_sessions WHERE end_reason = 'expired'";
        assert_eq!(server.count(expired).await, 2);
        assert_eq!(server.count("SELECT count(*) FROM refresh_tokens").await, 0, "what got it tokens is gone");
    }

    async fn fifty_at_once_get_one_answer_and_end_nothing(server: TestServer) {
        let tv = Tv::of(&server, &server.admin().await).await;
        let all = (0..50).map(|_| refresh(&server, &tv.client, &tv.begun["refresh_token"], &[]));
        let answers = futures_util::future::join_all(all).await;
        let texts: BTreeSet<String> = answers.into_iter().map(|answer| { answer.clone().ok(); answer.text }).collect();
        assert_eq!(texts.len(), 1);
        let given: Value = serde_json::from_str(texts.first().unwrap()).unwrap();
        refresh(&server, &tv.client, &given["refresh_token"], &[]).await.ok();
        assert_eq!(server.count("SELECT count(*) FROM refresh_tokens").await, 1);
    }

    async fn revoking_it_ends_the_session_and_revoking_its_access_token_ends_the_tokens(server: TestServer) {
        let tv = Tv::of(&server, &server.admin().await).await;
        let revoke = async |token: &str| {
            let form = [("token", token), ("client_id", &tv.client)];
            Answer::of(server.http.post(format!("{}/revoke", server.url())).form(&form)).await.ok();
        };
        revoke(member(&tv.begun, "access_token")).await;
        assert_eq!(server.introspect(&tv.gateway, member(&tv.begun, "access_token")).await["active"], false);
        let next = refresh(&server, &tv.client, &tv.begun["refresh_token"], &[]).await.ok();
        assert_eq!(server.introspect(&tv.gateway, member(&next, "access_token")).await["active"], true);
        revoke(member(&next, "refresh_token")).await;
        assert_eq!(server.introspect(&tv.gateway, member(&next, "access_token")).await["active"], false);
        assert_eq!(refresh(&server, &tv.client, &next["refresh_token"], &[]).await.error(), (400, "invalid_grant"));
        revoke(member(&next, "refresh_token")).await;
    }

    async fn a_confidential_client_refreshes_with_its_key_and_introspects_its_own(server: TestServer) {
        let admin = server.admin().await;
        let tv = Tv::of(&server, &admin).await;
        let shop = json!({ "name": "shop", "scope": "Worker", "res": ["plant"], "apis": admin.get("/api/v1/apis?limit=200").await.ok()
            ["items"].as_array().unwrap().iter().filter(|api| api["name"] == "plant").map(|api| &api["id"]).collect::<Vec<_>>() });
        let shop = admin.new_client(shop).await;
        let key = admin.issue(&shop, &json!({})).await;
        let begun = server.begin_tokens(&tv.user, &shop, ("Worker", "plant")).await.unwrap();
        let token = member(&begun, "refresh_token");
        assert_eq!(refresh(&server, &shop, &begun["refresh_token"], &[]).await.error(), (401, "invalid_client"));
        let seen = server.introspect(&key, token).await;
        assert_eq!((&seen["active"], &seen["client_id"], &seen["scope"]), (&json!(true), &json!(shop), &json!("Worker")));
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let next = Answer::of(server.form("/token", &key, &form)).await.ok();
        assert_eq!(claims(member(&next, "access_token"))["cred"], key.credential());
        assert_eq!(server.introspect(&key, token).await["active"], false, "it was replaced");
    }
}
