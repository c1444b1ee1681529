//! What happens around every request: RFC 9112's demands, the client's address, an id, and a line in log and metrics.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::BoxError;
use axum::body::HttpBody;
use axum::extract::MatchedPath;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::uri::Authority;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header};
use ipnet::IpNet;
use keyward_model::entropy::{Entropy, EntropyError};
use keyward_model::id::RequestId;
use keyward_model::time::Timestamp;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::meter::{Route, UNCLEAR_REQUESTS, count_request};
use crate::respond::{Told, json_response};
use crate::router::Paths;
use crate::telemetry::RequestSpan;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: &str = "x-forwarded-for";

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The id of the request that is being worked on here, for whatever is logged meanwhile.
pub(crate) fn current() -> Option<RequestId> {
    CURRENT.try_with(|id| *id).ok()
}

#[cfg(test)]
pub(crate) fn within<T>(id: RequestId, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(id, work)
}

/// What is known of a request before anything has read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The instant at which its head was there.
    pub(crate) at: Timestamp,
    /// The network address of the client, as far as proxies can be believed.
    pub(crate) address: IpAddr,
    /// Whether a trusted proxy sent it, which may say for whom.
    pub(crate) is_spoken_for: bool,
}

impl Arrival {
    /// The client's address; `None` only where a router is called without a listener.
    pub(crate) fn address(extensions: &Extensions) -> Option<IpAddr> {
        extensions.get::<Self>().map(|arrival| arrival.address)
    }
}

/// Leaves with the answer which route gave it, for logs and traces: the path itself may have a secret in it.
pub(crate) async fn name_route(request: axum::extract::Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// What a request's body may be: hyper's, or one of a test.
pub(crate) trait Content: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static {}

impl<B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static> Content for B {}

/// Gives every request an id of its own. It guards nothing, so it is counted from a random start: random bytes for each
/// would cost more than routing it.
pub(crate) struct RequestIds {
    node: [u8; 2],
    next: AtomicU64,
}

impl RequestIds {
    /// From a random start, so that no two runs and no two nodes give the same.
    pub(crate) fn new(entropy: &Entropy) -> Result<Self, EntropyError> {
        Ok(Self { node: entropy.bytes()?, next: AtomicU64::new(u64::from_be_bytes(entropy.bytes()?)) })
    }

    fn next(&self, now: Timestamp) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut rest = [0; 10];
        for (to, from) in rest.iter_mut().zip(self.node.iter().chain(&number)) {
            *to = *from;
        }
        RequestId::with_rest(now, rest)
    }
}

/// Takes requests from the listener to the router.
pub(crate) struct Reception {
    pub(crate) clock: Clock,
    pub(crate) ids: RequestIds,
    pub(crate) paths: Paths,
    pub(crate) trusted_proxies: Vec<IpNet>,
}

impl Reception {
    /// Answers one request.
    pub(crate) fn receive(&self, peer: SocketAddr, request: Request<impl Content>) -> impl Future<Output = Response> {
        let at = self.clock.now();
        let id = self.ids.next(at);
        CURRENT.scope(id, self.answer(id, at, peer, request))
    }

    async fn answer(&self, id: RequestId, at: Timestamp, peer: SocketAddr, request: Request<impl Content>) -> Response {
        let started = tokio::time::Instant::now();
        let route = Route::of(request.uri().path());
        let address = client_address(peer.ip(), request.headers(), &self.trusted_proxies);
        let (method, version) = (request.method().clone(), request.version());
        let span = RequestSpan::begin(&request, route, id);
        let mut response = match refuse_unclear(&request) {
            Some(why) => unclear(why, version),
            None => {
                let is_spoken_for = is_trusted(peer.ip(), &self.trusted_proxies);
                let arrival = Arrival { at, address, is_spoken_for };
                let answer = self.paths.answer(arrival, request).instrument(span.span());
                AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| broken())
            }
        };
        let matched = response.extensions_mut().remove::<MatchedPath>();
        let is_told = response.extensions_mut().remove::<Told>().is_some();
        mark(response.headers_mut(), HeaderValue::try_from(id.to_string()).unwrap_or(UNMARKED));
        let (status, took) = (response.status(), started.elapsed());
        count_request(route, status, took);
        let template = matched.as_ref().map(MatchedPath::as_str).or(route.template());
        span.answered(&method, template, status);
        let path = template.unwrap_or(route.as_str());
        let (status, took_us) = (status.as_u16(), u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        // Machines ask for tokens all day: what went well there is not news, nor is what the log has told of already.
        if is_told || (status < 400 && route.is_busy()) {
            tracing::debug!(%method, route = path, status, took_us, source = %address, "answered");
        } else {
            tracing::info!(%method, route = path, status, took_us, source = %address, "answered");
        }
        response
    }
}

/// In place of an id.
pub(crate) const UNMARKED: HeaderValue = HeaderValue::from_static("");

/// What every answer carries: the id of its request, and that browsers are to believe its content type.
pub(crate) fn mark(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// What makes a request's recipient unclear, so that a proxy before us might have sent it elsewhere.
fn refuse_unclear<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Some("more than one Host header");
    }
    if host.is_some_and(|host| !is_host(host)) {
        return Some("the Host header is malformed");
    }
    match (request.version(), host, request.uri().authority()) {
        // RFC 9112 §3.2: a 400 to "any HTTP/1.1 request message that lacks a Host header field". HTTP/1.0 had none.
        (Version::HTTP_11, None, _) => Some("the Host header is missing"),
        (Version::HTTP_2, None, None) => Some(":authority and Host are missing"),
        // RFC 9113 §8.3.1: malformed "if it contains a Host header field that identifies an entity that differs".
        (Version::HTTP_2, Some(host), Some(authority)) if !same(host, authority) => {
            Some("Host is not the same as :authority")
        }
        _ => None,
    }
}

