//! The scope catalogue over the REST API.

use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::authority::person;

const SCOPES: &str = "/api/v1/scopes";

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|scope| scope["name"].as_str().unwrap()).collect()
}

async fn add(admin: &Api<'_>, name: &str, implies: &[&str]) -> Value {
    admin.post(SCOPES, &json!({ "name": name, "implies": implies })).await.created()
}

on_both_databases! {
    async fn a_new_step_of_the_ladder_counts_at_once(server: TestServer) {
        let admin = server.admin().await;
        let new = json!({ "name": "Inspector", "description": "Look into everything", "implies": ["Worker"] });
        let made = admin.post(SCOPES, &new).await.created();
        assert_eq!((&made["implies"], &made["description"]), (&json!(["Worker"]), &json!("Look into everything")));
        assert_eq!(admin.get("/api/v1/scopes/Inspector").await.ok(), made);

        let api = admin.new_api("https://stock.example", &["Inspector", "Supervisor", "Worker"]).await;
        let client = admin.new_client(json!({ "scope": "Inspector", "apis": [api] })).await;
        let key = admin.issue(&client, &json!({})).await;
        assert_eq!(server.token_answer(&key, &[]).await.body["scope"], "Worker", "the owner is no Inspector");
        admin.patch("/api/v1/scopes/Admin", &json!({ "implies": ["Supervisor", "Inspector"] })).await.ok();
        let answer = server.token_answer(&key, &[]).await.body;
        assert_eq!(answer["scope"], "Inspector Worker");

        admin.patch("/api/v1/scopes/Admin", &json!({ "implies": ["Supervisor"] })).await.ok();
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(server.introspect(&key, token).await, json!({ "active": false }));
    }

    async fn everybody_sees_the_catalogue_and_administrators_change_it(server: TestServer) {
        let admin = server.admin().await;
        let (_, olga) = person(&admin, &server, "olga", "keyward:self").await;
        let all = ["Admin", "Supervisor", "Worker", "keyward:admin", "keyward:self", "keyward:support"];
        assert_eq!(names(&olga.get(SCOPES).await.ok()), all);
        let (_, sam) = person(&admin, &server, "sam", "keyward:support").await;
        assert_eq!(sam.post(SCOPES, &json!({ "name": "x" })).await.status, StatusCode::FORBIDDEN);
        assert_eq!(sam.patch("/api/v1/scopes/Worker", &json!({})).await.status, StatusCode::FORBIDDEN);
        assert_eq!(sam.delete("/api/v1/scopes/Worker").await.status, StatusCode::FORBIDDEN);
    }

    async fn scopes_come_page_by_page_in_one_order(server: TestServer) {
        let admin = server.admin().await;
        for name in ["zebra", "Zebra", "a:b", "a-b"] {
            add(&admin, name, &[]).await;
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("{SCOPES}?limit=3{cursor}")).await.ok();
            seen.extend(names(&page).iter().map(|name| (*name).to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!((seen.len(), &seen), (10, &sorted));
    }

    async fn a_scope_never_implies_itself_by_way_of_others(server: TestServer) {
        let admin = server.admin().await;
        let circle = admin.patch("/api/v1/scopes/Worker", &json!({ "implies": ["Admin"] })).await;
        assert_eq!((circle.status, &circle.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("implies")));
        assert!(circle.body["detail"].as_str().unwrap().contains("would imply itself"), "{}", circle.body);
        let alone = admin.post(SCOPES, &json!({ "name": "x", "implies": ["x"] })).await;
        assert_eq!(alone.status, StatusCode::UNPROCESSABLE_ENTITY);
        let unknown = admin.post(SCOPES, &json!({ "name": "x", "implies": ["y"] })).await;
        assert_eq!(unknown.body["detail"], "there is no scope y; add it first");
    }

    async fn two_changes_that_would_make_a_circle_together_are_not_both_made(server: TestServer) {
        let admin = server.admin().await;
        for round in 0..10 {
            let (one, two) = (format!("one{round}"), format!("two{round}"));
            add(&admin, &one, &[]).await;
            add(&admin, &two, &[]).await;
            let (there, back) = (json!({ "implies": [two.as_str()] }), json!({ "implies": [one.as_str()] }));
            let (one, two) = (format!("{SCOPES}/{one}"), format!("{SCOPES}/{two}"));
            let (first, second) = tokio::join!(admin.patch(&one, &there), admin.patch(&two, &back));
            let mut statuses = [first.status, second.status];
            statuses.sort();
            assert_eq!(statuses, [StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY], "{first:?} {second:?}");
        }
        // A circle would keep every node from reading the catalogue ever again.
        let secrets = admin.secrets.clone();
        let server = server.restart().await;
        server.token(&secrets, &[]).await;
    }

    async fn keywards_own_scopes_are_what_they_are(server: TestServer) {
        let admin = server.admin().await;
        for (field, new) in [
            ("name", json!({ "name": "keyward:root" })),
            ("implies", json!({ "name": "boss", "implies": ["keyward:admin"] })),
        ] {
            let answer = admin.post(SCOPES, &new).await;
            assert_eq!((answer.status, &answer.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(field)));
        }
        let own = "/api/v1/scopes/keyward:support";
        assert_eq!(admin.patch(own, &json!({ "implies": [] })).await.status, StatusCode::CONFLICT);
        assert_eq!(admin.delete(own).await.status, StatusCode::CONFLICT);
        let worker = admin.patch("/api/v1/scopes/Worker", &json!({ "implies": ["keyward:admin"] })).await;
        assert_eq!(worker.status, StatusCode::UNPROCESSABLE_ENTITY);
    }

    async fn a_scope_in_use_is_not_deleted(server: TestServer) {
        let admin = server.admin().await;
        add(&admin, "Guest", &[]).await;
        add(&admin, "Host", &["Guest"]).await;
        let api = admin.new_api("https://stock.example", &["Guest"]).await;
        let refused = admin.delete("/api/v1/scopes/Guest").await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert_eq!(refused.body["detail"], "the scope Host implies Guest; change that first");
        admin.patch("/api/v1/scopes/Host", &json!({ "implies": [] })).await.ok();
        let refused = admin.delete("/api/v1/scopes/Guest").await;
        assert!(refused.body["detail"].as_str().unwrap().contains(&api), "{}", refused.body);
        admin.patch(&format!("/api/v1/apis/{api}"), &json!({ "scopes": [] })).await.ok();
        assert_eq!(admin.delete("/api/v1/scopes/Guest").await.status, StatusCode::NO_CONTENT);
        assert_eq!(admin.get("/api/v1/scopes/Guest").await.status, StatusCode::NOT_FOUND);
    }

    async fn a_scope_is_found_under_whatever_it_may_be_called(server: TestServer) {
        let admin = server.admin().await;
        for name in ["https://example.org/auth/read?x=1#y", "100%", "a+b", "%2e%2e"] {
            let made = admin.post(SCOPES, &json!({ "name": name })).await;
            let place = made.header("location").to_owned();
            made.created();
            assert_eq!(admin.get(&place).await.ok()["name"], name);
            admin.patch(&place, &json!({ "description": "changed" })).await.ok();
            assert_eq!(admin.delete(&place).await.status, StatusCode::NO_CONTENT, "{place}");
        }
        assert_eq!(admin.post(SCOPES, &json!({ "name": ".." })).await.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(admin.post(SCOPES, &json!({ "name": "two words" })).await.status, StatusCode::UNPROCESSABLE_ENTITY);
        let taken = admin.post(SCOPES, &json!({ "name": "Worker" })).await;
        assert_eq!((taken.status, &taken.body["detail"]), (StatusCode::CONFLICT, &json!("there is a scope with this name")));
    }
}
