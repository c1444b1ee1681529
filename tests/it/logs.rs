//! What the operator reads: lines that belong together, and never a secret, at any level, whatever clients do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward_tests::keyward::Process;
use keyward_tests::postgres::{self, PrivateCluster};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// A client of the real program that remembers what must stay secret and everything that it was told.
struct Visitor<'a> {
    process: &'a Process,
    http: Client,
    secrets: Vec<String>,
    heard: String,
}

/// What a visitor was told at one request.
struct Told {
    status: StatusCode,
    id: String,
    body: Value,
}

impl<'a> Visitor<'a> {
    fn new(process: &'a Process) -> Self {
        Self { process, http: keyward_tests::http(), secrets: Vec::new(), heard: String::new() }
    }

    /// Keeps a key: as it is, its random part alone, and as HTTP Basic writes it.
    fn keep_key(&mut self, client_id: &str, key: &str) {
        self.secrets.push(key.to_owned());
        self.secrets.push(key[25..].to_owned());
        self.secrets.push(STANDARD.encode(format!("{client_id}:{key}")));
    }

    /// Keeps a token: what nobody may repeat of it is the signature.
    fn keep_token(&mut self, token: &str) {
        self.secrets.push(token.rsplit('.').next().unwrap().to_owned());
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.process.url()))
    }

    async fn ask(&mut self, request: RequestBuilder) -> Told {
        let answer = request.send().await.unwrap();
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let (status, headers) = (answer.status(), format!("{:?}", answer.headers()));
        let text = answer.text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        match body["access_token"].as_str() {
            Some(token) => self.keep_token(token),
            None => self.heard.push_str(&format!("{headers} {text}\n")),
        }
        Told { status, id, body }
    }

    async fn token(&mut self, client_id: &str, key: &str) -> String {
        let request = self.request(Method::POST, "/token").basic_auth(client_id, Some(key));
        let told = self.ask(request.form(&[("grant_type", "client_credentials")])).await;
        assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        told.body["access_token"].as_str().unwrap().to_owned()
    }

    /// From the first key to an issued one; its `client_id`, the key, and an administrator's token.
    async fn issue(&mut self) -> (String, String, String) {
        let first = self.process.bootstrap();
        self.keep_key(&first.client_id, &first.client_secret);
        let token = self.token(&first.client_id, &first.client_secret).await;
        let new = json!({ "name": "logged", "scope": "keyward:admin", "apis": [self.own_api(&token).await] });
        let create = self.request(Method::POST, "/api/v1/clients").bearer_auth(&token).json(&new);
        let client_id = self.ask(create).await.body["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/clients/{client_id}/credentials");
        let issue = self.request(Method::POST, &path).bearer_auth(&token).json(&json!({}));
        let issued: Value = issue.send().await.unwrap().json().await.unwrap();
        let key = issued["client_secret"].as_str().unwrap().to_owned();
        self.keep_key(&client_id, &key);
        let token = self.token(&client_id, &key).await;
        (client_id, key, token)
    }

    async fn own_api(&mut self, token: &str) -> Value {
        let apis = self.request(Method::GET, "/api/v1/apis").bearer_auth(token);
        self.ask(apis).await.body["items"][0]["id"].clone()
    }

    /// The whole road, and then everything in its wrong place; the ids of requests that failed to authenticate.
    async fn walk(&mut self) -> Vec<String> {
        let (client_id, key, token) = self.issue().await;
        let grant = ("grant_type", "client_credentials");
        for path in ["/introspect", "/revoke"] {
            let fresh = self.token(&client_id, &key).await;
            let form = self.request(Method::POST, path).basic_auth(&client_id, Some(&key)).form(&[("token", &fresh)]);
            assert_eq!(self.ask(form).await.status, StatusCode::OK);
        }
        let posted = [grant, ("client_id", &client_id), ("client_secret", &key)];
        let post = self.request(Method::POST, "/token");
        assert_eq!(self.ask(post.form(&posted)).await.status, StatusCode::OK);

        let wrong = format!("kw_{}", "0123456789abcdefghij".repeat(4)).split_at(74).0.to_owned();
        self.keep_key(&client_id, &wrong);
        let mut other = key.clone();
        other.replace_range(30..31, if &key[30..31] == "a" { "b" } else { "a" });
        self.keep_key(&client_id, &other);
        let mut failed = Vec::new();
        for (id, secret) in [(&client_id, &wrong), (&client_id, &other), (&key, &client_id), (&key, &key)] {
            let request = self.request(Method::POST, "/token").basic_auth(id, Some(secret)).form(&[grant]);
            failed.push(self.ask(request).await);
            let request = self.request(Method::POST, "/token");
            failed.push(self.ask(request.form(&[grant, ("client_id", id), ("client_secret", secret)])).await);
        }
        assert!(failed.iter().all(|told| told.status == StatusCode::UNAUTHORIZED));
        self.misplace(&client_id, &key, &token).await;
        failed.into_iter().map(|told| told.id).collect()
    }

    /// Secrets where none belongs: in forms, paths, queries, headers and bodies.
    async fn misplace(&mut self, client_id: &str, key: &str, token: &str) {
        for name in ["grant_type", "scope", "res", "resource", "client_id", "token", key] {
            let form = [("grant_type", "client_credentials"), (name, key)];
            let form = if name == "grant_type" { &form[1..] } else { &form[..] };
            let request = self.request(Method::POST, "/token").basic_auth(client_id, Some(key)).form(form);
            self.ask(request).await;
        }
        for secret in [key, token] {
            for (method, path) in [
                (Method::POST, format!("/token?client_secret={secret}")),
                (Method::GET, format!("/{secret}")),
                (Method::GET, format!("/api/v1/clients/{secret}")),
                (Method::DELETE, format!("/api/v1/users/{secret}")),
                (Method::POST, format!("/api/v1/credentials/{secret}/revoke")),
                (Method::GET, format!("/api/v1/scopes/{secret}")),
                (Method::GET, format!("/api/v1/{secret}?{secret}={secret}")),
                (Method::GET, format!("/api/v1/clients?name={secret}")),
                (Method::GET, format!("/api/v1/clients?cursor={secret}")),
                (Method::GET, format!("/api/v1/clients?{secret}=1")),
                (Method::GET, format!("/api/v1/events?after={secret}")),
                (Method::GET, format!("/status-lists/{secret}")),
            ] {
                self.ask(self.request(method, &path).bearer_auth(token)).await;
            }
            for body in [
                json!(secret),
                json!({ "name": [secret] }),
                json!({ "name": "a", "kind": secret }),
                json!({ "name": "a", "scope": secret }),
                json!({ "name": "a", "scope": { "a": secret } }),
                json!({ "name": "a", "owner": secret }),
                json!({ "name": "a", "apis": [secret] }),
                json!({ "name": "a", "res": [format!("/{secret}/")] }),
                json!({ "name": "a", "client_secret": secret }),
                json!({ "name": "a", secret: 1 }),
            ] {
                let request = self.request(Method::POST, "/api/v1/clients").bearer_auth(token).json(&body);
                let told = self.ask(request).await;
                assert!(told.status.is_client_error(), "{} {body}", told.status);
            }
            let raw = self.request(Method::POST, "/api/v1/clients").bearer_auth(token);
            self.ask(raw.header("content-type", "application/json").body(format!("{{\"name\": {secret}"))).await;
            for header in [format!("Bearer {secret}"), format!("Bearer {secret} {secret}"), secret.to_owned()] {
                self.ask(self.request(Method::GET, "/api/v1/users/me").header("authorization", &header)).await;
                let form = self.request(Method::POST, "/token").header("authorization", &header);
                self.ask(form.form(&[("grant_type", "client_credentials")])).await;
            }
            let odd = self.request(Method::GET, "/api/v1/users/me").bearer_auth(token);
            let odd = odd.header("idempotency-key", secret).header("if-match", secret).header("traceparent", secret);
            self.ask(odd.header("user-agent", secret).header("x-request-id", secret)).await;
        }
        for path in ["/api/v1/events?limit=1000", "/metrics", "/api/v1/credentials", "/openapi.json"] {
            let told = self.ask(self.request(Method::GET, path).bearer_auth(token)).await;
            assert_eq!(told.status, StatusCode::OK, "{path}");
        }
    }

    /// Nothing that must stay secret is in the log, nor in any answer but the ones that hand it out.
    fn check(&self, password: Option<&str>) {
        let log = self.process.log();
        let master = std::fs::read_to_string(self.process.data().join("master.key")).unwrap();
        let secrets = self.secrets.iter().map(String::as_str).chain([master.trim()]).chain(password);
        for secret in secrets {
            assert!(secret.len() > 20, "{secret:?} would be found by chance");
            for (place, text) in [("log", &log), ("answers", &self.heard)] {
                let line = text.lines().find(|line| line.contains(secret));
                assert_eq!(line, None, "{secret} is in the {place}");
            }
        }
    }
}

