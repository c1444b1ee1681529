//! The example API of the demo: a plant whose lines only its workers may see.
//!
//! It fetches the published keys once and verifies every token by itself; it never asks the server.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use keyward_guard::{Expect, KeySet, Refusal, bearer, require_res, require_scope, verify};
use keyward_model::jws::Jwks;
use keyward_model::token::AccessTokenClaims;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{remote, when};

/// The audience of its tokens.
pub(super) const AUDIENCE: &str = "https://plant.example/api";
/// The scope without which nobody sees anything.
const SCOPE: &str = "Worker";

/// The running example API.
pub(super) struct Plant {
    /// Where it listens.
    pub(super) url: String,
    serving: JoinHandle<std::io::Result<()>>,
}

struct Door {
    keys: KeySet,
    expect: Expect,
}

impl Plant {
    /// Opens the plant to whoever holds a token of this issuer.
    pub(super) async fn open(issuer: &str) -> anyhow::Result<Self> {
        let jwks: Jwks = remote::http(issuer)?.get(format!("{issuer}/jwks")).send().await?.json().await?;
        let door = Door { keys: KeySet::from_jwks(&jwks), expect: Expect::new(issuer, AUDIENCE) };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().route("/{*res}", get(line)).with_state(Arc::new(door));
        let serving = tokio::spawn(axum::serve(listener, router).into_future());
        Ok(Self { url, serving })
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `GET /plant/7/line/3`: the path is the resource.
async fn line(State(door): State<Arc<Door>>, Path(res): Path<String>, headers: HeaderMap) -> Response {
    match enter(&door, &headers, &res) {
        Ok(claims) => {
            let seen = json!({ "resource": res, "user": claims.sub, "client": claims.client_id, "key": claims.cred });
            Json(seen).into_response()
        }
        Err(refusal) => refuse(&refusal),
    }
}

fn enter(door: &Door, headers: &HeaderMap, res: &str) -> Result<AccessTokenClaims, Refusal> {
    let authorization = headers.get(header::AUTHORIZATION).ok_or(Refusal::Missing)?;
    let claims = verify(bearer(authorization.as_bytes())?, &door.keys, &door.expect, when::now())?;
    require_scope(&claims, SCOPE)?;
    require_res(&claims, res)?;
    Ok(claims)
}

fn refuse(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let body = Json(json!({ "error": refusal.description() }));
    let mut response = (status, body).into_response();
    if let Some(Ok(challenge)) = refusal.challenge("plant").map(HeaderValue::try_from) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
