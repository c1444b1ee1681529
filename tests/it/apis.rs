//! APIs over the REST API.

use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::authority::{ids, own_api, person};

const APIS: &str = "/api/v1/apis";

fn new(audience: &str) -> Value {
    json!({ "name": "stock", "audience": audience, "scopes": ["Worker"] })
}

async fn key_for(admin: &Api<'_>, api: &Value) -> keyward_tests::server::Secrets {
    admin.issue(&admin.new_client(json!({ "scope": "Worker", "apis": [api] })).await, &json!({})).await
}

on_both_databases! {
    async fn an_api_is_registered_shown_changed_and_deleted(server: TestServer) {
        let admin = server.admin().await;
        let answer = admin.post(APIS, &new("https://stock.example/")).await;
        let place = answer.header("location").to_owned();
        assert_eq!(answer.header("etag"), "\"1\"");
        let made = answer.created();
        assert_eq!(admin.get(&place).await.ok(), made);
        assert_eq!(made["token_lifetime_seconds"], 600);
        assert_eq!(made["signing_algorithm"], "ES256");
        assert_eq!(made["client"], Value::Null);
        assert_eq!(made["scopes"], json!(["Worker"]));

        let change = json!({ "name": "Stock", "token_lifetime_seconds": 60, "scopes": ["Supervisor", "Worker"] });
        let changed = admin.patch(&place, &change).await.ok();
        for (member, value) in change.as_object().unwrap() {
            assert_eq!(&changed[member], value);
        }
        let key = key_for(&admin, &made["id"]).await;
        assert_eq!(server.token_answer(&key, &[]).await.body["expires_in"], 60);

        let refused = admin.delete(&place).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(refused.body["detail"].as_str().unwrap().contains("clients may ask tokens"), "{}", refused.body);
        admin.patch(&format!("/api/v1/clients/{}", key.client_id), &json!({ "apis": [] })).await.ok();
        assert_eq!(admin.delete(&place).await.status, StatusCode::NO_CONTENT);
        assert_eq!(admin.get(&place).await.status, StatusCode::NOT_FOUND);
        let events = admin.get(&format!("/api/v1/events?subject={}", made["id"].as_str().unwrap())).await.ok();
        let kinds: Vec<&Value> = events["items"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
        assert_eq!(kinds, ["api.created", "api.changed", "api.deleted"]);
    }

    async fn everybody_sees_the_apis_and_administrators_change_them(server: TestServer) {
        let admin = server.admin().await;
        let api = admin.new_api("https://stock.example", &[]).await;
        let (_, olga) = person(&admin, &server, "olga", "keyward:self").await;
        assert_eq!(ids(&olga.get(APIS).await.ok()).len(), 2);
        assert_eq!(ids(&olga.get(&format!("{APIS}?limit=1")).await.ok()).len(), 1);
        let (_, sam) = person(&admin, &server, "sam", "keyward:support").await;
        let place = format!("{APIS}/{api}");
        assert_eq!(sam.post(APIS, &new("https://x.example")).await.status, StatusCode::FORBIDDEN);
        assert_eq!(sam.patch(&place, &json!({ "name": "x" })).await.status, StatusCode::FORBIDDEN);
        assert_eq!(sam.delete(&place).await.status, StatusCode::FORBIDDEN);
    }

    async fn values_that_do_not_fit_are_named(server: TestServer) {
        let admin = server.admin().await;
        let api = admin.new_api("https://stock.example", &[]).await;
        for (field, value) in [
            ("audience", json!("stock")),
            ("audience", json!("https://stock.example/#part")),
            ("audience", json!(format!("https://{}.example", "x".repeat(250)))),
            ("token_lifetime_seconds", json!(59)),
            ("token_lifetime_seconds", json!(86_401)),
            ("scopes", json!(["Janitor"])),
            ("scopes", json!(["keyward:self"])),
            ("client", json!("client_01h455vb4pex5vsknk084sn02q")),
            ("name", json!("")),
        ] {
            let mut whole = new("https://other.example");
            whole[field] = value.clone();
            let change = json!({ field: value });
            for answer in [admin.post(APIS, &whole).await, admin.patch(&format!("{APIS}/{api}"), &change).await] {
                assert_eq!((answer.status, &answer.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(field)), "{change}");
            }
        }
        assert_eq!(ids(&admin.get(APIS).await.ok()).len(), 2);
    }

    async fn an_audience_names_one_api(server: TestServer) {
        let admin = server.admin().await;
        admin.new_api("https://stock.example", &[]).await;
        let again = admin.post(APIS, &new("https://stock.example")).await;
        assert_eq!((again.status, &again.body["detail"]), (StatusCode::CONFLICT, &json!("another API has this audience")));
        let other = admin.new_api("https://other.example", &[]).await;
        let change = json!({ "audience": "urn:keyward:api" });
        assert_eq!(admin.patch(&format!("{APIS}/{other}"), &change).await.status, StatusCode::CONFLICT);
    }

    async fn of_keywards_own_api_only_what_is_harmless_changes(server: TestServer) {
        let admin = server.admin().await;
        let own = own_api(&admin).await;
        let place = format!("{APIS}/{}", own.as_str().unwrap());
        for change in [
            json!({ "audience": "https://other.example" }),
            json!({ "scopes": ["keyward:admin"] }),
            json!({ "scopes": [] }),
            json!({ "signing_algorithm": "EdDSA" }),
            json!({ "client": null }),
            json!({ "identity_clients": [] }),
            json!({ "identity_issuers": [] }),
        ] {
            assert_eq!(admin.patch(&place, &change).await.status, StatusCode::CONFLICT, "{change}");
        }
        assert_eq!(admin.delete(&place).await.status, StatusCode::CONFLICT);
        admin.patch(&place, &json!({ "name": "Locks", "token_lifetime_seconds": 120 })).await.ok();
        assert_eq!(server.token_answer(&admin.secrets, &[]).await.body["expires_in"], 120);
        assert_eq!(admin.get(&place).await.ok()["name"], "Locks");
    }

    async fn the_client_of_an_api_introspects_its_tokens_as_long_as_it_is_that(server: TestServer) {
        let admin = server.admin().await;
        let gateway = admin.new_client(json!({ "name": "gateway" })).await;
        let gateway = admin.issue(&gateway, &json!({})).await;
        let api = admin.post(APIS, &new("https://stock.example")).await.created();
        let key = key_for(&admin, &api["id"]).await;
        let token = server.token(&key, &[]).await;
        let place = format!("{APIS}/{}", api["id"].as_str().unwrap());
        assert_eq!(server.introspect(&gateway, &token).await["active"], false, "a stranger's token");
        admin.patch(&place, &json!({ "client": gateway.client_id })).await.ok();
        assert_eq!(server.introspect(&gateway, &token).await["active"], true);
        assert_eq!(admin.patch(&place, &json!({ "name": "x" })).await.ok()["client"], gateway.client_id);
        admin.patch(&place, &json!({ "client": null })).await.ok();
        assert_eq!(server.introspect(&gateway, &token).await["active"], false);
    }

    async fn the_client_of_an_api_is_not_deleted_under_it(server: TestServer) {
        let admin = server.admin().await;
        let gateway = admin.new_client(json!({ "name": "gateway" })).await;
        let api = json!({ "name": "stock", "audience": "https://stock.example", "client": gateway });
        let api = admin.post(APIS, &api).await.created();
        let path = format!("/api/v1/clients/{gateway}");
        let refused = admin.delete(&path).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("stock") && detail.contains(api["id"].as_str().unwrap()), "{detail}");
        let place = format!("{APIS}/{}", api["id"].as_str().unwrap());
        assert_eq!(admin.get(&place).await.ok()["client"], json!(gateway));
        admin.patch(&place, &json!({ "client": null })).await.ok();
        assert_eq!(admin.delete(&path).await.status, StatusCode::NO_CONTENT);
    }

    async fn whose_identities_an_api_accepts_is_told_and_every_change_of_it(server: TestServer) {
        let admin = server.admin().await;
        let login = admin.new_client(json!({ "name": "login", "kind": "public" })).await;
        let trusted = json!([
            { "issuer": "https://login.example", "audience": "stock", "scope": "Worker", "res": ["plant/7"] },
            { "issuer": "https://login.example", "audience": "stock-app" },
        ]);
        let mut new = new("https://stock.example");
        (new["identity_clients"], new["identity_issuers"]) = (json!([login, login]), trusted.clone());
        let made = admin.post(APIS, &new).await.created();
        assert_eq!((&made["identity_clients"], &made["identity_issuers"]), (&json!([login]), &trusted));
        let place = format!("{APIS}/{}", made["id"].as_str().unwrap());
        let change = json!({ "identity_clients": [], "identity_issuers": [trusted[1]] });
        let changed = admin.patch(&place, &change).await.ok();
        assert_eq!((&changed["identity_clients"], &changed["identity_issuers"]), (&json!([]), &json!([trusted[1]])));
        assert_eq!(admin.get(&place).await.ok(), changed);
        let events = admin.get(&format!("/api/v1/events?subject={}", made["id"].as_str().unwrap())).await.ok();
        assert_eq!(events["items"][0]["data"]["identity_issuers"], trusted);
        let told = &events["items"][1]["data"];
        assert_eq!(told["identity_clients"], json!({ "old": [login], "new": [] }));
        assert_eq!(told["identity_issuers"], json!({ "old": trusted, "new": [trusted[1]] }));
    }

    async fn an_issuer_that_cannot_be_meant_is_not_trusted(server: TestServer) {
        let admin = server.admin().await;
        let api = admin.post(APIS, &new("https://stock.example")).await.created();
        let place = format!("{APIS}/{}", api["id"].as_str().unwrap());
        let good = json!({ "issuer": "https://login.example", "audience": "stock", "scope": "Worker", "res": ["plant/7"] });
        let with = |member: &str, value: Value| {
            let mut issuer = good.clone();
            issuer[member] = value;
            json!([issuer])
        };
        for (field, value) in [
            ("identity_issuers", with("issuer", json!("http://login.example"))),
            ("identity_issuers", with("issuer", json!("https://login.example/?x"))),
            ("identity_issuers", with("issuer", json!(server.url()))),
            ("identity_issuers", with("audience", json!(""))),
            ("identity_issuers", with("audience", json!("a".repeat(256)))),
            ("identity_issuers", with("res", Value::Null)),
            ("identity_issuers", with("scope", json!("Admin"))),
            ("identity_issuers", json!([good, good])),
            ("identity_issuers", json!(vec![good.clone(); 17])),
            ("identity_clients", json!(["client_01h455vb4pex5vsknk084sn02q"])),
            ("identity_clients", json!(vec!["client_01h455vb4pex5vsknk084sn02q"; 65])),
        ] {
            let answer = admin.patch(&place, &json!({ field: value })).await;
            assert_eq!((answer.status, &answer.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(field)), "{value}");
        }
        admin.patch(&place, &json!({ "identity_issuers": [good] })).await.ok();
        let forgotten = admin.patch(&place, &json!({ "scopes": [] })).await;
        assert_eq!(forgotten.body["field"], "identity_issuers", "a scope goes with those who are given it");
    }

    async fn an_algorithm_gets_its_keys_once_however_many_apis_choose_it_at_once(server: TestServer) {
        let admin = server.admin().await;
        let chosen = |n: usize| {
            let mut new = new(&format!("https://stock{n}.example"));
            new["signing_algorithm"] = json!("EdDSA");
            new
        };
        let bodies: Vec<Value> = (0..6).map(chosen).collect();
        let made = futures_util::future::join_all(bodies.iter().map(|body| admin.post(APIS, body))).await;
        for answer in made {
            answer.created();
        }
        let keys = admin.get("/api/v1/signing-keys").await.ok();
        let keys = keys["items"].as_array().unwrap();
        let states: Vec<&Value> = keys.iter().filter(|k| k["algorithm"] == "EdDSA").map(|k| &k["state"]).collect();
        assert_eq!(states.len(), 2, "{keys:?}");
        assert!(states.contains(&&json!("current")) && states.contains(&&json!("next")), "{keys:?}");
    }

    async fn a_scope_and_an_api_that_knows_it_never_miss_each_other(server: TestServer) {
        let admin = server.admin().await;
        for round in 0..10 {
            let scope = format!("Guest{round}");
            admin.post("/api/v1/scopes", &json!({ "name": scope })).await.created();
            let mut new = new(&format!("https://stock{round}.example"));
            new["scopes"] = json!([scope]);
            let place = format!("/api/v1/scopes/{scope}");
            let (made, deleted) = tokio::join!(admin.post(APIS, &new), admin.delete(&place));
            match deleted.status {
                StatusCode::NO_CONTENT => assert_eq!(made.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", made.body),
                status => assert_eq!((status, made.status), (StatusCode::CONFLICT, StatusCode::CREATED)),
            }
        }
    }
}
