//! The example API of the demo: a plant whose lines only its workers may see.
//!
//! Its guard finds the published keys and what was revoked; no request makes it ask the server.

use axum::extract::Path;
use axum::routing::get;
use axum::{Extension, Json, Router};
use keyward_guard::{Caller, Guard, Refusal};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

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

impl Plant {
    /// Opens the plant to whoever holds a token of this issuer.
    pub(super) async fn open(issuer: &str) -> anyhow::Result<Self> {
        let guard = Guard::discover(issuer).audience(AUDIENCE).realm("plant").await?;
        let router = Router::new().route("/{*res}", get(line)).layer(guard.layer().require_scope(SCOPE));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
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
async fn line(Extension(caller): Extension<Caller>, Path(res): Path<String>) -> Result<Json<Value>, Refusal> {
    caller.require_res(&res)?;
    let (user, client, key) = (caller.modified_by(), caller.client(), caller.credential());
    Ok(Json(json!({ "resource": res, "user": user, "client": client, "key": key })))
}
