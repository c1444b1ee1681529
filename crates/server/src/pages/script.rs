//! The scripts. One talks to authenticators, which nothing but a script can; the other looks whether a device has been
//! signed in, so that nobody has to ask. Everything but passkeys works without.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, Uri};

use crate::app::App;
use crate::pages::served::Served;

const PATH: &str = "/assets/passkeys.js";
const WATCH_PATH: &str = "/assets/watch.js";

static SCRIPT: LazyLock<Served> = LazyLock::new(|| {
    Served::new(include_bytes!("../../assets/passkeys.js").to_vec(), "text/javascript; charset=utf-8")
});

static WATCH: LazyLock<Served> =
    LazyLock::new(|| Served::new(include_bytes!("../../assets/watch.js").to_vec(), "text/javascript; charset=utf-8"));

/// The URL by which pages name the one for passkeys.
pub(crate) fn url() -> String {
    format!("{PATH}?{}", SCRIPT.version())
}

/// The URL by which pages name the one that looks at a device.
pub(crate) fn watch_url() -> String {
    format!("{WATCH_PATH}?{}", WATCH.version())
}

/// Where they are.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route(PATH, get(script)).route(WATCH_PATH, get(watch))
}

async fn watch(uri: Uri, headers: HeaderMap) -> Response {
    WATCH.answer_at(&uri, &headers)
}

async fn script(uri: Uri, headers: HeaderMap) -> Response {
    SCRIPT.answer_at(&uri, &headers)
}
