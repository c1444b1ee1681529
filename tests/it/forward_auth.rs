//! `/forward-auth`: the two-token rule for gateways that ask over HTTP.

use std::time::Duration;

use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Secrets, TestServer};
use keyward_tests::tokens;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

pub(crate) const ORDERS: &str = "https://orders.example";

/// What a gateway asks of one request.
pub(crate) struct Ask<'a> {
    pub(crate) server: &'a TestServer,
    pub(crate) query: Vec<(&'a str, &'a str)>,
    pub(crate) headers: Vec<(&'a str, String)>,
}

impl<'a> Ask<'a> {
    /// For the orders API, with this token.
    pub(crate) fn with(server: &'a TestServer, token: &str) -> Self {
        let headers = vec![("authorization", format!("Bearer {token}"))];
        Self { server, query: vec![("audience", ORDERS)], headers }
    }

    /// The same with one more parameter.
    pub(crate) fn asking(mut self, name: &'a str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) async fn answer(self) -> Answer {
        let url = format!("{}/forward-auth", self.server.url());
        let mut request = self.server.http.get(url).query(&self.query);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        Answer::of(request).await
    }

    pub(crate) async fn status(self) -> u16 {
        self.answer().await.status.as_u16()
    }
}

/// What the API is told: all `Keyward-*` headers. Each is there; those that say nothing are empty.
pub(crate) fn told(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.headers.keys().filter(|name| name.as_str().starts_with("keyward-")).count(), 10);
    let told = answer.headers.iter().filter_map(|(name, value)| Some((name.as_str().strip_prefix("keyward-")?, value)));
    told.filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), json!(value.to_str().unwrap())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Where the orders API is found in the REST API.
pub(crate) async fn place_of_orders(admin: &Api<'_>) -> String {
    let apis = admin.get("/api/v1/apis").await.ok();
    let api = apis["items"].as_array().unwrap().iter().find(|api| api["audience"] == ORDERS).unwrap();
    format!("/api/v1/apis/{}", api["id"].as_str().unwrap())
}

async fn orders(server: &TestServer) -> (Secrets, String) {
    let key = server.admin().await.orders_key().await;
    let token = server.token(&key, &[]).await;
    (key, token)
}