/// RFC 9110 §7.2: `Host = uri-host [ ":" port ]`.
fn is_host(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let end = if bytes.first() == Some(&b'[') { bytes.iter().position(|b| *b == b']').map(|at| at + 1) } else { None };
    let end = end.or_else(|| bytes.iter().position(|b| *b == b':')).unwrap_or(bytes.len());
    let Some((host, port)) = bytes.split_at_checked(end) else { return false };
    let is_name = |host: &[u8]| {
        let legal = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(b);
        !host.is_empty() && host.iter().all(legal)
    };
    let is_address = |host: &[u8]| {
        let inside = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]"));
        inside.and_then(|h| std::str::from_utf8(h).ok()).is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let is_port = port.is_empty() || port.strip_prefix(b":").is_some_and(|p| p.iter().all(u8::is_ascii_digit));
    (is_name(host) || is_address(host)) && is_port
}

fn same(host: &HeaderValue, authority: &Authority) -> bool {
    host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
}

fn unclear(why: &'static str, version: Version) -> Response {
    UNCLEAR_REQUESTS.increment();
    let body = serde_json::json!({ "error": "invalid_request", "error_description": why });
    let mut response = json_response(StatusCode::BAD_REQUEST, &body);
    if version < Version::HTTP_2 {
        // Whatever follows on this connection may be the rest of what was not clear.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn broken() -> Response {
    tracing::error!("a handler panicked");
    let body =
        serde_json::json!({ "error": "server_error", "error_description": "the server failed; its log says why" });
    json_response(StatusCode::INTERNAL_SERVER_ERROR, &body)
}

/// The address of the client: the peer, or what trusted proxies say of whom they speak for.
///
/// `X-Forwarded-For` is read from its end: each trusted proxy vouches for the entry it added, and the first address
/// that is not one of them is the client. What stands before that, anybody may have written.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let values = headers.get_all(FORWARDED_FOR).iter().rev().filter_map(|value| value.to_str().ok());
    let mut client = peer;
    for entry in values.flat_map(|value| value.rsplit(',')) {
        let Ok(address) = entry.trim().parse::<IpAddr>() else { return client };
        client = address;
        if !is_trusted(address, trusted) {
            return client;
        }
    }
    client
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_for_and_the_next_request_too() {
        async fn panic() -> &'static str {
            panic!("on purpose")
        }
        let router = Router::new().route("/panic", get(panic)).route("/", get(async || "well"));
        let ids = RequestIds::new(&Entropy::seeded(1)).unwrap();
        let reception = Reception { clock: Clock::system(), ids, paths: router.into(), trusted_proxies: Vec::new() };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        for (path, status) in [("/panic", 500), ("/", 200), ("/panic", 500)] {
            let request = Request::get(path).header(header::HOST, "a").body(Body::empty()).unwrap();
            let response = reception.receive(peer, request).await;
            assert_eq!(response.status(), status, "{path}");
            assert!(response.headers()[REQUEST_ID].to_str().unwrap().starts_with("req_"), "{response:?}");
        }
    }

    #[test]
    fn no_two_requests_have_the_same_id() {
        let start = |seed| RequestIds::new(&Entropy::seeded(seed)).unwrap();
        let (one, other, now) = (start(1), start(2), Timestamp::from_seconds(1));
        let ids: std::collections::HashSet<RequestId> =
            (0..1_000).flat_map(|_| [one.next(now), other.next(now)]).collect();
        assert_eq!(ids.len(), 2_000);
    }

    #[test]
    fn recipients_must_be_clear() {
        let verdict = |version, uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            refuse_unclear(&request.body(()).unwrap()).is_none()
        };
        for (version, uri, hosts, clear) in [
            (Version::HTTP_11, "/", &["a"][..], true),
            (Version::HTTP_11, "http://b/", &["a"], true),
            (Version::HTTP_11, "/", &[], false),
            (Version::HTTP_11, "/", &["a", "a"], false),
            (Version::HTTP_10, "/", &[], true),
            (Version::HTTP_10, "/", &["a b"], false),
            (Version::HTTP_2, "https://a/", &[], true),
            (Version::HTTP_2, "https://a/", &["A"], true),
            (Version::HTTP_2, "https://a/", &["b"], false),
            (Version::HTTP_2, "/", &["a"], true),
            (Version::HTTP_2, "/", &[], false),
        ] {
            assert_eq!(verdict(version, uri, hosts), clear, "{version:?} {uri} {hosts:?}");
        }
    }

    fn forwarded(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|v| (FORWARDED_FOR.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    fn address(peer: &str, values: &[&'static str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        client_address(peer.parse().unwrap(), &forwarded(values), &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(address("192.0.2.9", &["198.51.100.1"]), "192.0.2.9");
        assert_eq!(address("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn what_a_client_wrote_itself_does_not_count() {
        assert_eq!(address("10.0.0.1", &["203.0.113.7, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(address("10.0.0.1", &["203.0.113.7", "198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(address("10.0.0.1", &["198.51.100.1, rubbish"]), "10.0.0.1");
    }

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        for (host, legal) in [
            ("iam.example", true),
            ("iam.example:8080", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("192.0.2.1:80", true),
            ("iam.example:", true),
            ("b\u{fc}cher.example", false),
            ("[::1", false),
            ("[x]", false),
            ("::1", false),
            (":80", false),
            ("a,b:80:90", false),
            ("", false),
            ("a b", false),
            ("user@iam.example", false),
            ("iam.example/path", false),
            ("iam.example:port", false),
        ] {
            assert_eq!(is_host(&HeaderValue::from_bytes(host.as_bytes()).unwrap()), legal, "{host:?}");
        }
    }
}
