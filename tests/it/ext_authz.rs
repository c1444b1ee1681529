//! Envoy's external authorization, asked by gRPC's own Python library with the messages that Envoy publishes.

use keyward_tests::clients::ask_as_envoy;
use keyward_tests::server::{Answer, Db, Secrets, TestServer};
use serde_json::{Value, json};

use crate::callers::callers;
use crate::forward_auth::{Ask, ORDERS, told};

async fn start(proxies: &[&str]) -> TestServer {
    let proxies = proxies.iter().map(|network| network.parse().unwrap()).collect();
    TestServer::start_with(Db::Sqlite, |config| {
        config.gateway.ext_authz = true;
        config.gateway.basic = true;
        config.server.trusted_proxies = proxies;
    })
    .await
}

fn question(token: &str) -> Value {
    json!({ "context": { "audience": ORDERS }, "headers": { "authorization": format!("Bearer {token}"), ":path": "/" } })
}

fn status(answer: &Value) -> u64 {
    match &answer["denied_response"] {
        Value::Null => u64::from(answer["ok_response"].is_object()) * 200,
        // The names of the enumeration are those of the statuses.
        denied => match denied["status"]["code"].as_str().unwrap() {
            "BadRequest" => 400,
            "Unauthorized" => 401,
            "Forbidden" => 403,
            "InternalServerError" => 500,
            "ServiceUnavailable" => 503,
            other => panic!("{other}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_hears_what_other_gateways_hear() {
    let server = start(&[]).await;
    let key = server.admin().await.orders_key().await;
    let token = server.token(&key, &[]).await;
    let over_http = told(&Ask::with(&server, &token).answer().await);
    let answer = &ask_as_envoy(server.address(), &[question(&token)]).await[0];
    let headers = answer["ok_response"]["headers"].as_array().unwrap();
    for (name, value) in over_http.as_object().unwrap() {
        let name = format!("keyward-{name}");
        let header = headers.iter().find(|header| header["header"]["key"] == name.as_str()).unwrap();
        assert_eq!(
            (&header["header"]["value"], &header["append_action"]),
            (value, &json!("OVERWRITE_IF_EXISTS_OR_ADD"))
        );
    }
    assert_eq!(headers.len(), over_http.as_object().unwrap().len());
    let removed = json!(["keyward-user", "keyward-user-issuer", "keyward-session", "keyward-key-expires"]);
    assert_eq!(answer["ok_response"]["headers_to_remove"], removed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_has_its_status_and_challenge() {
    let server = start(&[]).await;
    let key = server.admin().await.orders_key().await;
    let token = server.token(&key, &[]).await;
    let with = |member: &str, name: &str, value: Value| {
        let mut question = question(&token);
        question[member][name] = value;
        question
    };
    let path = |path: &str| {
        let mut question = with("context", "res_after", json!("/api"));
        question["path"] = json!(path);
        question
    };
    let twice = json!([["authorization", format!("Bearer {token}")], ["authorization", format!("Bearer {token}")]]);
    let mut raw = question(&token);
    raw["headers"] = json!({});
    raw["header_map"] = json!([["authorization", format!("Bearer {token}")], [":path", "/"]]);
    let table = [
        (question("a.b.c"), 401),
        (json!({ "context": { "audience": ORDERS } }), 401),
        (with("headers", "authorization", json!("Bearer a b")), 400),
        (with("context", "scope", json!("Supervisor")), 403),
        (with("context", "scope", json!("Worker")), 200),
        (with("context", "res", json!("plant/7/line/3 plant/7")), 200),
        (with("context", "res", json!("plant/7 plant/8")), 403),
        (path("/api/plant/7?x"), 200),
        (path("/api/plant/8"), 403),
        (with("context", "audience", json!("https://elsewhere.example")), 500),
        (with("context", "scopes", json!("Worker")), 500),
        (with("context", "scope", json!("Janitor")), 500),
        (json!({ "headers": { "authorization": format!("Bearer {token}") } }), 500),
        (with("headers", "not a name", json!("x")), 500),
        (json!({ "context": { "audience": ORDERS }, "header_map": twice }), 400),
        (raw, 200),
    ];
    let questions: Vec<Value> = table.iter().map(|(question, _)| question.clone()).collect();
    let answers = ask_as_envoy(server.address(), &questions).await;
    for ((question, expected), answer) in table.iter().zip(&answers) {
        assert_eq!(status(answer), *expected, "{question}: {answer}");
        let headers = answer["denied_response"]["headers"].as_array().cloned().unwrap_or_default();
        let challenged = headers.iter().any(|header| header["header"]["key"] == "www-authenticate");
        assert_eq!(challenged, (400..404).contains(expected), "{answer}");
        assert_eq!(answer["status"].get("code").is_some(), *expected != 200, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_servers_read_differently_is_refused_to_envoy_too() {
    let server = start(&[]).await;
    let key = server.admin().await.orders_key().await;
    let token = server.token(&key, &[]).await;
    let to = |path: &str| {
        let mut question = question(&token);
        question["path"] = json!(path);
        question
    };
    let mut allowed = to("/reports/..;/api/plant/8");
    allowed["context"]["ambiguous_paths"] = json!("allow");
    let questions = [to("/reports/today?x=;"), to("/reports/..;/api/plant/8"), to("/reports/..%2fapi"), allowed];
    let answers = ask_as_envoy(server.address(), &questions).await;
    assert_eq!(answers.iter().map(status).collect::<Vec<_>>(), [200, 403, 403, 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_description_beyond_all_bounds_is_refused() {
    let server = start(&[]).await;
    let key = server.admin().await.orders_key().await;
    let token = server.token(&key, &[]).await;
    let mut large = question(&token);
    large["body"] = json!(200_000);
    let mut many = question(&token);
    many["header_map"] = (0..10_000).map(|n| json!([format!("{n}"), ""])).collect();
    let answers = ask_as_envoy(server.address(), &[large, many, question(&token)]).await;
    assert_eq!(answers[0]["error"], "OUT_OF_RANGE");
    assert_eq!(status(&answers[1]), 500);
    assert_eq!(status(&answers[2]), 200, "the next one is answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_says_for_whom_it_asks_if_it_is_trusted() {
    for (proxies, network) in [(&["127.0.0.0/8"][..], "198.51.100.7"), (&[], "127.0.0.1")] {
        let server = start(proxies).await;
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let mut question = question("");
        question["headers"] =
            json!({ "authorization": basic(&key), "user-agent": "press/7", "keyward-instance": "hall 3" });
        question["source"] = json!("198.51.100.7");
        assert_eq!(status(&ask_as_envoy(server.address(), &[question]).await[0]), 200);
        let seen = callers(&admin, &key).await;
        let seen: Vec<[&Value; 3]> = seen.iter().map(|c| [&c["network"], &c["user_agent"], &c["instance"]]).collect();
        assert_eq!(seen, [[&json!(network), &json!("press/7"), &json!("hall 3")]]);
    }
}

fn basic(key: &Secrets) -> String {
    use base64::Engine as _;
    let pair = format!("{}:{}", key.client_id, key.client_secret);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unless_it_is_set_nobody_asks_like_envoy() {
    let server = TestServer::start(Db::Sqlite).await;
    let url = format!("{}/envoy.service.auth.v3.Authorization/Check", server.url());
    assert_eq!(Answer::of(server.http.post(url)).await.status, 404);
    let knowing = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    assert!(knowing.get(format!("{}/healthz", server.url())).send().await.is_err(), "HTTP/2 needs TLS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_envoy_both_protocols_share_the_address() {
    let server = start(&[]).await;
    let knowing = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = knowing.get(format!("{}/healthz", server.url())).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    let answer = server.http.post(format!("{}/token", server.url())).body("x").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (400, reqwest::Version::HTTP_11));
}
