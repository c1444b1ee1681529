//! The one stylesheet of all pages. Its URL holds a hash of its content, so that browsers may keep it for good.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, Uri};

use crate::app::App;
use crate::pages::served::Served;

const PATH: &str = "/assets/style.css";

const SHEETS: [&str; 4] = [
    include_str!("../../assets/style.css"),
    include_str!("../../assets/reference.css"),
    include_str!("../../assets/account.css"),
    include_str!("../../assets/device.css"),
];

static STYLE: LazyLock<Served> = LazyLock::new(|| Served::new(SHEETS.concat().into_bytes(), "text/css; charset=utf-8"));

/// The URL by which pages name it.
pub(crate) fn url() -> String {
    format!("{PATH}?{}", STYLE.version())
}

/// Where it is.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route(PATH, get(style))
}

async fn style(uri: Uri, headers: HeaderMap) -> Response {
    STYLE.answer_at(&uri, &headers)
}
