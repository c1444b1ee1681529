//! The event log over the REST API.

use keyward_model::event::{Event, Verifier};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, TestServer};
use reqwest::StatusCode;
use serde_json::json;

use crate::authority::person;

async fn read(api: &Api<'_>, query: &str) -> Vec<Event> {
    let answer = api.get(&format!("/api/v1/events?{query}")).await.ok();
    serde_json::from_value(answer["items"].clone()).unwrap()
}

on_both_databases! {
    async fn read_part_by_part_the_log_is_whole_and_proves_it(server: TestServer) {
        let admin = server.admin().await;
        for n in 0..20 {
            admin.new_client(json!({ "name": format!("client {n}") })).await;
        }
        let (mut verifier, mut after) = (Verifier::default(), 0);
        loop {
            let part = admin.get(&format!("/api/v1/events?limit=7&after={after}")).await.ok();
            let events: Vec<Event> = serde_json::from_value(part["items"].clone()).unwrap();
            assert!(events.len() <= 7);
            for event in &events {
                verifier.check(event).unwrap();
            }
            match part["next_after"].as_i64() {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(verifier.checked(), server.app.store.last_event().await.unwrap());
        assert!(verifier.checked() > 20);
        let end = admin.get(&format!("/api/v1/events?after={}", verifier.checked())).await.ok();
        assert_eq!(end, json!({ "items": [], "next_after": null }));
    }

    async fn events_are_found_by_kind_and_by_subject(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        admin.revoke(&key).await;
        let revoked = read(&admin, "kind=credential.revoked").await;
        assert_eq!(revoked.len(), 1);
        assert_eq!(revoked[0].subject, key.credential());
        let about = read(&admin, &format!("subject={}", key.credential())).await;
        let kinds: Vec<&str> = about.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["credential.issued", "credential.revoked"]);
        let both = read(&admin, &format!("subject={}&kind=credential.issued", key.credential())).await;
        assert_eq!(both, about[..1]);
        assert_eq!(read(&admin, "subject=Worker").await[0].kind, "scope.created");
    }

    async fn a_change_tells_of_each_member_what_it_was_and_what_it_is(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let user = json!({ "name": "olga", "scope": "Worker" });
        let user = admin.post("/api/v1/users", &user).await.created()["id"].as_str().unwrap().to_owned();
        assert_eq!(read(&admin, &format!("subject={user}")).await[0].data["name"], "olga");
        admin.post("/api/v1/scopes", &json!({ "name": "Foreman" })).await.created();
        let api = admin.new_api("https://stock.example", &[]).await;
        for (path, change, kind, told) in [
            (
                format!("/api/v1/users/{user}"),
                json!({ "name": "olga", "scope": "Supervisor", "email": "olga@example.org" }),
                "user.changed",
                json!({ "scope": { "old": "Worker", "new": "Supervisor" },
                    "email": { "old": null, "new": "olga@example.org" } }),
            ),
            (
                format!("/api/v1/clients/{}", key.client_id),
                json!({ "res": ["plant/8"] }),
                "client.changed",
                json!({ "res": { "old": ["plant/7"], "new": ["plant/8"] }, "moved": 1 }),
            ),
            (
                format!("/api/v1/credentials/{}", key.credential()),
                json!({ "label": "night", "expires_at": "2026-11-24T00:00:00Z" }),
                "credential.changed",
                json!({ "label": { "old": "", "new": "night" },
                    "expires_at": { "old": null, "new": 1_795_478_400_000_i64 } }),
            ),
            (
                "/api/v1/scopes/Foreman".to_owned(),
                json!({ "implies": ["Worker"], "description": "" }),
                "scope.changed",
                json!({ "implies": { "old": "", "new": "Worker" } }),
            ),
            (
                format!("/api/v1/apis/{api}"),
                json!({ "token_lifetime_seconds": 60, "client": key.client_id }),
                "api.changed",
                json!({ "token_lifetime_seconds": { "old": 600, "new": 60 },
                    "client": { "old": null, "new": key.client_id } }),
            ),
        ] {
            admin.patch(&path, &change).await.ok();
            let event = read(&admin, &format!("kind={kind}")).await.pop().unwrap();
            assert_eq!(event.data, told, "{kind}");
        }
        admin.act(&format!("/api/v1/clients/{}/disable", key.client_id)).await.ok();
        admin.act(&format!("/api/v1/users/{user}/disable")).await.ok();
        for kind in ["client.disabled", "user.disabled"] {
            let event = read(&admin, &format!("kind={kind}")).await.pop().unwrap();
            assert_eq!(event.data, json!({ "disabled_at": { "old": null, "new": event.at } }));
        }
    }

    async fn with_self_a_user_reads_what_happened_to_their_own_things_only(server: TestServer) {
        let admin = server.admin().await;
        let strangers = admin.orders_key().await;
        let (user, olga) = person(&admin, &server, "olga", "keyward:self").await;
        for own in [user["id"].as_str().unwrap(), &olga.secrets.client_id, &olga.secrets.credential()] {
            assert!(!read(&olga, &format!("subject={own}")).await.is_empty(), "{own}");
        }
        let others = [
            String::new(),
            "kind=user.created".to_owned(),
            format!("subject={}", strangers.client_id),
            format!("subject={}", strangers.credential()),
            "subject=Worker".to_owned(),
            "subject=user_01h455vb4pex5vsknk084sn02q".to_owned(),
        ];
        for query in others {
            let answer = olga.get(&format!("/api/v1/events?{query}")).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{query}: {}", answer.body);
        }
        let (_, sam) = person(&admin, &server, "sam", "keyward:support").await;
        assert!(read(&sam, "limit=1000").await.len() > 10);
    }

    async fn what_cannot_be_asked_is_refused(server: TestServer) {
        let admin = server.admin().await;
        for wrong in ["limit=0", "limit=1001", "after=x", "cursor=1"] {
            let answer = admin.get(&format!("/api/v1/events?{wrong}")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
