//! The one script: it talks to authenticators, which nothing but a script can. Everything else works without.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, Uri};

use crate::app::App;
use crate::pages::served::Served;

const PATH: &str = "/assets/passkeys.js";

static SCRIPT: LazyLock<Served> = LazyLock::new(|| {
    Served::new(include_bytes!("../../assets/passkeys.js").to_vec(), "text/javascript; charset=utf-8")
});

/// The URL by which pages name it.
pub(crate) fn url() -> String {
    format!("{PATH}?{}", SCRIPT.version())
}

/// Where it is.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route(PATH, get(script))
}

async fn script(uri: Uri, headers: HeaderMap) -> Response {
    SCRIPT.answer_at(&uri, &headers)
}
