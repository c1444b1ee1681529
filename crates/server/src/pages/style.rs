//! The one stylesheet of all pages. Its URL holds a hash of its content, so that browsers may keep it for good.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, Uri};

use crate::app::App;
use crate::pages::served::Served;

const PATH: &str = "/assets/style.css";

static STYLE: LazyLock<Served> =
    LazyLock::new(|| Served::new(include_bytes!("../../assets/style.css").to_vec(), "text/css; charset=utf-8"));

/// The URL by which pages name it.
pub(crate) fn url() -> String {
    format!("{PATH}?{}", STYLE.version())
}

/// Where it is.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route(PATH, get(style))
}

async fn style(uri: Uri, headers: HeaderMap) -> Response {
    // While nodes are replaced one by one, a page of one may ask another for a style that this one does not have.
    let is_exact = uri.query() == Some(STYLE.version());
    STYLE.answer(&headers, if is_exact { "public, max-age=31536000, immutable" } else { "no-cache" })
}