on_both_databases! {
    async fn a_request_with_a_token_for_the_api_is_let_in_and_the_api_told_who_calls(server: TestServer) {
        let (key, token) = orders(&server).await;
        let answer = Ask::with(&server, &token).answer().await;
        let owner = tokens::claims(&token)["sub"].clone();
        assert_eq!(told(&answer), json!({
            "client": key.client_id, "subject": owner, "modified-by": owner, "scope": "Worker", "res": "plant/7",
            "credential": key.credential(),
        }));
        assert_eq!((answer.header("cache-control"), &answer.body), ("no-store", &Value::Null));
    }

    async fn a_request_without_the_right_token_is_turned_away_with_a_challenge(server: TestServer) {
        let api = server.admin().await;
        let key = api.orders_key().await;
        let (token, admin) = (server.token(&key, &[]).await, api.token);
        let missing = Ask { headers: vec![], ..Ask::with(&server, "") }.answer().await;
        assert_eq!((missing.status.as_u16(), missing.header("www-authenticate")), (401, r#"Bearer realm="https://orders.example""#));
        assert_eq!(missing.body, json!({ "error_description": "an access token is needed" }));
        let basic = format!("Basic {}", "a2V5OmtleQ==");
        for (header, status, error) in [
            (basic, 401, Value::Null),
            (format!("Bearer {token}x"), 401, json!("invalid_token")),
            (format!("Bearer {admin}"), 401, json!("invalid_token")),
            (format!("Bearer {}", key.client_secret), 401, json!("invalid_token")),
            ("Bearer".to_owned(), 400, json!("invalid_request")),
            (format!("Bearer {token} {token}"), 400, json!("invalid_request")),
        ] {
            let ask = Ask { headers: vec![("authorization", header.clone())], ..Ask::with(&server, "") };
            let answer = ask.answer().await;
            assert_eq!((answer.status.as_u16(), &answer.body["error"]), (status, &error), "{header}");
            assert!(answer.header("www-authenticate").starts_with("Bearer realm="), "{header}");
            assert!(answer.header("location").is_empty() && answer.header("keyward-client").is_empty());
            assert_eq!(answer.header("cache-control"), "no-store");
        }
        let twice = Ask::with(&server, &token).header("authorization", format!("Bearer {token}"));
        assert_eq!(twice.status().await, 400);
        server.clock.advance(Duration::from_secs(631));
        assert_eq!(Ask::with(&server, &token).status().await, 401);
    }

    async fn what_a_route_asks_for_must_all_be_in_the_token(server: TestServer) {
        let (_, token) = orders(&server).await;
        for (parameters, status) in [
            (&[("scope", "Worker")][..], 200),
            (&[("scope", "Worker"), ("res", "plant/7")], 200),
            (&[("res", "plant/7/line/3 plant/7/line/4")], 200),
            (&[("scope", "Supervisor")], 403),
            (&[("scope", "Worker Supervisor")], 403),
            (&[("scope", "Worker"), ("scope", "Supervisor")], 403),
            (&[("res", "plant/70")], 403),
            (&[("res", "plant/7 plant/8")], 403),
            (&[("res", "plant/7"), ("res", "plant")], 403),
            (&[("res", "*")], 403),
        ] {
            let mut ask = Ask::with(&server, &token);
            ask.query.extend(parameters);
            let answer = ask.answer().await;
            assert_eq!(answer.status.as_u16(), status, "{parameters:?}");
            if status == 403 {
                assert_eq!(answer.body["error"], "insufficient_scope");
                assert!(answer.header("www-authenticate").contains("insufficient_scope"));
            }
        }
    }

    async fn a_route_may_take_the_resource_from_the_path_as_it_came(server: TestServer) {
        let (_, token) = orders(&server).await;
        let to = async |uri: &str| Ask::with(&server, &token).asking("res_after", "/api").header("x-forwarded-uri", uri).status().await;
        for uri in ["/api/plant/7", "/api/plant/7/", "/api/plant/7/line/3?x=/../8", "/api/plant/7?"] {
            assert_eq!(to(uri).await, 200, "{uri}");
        }
        for uri in [
            "/api/plant/8", "/api/plant/70", "/api/plant", "/api", "/", "/plant/7", "/apiplant/7", "/api/plant/7/../8",
            "/api/plant/7%2f..%2f8", "/api/plant/7/%2e%2e/8", "/api//plant/7", "/api/plant/7//8", "/api/plant%2f7", "//api/plant/7",
            "/x/../api/plant/7", "/api/plant/7;/../8", "http://orders.example/api/plant/7", "/api/plant/7/.", "/api/*",
        ] {
            assert_eq!(to(uri).await, 403, "{uri}");
        }
        let twice = Ask::with(&server, &token).asking("res_after", "/api").header("x-forwarded-uri", "/api/plant/7");
        assert_eq!(twice.header("x-forwarded-uri", "/api/plant/8").status().await, 500);
        assert_eq!(Ask::with(&server, &token).asking("res_after", "/api").status().await, 500);
    }

    async fn a_path_that_servers_read_differently_is_refused_on_every_route_unless_it_allows_it(server: TestServer) {
        let (_, token) = orders(&server).await;
        let to = |uri: &str| Ask::with(&server, &token).asking("scope", "Worker").header("x-forwarded-uri", uri);
        for uri in ["/", "/reports/today", "/reports/a%20b/", "/reports/v1.2?next=/../;%2f//"] {
            assert_eq!(to(uri).status().await, 200, "{uri}");
        }
        for uri in [
            "/reports/..;/api/plant/8", "/reports/today;x=1", "/reports/..\\api", "/reports/..%2fapi", "/reports/%2e%2e/api",
            "/reports/..%5Capi", "/reports//api", "/reports/../api", "/reports/%252e%252e/api", "//reports", "reports",
        ] {
            let answer = to(uri).answer().await;
            assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (403, ""), "{uri}");
            assert!(answer.body["error_description"].as_str().unwrap().starts_with("servers read this path"), "{}", answer.body);
            assert_eq!((answer.header("cache-control"), answer.header("keyward-client")), ("no-store", ""));
            let allowed = || to(uri).asking("ambiguous_paths", "allow");
            assert_eq!(allowed().status().await, 200, "{uri}");
            assert_eq!(allowed().asking("res_after", "/reports").status().await, 403, "{uri} is still no resource");
        }
        let stranger = Ask { headers: vec![("x-forwarded-uri", "/a;b".to_owned())], ..Ask::with(&server, "") };
        assert_eq!(stranger.status().await, 401, "who calls is asked first");
        assert_eq!(to("/reports").header("x-forwarded-uri", "/api").status().await, 500);
    }

    async fn a_gateway_that_is_not_set_up_rightly_lets_nobody_in(server: TestServer) {
        let (_, token) = orders(&server).await;
        for query in [
            &[][..],
            &[("audience", "")],
            &[("audience", "https://elsewhere.example")],
            &[("audience", ORDERS), ("audience", ORDERS)],
            &[("audience", ORDERS), ("scopes", "Worker")],
            &[("audience", ORDERS), ("scope", "Janitor")],
            &[("audience", ORDERS), ("scope", "keyward:admin")],
            &[("audience", ORDERS), ("res", "plant//7")],
            &[("audience", ORDERS), ("res_after", "api")],
            &[("audience", ORDERS), ("ambiguous_paths", "yes")],
        ] {
            for token in [token.as_str(), "none"] {
                let answer = Ask { query: query.to_vec(), ..Ask::with(&server, token) }.answer().await;
                assert_eq!((answer.status.as_u16(), &answer.body["error"]), (500, &json!("server_error")), "{query:?}");
                assert!(!answer.body.to_string().contains("elsewhere"), "{}", answer.body);
            }
        }
    }

    async fn any_method_is_answered_and_no_body_read(server: TestServer) {
        let (_, token) = orders(&server).await;
        let url = format!("{}/forward-auth?audience={ORDERS}", server.url());
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"] {
            let method: Method = method.parse().unwrap();
            let request = server.http.request(method.clone(), &url).bearer_auth(&token);
            assert_eq!(Answer::of(request).await.status, StatusCode::OK, "{method}");
        }
        let request = server.http.post(&url).bearer_auth(&token).body(vec![b'x'; 100_000]);
        assert_eq!(Answer::of(request).await.status, StatusCode::OK);
    }

    async fn what_ends_a_token_ends_it_here_at_once(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let client = format!("/api/v1/clients/{}", key.client_id);
        let first = told(&Ask::with(&server, &token).answer().await);
        assert_eq!(told(&Ask::with(&server, &token).answer().await), first, "asked again, it is remembered");
        assert_eq!(Ask::with(&server, &token).asking("res", "plant/8").status().await, 403, "and judged for each route");
        admin.patch(&client, &json!({ "res": ["plant/8"] })).await.ok();
        assert_eq!(Ask::with(&server, &token).status().await, 401, "its client may less");
        admin.patch(&client, &json!({ "res": ["plant/7"] })).await.ok();
        assert_eq!(Ask::with(&server, &token).status().await, 401, "what was ended stays ended");
        let token = server.token(&key, &[]).await;
        assert_eq!(Ask::with(&server, &token).status().await, 200);
        admin.act(&format!("{client}/disable")).await.ok();
        assert_eq!(Ask::with(&server, &token).status().await, 401, "its client is disabled");
        admin.act(&format!("{client}/enable")).await.ok();
        assert_eq!(Ask::with(&server, &token).status().await, 200);
        Answer::of(server.form("/revoke", &key, &[("token", &token)])).await;
        let ended = Ask::with(&server, &token).answer().await;
        assert_eq!((ended.status.as_u16(), &ended.body["error_description"]), (401, &json!("the token has been revoked")));
        let another = server.token(&key, &[]).await;
        admin.revoke(&key).await;
        assert_eq!(Ask::with(&server, &another).status().await, 401, "its key is revoked");
    }

    async fn what_is_remembered_needs_no_database_and_the_rest_is_nobodys_fault(server: TestServer) {
        let (_, token) = orders(&server).await;
        let mut claims = tokens::claims(&token);
        claims["cred"] = json!("cred_01h455vb4pex5vsknk084sn02q");
        let unknown = tokens::sign(&server, &claims).await;
        assert_eq!(Ask::with(&server, &unknown).status().await, 401);
        claims["cred"] = json!("cred_01h455vb4pex5vsknk084sn02r");
        let never_seen = tokens::sign(&server, &claims).await;
        server.execute("ALTER TABLE credentials RENAME TO gone").await;
        assert_eq!(Ask::with(&server, &token).status().await, 200);
        assert_eq!(Ask::with(&server, &unknown).status().await, 401);
        let answer = Ask::with(&server, &never_seen).answer().await;
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate"), answer.header("retry-after")), (503, "", "1"));
    }

    async fn a_user_who_is_present_is_told_and_bounds_what_the_client_may(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let identity = tokens::identity(&server, &token, &json!({ "res": ["plant/7/line/3"] })).await;
        let with = |identity: &str| Ask::with(&server, &token).header("identity-token", identity);
        let told = told(&with(&identity).answer().await);
        let claims = tokens::claims(&identity);
        assert_eq!((&told["user"], &told["modified-by"], &told["session"]), (&claims["sub"], &claims["sub"], &claims["sid"]));
        assert_eq!((&told["res"], &told["scope"], &told["client"]), (&json!("plant/7/line/3"), &json!("Worker"), &json!(key.client_id)));
        assert_eq!(with(&identity).asking("res", "plant/7").status().await, 403);
        assert_eq!(with(&token).status().await, 401, "a client token is no identity token");
        assert_eq!(with("a b").status().await, 400);
        assert_eq!(Ask::with(&server, &identity).status().await, 401, "a confidential client's does not stand alone");
        let narrow = tokens::identity(&server, &token, &json!({ "scope": "" })).await;
        assert_eq!(with(&narrow).asking("scope", "Worker").status().await, 403);
        admin.revoke(&key).await;
        assert_eq!(with(&identity).status().await, 401);
    }

    async fn identity_tokens_of_another_client_are_taken_where_the_api_names_it(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let (token, place) = (server.token(&key, &[]).await, place_of_orders(&admin).await);
        let api = admin.get(&place).await.ok()["id"].clone();
        let login = admin.new_client(json!({ "name": "login", "scope": "Worker", "res": ["plant"], "apis": [api] })).await;
        let login_token = server.token(&admin.issue(&login, &json!({})).await, &[]).await;
        let identity = tokens::identity(&server, &login_token, &json!({})).await;
        let ask = || Ask::with(&server, &token).header("identity-token", &identity);
        let refused = ask().answer().await;
        assert_eq!(refused.body["error_description"], "the identity token was issued to another client");
        admin.patch(&place, &json!({ "identity_clients": [login] })).await.ok();
        assert_eq!(told(&ask().answer().await)["res"], "plant/7");
        admin.patch(&place, &json!({ "identity_clients": [] })).await.ok();
        assert_eq!(ask().status().await, 401);
    }
}
