//! The event log over the REST API.

use keyward_model::event::{Event, Verifier};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

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

    async fn an_event_says_what_is_now_and_no_secret(server: TestServer) {
        let admin = server.admin().await;
        let new = json!({ "name": "olga", "email": "olga@example.org", "scope": "Worker", "res": ["plant/7"] });
        let user = admin.post("/api/v1/users", &new).await.created();
        let user = user["id"].as_str().unwrap();
        admin.patch(&format!("/api/v1/users/{user}"), &json!({ "email": null, "scope": "" })).await.ok();
        let events = read(&admin, &format!("subject={user}")).await;
        assert_eq!(events[0].data["email"], "olga@example.org");
        assert_eq!(events[1].data, json!({
            "name": "olga", "email": Value::Null, "scope": "", "res": ["plant/7"], "disabled_at": Value::Null,
        }));
    }
}
