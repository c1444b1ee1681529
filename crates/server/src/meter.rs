//! What Prometheus sees. Counting is one atomic addition; the text is written when somebody asks.
//!
//! The counters belong to the process, not to a server: a process runs one server, and what is counted happens in places
//! that have no server at hand, as where an error becomes an answer.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;
use keyward_model::notice::Channel;

use crate::ext_authz;

/// Requests of which it was not clear where they go or where they end.
pub(crate) static UNCLEAR_REQUESTS: Counter = Counter::new();
/// Connections, handshakes among them.
pub(crate) static OPEN_CONNECTIONS: Gauge = Gauge(AtomicU64::new(0));
/// Connections closed because their network had too many.
pub(crate) static REFUSED_CONNECTIONS: Counter = Counter::new();
/// Access tokens issued.
pub(crate) static TOKENS_ISSUED: Counter = Counter::new();
/// Failed client authentications.
pub(crate) static AUTHENTICATION_FAILURES: Counter = Counter::new();
/// Questions of gateways that could not be answered because of how the gateways are set up.
pub(crate) static MISCONFIGURED_GATEWAYS: Counter = Counter::new();
/// Requests and work of the server's own that a failing database spoiled.
pub(crate) static DATABASE_ERRORS: Counter = Counter::new();

/// Notices, by channel and by what became of an attempt to deliver them.
static DELIVERIES: [[Counter; FATES.len()]; CHANNELS.len()] =
    [const { [const { Counter::new() }; FATES.len()] }; CHANNELS.len()];
const CHANNELS: [Channel; 2] = [Channel::Webhook, Channel::Mail];
const FATES: [&str; 3] = ["sent", "failed", "dead"];

/// What became of an attempt to deliver a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrived.
    Sent,
    /// It did not, and is tried again.
    Failed,
    /// It is given up.
    Dead,
}

/// Counts one attempt to deliver a notice.
pub(crate) fn count_delivery(channel: Channel, fate: Fate) {
    let counters = CHANNELS.iter().zip(&DELIVERIES).find(|(known, _)| **known == channel);
    if let Some(counter) = counters.and_then(|(_, counters)| counters.get(fate as usize)) {
        counter.increment();
    }
}

/// Devices whose question is held until somebody has decided.
pub(crate) static HELD_POLLS: Gauge = Gauge(AtomicU64::new(0));
/// Those who follow the revocation feed now.
pub(crate) static FEED_READERS: Gauge = Gauge(AtomicU64::new(0));
/// Events of the revocation feed, each counted once however many read it.
pub(crate) static FEED_EVENTS: Counter = Counter::new();
/// How often a reader of the feed was told to begin anew.
pub(crate) static FEED_RESETS: Counter = Counter::new();

static REQUESTS: [RouteMeter; Route::ALL.len()] = [const { RouteMeter::new() }; Route::ALL.len()];

/// Upper bounds of the request duration histogram, in microseconds, and as Prometheus writes them, in seconds.
const BUCKETS: [(u64, &str); 14] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

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
    DeviceAuthorization = "device_authorization",
    Introspect = "introspect",
    Revoke = "revoke",
    Jwks = "jwks",
    Metadata = "metadata",
    StatusList = "status_list",
    Revocations = "revocations",
    Leaks = "leaks",
    ForwardAuth = "forward_auth",
    ExtAuthz = "ext_authz",
    Pages = "pages",
    Api = "api",
    Health = "health",
    Other = "other",
}