/// The lines that are JSON; what is printed for people at the start is not.
fn lines(log: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn no_secret_is_logged_or_repeated_at_the_finest_level_as_json() {
    let database = postgres::database().await;
    let settings =
        [("KEYWARD_DATABASE_URL", database.url()), ("KEYWARD_LOG_LEVEL", "trace"), ("KEYWARD_LOG_FORMAT", "json")];
    let process = Process::serve(&settings).await;
    let mut visitor = Visitor::new(&process);
    let failed = visitor.walk().await;
    let password = database.url().split(':').nth(2).and_then(|rest| rest.split('@').next());
    visitor.check(password);

    let lines = lines(&process.log());
    for line in &lines {
        for member in ["timestamp", "level", "target", "message"] {
            assert!(line[member].is_string(), "{line}");
        }
    }
    for id in failed {
        let of_request: Vec<_> = lines.iter().filter(|line| line["request"] == *id).collect();
        let said = |message: &str| of_request.iter().any(|line| line["message"] == message);
        assert!(said("authentication failed") && said("answered"), "{id}: {of_request:?}");
    }
}

#[tokio::test]
async fn no_secret_is_logged_or_repeated_at_the_finest_level_as_text() {
    let process = Process::serve(&[("KEYWARD_LOG_LEVEL", "trace")]).await;
    let mut visitor = Visitor::new(&process);
    let failed = visitor.walk().await;
    visitor.check(None);
    let log = process.log();
    for id in failed {
        let count = log.lines().filter(|line| line.ends_with(&format!("request={id}"))).count();
        assert!(count >= 2, "{id}: {count} lines");
    }
}

#[tokio::test]
async fn what_goes_well_all_day_is_not_logged_and_changes_are() {
    let process = Process::serve(&[("KEYWARD_LOG_FORMAT", "json")]).await;
    let mut visitor = Visitor::new(&process);
    let (client_id, key, _) = visitor.issue().await;
    let before = process.log().len();
    for _ in 0..3 {
        visitor.token(&client_id, &key).await;
    }
    assert_eq!(&process.log()[before..], "");
    let log = lines(&process.log());
    let created = log.iter().find(|line| line["route"] == "/api/v1/clients/{id}/credentials").expect("a line");
    assert_eq!(
        (&created["status"], &created["method"], &created["level"]),
        (&201.into(), &"POST".into(), &"INFO".into())
    );
}

#[tokio::test]
async fn a_database_that_fails_is_logged_with_the_request_that_met_it_and_without_its_password() {
    let cluster = PrivateCluster::start();
    let database = cluster.database().await;
    let settings = [("KEYWARD_DATABASE_URL", database.url()), ("KEYWARD_LOG_FORMAT", "json")];
    let process = Process::serve(&settings).await;
    let mut visitor = Visitor::new(&process);
    let (_, _, token) = visitor.issue().await;
    cluster.kill_9();
    let list = visitor.request(Method::GET, "/api/v1/clients").bearer_auth(&token);
    let told = visitor.ask(list).await;
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    let log = lines(&process.log());
    let line = log.iter().find(|line| line["message"] == "the database failed" && line["request"] == *told.id);
    assert_eq!(line.expect("a line")["level"], "ERROR");
    visitor.check(database.url().split(':').nth(2).and_then(|rest| rest.split('@').next()));
}

#[tokio::test]
async fn a_network_that_hammers_does_not_fill_the_log() {
    let settings = [
        ("KEYWARD_LIMITS_FAILURES_BURST", "3"),
        ("KEYWARD_LIMITS_FAILURES_PER_MINUTE", "1"),
        ("KEYWARD_LOG_FORMAT", "json"),
    ];
    let process = Process::serve(&settings).await;
    let mut visitor = Visitor::new(&process);
    let before = lines(&process.log()).len();
    for n in 0..60 {
        let guess = visitor.request(Method::POST, "/token").basic_auth(format!("client_{n}"), Some("wrong"));
        visitor.ask(guess.form(&[("grant_type", "client_credentials")])).await;
        let report = visitor.request(Method::POST, "/leaks").json(&json!({ "key": "wrong" }));
        assert_eq!(visitor.ask(report).await.status == StatusCode::TOO_MANY_REQUESTS, n > 0, "{n}");
    }
    let log = lines(&process.log());
    let told = |message: &str| log.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    let refused = told("too many reports from one network").len() + told("too many failed authentications").len();
    assert!(log.len() - before < 20 && (1..=2).contains(&refused), "{log:?}");
    assert!(told("answered").iter().all(|line| line["status"] != 429), "{log:?}");
}
