//! Who may do what in Keyward's own API: the ladder `keyward:admin` ⊃ `keyward:support` ⊃ `keyward:self`.

use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A user with these rights, and the API as they reach it through a client of their own.
pub(crate) async fn person<'a>(admin: &Api<'a>, server: &'a TestServer, name: &str, scope: &str) -> (Value, Api<'a>) {
    let user = json!({ "name": name, "scope": format!("{scope} Worker"), "res": ["plant"] });
    let user = admin.post("/api/v1/users", &user).await.created();
    let own = own_api(admin).await;
    let client = json!({ "name": format!("{name}'s"), "owner": user["id"], "scope": scope, "apis": [own] });
    let key = admin.issue(&admin.new_client(client).await, &json!({})).await;
    (user, server.api(&key).await)
}

pub(crate) async fn own_api(admin: &Api<'_>) -> Value {
    let apis = admin.get("/api/v1/apis").await.ok();
    let apis = apis["items"].as_array().unwrap();
    apis.iter().find(|api| api["audience"] == "urn:keyward:api").unwrap()["id"].clone()
}

pub(crate) fn ids(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

on_both_databases! {
    async fn without_a_token_nothing_is_shown(server: TestServer) {
        for path in ["/api/v1/clients", "/api/v1/users", "/api/v1/events", "/api/v1/credentials", "/api/v1/signing-keys"] {
            let answer = Answer::of(server.http.get(format!("{}{path}", server.url()))).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert!(answer.header("www-authenticate").starts_with("Bearer realm="));
        }
    }

    async fn a_token_for_another_api_is_refused(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let answer = Answer::of(server.http.get(format!("{}/api/v1/clients", server.url())).bearer_auth(token)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.header("www-authenticate").contains("invalid_token"));
    }

    async fn self_manages_exactly_its_own_clients(server: TestServer) {
        let admin = server.admin().await;
        let strangers = admin.orders_key().await;
        let (user, olga) = person(&admin, &server, "olga", "keyward:self").await;
        let stock = admin.new_api("https://stock.example", &["Worker"]).await;

        let mine = olga.new_client(json!({ "name": "mine", "scope": "Worker", "res": ["plant/7"], "apis": [stock] })).await;
        let key = olga.issue(&mine, &json!({})).await;
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::OK);
        let listed = olga.get("/api/v1/clients").await.ok();
        assert_eq!(listed["items"].as_array().unwrap().len(), 2, "the one made for them and the one they made");
        assert!(listed["items"].as_array().unwrap().iter().all(|client| client["owner"] == user["id"]));
        assert!(!ids(&listed).contains(&strangers.client_id.as_str()));
        let credentials = olga.get("/api/v1/credentials").await.ok();
        assert!(!ids(&credentials).contains(&strangers.credential().as_str()));
        olga.revoke(&key).await;

        let path = format!("/api/v1/clients/{}", strangers.client_id);
        let credential = format!("/api/v1/credentials/{}", strangers.credential());
        for answer in [
            olga.get(&path).await,
            olga.patch(&path, &json!({ "name": "x" })).await,
            olga.delete(&path).await,
            olga.act(&format!("{path}/disable")).await,
            olga.get(&format!("{path}/credentials")).await,
            olga.post(&format!("{path}/credentials"), &json!({})).await,
            olga.get(&credential).await,
            olga.act(&format!("{credential}/revoke")).await,
        ] {
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "as if it were not there: {}", answer.body);
        }
        assert_eq!(server.token_answer(&strangers, &[]).await.status, StatusCode::OK);
    }

    async fn self_changes_nothing_that_is_not_a_client(server: TestServer) {
        let admin = server.admin().await;
        let (user, olga) = person(&admin, &server, "olga", "keyward:self").await;
        let user = user["id"].as_str().unwrap();
        for answer in [
            olga.patch(&format!("/api/v1/users/{user}"), &json!({ "scope": "Admin" })).await,
            olga.post("/api/v1/users", &json!({ "name": "x" })).await,
            olga.post("/api/v1/scopes", &json!({ "name": "x" })).await,
            olga.post("/api/v1/apis", &json!({ "name": "x", "audience": "https://x.example", "scopes": [] })).await,
            olga.post("/api/v1/signing-keys/rotate", &json!({})).await,
        ] {
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
            assert!(answer.header("www-authenticate").contains("insufficient_scope"));
        }
    }

    async fn support_sees_everything_and_stops_but_does_not_hand_out(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let (_, sam) = person(&admin, &server, "sam", "keyward:support").await;
        let path = format!("/api/v1/clients/{}", key.client_id);
        sam.get(&path).await.ok();
        assert_eq!(sam.post(&format!("{path}/credentials"), &json!({})).await.status, StatusCode::FORBIDDEN);
        assert_eq!(sam.patch(&path, &json!({ "scope": "Admin" })).await.status, StatusCode::FORBIDDEN);
        sam.act(&format!("/api/v1/credentials/{}/revoke", key.credential())).await.ok();
        sam.act(&format!("{path}/disable")).await.ok();
        assert_eq!(sam.act(&format!("{path}/enable")).await.status, StatusCode::FORBIDDEN);
    }

    async fn nobody_hands_out_more_than_their_own_token_holds(server: TestServer) {
        // The owner is an administrator, but the client holds only keyward:self: what a stolen key of it may do.
        let admin = server.admin().await;
        let own = own_api(&admin).await;
        let narrow = admin.new_client(json!({ "scope": "keyward:self", "res": ["plant/7"], "apis": [own.clone()] })).await;
        let narrow = server.api(&admin.issue(&narrow, &json!({})).await).await;

        for wider in [
            json!({ "name": "x", "scope": "keyward:admin", "res": ["plant/7"], "apis": [own.clone()] }),
            json!({ "name": "x", "scope": "keyward:self", "res": ["*"], "apis": [own.clone()] }),
        ] {
            assert_eq!(narrow.post("/api/v1/clients", &wider).await.status, StatusCode::FORBIDDEN, "{wider}");
        }
        // Nor by a key of the administration's client, which has the same owner, nor by widening what is there.
        let administration = format!("/api/v1/clients/{}", admin.secrets.client_id);
        let issued = narrow.post(&format!("{administration}/credentials"), &json!({})).await;
        assert_eq!(issued.status, StatusCode::FORBIDDEN, "{}", issued.body);
        let harmless = narrow.new_client(json!({ "scope": "keyward:self", "apis": [own] })).await;
        let path = format!("/api/v1/clients/{harmless}");
        for wider in [json!({ "scope": "keyward:support" }), json!({ "res": ["plant"] })] {
            assert_eq!(narrow.patch(&path, &wider).await.status, StatusCode::FORBIDDEN, "{wider}");
        }
    }

    async fn a_self_key_makes_keys_as_wide_as_its_owner_on_its_own_resources_and_no_wider(server: TestServer) {
        let admin = server.admin().await;
        let (user, _) = person(&admin, &server, "olga", "keyward:self").await;
        let own = own_api(&admin).await;
        let stock = admin.new_api("https://stock.example", &["Supervisor", "Worker"]).await;
        let narrow = json!({ "owner": user["id"], "scope": "keyward:self", "res": ["plant/7"], "apis": [own] });
        let olga = server.api(&admin.issue(&admin.new_client(narrow).await, &json!({})).await).await;
        for beyond in [json!({ "res": ["plant"] }), json!({ "res": ["*"] }), json!({ "scope": "keyward:support" })] {
            let mut new = json!({ "name": "x", "apis": [stock] });
            new.as_object_mut().unwrap().extend(beyond.as_object().unwrap().clone());
            assert_eq!(olga.post("/api/v1/clients", &new).await.status, StatusCode::FORBIDDEN, "{new}");
        }
        // Her own key holds no Worker, she does; she holds no Supervisor, so no key of hers ever does.
        let members = json!({ "scope": "Supervisor Worker", "res": ["plant/7"], "apis": [stock] });
        let key = olga.issue(&olga.new_client(members).await, &json!({})).await;
        let granted = server.token_answer(&key, &[]).await.ok();
        let active = server.introspect(&key, granted["access_token"].as_str().unwrap()).await;
        assert_eq!((&active["scope"], &active["res"]), (&json!("Worker"), &json!(["plant/7"])));
        let beyond = server.token_answer(&key, &[("scope", "Supervisor")]).await;
        assert_eq!(beyond.body["error"], "invalid_scope", "{}", beyond.body);
        let user = format!("/api/v1/users/{}", user["id"].as_str().unwrap());
        admin.patch(&user, &json!({ "scope": "keyward:self" })).await.ok();
        assert_eq!(server.token_answer(&key, &[]).await.body["error"], "invalid_scope", "what she lost, they lost");
    }

    async fn everything_that_changes_is_in_the_log_with_who_and_what(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        admin.revoke(&key).await;
        let events = admin.get(&format!("/api/v1/events?subject={}", key.credential())).await.ok();
        let events = events["items"].as_array().unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["credential.issued", "credential.revoked"]);
        let me = admin.get("/api/v1/users/me").await.ok();
        for event in events {
            assert_eq!(event["actor"]["user"], me["id"]);
            assert_eq!(event["actor"]["client"], admin.secrets.client_id);
            assert_eq!(event["actor"]["credential"], admin.secrets.credential());
            assert_eq!(event["source"], "127.0.0.1");
            assert_eq!(event["data"]["client"], key.client_id);
        }
        let everything = server.app.store.list_events(&Default::default(), 0, 1000).await.unwrap();
        let mut verifier = keyward_model::event::Verifier::default();
        for event in &everything {
            verifier.check(event).unwrap();
            let text = serde_json::to_string(event).unwrap();
            assert!(!text.contains("kw_"), "a secret in the log: {text}");
        }
        assert_eq!(verifier.checked(), 20);
    }

    async fn the_bootstrap_key_cannot_be_made_to_last(server: TestServer) {
        let bootstrap = server.api(&server.bootstrap()).await;
        let path = format!("/api/v1/credentials/{}", bootstrap.secrets.credential());
        assert_eq!(bootstrap.patch(&path, &json!({ "expires_at": null })).await.status, StatusCode::CONFLICT);
    }

    async fn names_that_would_turn_the_text_around_them_are_refused(server: TestServer) {
        let admin = server.admin().await;
        for name in ["a\u{202e}gnp", "\u{200b}admin", "a\u{2028}b", "a\nb", "\u{1b}[2J"] {
            let answer = admin.post("/api/v1/clients", &json!({ "name": name })).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{name:?}");
        }
    }

    async fn changes_are_conditional_on_what_was_read(server: TestServer) {
        let admin = server.admin().await;
        let path = format!("/api/v1/clients/{}", admin.orders_key().await.client_id);
        let etag = admin.get(&path).await.header("etag").to_owned();
        let change = |etag: String, name: &'static str| {
            Answer::of(admin.request(Method::PATCH, &path).header("if-match", etag).json(&json!({ "name": name })))
        };
        let changed = change(etag.clone(), "first").await;
        assert_eq!(changed.status, StatusCode::OK);
        assert_ne!(changed.header("etag"), etag);
        let stale = change(etag, "second").await;
        assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
        assert_eq!(stale.body["type"], "urn:keyward:problem:stale");
        assert_eq!(admin.get(&path).await.ok()["name"], "first");
    }

    async fn a_change_may_name_several_versions_or_any(server: TestServer) {
        let admin = server.admin().await;
        let path = format!("/api/v1/clients/{}", admin.orders_key().await.client_id);
        let change = async |if_match: &str| {
            let etag = admin.get(&path).await.header("etag").to_owned();
            let request = admin.request(Method::PATCH, &path).header("if-match", if_match.replace("NOW", &etag));
            Answer::of(request.json(&json!({ "name": "another" }))).await.status
        };
        for (if_match, status) in [
            ("*", StatusCode::OK),
            ("\"0\", NOW", StatusCode::OK),
            ("\"0\"", StatusCode::PRECONDITION_FAILED),
            ("\"unknown\"", StatusCode::PRECONDITION_FAILED),
            ("W/NOW", StatusCode::PRECONDITION_FAILED),
            ("nonsense", StatusCode::BAD_REQUEST),
        ] {
            assert_eq!(change(if_match).await, status, "{if_match}");
        }
        let gone = admin.request(Method::PATCH, "/api/v1/clients/client_01h455vb4pex5vsknk084sn02q");
        let gone = Answer::of(gone.header("if-match", "*").json(&json!({ "name": "another" }))).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    }

    async fn a_repeated_create_makes_nothing_and_shows_no_secret_twice(server: TestServer) {
        let admin = server.admin().await;
        let path = format!("/api/v1/clients/{}/credentials", admin.orders_key().await.client_id);
        let create = |body: Value| {
            Answer::of(admin.request(Method::POST, &path).header("idempotency-key", "again").json(&body))
        };
        let first = create(json!({ "label": "one" })).await.created();
        let again = create(json!({ "label": "one" })).await.created();
        assert_eq!(again["id"], first["id"]);
        assert!(first["client_secret"].as_str().unwrap().starts_with("kw_"));
        assert_eq!(again["client_secret"], Value::Null);
        assert_eq!(create(json!({ "label": "two" })).await.status, StatusCode::CONFLICT);
        let listed = admin.get(&path).await.ok();
        assert_eq!(listed["items"].as_array().unwrap().len(), 2);
        assert!(!listed.to_string().contains("kw_"), "never a secret again");
    }

    async fn a_body_that_is_no_object_changes_nothing(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let path = format!("/api/v1/credentials/{}", key.credential());
        for body in ["[]", "[\"label\"]", " [true]", "\"x\"", "1", "null", ""] {
            for action in ["rotate", "finish"] {
                let request = admin.request(Method::POST, &format!("{path}/{action}"));
                let answer = Answer::of(request.header("content-type", "application/json").body(body)).await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{action} {body}");
            }
        }
        assert_eq!(admin.get(&path).await.ok()["state"], "active");
    }

    async fn a_key_written_into_a_label_by_mistake_is_refused_and_kept_nowhere(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let path = format!("/api/v1/clients/{}/credentials", key.client_id);
        let refused = admin.post(&path, &json!({ "label": format!("key {}", key.client_secret) })).await;
        assert_eq!((refused.status, &refused.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("label")));
        assert!(!refused.body.to_string().contains(&key.client_secret));
        assert!(!admin.get("/api/v1/events?limit=200").await.ok().to_string().contains(&key.client_secret));
    }

    async fn lists_come_page_by_page(server: TestServer) {
        let admin = server.admin().await;
        for n in 0..7 {
            admin.new_client(json!({ "name": format!("client {n}") })).await;
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/api/v1/clients?limit=3{cursor}")).await.ok();
            seen.extend(ids(&page).iter().map(|id| (*id).to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let mut once = seen.clone();
        once.dedup();
        assert_eq!((seen.len(), once.len()), (10, 10), "seven, the bootstrap client, the administration and the command line");
        for wrong in ["?limit=0", "?limit=201", "?limit=x", "?nonsense=1"] {
            assert_eq!(admin.get(&format!("/api/v1/clients{wrong}")).await.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        assert_eq!(ids(&admin.get("/api/v1/clients?name=client%203").await.ok()).len(), 1);
    }

    async fn bad_bodies_are_named_and_change_nothing(server: TestServer) {
        let admin = server.admin().await;
        let post = |content_type: &'static str, body: String| {
            Answer::of(admin.request(Method::POST, "/api/v1/clients").header("content-type", content_type).body(body))
        };
        for (content_type, body, status) in [
            ("application/json", "{".to_owned(), 400),
            ("application/json", json!({}).to_string(), 422),
            ("application/json", json!({ "name": "" }).to_string(), 422),
            ("application/json", json!({ "name": "x".repeat(101) }).to_string(), 422),
            ("application/json", json!({ "name": "x", "scope": "Stranger" }).to_string(), 422),
            ("application/json", json!({ "name": "x", "res": ["a//b"] }).to_string(), 422),
            ("application/json", json!({ "name": "x", "apis": ["api_01h455vb4pex5vsknk084sn02q"] }).to_string(), 422),
            ("application/json", json!({ "name": "x", "unknown": 1 }).to_string(), 422),
            ("application/json", json!({ "name": "x".repeat(70_000) }).to_string(), 413),
            ("text/plain", json!({ "name": "x" }).to_string(), 415),
        ] {
            let shown = body.chars().take(60).collect::<String>();
            let answer = post(content_type, body).await;
            assert_eq!(answer.status.as_u16(), status, "{shown}: {}", answer.body);
            assert_eq!(answer.body["status"], status);
            assert!(answer.body["detail"].as_str().is_some_and(|d| !d.is_empty()));
        }
        assert_eq!(ids(&admin.get("/api/v1/clients").await.ok()).len(), 3);
    }
}
