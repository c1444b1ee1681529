//! An authorization server that answers as a test tells it to, for whoever signs in.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The user whom everybody signs in as.
pub const USER: &str = "user_01h455vb4pex5vsknk084sn02q";
/// The client for command lines.
pub const CLIENT: &str = "client_01h455vb4pex5vsknk084sn02q";

/// A request to one of its endpoints: the path, and the parameters of the form.
pub type Asked = (String, Vec<(String, String)>);

/// A running server. Stops with the value.
pub struct Authority {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: tokio::task::JoinHandle<()>,
}

struct Inner {
    url: String,
    /// What `/token` answers, one after the other; then that nobody has decided.
    answers: Mutex<VecDeque<(u16, Value)>>,
    asked: Mutex<Vec<Asked>>,
    expires_in: u64,
}

/// The answer with tokens, numbered so that they can be told apart.
pub fn tokens(number: u32, expires_in: i64) -> (u16, Value) {
    let tokens = json!({ "access_token": format!("access-{number}"), "refresh_token": format!("refresh-{number}"),
        "token_type": "Bearer", "expires_in": expires_in, "scope": "keyward:self" });
    (200, tokens)
}

/// A refusal of RFC 6749 §5.2 or RFC 8628 §3.5.
pub fn refusal(error: &str) -> (u16, Value) {
    (400, json!({ "error": error }))
}

impl Authority {
    /// One whose codes live so long, and whose token endpoint gives these answers.
    pub async fn start(expires_in: u64, answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (answers, asked) = (Mutex::new(answers.into_iter().collect()), Mutex::default());
        let inner = Arc::new(Inner { url: format!("http://{address}"), answers, asked, expires_in });
        let router = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/authorize", get(authorize))
            .route("/auth/device", post(device))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .route("/api/v1/users/me", get(me))
            .with_state(Arc::clone(&inner));
        let serving = tokio::spawn(async { drop(axum::serve(listener, router).await) });
        Self { address, inner, serving }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Further answers of the token endpoint.
    pub fn will_answer(&self, answers: impl IntoIterator<Item = (u16, Value)>) {
        lock(&self.inner.answers).extend(answers);
    }

    /// What was asked at a path, in order: the value of a parameter each.
    pub fn asked(&self, path: &str, parameter: &str) -> Vec<String> {
        let asked = lock(&self.inner.asked);
        let of_path = asked.iter().filter(|(to, _)| to == path);
        of_path.map(|(_, form)| value(form, parameter).unwrap_or_default()).collect()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Inner {
    fn note(&self, path: &str, body: &str) -> Vec<(String, String)> {
        let url = reqwest::Url::parse(&format!("http://form/?{body}")).expect("a form");
        let form: Vec<_> = url.query_pairs().into_owned().collect();
        lock(&self.asked).push((path.to_owned(), form.clone()));
        form
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn value(form: &[(String, String)], parameter: &str) -> Option<String> {
    form.iter().find(|(name, _)| name == parameter).map(|(_, value)| value.clone())
}

async fn metadata(State(inner): State<Arc<Inner>>) -> Json<Value> {
    Json(json!({ "issuer": inner.url, "keyward_cli_client_id": CLIENT,
        "authorization_endpoint": format!("{}/authorize", inner.url) }))
}

/// Somebody who says yes at once: back to the client, with a code.
async fn authorize(State(inner): State<Arc<Inner>>, Query(query): Query<Vec<(String, String)>>) -> Response {
    lock(&inner.asked).push(("/authorize".to_owned(), query.clone()));
    let back = value(&query, "redirect_uri").expect("a redirect URI");
    let state = value(&query, "state").expect("a state");
    let brought = [("code", "the-code"), ("state", &state), ("iss", &inner.url)];
    let back = reqwest::Url::parse_with_params(&back, brought).expect("a URL");
    (StatusCode::SEE_OTHER, [(header::LOCATION, back.to_string())]).into_response()
}

async fn device(State(inner): State<Arc<Inner>>, body: String) -> Json<Value> {
    inner.note("/auth/device", &body);
    Json(json!({ "device_code": "the-device-code", "user_code": "WDJB-MJHT", "expires_in": inner.expires_in,
        "verification_uri": format!("{}/device", inner.url), "interval": 1,
        "verification_uri_complete": format!("{}/D/WDJB-MJHT", inner.url) }))
}

async fn token(State(inner): State<Arc<Inner>>, body: String) -> Response {
    inner.note("/token", &body);
    let answer = lock(&inner.answers).pop_front();
    let (status, answer) = answer.unwrap_or_else(|| refusal("authorization_pending"));
    (StatusCode::from_u16(status).expect("a status"), Json(answer)).into_response()
}

async fn revoke(State(inner): State<Arc<Inner>>, body: String) -> Json<Value> {
    inner.note("/revoke", &body);
    Json(json!({}))
}

async fn me(State(inner): State<Arc<Inner>>) -> Json<Value> {
    inner.note("/api/v1/users/me", "");
    Json(json!({ "id": USER, "name": "olga", "email": null, "scope": "keyward:self", "res": ["*"], "disabled_at": null,
        "created_at": "2026-11-23T12:00:00Z", "updated_at": "2026-11-23T12:00:00Z" }))
}
