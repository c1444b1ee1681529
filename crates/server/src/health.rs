//! For those who watch over the server: alive, ready, metrics.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

use crate::app::App;
use crate::meter;
use crate::request::Arrival;
use crate::respond::Problem;

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: the database answers too, so requests can be served.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.store.ping().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
    }
}

/// `GET /metrics`, for the networks of the settings only.
pub(crate) async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    let address = Arrival::address(request.extensions());
    if !address.is_some_and(|a| app.metrics_networks.iter().any(|net| net.contains(&a.to_canonical()))) {
        return Problem::Forbidden.because("the setting [server] metrics_networks says who may see this").into_response();
    }
    let mut response = meter::render().into_response();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
