//! For those who watch over the server: alive, ready, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use keyward_model::jws::SigningAlgorithm;
use keyward_model::time::Timestamp;
use keyward_store::StoreError;

use crate::app::App;
use crate::meter::Text;
use crate::request::Arrival;
use crate::respond::Problem;

/// How long the database may take to answer a question about its health: those who ask do not wait for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: the database answers too, so requests can be served.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    match in_time(app.store.ping()).await {
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
    // A proxy spoke for whoever this is, and nobody scrapes through one: its own address says nothing.
    let forwarded = ["x-forwarded-for", "forwarded"].iter().any(|name| request.headers().contains_key(*name));
    if forwarded || !address.is_some_and(|a| app.metrics_networks.iter().any(|net| net.contains(&a.to_canonical()))) {
        return Problem::Forbidden
            .because("the setting [server] metrics_networks says who may see this")
            .into_response();
    }
    let mut text = Text::of_all_counters();
    measure_cache(&app, &mut text);
    let unwritten = app.callers.unwritten();
    text.one("keyward_callers_unwritten", "gauge", "Callers in memory that are not written down yet", unwritten);
    let now = app.clock.now();
    if measure_log(&app, &mut text).await {
        measure_deliveries(&app, now, &mut text).await;
    }
    measure_keys(&app, now, &mut text);
    text.family("keyward_build_info", "gauge", "The version that runs");
    text.sample("keyward_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let mut response = text.finish().into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn measure_cache(app: &App, text: &mut Text) {
    let families = [
        ("keyward_cache_entries", "gauge", "Credentials, clients, users and verified tokens in memory"),
        ("keyward_cache_hits_total", "counter", "How often one that was needed was in memory"),
        ("keyward_cache_misses_total", "counter", "How often one had to be read from the database, or verified"),
    ];
    let (entries, [hits, misses]) = app.verified.measures();
    let tokens = ("tokens", [entries as u64, hits, misses]);
    let measures = app.principals.measures().into_iter().chain([tokens]).collect::<Vec<_>>();
    for (n, (name, kind, help)) in families.into_iter().enumerate() {
        text.family(name, kind, help);
        for (cache, values) in &measures {
            text.sample(name, &[("cache", cache)], values.get(n).copied().unwrap_or_default());
        }
    }
}

/// How far this node is behind; without the database only what it knows itself. Gives whether the database answers.
async fn measure_log(app: &App, text: &mut Text) -> bool {
    let last = in_time(app.store.last_event()).await;
    let applied = app.applied.borrow().seq;
    text.one("keyward_database_up", "gauge", "Whether the database answers", i32::from(last.is_ok()));
    text.one(
        "keyward_event_log_applied",
        "gauge",
        "The place in the log up to which this node's memory is true",
        applied,
    );
    let is_up = last.is_ok();
    if let Ok(last) = last {
        text.one("keyward_event_log_last", "gauge", "The place of the newest event", last);
        let lag = last.saturating_sub(applied).max(0);
        text.one("keyward_event_log_lag", "gauge", "Events that this node has not applied", lag);
    }
    is_up
}

/// What waits in the outbox though its time has come, on whatever node it is sent.
async fn measure_deliveries(app: &App, now: Timestamp, text: &mut Text) {
    if let Ok(due) = in_time(app.store.count_due_deliveries(now)).await {
        text.by_channel("keyward_deliveries_due", "Notices whose time to be delivered has come", &due);
    }
}

fn measure_keys(app: &App, now: Timestamp, text: &mut Text) {
    let name = "keyward_signing_key_age_seconds";
    text.family(name, "gauge", "For how long the key that signs has done so");
    let ring = app.key_ring.load();
    for algorithm in SigningAlgorithm::ALL {
        if let Some(since) = ring.signing_since(algorithm, now) {
            text.sample(name, &[("algorithm", algorithm.as_str())], now.since(since).as_secs());
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::Unavailable(format!("no answer within {PATIENCE:?}")));
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(late)
}
