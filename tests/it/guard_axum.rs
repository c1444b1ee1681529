//! APIs in axum behind a guard: as a layer, and as an argument of handlers.

use axum::extract::{FromRef, Path};
use axum::routing::{get, post};
use axum::{Extension, Router};
use keyward_guard::{Caller, Guard, Refusal};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, TestServer};
use reqwest::StatusCode;
use serde_json::json;

use crate::guard::guard;

/// A running API. Stops with the value.
struct Api {
    url: String,
    http: reqwest::Client,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Api {
    async fn serve(router: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { url, http: keyward_tests::http(), serving: tokio::spawn(axum::serve(listener, router).into_future()) }
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let request = self.http.get(format!("{}{path}", self.url));
        Answer::of(token.into_iter().fold(request, |request, token| request.bearer_auth(token))).await
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A state of which a guard is only a part.
#[derive(Clone)]
struct Orders {
    guard: Guard,
    name: &'static str,
}

impl FromRef<Orders> for Guard {
    fn from_ref(orders: &Orders) -> Self {
        orders.guard.clone()
    }
}

async fn argument(caller: Caller, Path(res): Path<String>) -> Result<String, Refusal> {
    caller.require("Worker", &res)?;
    Ok(caller.modified_by())
}

async fn extension(Extension(caller): Extension<Caller>, Path(res): Path<String>) -> Result<String, Refusal> {
    caller.require("Worker", &res)?;
    Ok(caller.modified_by())
}

async fn perhaps(caller: Option<Caller>, state: axum::extract::State<Orders>) -> String {
    caller.map_or_else(|| format!("anybody may read of {}", state.name), |caller| caller.client().to_string())
}

on_both_databases! {
    async fn a_layer_lets_callers_through_and_challenges_all_others(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let guard = guard(&server).realm("orders").await.unwrap();
        let admins = Router::new().route("/admin", post(async || "done")).layer(guard.layer().require_scope("Admin"));
        let router = Router::new().route("/{*res}", get(extension)).layer(guard.layer()).merge(admins);
        let api = Api::serve(router).await;

        let answer = api.get("/plant/7/line/3", Some(&token)).await;
        assert_eq!(answer.status, StatusCode::OK);
        for (path, token, status, challenge) in [
            ("/plant/7", None, 401, "Bearer realm=\"orders\""),
            ("/plant/7", Some("a b"), 400, "Bearer realm=\"orders\", error=\"invalid_request\""),
            ("/plant/7", Some("a.b.c"), 401, "Bearer realm=\"orders\", error=\"invalid_token\""),
            ("/plant/7", Some(admin.token.as_str()), 401, "Bearer realm=\"orders\", error=\"invalid_token\""),
            ("/plant/8", Some(&token), 403, "Bearer realm=\"orders\", error=\"insufficient_scope\""),
        ] {
            let answer = api.get(path, token).await;
            assert_eq!(answer.status.as_u16(), status, "{path} {token:?}");
            assert!(answer.header("www-authenticate").starts_with(challenge), "{answer:?}");
            assert_eq!((answer.header("location"), answer.header("cache-control")), ("", "no-store"));
            let code = if token.is_none() { "token_missing" } else { answer.body["error"].as_str().unwrap() };
            assert_eq!(answer.body["error"], code);
            assert!(answer.body["error_description"].is_string());
        }
        let admin_only = api.http.post(format!("{}/admin", api.url)).bearer_auth(&token);
        let answer = Answer::of(admin_only).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.header("www-authenticate").ends_with(", scope=\"Admin\""), "{answer:?}");
        let refused = guard.measures().refused;
        let counted = [("missing", 1), ("invalid_request", 1), ("invalid_token", 2), ("insufficient_scope", 2)];
        assert_eq!(refused[..4], counted);
    }

    async fn a_handler_that_takes_a_caller_is_not_reached_without_one(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let guard = guard(&server).realm("orders").await.unwrap();
        let state = Orders { guard: guard.clone(), name: "orders" };
        let router = Router::new().route("/open", get(perhaps)).route("/{*res}", get(argument)).with_state(state);
        let api = Api::serve(router).await;

        assert_eq!(api.get("/plant/7", Some(&token)).await.status, StatusCode::OK);
        let answer = api.get("/plant/7", None).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (StatusCode::UNAUTHORIZED, "Bearer realm=\"orders\""));
        // A refusal of the handler's own is told in the usual realm, for no layer is there that knows another.
        let answer = api.get("/plant/8", Some(&token)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.header("www-authenticate").starts_with("Bearer realm=\"api\", error=\"insufficient_scope\""));

        // With a layer of the same guard in front, it is told in the API's own, and the token is checked once.
        let state = Orders { guard: guard.clone(), name: "orders" };
        let router = Router::new().route("/{*res}", get(argument)).with_state(state).layer(guard.layer());
        let both = Api::serve(router).await;
        let before = guard.measures().accepted;
        let answer = both.get("/plant/8", Some(&token)).await;
        assert!(answer.header("www-authenticate").starts_with("Bearer realm=\"orders\", error=\"insufficient_scope\""));
        assert_eq!(guard.measures().accepted, before + 1);

        // Nobody is overlooked who sends something.
        assert_eq!(api.get("/open", None).await.status, StatusCode::OK);
        assert_eq!(api.get("/open", Some(&token)).await.status, StatusCode::OK);
        assert_eq!(api.get("/open", Some("a.b.c")).await.status, StatusCode::UNAUTHORIZED);
        let identity_alone = api.http.get(format!("{}/open", api.url)).header("identity-token", "a.b.c");
        assert_eq!(Answer::of(identity_alone).await.status, StatusCode::UNAUTHORIZED);
    }

    async fn an_api_whose_guard_knows_nothing_asks_callers_to_come_back(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let mut server = server;
        server.stop_serving().await;
        let guard = guard(&server).start_unready().unwrap();
        let api = Api::serve(Router::new().route("/{*res}", get(extension)).layer(guard.layer())).await;
        let answer = api.get("/plant/7", Some(&token)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "2"));
        assert_eq!((answer.header("www-authenticate"), &answer.body["error"]), ("", &json!("temporarily_unavailable")));
    }
}
