//! Real gateways, set up by the files of `deploy/gateways`: nginx, Caddy and Envoy before the same API, with the same table.

use std::time::Duration;

use keyward_tests::echo::Echo;
use keyward_tests::gateways::{Gateway, Kind, deployed};
use keyward_tests::provider::Provider;
use keyward_tests::server::{Api, Db, Secrets, TestServer};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PLANT: &str = "https://plant.example/api";
/// All headers by which the API is told who calls.
const TOLD: [&str; 10] = [
    "Keyward-Client",
    "Keyward-Subject",
    "Keyward-User",
    "Keyward-User-Issuer",
    "Keyward-Modified-By",
    "Keyward-Scope",
    "Keyward-Res",
    "Keyward-Credential",
    "Keyward-Session",
    "Keyward-Key-Expires",
];

/// A gateway between a client and an API, and Keyward beside it.
struct Plant {
    server: TestServer,
    echo: Echo,
    gateway: Gateway,
}

/// Declares tests that run with each gateway.
macro_rules! with_each_gateway {
    ($(async fn $name:ident($plant:ident: Plant) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn story($plant: Plant) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nginx() {
                story(Plant::behind(Kind::Nginx).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn caddy() {
                story(Plant::behind(Kind::Caddy).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn envoy() {
                story(Plant::behind(Kind::Envoy).await).await;
            }
        }
    )*};
}

impl Plant {
    async fn behind(kind: Kind) -> Self {
        let server = TestServer::start_with(Db::Sqlite, |config| {
            config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            config.gateway.ext_authz = true;
            config.gateway.basic = true;
        })
        .await;
        let echo = Echo::start().await;
        let gateway = Gateway::start(kind, server.address(), echo.address()).await;
        Self { server, echo, gateway }
    }

    /// A key of a client with this scope on plant/7, for the API behind the gateway; and its administrator.
    async fn key(&self, scope: &str) -> (Api<'_>, Secrets) {
        let admin = self.server.admin().await;
        let api = admin.new_api(PLANT, &["Admin", "Supervisor", "Worker"]).await;
        let client = admin.new_client(json!({ "scope": scope, "res": ["plant/7"], "apis": [api] })).await;
        let key = admin.issue(&client, &json!({})).await;
        (admin, key)
    }

    async fn token(&self, scope: &str) -> String {
        let (_, key) = self.key(scope).await;
        self.server.token(&key, &[]).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.server.http.request(method, format!("{}{path}", self.gateway.url())).timeout(Duration::from_secs(20))
    }

    async fn get(&self, path: &str, token: &str) -> Response {
        self.request(Method::GET, path).bearer_auth(token).send().await.unwrap()
    }

    /// The status of a request whose path goes out byte by byte as it is here, which no client library would do.
    async fn raw(&self, path: &str, token: &str) -> u16 {
        let answer = self.raw_with(path, token, "Connection: close\r\n").await;
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The whole answer to a request with these lines in its head, after which it must end the connection.
    async fn raw_with(&self, path: &str, token: &str, lines: &str) -> String {
        let mut stream = self.raw_stream(path, token, lines).await;
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("it answers").unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn raw_stream(&self, path: &str, token: &str, lines: &str) -> TcpStream {
        let host = self.gateway.address();
        let mut stream = TcpStream::connect(host).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{lines}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }
}

/// All ways to write this name with dashes and underscores; an API that reads CGI variables takes all for one.
fn spellings(name: &str) -> Vec<String> {
    let mut parts = name.split('-');
    let first = vec![parts.next().unwrap().to_owned()];
    parts.fold(first, |all, part| {
        all.iter().flat_map(|so_far| ["-", "_"].map(|dash| format!("{so_far}{dash}{part}"))).collect()
    })
}

/// What the API got, which must have been let in to.
async fn got(response: Response) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

with_each_gateway! {
    async fn whoever_may_is_let_in_and_the_api_told_who_they_are(plant: Plant) {
        let (_, key) = plant.key("Worker").await;
        let token = plant.server.token(&key, &[]).await;
        let got = got(plant.get("/api/plant/7/line/3?x=1", &token).await).await;
        assert_eq!(got["path"], "/api/plant/7/line/3?x=1");
        let headers = &got["headers"];
        assert_eq!(headers["keyward-client"], json!([key.client_id]));
        assert_eq!((&headers["keyward-scope"], &headers["keyward-res"]), (&json!(["Worker"]), &json!(["plant/7"])));
        assert_eq!(headers["keyward-credential"], json!([key.credential()]));
        assert_eq!(headers["keyward-modified-by"], headers["keyward-subject"]);
        assert_eq!(headers.get("authorization"), None, "tokens stay here");
    }

    async fn whoever_may_not_is_turned_away_before_the_api(plant: Plant) {
        let token = plant.token("Worker").await;
        let missing = plant.request(Method::GET, "/api/plant/7").send().await.unwrap();
        assert_eq!(missing.status(), StatusCode::UNAUTHORIZED);
        let challenge = missing.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert_eq!(challenge, format!("Bearer realm=\"{PLANT}\""));
        for (path, token, status) in [
            ("/api/plant/7", "a.b.c", 401),
            ("/api/plant/8", &*token, 403),
            ("/api/plant/70", &*token, 403),
            ("/api/", &*token, 403),
            ("/api", &*token, 403),
            ("/reports", &*token, 403),
            ("/reports/today", &*token, 403),
        ] {
            let response = plant.get(path, token).await;
            assert_eq!(response.status().as_u16(), status, "{path}");
            let challenge = response.headers()["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Bearer realm=") && challenge.contains("error="), "{path}: {challenge}");
            assert!(!response.headers().contains_key("location"));
        }
        assert_eq!(plant.request(Method::GET, "/api/plant/7").header("authorization", "Bearer a b").send().await.unwrap().status(), 400);
        for path in ["/api", "/api/", "/reports", "/reports/"] {
            let stranger = plant.request(Method::GET, path).send().await.unwrap();
            assert_eq!((stranger.status().as_u16(), stranger.headers().get("location")), (401, None), "{path}");
        }
        for path in ["/", "/elsewhere", "/apis", "/reportshop", "/keyward/worker", "/forward-auth?audience=https://plant.example/api"] {
            let status = plant.get(path, &token).await.status();
            assert!(!status.is_success(), "{path}: {status}");
        }
        assert_eq!(plant.echo.asked(), 0);
        assert_eq!(plant.get("/status", &token).await.status(), 200);
    }

    async fn nobody_tells_the_api_who_they_are_but_keyward(plant: Plant) {
        let token = plant.token("Worker").await;
        let mut request = plant.request(Method::GET, "/status").bearer_auth(&token);
        for name in TOLD {
            for spelling in spellings(name) {
                request = request.header(spelling, "forged");
            }
            request = request.header(name.to_lowercase(), "again");
        }
        request = request.header("Identity_Token", "forged").header("X-Forwarded-Uri", "/api/plant/9");
        let got = got(request.send().await.unwrap()).await;
        let headers = got["headers"].as_object().unwrap();
        let told = headers.iter().filter(|(name, _)| name.starts_with("keyward"));
        for (name, values) in told {
            let values = values.as_array().unwrap();
            assert!(values.len() == 1 && values[0] != "forged" && values[0] != "again", "{name}: {values:?}");
        }
        for absent in ["keyward-user", "keyward-user-issuer", "keyward-session", "keyward-key-expires"] {
            let empty = headers.get(absent).is_none_or(|values| values == &json!([""]));
            assert!(empty, "{absent}: {headers:?}");
        }
    }

    async fn no_caller_takes_away_what_the_api_is_told(plant: Plant) {
        let token = plant.token("Worker").await;
        let told = ["Keyward-Client", "Keyward-Subject", "Keyward-Modified-By", "Keyward-Scope", "Keyward-Res", "Keyward-Credential"];
        let (names, close) = (told.join(", "), "Connection: close\r\n");
        for lines in [
            format!("Connection: close, {names}\r\n"),
            format!("Connection: close, TE, {names}\r\nTE: trailers\r\n"),
            format!("{close}Connection: {}\r\n", names.to_lowercase()),
            format!("Connection: {names}\r\n{close}"),
            format!("{close}Proxy-Connection: {names}\r\n"),
        ] {
            let answer = plant.raw_with("/status", &token, &lines).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 "), "{lines}: {answer}");
            let headers = serde_json::from_str::<Value>(body).unwrap()["headers"].take();
            for name in told {
                let values = headers[name.to_lowercase()].as_array().unwrap_or_else(|| panic!("{lines}: no {name}"));
                assert!(values.len() == 1 && values[0] != "", "{lines}: {name}: {values:?}");
            }
            assert_eq!(headers.get("authorization"), None, "{lines}");
        }
        let upgrade = format!("Connection: Upgrade, close, {names}\r\nUpgrade: h2c\r\n");
        let answer = plant.raw_with("/status", &token, &upgrade).await;
        assert!(answer.starts_with("HTTP/1.1 4") || answer.contains(r#""keyward-modified-by":["user_"#), "{answer}");
        assert!(!answer.contains("h2c"), "no protocol begins in which nobody is asked: {answer}");
    }

    async fn no_path_leads_from_one_route_to_another(plant: Plant) {
        let token = plant.token("Supervisor").await;
        for path in ["/reports", "/reports/", "/reports/a%20b/v1.2?next=/../;//%2f"] {
            assert_eq!(plant.raw(path, &token).await, 200, "{path}");
        }
        let let_in = plant.echo.asked();
        for path in [
            "/reports/..;/api/plant/8",
            "/reports/..;x=1/api/plant/8",
            "/reports/today;x=1",
            "/reports/../api/plant/8",
            "/reports/%2e%2e/api/plant/8",
            "/reports/..%2fapi/plant/8",
            "/reports/..%5capi/plant/8",
            "/reports/..\\api/plant/8",
            "/reports/%252e%252e/api/plant/8",
            "/reports//api/plant/8",
            "/reports/..%3b/api/plant/8",
        ] {
            let status = plant.raw(path, &token).await;
            assert!((400..500).contains(&status), "{path}: {status}");
        }
        assert_eq!(plant.echo.asked(), let_in, "none of them reached the API");
    }

    async fn a_path_cannot_be_read_in_two_ways(plant: Plant) {
        let token = plant.token("Worker").await;
        for path in ["/api/plant/7", "/api/plant/7/", "/api/plant/7?x=/../../8", "/api/plant/7/line/3?x=%2f"] {
            assert_eq!(plant.raw(path, &token).await, 200, "{path}");
        }
        let let_in = plant.echo.asked();
        for path in [
            "/api/plant/7%2f..%2f8",
            "/api/plant/7/..%2f8",
            "/api/plant/7/%2e%2e/8",
            "/api/plant/7/../8",
            "/api/plant/7/../../plant/8",
            "/api/plant//7/../8",
            "//api/plant/8",
            "/api//plant/7",
            "/api/plant/7//..//8",
            "/api/plant/7;/../8",
            "/api/plant/7/..;/8",
            "/api/plant/7%00",
            "/api/plant/7%3f/../../8",
            "/api/plant/7\\..\\8",
            "/api/plant/7%5c..%5c8",
            "/%61pi/plant/8",
            "/api/plant/7%252f..%252f8",
        ] {
            let status = plant.raw(path, &token).await;
            assert!((300..500).contains(&status), "{path}: {status}");
        }
        assert_eq!(plant.echo.asked(), let_in, "none of them reached the API");
    }

    async fn bodies_go_to_the_api_and_not_to_keyward(plant: Plant) {
        let token = plant.token("Worker").await;
        let body = "x".repeat(100_000);
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let request = plant.request(method.clone(), "/api/plant/7").bearer_auth(&token).body(body.clone());
            let got = got(request.send().await.unwrap()).await;
            assert_eq!((&got["method"], got["body"].as_str().unwrap().len()), (&json!(method.as_str()), body.len()));
            let refused = plant.request(method.clone(), "/api/plant/8").bearer_auth(&token).body(body.clone());
            assert_eq!(refused.send().await.unwrap().status(), 403, "{method}");
        }
    }

    async fn a_revoked_key_is_out_with_the_next_request(plant: Plant) {
        let (admin, key) = plant.key("Worker").await;
        let token = plant.server.token(&key, &[]).await;
        assert_eq!(plant.get("/status", &token).await.status(), 200);
        admin.revoke(&key).await;
        assert_eq!(plant.get("/status", &token).await.status(), 401);
    }

    async fn with_keyward_away_nobody_is_let_in(plant: Plant) {
        let token = plant.token("Worker").await;
        assert_eq!(plant.get("/status", &token).await.status(), 200);
        let Plant { mut server, echo, gateway } = plant;
        server.stop_serving().await;
        let before = echo.asked();
        for path in ["/status", "/api/plant/7", "/reports/today"] {
            let response = server.http.get(format!("{}{path}", gateway.url())).bearer_auth(&token).send().await.unwrap();
            assert!(response.status().is_server_error(), "{path}: {}", response.status());
        }
        assert_eq!(echo.asked(), before);
    }

    async fn users_of_the_company_and_keys_go_through_too(plant: Plant) {
        let (provider, (admin, key)) = (Provider::start().await, plant.key("Worker").await);
        let apis = admin.get("/api/v1/apis").await.ok();
        let api = apis["items"].as_array().unwrap().iter().find(|api| api["audience"] == PLANT).unwrap().clone();
        let trusted = json!([{ "issuer": provider.issuer(), "audience": "plant-web", "scope": "Worker", "res": ["plant"] }]);
        let place = format!("/api/v1/apis/{}", api["id"].as_str().unwrap());
        admin.patch(&place, &json!({ "identity_issuers": trusted })).await.ok();
        let identity = provider.token(plant.server.clock.now(), &json!({}));
        let request = plant.request(Method::GET, "/api/plant/7").basic_auth(&key.client_id, Some(&key.client_secret));
        let got = got(request.header("identity-token", identity).header("user-agent", "press/7").header("keyward-instance", "hall 3").send().await.unwrap()).await;
        let headers = &got["headers"];
        assert_eq!((&headers["keyward-user"], &headers["keyward-modified-by"]), (&json!(["anna@login"]), &json!(["anna@login"])));
        assert_eq!(headers["keyward-user-issuer"], json!([provider.issuer()]));
        assert_eq!((headers.get("identity-token"), headers.get("authorization")), (None, None));
        let seen = crate::callers::callers(&admin, &key).await;
        assert_eq!((&seen[0]["user_agent"], &seen[0]["network"]), (&json!("press/7"), &json!("127.0.0.1")), "{seen:?}");
        assert_eq!(seen[0]["instance"], "hall 3", "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_lets_websockets_through() {
    let plant = Plant::behind(Kind::Caddy).await;
    let token = plant.token("Worker").await;
    let lines = "Connection: keep-alive, upgrade, Keyward-Client\r\nUpgrade: WebSocket\r\n";
    let mut stream = plant.raw_stream("/api/plant/7", &token, lines).await;
    let talking = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        (String::from_utf8(head).unwrap(), back)
    };
    let (head, back) = tokio::time::timeout(Duration::from_secs(20), talking).await.expect("it answers");
    assert!(head.starts_with("HTTP/1.1 101 ") && &back == b"ping", "{head}");
    let refused = plant.raw_with("/api/plant/8", &token, &format!("{lines}Connection: close\r\n")).await;
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
}

#[test]
fn every_configuration_removes_all_that_only_keyward_may_tell() {
    for (file, forms) in [
        ("nginx.conf", &["proxy_set_header NAME $", "auth_request_set $"][..]),
        ("Caddyfile", &["request_header -Keyward*\n", "request_header NAME {rp.header.NAME}\n"]),
        ("traefik.yaml", &["- NAME\n"]),
        ("envoy.yaml", &["- remove: LOWER\n"]),
    ] {
        let text = deployed(file);
        for name in TOLD {
            for form in forms {
                let line = form.replace("NAME", name).replace("LOWER", &name.to_lowercase());
                assert!(text.contains(&line), "{file} lacks {line:?}");
            }
        }
    }
    let traefik = deployed("traefik.yaml");
    for spelling in TOLD.into_iter().flat_map(spellings) {
        assert!(traefik.contains(&format!("          {spelling}: \"\"\n")), "traefik.yaml lacks {spelling}");
    }
}
