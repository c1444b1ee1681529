//! What the server says of itself: `/openapi.json` and `/docs`.

use std::collections::BTreeSet;

use keyward_tests::server::{Answer, Db, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::rotation::{path, rotate};

async fn get(server: &TestServer, path: &str) -> reqwest::Response {
    server.http.get(format!("{}{path}", server.url())).send().await.unwrap()
}

async fn document(server: &TestServer) -> Value {
    get(server, "/openapi.json").await.json().await.unwrap()
}

fn members(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// What is described of an object, the parts it is put together from included.
fn described<'a>(document: &'a Value, name: &str) -> BTreeSet<&'a str> {
    let schema = &document["components"]["schemas"][name];
    assert!(schema["properties"].is_object(), "{name} is not described");
    members(&schema["properties"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_is_openapi_3_1_and_cached_by_its_etag() {
    let server = TestServer::start(Db::Sqlite).await;
    let first = get(&server, "/openapi.json").await;
    assert_eq!(first.headers()["content-type"], "application/json");
    let etag = first.headers()["etag"].clone();
    let document: Value = first.json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"], json!([{ "url": server.url() }]));
    let again = server.http.get(format!("{}/openapi.json", server.url())).header("if-none-match", etag);
    assert_eq!(again.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_that_is_described_exists() {
    let server = TestServer::start(Db::Sqlite).await;
    let document = document(&server).await;
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "1").replace("{name}", "Worker");
        for method in item.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let request = server.http.request(method.clone(), format!("{}{path}", server.url()));
            // Otherwise the feed would be a stream, whose end nobody sees.
            let answer = Answer::of(request.header("accept", "application/json")).await;
            // Without a token everything but the discovery refuses; what does not exist says so even then.
            let elsewhere = answer.status == StatusCode::NOT_FOUND && answer.body["detail"] != Value::Null;
            assert!(
                !elsewhere && answer.status != StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}: {}",
                answer.status
            );
            operations += 1;
        }
    }
    assert!(operations > 35, "{operations}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_have_the_members_that_are_described() {
    let server = TestServer::start(Db::Sqlite).await;
    let document = document(&server).await;
    let admin = server.admin().await;
    let key = admin.orders_key().await;
    let token = server.token_answer(&key, &[]).await.body;
    assert_eq!(members(&token), described(&document, "TokenResponse"));
    let introspection = server.introspect(&key, token["access_token"].as_str().unwrap()).await;
    assert_eq!(members(&introspection), described(&document, "Introspection"));
    let refusal = server.token_answer(&key, &[("scope", "Admin")]).await.body;
    assert_eq!(members(&refusal), described(&document, "OAuthError"));
    for (path, name) in [
        ("users", "User"),
        ("clients", "Client"),
        ("credentials", "Credential"),
        ("scopes", "Scope"),
        ("apis", "Api"),
        ("signing-keys", "SigningKey"),
        ("events", "Event"),
    ] {
        let list = admin.get(&format!("/api/v1/{path}")).await.ok();
        // One by itself may tell more than one of many: a credential also tells who uses it.
        let one = match list["items"][0]["id"].as_str() {
            Some(id) if path == "credentials" => admin.get(&format!("/api/v1/{path}/{id}")).await.ok(),
            _ => list["items"][0].clone(),
        };
        assert_eq!(members(&one), described(&document, name), "{path}");
    }
    let problem = admin.post("/api/v1/users", &json!({ "name": "" })).await.body;
    assert_eq!(members(&problem), described(&document, "ProblemDetails"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_of_a_key_s_end_is_described_too() {
    let server = TestServer::start(Db::Sqlite).await;
    let document = document(&server).await;
    let admin = server.admin().await;
    let key = admin.orders_key().await;
    rotate(&admin, &key, json!({})).await;
    let warned = server.token_answer(&key, &[]).await.body;
    assert_eq!(members(&warned), &described(&document, "TokenResponse") | &described(&document, "EndingKey"));
    let refused = admin.post(&path(&key, "finish"), &json!({})).await.body;
    let mut problem = described(&document, "ProblemDetails");
    problem.remove("field");
    problem.insert("callers");
    assert_eq!(members(&refused), problem);
    assert_eq!(members(&refused["callers"][0]), described(&document, "Caller"));
    admin.revoke(&key).await;
    let ended = server.token_answer(&key, &[]).await.body;
    assert_eq!(members(&ended), &described(&document, "OAuthError") | &described(&document, "EndedKey"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_loads_its_style_and_nothing_else() {
    let server = TestServer::start(Db::Sqlite).await;
    let page = get(&server, "/docs").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    for part in ["default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let html = page.text().await.unwrap();
    assert!(html.contains(&format!("curl -s {}/token", server.url())), "the example names this server");

    let style = html.split("<link rel=\"stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let style = get(&server, style).await;
    assert_eq!(style.status(), StatusCode::OK);
    assert_eq!(style.headers()["content-type"], "text/css; charset=utf-8");
    assert!(style.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let another = get(&server, "/assets/style.css?another").await;
    assert_eq!(another.status(), StatusCode::OK);
    assert_eq!(another.headers()["cache-control"], "no-cache", "not kept under a name that is not its own");
}