impl Route {
    /// The kind of a path.
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/token" => Self::Token,
            "/auth/device" => Self::DeviceAuthorization,
            "/introspect" => Self::Introspect,
            "/revoke" => Self::Revoke,
            "/jwks" => Self::Jwks,
            "/revocations" => Self::Revocations,
            "/leaks" => Self::Leaks,
            "/forward-auth" => Self::ForwardAuth,
            ext_authz::CHECK => Self::ExtAuthz,
            "/login" | "/logout" | "/signed-out" | "/account" => Self::Pages,
            "/healthz" | "/readyz" | "/metrics" => Self::Health,
            _ if path.starts_with("/.well-known/") => Self::Metadata,
            _ if path.starts_with("/status-lists/") => Self::StatusList,
            _ if path.starts_with("/api/") => Self::Api,
            _ if ["/login/", "/account/", "/invitation"].iter().any(|under| path.starts_with(under)) => Self::Pages,
            _ => Self::Other,
        }
    }

    /// The path of its requests, with a name in place of what differs between them, where all have the same.
    pub(crate) const fn template(self) -> Option<&'static str> {
        match self {
            Self::Token => Some("/token"),
            Self::DeviceAuthorization => Some("/auth/device"),
            Self::Introspect => Some("/introspect"),
            Self::Revoke => Some("/revoke"),
            Self::Jwks => Some("/jwks"),
            Self::Metadata => Some("/.well-known/{document}"),
            Self::StatusList => Some("/status-lists/{id}"),
            Self::Revocations => Some("/revocations"),
            Self::Leaks => Some("/leaks"),
            Self::ForwardAuth => Some("/forward-auth"),
            Self::ExtAuthz => Some(ext_authz::CHECK),
            Self::Pages | Self::Api | Self::Health | Self::Other => None,
        }
    }

    /// Whether machines call it all day.
    pub(crate) const fn is_busy(self) -> bool {
        !matches!(self, Self::Revoke | Self::Leaks | Self::Api | Self::Other)
    }
}

/// Counts one answered request.
pub(crate) fn count_request(route: Route, status: StatusCode, took: Duration) {
    let Some(meter) = REQUESTS.get(route as usize) else { return };
    if let Some(answers) = meter.answers.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
        answers.fetch_add(1, Relaxed);
    }
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let bucket = BUCKETS.iter().position(|(bound, _)| micros <= *bound).unwrap_or(BUCKETS.len());
    if let Some(bucket) = meter.buckets.get(bucket) {
        bucket.fetch_add(1, Relaxed);
    }
    meter.total_micros.fetch_add(micros, Relaxed);
}

/// Only ever grows. On a cache line of its own, so that CPUs that count different things do not wait for each other.
#[repr(align(64))]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// How many so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many are inside.
#[repr(align(64))]
pub(crate) struct Gauge(AtomicU64);

