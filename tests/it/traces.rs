//! Traces over OTLP/HTTP, as a collector gets them from the real program.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward_tests::keyward::Process;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// A span, as far as these tests look at it (opentelemetry/proto/trace/v1/trace.proto).
#[derive(Debug, Clone, Default)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    attributes: Vec<(String, String)>,
}

impl Span {
    fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// A collector that keeps everything.
#[derive(Clone, Default)]
struct Collector {
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    /// Listens; the address for `otlp_endpoint`.
    async fn listen() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (collector, url)
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
            if let Some(end) = head {
                let text = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                assert!(text.starts_with("post /v1/traces http/1.1\r\n"), "{text}");
                assert!(text.contains("content-type: application/x-protobuf\r\n"), "{text}");
                let length: usize =
                    text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
                if bytes.len() >= end + length {
                    self.bodies.lock().unwrap().push(bytes[end..end + length].to_vec());
                    bytes.drain(..end + length);
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    continue;
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }

    /// All spans so far, and the text of everything.
    fn spans(&self) -> (Vec<Span>, String) {
        let bodies = self.bodies.lock().unwrap();
        let resources = bodies.iter().flat_map(|body| fields(body, 1));
        let scopes = resources.flat_map(|resource| fields(resource, 2));
        let spans = scopes.flat_map(|scope| fields(scope, 2)).map(span).collect();
        (spans, bodies.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect())
    }
}

fn span(message: &[u8]) -> Span {
    let hex = |field| fields(message, field).next().unwrap_or_default().iter().map(|b| format!("{b:02x}")).collect();
    let attributes = fields(message, 9).map(|attribute| {
        let value = fields(attribute, 2).next().unwrap();
        let number = numbers(value, 3).next().map(|number| number.to_string());
        (text(attribute, 1), number.unwrap_or_else(|| text(value, 1)))
    });
    Span {
        trace: hex(1),
        id: hex(2),
        parent: hex(4),
        name: text(message, 5),
        kind: numbers(message, 6).next().unwrap_or_default(),
        attributes: attributes.collect(),
    }
}

fn text(message: &[u8], field: u64) -> String {
    String::from_utf8(fields(message, field).next().unwrap_or_default().to_vec()).unwrap()
}

/// The fields with this number that hold bytes, texts or messages.
fn fields(message: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    decode(message).into_iter().filter(move |(number, ..)| *number == field).filter_map(|(_, _, bytes)| bytes)
}

/// The fields with this number that hold numbers.
fn numbers(message: &[u8], field: u64) -> impl Iterator<Item = u64> {
    decode(message).into_iter().filter(move |(number, _, bytes)| *number == field && bytes.is_none()).map(|(_, n, _)| n)
}

/// Protocol buffers: number, value, and the bytes if it has a length.
fn decode(mut message: &[u8]) -> Vec<(u64, u64, Option<&[u8]>)> {
    let mut all = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let mut take = |length: usize| {
            let (bytes, rest) = message.split_at(length);
            message = rest;
            bytes
        };
        all.push(match tag & 7 {
            0 => (tag >> 3, varint(&mut message), None),
            1 => (tag >> 3, u64::from_le_bytes(take(8).try_into().unwrap()), None),
            5 => (tag >> 3, u32::from_le_bytes(take(4).try_into().unwrap()).into(), None),
            2 => {
                let length = varint(&mut message) as usize;
                let (bytes, rest) = message.split_at(length);
                message = rest;
                (tag >> 3, 0, Some(bytes))
            }
            kind => panic!("wire type {kind}"),
        });
    }
    all
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

#[tokio::test]
async fn a_request_is_a_span_of_its_caller_s_trace_with_the_database_below_it() {
    let (collector, url) = Collector::listen().await;
    let mut process = Process::serve(&[("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &url)]).await;
    let (http, first) = (keyward_tests::http(), process.bootstrap());
    let token_request = |traceparent: &str| {
        http.post(format!("{}/token", process.url()))
            .header("traceparent", traceparent)
            .basic_auth(&first.client_id, Some(&first.client_secret))
            .form(&[("grant_type", "client_credentials")])
    };
    let answer = token_request("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").send().await.unwrap();
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let token: serde_json::Value = answer.json().await.unwrap();
    let token = token["access_token"].as_str().unwrap();
    // A caller who does not record its trace does not have ours recorded.
    token_request("00-11111111111111111111111111111111-1111111111111111-00").send().await.unwrap();
    let list = http.get(format!("{}/api/v1/clients/{}?", process.url(), first.client_id)).bearer_auth(token);
    assert_eq!(list.send().await.unwrap().status(), StatusCode::OK);
    let missing = http.request(Method::POST, format!("{}/{}", process.url(), first.client_secret)).json(&json!({}));
    missing.send().await.unwrap();
    http.get(format!("{}/healthz", process.url())).send().await.unwrap();
    assert!(process.terminate().await.success());

    let (spans, text) = collector.spans();
    let named = |name: &str| {
        let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name} in {spans:#?}");
        found[0].clone()
    };
    let token_span = named("POST /token");
    assert_eq!((&*token_span.trace, &*token_span.parent), ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"));
    assert_eq!((token_span.kind, token_span.attribute("http.response.status_code")), (SERVER, "200"));
    assert_eq!((token_span.attribute("http.route"), token_span.attribute("keyward.request")), ("/token", &*id));
    let database = spans.iter().find(|span| span.parent == token_span.id).expect("the credential was read");
    assert_eq!((&*database.name, database.kind, &database.trace), ("database", CLIENT, &token_span.trace));
    assert_eq!(database.attribute("db.system.name"), "sqlite");
    assert!(database.attribute("db.query.text").starts_with("SELECT"), "{database:?}");
    let read = named("GET /api/v1/clients/{id}");
    assert_eq!((read.attribute("http.route"), &*read.parent), ("/api/v1/clients/{id}", ""));
    assert_eq!(named("request").attribute("http.response.status_code"), "404");
    assert!(!text.contains("1111111111111111") && !text.contains("health"), "{text}");
    assert!(text.contains("service.name") && text.contains("keyward"), "{text}");
    for secret in [&*first.client_secret, token, &first.client_secret[25..]] {
        assert!(!text.contains(secret), "{secret} was sent to the collector");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_gone_holds_nobody_up() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [hanging.local_addr().unwrap(), gone] {
        let mut process = Process::serve(&[("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &format!("http://{address}"))]).await;
        let http = keyward_tests::http();
        for _ in 0..20 {
            let answer = http.get(format!("{}/jwks", process.url())).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
        let start = Instant::now();
        assert!(process.terminate().await.success());
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_refused_at_the_start() {
    let mut command = keyward_tests::keyward::command(["serve", "--listen", "127.0.0.1:0"]);
    command.env("KEYWARD_TELEMETRY_OTLP_ENDPOINT", "not a url");
    let output = keyward_tests::clients::run_command(command).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("otlp_endpoint"), "{said}");
}
