//! Users over the REST API.

use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, Secrets, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::authority::{ids, own_api, person};

fn path(user: &Value) -> String {
    format!("/api/v1/users/{}", user["id"].as_str().unwrap())
}

/// A key of a client that this user owns, for a new API.
async fn key_of(admin: &Api<'_>, user: &Value) -> Secrets {
    let api = admin.new_api("https://stock.example", &["Admin", "Supervisor", "Worker"]).await;
    let client = json!({ "owner": user["id"], "scope": "Supervisor", "res": ["plant/7"], "apis": [api] });
    admin.issue(&admin.new_client(client).await, &json!({})).await
}

async fn kinds_about(admin: &Api<'_>, subject: &Value) -> Vec<String> {
    let events = admin.get(&format!("/api/v1/events?subject={}", subject.as_str().unwrap())).await.ok();
    events["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

on_both_databases! {
    async fn an_address_that_mail_cannot_reach_is_refused_when_it_is_set(server: TestServer) {
        let admin = server.admin().await;
        for (name, email) in [("a", "a..b@plant.example"), ("b", "olga@[192.0.2.1]"), ("c", "ölga@plant.example")] {
            let refused = admin.post("/api/v1/users", &json!({ "name": name, "email": email })).await;
            assert_eq!((refused.status, &refused.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("email")));
        }
        let made = admin.post("/api/v1/users", &json!({ "name": "olga", "email": "olga@plänt.example" })).await.created();
        assert_eq!(made["email"], "olga@xn--plnt-moa.example");
        let refused = admin.patch(&path(&made), &json!({ "email": "<olga>@plant.example" })).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    }

    async fn a_user_is_added_shown_changed_and_deleted(server: TestServer) {
        let admin = server.admin().await;
        let new = json!({ "name": "olga", "email": "olga@example.org", "scope": "Worker", "res": ["plant/7"] });
        let answer = admin.post("/api/v1/users", &new).await;
        assert_eq!(answer.header("etag"), "\"1\"");
        let place = answer.header("location").to_owned();
        let user = answer.created();
        assert_eq!(place, path(&user));
        for (member, value) in new.as_object().unwrap() {
            assert_eq!(&user[member], value);
        }
        assert_eq!(user["disabled_at"], Value::Null);
        assert_eq!(user["created_at"], "2026-11-23T12:00:00Z");
        assert_eq!(admin.get(&place).await.ok(), user);

        let changed = admin.patch(&place, &json!({ "name": "Olga", "email": null })).await;
        assert_eq!(changed.header("etag"), "\"2\"");
        let changed = changed.ok();
        assert_eq!((&changed["name"], &changed["email"], &changed["scope"]), (&json!("Olga"), &Value::Null, &json!("Worker")));

        assert_eq!(admin.delete(&place).await.status, StatusCode::NO_CONTENT);
        assert_eq!(admin.get(&place).await.status, StatusCode::NOT_FOUND);
        assert_eq!(kinds_about(&admin, &user["id"]).await, ["user.created", "user.changed", "user.deleted"]);
    }

    async fn a_user_without_rights_named_may_do_nothing(server: TestServer) {
        let admin = server.admin().await;
        let user = admin.post("/api/v1/users", &json!({ "name": "nobody" })).await.created();
        assert_eq!((&user["scope"], &user["res"]), (&json!(""), &json!([])));
        let key = key_of(&admin, &user).await;
        assert_eq!(server.token_answer(&key, &[]).await.body["error"], "invalid_scope");
    }

    async fn two_users_never_have_one_name(server: TestServer) {
        let admin = server.admin().await;
        admin.post("/api/v1/users", &json!({ "name": "olga" })).await.created();
        let again = admin.post("/api/v1/users", &json!({ "name": "olga" })).await;
        assert_eq!((again.status, &again.body["detail"]), (StatusCode::CONFLICT, &json!("another user has this name")));
        let other = admin.post("/api/v1/users", &json!({ "name": "sam" })).await.created();
        assert_eq!(admin.patch(&path(&other), &json!({ "name": "olga" })).await.status, StatusCode::CONFLICT);
        assert_eq!(admin.get(&path(&other)).await.ok()["name"], "sam");
    }

    async fn values_that_do_not_fit_are_named(server: TestServer) {
        let admin = server.admin().await;
        for (field, new) in [
            ("name", json!({ "name": "  " })),
            ("name", json!({ "name": "a\u{7}b" })),
            ("email", json!({ "name": "x", "email": "olga" })),
            ("email", json!({ "name": "x", "email": "a b@example.org" })),
            ("scope", json!({ "name": "x", "scope": "Janitor" })),
        ] {
            let answer = admin.post("/api/v1/users", &new).await;
            assert_eq!((answer.status, &answer.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(field)), "{new}");
        }
        assert_eq!(ids(&admin.get("/api/v1/users").await.ok()).len(), 1, "the administrator alone");
    }

    async fn users_are_found_by_name_and_by_state(server: TestServer) {
        let admin = server.admin().await;
        let olga = admin.post("/api/v1/users", &json!({ "name": "olga" })).await.created();
        let sam = admin.post("/api/v1/users", &json!({ "name": "sam" })).await.created();
        admin.act(&format!("{}/disable", path(&sam))).await.ok();
        let found = async |query: &str| ids(&admin.get(&format!("/api/v1/users?{query}")).await.ok()).join(" ");
        assert_eq!(found("name=olga").await, olga["id"].as_str().unwrap());
        assert_eq!(found("state=disabled").await, sam["id"].as_str().unwrap());
        assert_eq!(found("name=sam&state=active").await, "");
        assert_eq!(admin.get("/api/v1/users?state=asleep").await.status, StatusCode::BAD_REQUEST);
    }

    async fn with_self_a_user_sees_only_themselves(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:support").await;
        assert_eq!(hers.get("/api/v1/users/me").await.ok(), olga);
        assert_eq!(hers.get(&path(&olga)).await.ok(), olga);
        assert_eq!(hers.get(&path(&sam)).await.status, StatusCode::NOT_FOUND);
        let me = [olga["id"].as_str().unwrap()];
        assert_eq!(ids(&hers.get("/api/v1/users").await.ok()), me);
        assert_eq!(ids(&hers.get("/api/v1/users?name=olga&state=active").await.ok()), me);
        assert!(ids(&hers.get("/api/v1/users?name=sam").await.ok()).is_empty());
        assert!(ids(&hers.get("/api/v1/users?state=disabled").await.ok()).is_empty());
        assert_eq!(ids(&his.get("/api/v1/users").await.ok()).len(), 3);
        assert_eq!(his.patch(&path(&olga), &json!({ "name": "x" })).await.status, StatusCode::FORBIDDEN);
        assert_eq!(his.act(&format!("{}/disable", path(&olga))).await.status, StatusCode::FORBIDDEN);
    }

    async fn a_disabled_users_keys_stop_at_once_and_go_on_when_enabled(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        admin.patch(&path(&olga), &json!({ "scope": "keyward:self Supervisor" })).await.ok();
        let key = key_of(&admin, &olga).await;
        let token = server.token(&key, &[]).await;

        let disabled = admin.act(&format!("{}/disable", path(&olga))).await.ok();
        assert_eq!(disabled["disabled_at"], "2026-11-23T12:00:00Z");
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(hers.get("/api/v1/users/me").await.status, StatusCode::UNAUTHORIZED);
        let again = admin.act(&format!("{}/disable", path(&olga))).await;
        assert_eq!(again.ok(), disabled, "disabling twice changes nothing");

        admin.act(&format!("{}/enable", path(&olga))).await.ok();
        assert_eq!(server.introspect(&key, &token).await["active"], true);
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::OK);
        let kinds = kinds_about(&admin, &olga["id"]).await;
        assert_eq!(kinds, ["user.created", "user.changed", "user.disabled", "user.enabled"]);
    }

    async fn lowered_rights_count_at_the_next_request(server: TestServer) {
        let admin = server.admin().await;
        let olga = json!({ "name": "olga", "scope": "Admin", "res": ["plant"] });
        let olga = admin.post("/api/v1/users", &olga).await.created();
        let key = key_of(&admin, &olga).await;
        let before = server.token_answer(&key, &[]).await;
        assert_eq!(before.body["scope"], "Supervisor Worker");

        admin.patch(&path(&olga), &json!({ "scope": "Worker" })).await.ok();
        let token = before.body["access_token"].as_str().unwrap();
        assert_eq!(server.introspect(&key, token).await, json!({ "active": false }), "it says more than may be granted");
        assert_eq!(server.token_answer(&key, &[]).await.body["scope"], "Worker");
        admin.patch(&path(&olga), &json!({ "res": ["office"] })).await.ok();
        assert_eq!(server.token_answer(&key, &[]).await.body["error"], "invalid_scope", "nothing is left on plant/7");
    }

    async fn administrators_cannot_lock_themselves_out(server: TestServer) {
        let admin = server.admin().await;
        for answer in [
            admin.act("/api/v1/users/me/disable").await,
            admin.delete("/api/v1/users/me").await,
            admin.patch("/api/v1/users/me", &json!({ "scope": "keyward:support" })).await,
            admin.patch("/api/v1/users/me", &json!({ "res": ["plant/7"] })).await,
        ] {
            assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
            assert!(answer.body["detail"].as_str().unwrap().contains("another administrator"), "{}", answer.body);
        }
        let me = admin.patch("/api/v1/users/me", &json!({ "name": "root", "scope": "keyward:admin" })).await.ok();
        assert_eq!((&me["name"], &me["scope"]), (&json!("root"), &json!("keyward:admin")));
        assert_eq!(admin.get("/api/v1/users").await.status, StatusCode::UNAUTHORIZED, "they lowered their own rights");
        let admin = server.api(&admin.secrets).await;

        // Another administrator may do all of that to them.
        let other = json!({ "name": "ada", "scope": "keyward:admin", "res": ["*"] });
        let other = admin.post("/api/v1/users", &other).await.created();
        let client = json!({ "owner": other["id"], "scope": "keyward:admin", "apis": [own_api(&admin).await] });
        let ada = server.api(&admin.issue(&admin.new_client(client).await, &json!({})).await).await;
        ada.patch(&path(&me), &json!({ "scope": "" })).await.ok();
        assert_eq!(admin.get("/api/v1/users").await.status, StatusCode::UNAUTHORIZED);
    }

    async fn a_user_who_owns_clients_is_not_deleted(server: TestServer) {
        let admin = server.admin().await;
        let olga = json!({ "name": "olga", "scope": "Supervisor", "res": ["plant"] });
        let olga = admin.post("/api/v1/users", &olga).await.created();
        let key = key_of(&admin, &olga).await;
        let refused = admin.delete(&path(&olga)).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(refused.body["detail"].as_str().unwrap().contains("owns clients"), "{}", refused.body);
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::OK);
        assert_eq!(admin.delete(&format!("/api/v1/clients/{}", key.client_id)).await.status, StatusCode::NO_CONTENT);
        assert_eq!(admin.delete(&path(&olga)).await.status, StatusCode::NO_CONTENT);
    }

    async fn an_administrator_of_a_part_makes_nobody_greater_than_themselves(server: TestServer) {
        let admin = server.admin().await;
        let partial = json!({ "scope": "keyward:admin", "res": ["plant"], "apis": [own_api(&admin).await] });
        let partial = server.api(&admin.issue(&admin.new_client(partial).await, &json!({})).await).await;
        let beyond = json!({ "name": "x", "scope": "Worker", "res": ["*"] });
        assert_eq!(partial.post("/api/v1/users", &beyond).await.status, StatusCode::FORBIDDEN);
        let within = json!({ "name": "olga", "scope": "Worker", "res": ["plant/7"] });
        let olga = partial.post("/api/v1/users", &within).await.created();
        assert_eq!(partial.patch(&path(&olga), &json!({ "res": ["office"] })).await.status, StatusCode::FORBIDDEN);
        partial.patch(&path(&olga), &json!({ "res": ["plant"] })).await.ok();

        // Nor do they get hold of somebody greater by giving them another address.
        let greater = json!({ "name": "ada", "scope": "keyward:admin", "res": ["*"] });
        let greater = admin.post("/api/v1/users", &greater).await.created();
        let email = json!({ "email": "mallory@example.org" });
        assert_eq!(partial.patch(&path(&greater), &email).await.status, StatusCode::FORBIDDEN);
    }

    async fn a_scope_that_somebody_holds_cannot_be_deleted(server: TestServer) {
        let admin = server.admin().await;
        admin.post("/api/v1/scopes", &json!({ "name": "Guest" })).await.created();
        let olga = json!({ "name": "olga", "scope": "Guest Worker", "res": ["plant"] });
        let olga = admin.post("/api/v1/users", &olga).await.created();
        assert_eq!(admin.delete("/api/v1/scopes/Guest").await.status, StatusCode::CONFLICT, "made anew it would be hers");
        admin.patch(&path(&olga), &json!({ "scope": "Worker" })).await.ok();
        assert_eq!(admin.delete("/api/v1/scopes/Guest").await.status, StatusCode::NO_CONTENT);
        let again = admin.patch(&path(&olga), &json!({ "scope": "Guest" })).await;
        assert_eq!((again.status, &again.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("scope")));
    }

    async fn a_change_of_what_somebody_else_changed_is_refused(server: TestServer) {
        let admin = server.admin().await;
        let olga = admin.post("/api/v1/users", &json!({ "name": "olga" })).await.created();
        admin.patch(&path(&olga), &json!({ "email": "a@example.org" })).await.ok();
        for (method, suffix) in [(Method::PATCH, ""), (Method::POST, "/disable"), (Method::DELETE, "")] {
            let request = admin.request(method.clone(), &format!("{}{suffix}", path(&olga))).header("if-match", "\"1\"");
            let request = if method == Method::PATCH { request.json(&json!({ "name": "x" })) } else { request };
            let answer = keyward_tests::server::Answer::of(request).await;
            assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "{method} {}", answer.body);
        }
        assert_eq!(admin.get(&path(&olga)).await.header("etag"), "\"2\"");
    }
}