/// Inside until dropped.
pub(crate) struct Inside(&'static Gauge);

impl Gauge {
    /// One more, as long as the value lives.
    pub(crate) fn enter(&'static self) -> Inside {
        self.0.fetch_add(1, Relaxed);
        Inside(self)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[repr(align(64))]
struct RouteMeter {
    /// By the first digit of the status, from 1 on.
    answers: [AtomicU64; CLASSES.len()],
    /// The last one for what no bound holds.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    total_micros: AtomicU64,
}

impl RouteMeter {
    const fn new() -> Self {
        Self {
            answers: [const { AtomicU64::new(0) }; CLASSES.len()],
            buckets: [const { AtomicU64::new(0) }; BUCKETS.len() + 1],
            total_micros: AtomicU64::new(0),
        }
    }
}

/// Writes the Prometheus text format, version 0.0.4.
#[derive(Default)]
pub(crate) struct Text(String);

impl Text {
    /// Everything that this file counts.
    pub(crate) fn of_all_counters() -> Self {
        let mut text = Self::default();
        let kind = "keyward_http_requests_total";
        text.family(kind, "counter", "Requests answered, by route and class of status");
        for (route, meter) in Route::ALL.iter().zip(&REQUESTS) {
            for (class, answers) in CLASSES.iter().zip(&meter.answers) {
                text.sample(kind, &[("route", route.as_str()), ("status", class)], answers.load(Relaxed));
            }
        }
        text.durations();
        let kind = "keyward_deliveries_total";
        text.family(kind, "counter", "Attempts to deliver a notice, by channel and by what became of them");
        for (channel, counters) in CHANNELS.iter().zip(&DELIVERIES) {
            for (outcome, counter) in FATES.iter().zip(counters) {
                text.sample(kind, &[("channel", channel.as_str()), ("outcome", outcome)], counter.get());
            }
        }
        for (name, help, counter) in [
            ("keyward_http_unclear_requests_total", "Requests refused for their Host or framing", &UNCLEAR_REQUESTS),
            ("keyward_connections_refused_total", "Connections beyond those of one network", &REFUSED_CONNECTIONS),
            ("keyward_tokens_issued_total", "Access tokens issued", &TOKENS_ISSUED),
            ("keyward_authentication_failures_total", "Failed client authentications", &AUTHENTICATION_FAILURES),
            (
                "keyward_gateway_misconfigured_total",
                "Questions of gateways that could not be answered because of how they are set up",
                &MISCONFIGURED_GATEWAYS,
            ),
            ("keyward_database_errors_total", "Requests and tasks that the database failed", &DATABASE_ERRORS),
            ("keyward_feed_events_total", "Events of the revocation feed", &FEED_EVENTS),
            ("keyward_feed_resets_total", "Readers of the feed told to begin anew", &FEED_RESETS),
        ] {
            text.one(name, "counter", help, counter.get());
        }
        text.one("keyward_open_connections", "gauge", "Connections of clients", OPEN_CONNECTIONS.0.load(Relaxed));
        text.one("keyward_device_polls_held", "gauge", "Polls of devices that wait", HELD_POLLS.0.load(Relaxed));
        text.one("keyward_feed_readers", "gauge", "Readers of the revocation feed", FEED_READERS.0.load(Relaxed));
        text
    }

    fn durations(&mut self) {
        let name = "keyward_http_request_duration_seconds";
        self.family(name, "histogram", "Seconds from request head to response head");
        for (route, meter) in Route::ALL.iter().zip(&REQUESTS) {
            let route = route.as_str();
            let mut count = 0;
            let bounds = BUCKETS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
            for (bound, bucket) in bounds.zip(&meter.buckets) {
                count += bucket.load(Relaxed);
                self.sample(&format!("{name}_bucket"), &[("route", route), ("le", bound)], count);
            }
            let seconds = Duration::from_micros(meter.total_micros.load(Relaxed)).as_secs_f64();
            self.sample(&format!("{name}_sum"), &[("route", route)], seconds);
            self.sample(&format!("{name}_count"), &[("route", route)], count);
        }
    }

    /// A family with a sample for each channel of notices.
    pub(crate) fn by_channel(&mut self, name: &str, help: &str, values: &[(Channel, i64)]) {
        self.family(name, "gauge", help);
        for channel in CHANNELS {
            let value = values.iter().find(|(of, _)| *of == channel).map_or(0, |(_, value)| *value);
            self.sample(name, &[("channel", channel.as_str())], value);
        }
    }

    /// A family of one sample without labels.
    pub(crate) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The head of a family; its samples follow.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample. Values of labels are words of this program: there is nothing in them to be escaped.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{text}\"", if n == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// The whole text.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_in_all_wider_ones() {
        count_request(Route::Other, StatusCode::NOT_FOUND, Duration::from_micros(1_000));
        count_request(Route::Other, StatusCode::OK, Duration::from_secs(60));
        let text = Text::of_all_counters().finish();
        for line in [
            "keyward_http_requests_total{route=\"other\",status=\"4xx\"} 1",
            "keyward_http_request_duration_seconds_bucket{route=\"other\",le=\"0.0005\"} 0",
            "keyward_http_request_duration_seconds_bucket{route=\"other\",le=\"0.001\"} 1",
            "keyward_http_request_duration_seconds_bucket{route=\"other\",le=\"10\"} 1",
            "keyward_http_request_duration_seconds_bucket{route=\"other\",le=\"+Inf\"} 2",
            "keyward_http_request_duration_seconds_sum{route=\"other\"} 60.001",
            "keyward_http_request_duration_seconds_count{route=\"other\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_route_is_counted_under_its_own_name() {
        for (place, route) in Route::ALL.iter().enumerate() {
            assert_eq!(*route as usize, place);
        }
    }
}
