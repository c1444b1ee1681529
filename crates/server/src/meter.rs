//! What Prometheus sees. Handles are made once, so counting a request costs a few atomic additions.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of the request duration histogram, in seconds.
const BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! routes {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// The kinds of request that are told apart in metrics and logs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Route { $($variant),* }

        impl Route {
            const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in metrics and logs.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

routes! {
    Token = "token",
    Introspect = "introspect",
    Revoke = "revoke",
    Jwks = "jwks",
    Metadata = "metadata",
    StatusList = "status_list",
    Api = "api",
    Health = "health",
    Other = "other",
}

impl Route {
    /// The kind of a path.
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/token" => Self::Token,
            "/introspect" => Self::Introspect,
            "/revoke" => Self::Revoke,
            "/jwks" => Self::Jwks,
            "/healthz" | "/readyz" | "/metrics" => Self::Health,
            _ if path.starts_with("/.well-known/") => Self::Metadata,
            _ if path.starts_with("/status-lists/") => Self::StatusList,
            _ if path.starts_with("/api/") => Self::Api,
            _ => Self::Other,
        }
    }

    /// Whether machines call it all day.
    pub(crate) const fn is_busy(self) -> bool {
        matches!(self, Self::Token | Self::Introspect | Self::Jwks | Self::Metadata | Self::StatusList | Self::Health)
    }
}

/// Counts requests.
pub(crate) struct Meter(Vec<RouteMeter>);

struct RouteMeter {
    /// By the first digit of the status, from 1 on.
    answers: [Counter; 5],
    duration: Histogram,
}

impl Meter {
    /// Registers everything that is counted.
    pub(crate) fn new() -> Self {
        exporter();
        let meter = |route: &Route| {
            let answers = |class: &'static str| {
                counter!("keyward_http_requests_total", "route" => route.as_str(), "status" => class)
            };
            RouteMeter {
                answers: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(answers),
                duration: histogram!("keyward_http_request_duration_seconds", "route" => route.as_str()),
            }
        };
        Self(Route::ALL.iter().map(meter).collect())
    }

    /// Counts one answered request.
    pub(crate) fn count(&self, route: Route, status: StatusCode, took: Duration) {
        let Some(meter) = self.0.get(route as usize) else { return };
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(answers) = meter.answers.get(class) {
            answers.increment(1);
        }
        meter.duration.record(took);
    }
}

/// Renders what has been counted by this process, in the Prometheus text format.
pub(crate) fn render() -> String {
    exporter().map(PrometheusHandle::render).unwrap_or_default()
}

/// Lets the exporter tidy up; histograms would grow without bound between scrapes otherwise.
pub(crate) fn tidy() {
    if let Some(exporter) = exporter() {
        exporter.run_upkeep();
    }
}

/// There is one exporter a process, because the metrics facade knows only one.
fn exporter() -> Option<&'static PrometheusHandle> {
    static EXPORTER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    EXPORTER.get_or_init(install).as_ref()
}

fn install() -> Option<PrometheusHandle> {
    let matcher = Matcher::Suffix("_duration_seconds".to_owned());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(matcher, BUCKETS).ok()?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).ok()?;
    describe_counter!("keyward_http_requests_total", "Requests answered, by route and class of status");
    describe_histogram!("keyward_http_request_duration_seconds", "Seconds from request head to response head");
    describe_counter!("keyward_tokens_issued_total", "Access tokens issued");
    describe_counter!("keyward_authentication_failures_total", "Failed client authentications");
    Some(handle)
}
