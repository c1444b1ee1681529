//! What happens around every request: RFC 9112's demands, the client's address, an id, and a line in log and metrics.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt as _;
use http::uri::Authority;
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use ipnet::IpNet;
use keyward_model::id::RequestId;
use tower_service::Service as _;

use crate::app::App;
use crate::meter::{Meter, Route};
use crate::respond::json_response;

const REQUEST_ID: &str = "x-request-id";
const FORWARDED_FOR: &str = "x-forwarded-for";

/// What is known of a request before anything has read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The network address of the client, as far as proxies can be believed.
    pub(crate) address: IpAddr,
}

impl Arrival {
    /// The client's address; `None` only where a router is called without a listener.
    pub(crate) fn address(extensions: &Extensions) -> Option<IpAddr> {
        extensions.get::<Self>().map(|arrival| arrival.address)
    }
}

/// Takes requests from the listener to the router.
#[derive(Clone)]
pub(crate) struct Reception {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) trusted_proxies: Arc<[IpNet]>,
    pub(crate) meter: Arc<Meter>,
}

impl Reception {
    /// Answers one request.
    pub(crate) async fn receive(mut self, peer: SocketAddr, request: Request<Incoming>) -> Response {
        let started = tokio::time::Instant::now();
        let route = Route::of(request.uri().path());
        let id = RequestId::new(self.app.clock.now(), &self.app.entropy).ok();
        let address = client_address(peer.ip(), request.headers(), &self.trusted_proxies);
        let method = request.method().clone();
        let mut response = match refuse_unclear(&request) {
            Some(why) => unclear(why),
            None => {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(Arrival { address });
                let answer = AssertUnwindSafe(self.router.call(request)).catch_unwind().await;
                answer.map_or_else(|_| broken(id), |answer| answer.unwrap_or_else(|never| match never {}))
            }
        };
        let headers = response.headers_mut();
        if let Some(id) = id.and_then(|id| HeaderValue::try_from(id.to_string()).ok()) {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let (status, took) = (response.status(), started.elapsed());
        self.meter.count(route, status, took);
        let (status, took_us) = (status.as_u16(), took.as_micros());
        // Machines ask for tokens all day: what went well there is not news. The path holds no secret, a query might.
        if status < 400 && route.is_busy() {
            tracing::debug!(request = ?id, %method, route = route.as_str(), status, took_us, client = %address, "answered");
        } else {
            tracing::info!(request = ?id, %method, route = route.as_str(), status, took_us, client = %address, "answered");
        }
        response
    }
}

/// What makes a request's recipient or its length unclear, so that a proxy before us might have read another request.
fn refuse_unclear(request: &Request<Incoming>) -> Option<&'static str> {
    let headers = request.headers();
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        // RFC 9112 §6.1: such a message "ought to be handled as an error".
        return Some("both Transfer-Encoding and Content-Length: the length of the body is not clear");
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Some("more than one Host header");
    }
    match host {
        Some(host) if is_host(host) => None,
        Some(_) => Some("the Host header is malformed"),
        // RFC 9112 §3.2: a 400 to "any HTTP/1.1 request message that lacks a Host header field".
        None if request.version() == Version::HTTP_11 => Some("the Host header is missing"),
        None => None,
    }
}

fn is_host(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    !bytes.contains(&b'@') && Authority::try_from(bytes).is_ok_and(|authority| !authority.host().is_empty())
}

fn unclear(why: &'static str) -> Response {
    let body = serde_json::json!({ "error": "invalid_request", "error_description": why });
    let mut response = json_response(StatusCode::BAD_REQUEST, &body);
    // Whatever follows on this connection may be the rest of what was not clear.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn broken(id: Option<RequestId>) -> Response {
    tracing::error!(request = ?id, "a handler panicked: this is a fault of the server");
    let body = serde_json::json!({ "error": "server_error", "error_description": "the server failed; its log says why" });
    json_response(StatusCode::INTERNAL_SERVER_ERROR, &body)
}

/// The address of the client: the peer, or what trusted proxies say of whom they speak for.
///
/// `X-Forwarded-For` is read from its end: each trusted proxy vouches for the entry it added, and the first address
/// that is not one of them is the client. What stands before that, anybody may have written.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address.to_canonical()));
    if !is_trusted(peer) {
        return peer;
    }
    let values = headers.get_all(FORWARDED_FOR).iter().rev().filter_map(|value| value.to_str().ok());
    let mut client = peer;
    for entry in values.flat_map(|value| value.rsplit(',')) {
        let Ok(address) = entry.trim().parse::<IpAddr>() else { return client };
        client = address;
        if !is_trusted(address) {
            return client;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("", false),
            ("a b", false),
            ("user@iam.example", false),
            ("iam.example/path", false),
            ("iam.example:port", false),
        ] {
            assert_eq!(is_host(&HeaderValue::from_static(host)), legal, "{host:?}");
        }
    }
}
