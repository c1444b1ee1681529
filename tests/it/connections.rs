//! Connections as a hostile or clumsy client makes them: RFC 9112 over plain TCP, limits in real time, orderly ends.

use std::time::Duration;

use keyward_server::config::Config;
use keyward_tests::server::{Db, TestServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Longer than any limit of these tests.
const PATIENCE: Duration = Duration::from_secs(10);
const GET: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server that loses its patience after a second.
async fn impatient() -> TestServer {
    TestServer::start_with(Db::Sqlite, |config| {
        config.server.header_timeout_s = 1;
        config.server.body_timeout_s = 1;
        config.server.shutdown_grace_s = 1;
    })
    .await
}

/// One connection, bare.
struct Wire {
    stream: TcpStream,
    /// What has arrived and was not asked for.
    surplus: Vec<u8>,
}

impl Wire {
    async fn open(server: &TestServer) -> Self {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, surplus: Vec::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything up to the end of the connection; a reset is an end too.
    async fn rest(&mut self) -> String {
        let end = timeout(PATIENCE, self.stream.read_to_end(&mut self.surplus)).await;
        let all = String::from_utf8_lossy(&std::mem::take(&mut self.surplus)).into_owned();
        assert!(end.is_ok(), "the connection stays open after {all:?}");
        all
    }

    /// The next answer; the connection may stay open.
    async fn answer(&mut self) -> String {
        let reading = async {
            loop {
                if let Some(end) = end_of_answer(&self.surplus) {
                    return String::from_utf8_lossy(&self.surplus.drain(..end).collect::<Vec<_>>()).into_owned();
                }
                assert_ne!(
                    self.stream.read_buf(&mut self.surplus).await.unwrap(),
                    0,
                    "ended in the middle of an answer"
                );
            }
        };
        timeout(PATIENCE, reading).await.expect("an answer")
    }
}

fn end_of_answer(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text.split("content-length: ").nth(1).map_or(0, |t| t.split("\r\n").next().unwrap().parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

/// Sends these bytes on a connection of their own; everything that comes back until the server ends it.
async fn exchange(server: &TestServer, bytes: impl AsRef<[u8]>) -> String {
    let mut wire = Wire::open(server).await;
    wire.send(bytes).await;
    wire.rest().await
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").or(answer.strip_prefix("HTTP/1.0 ")).and_then(|a| a.get(..3)).unwrap_or(answer)
}

/// That something took about as long as it should.
fn assert_about(start: Instant, least: f32, most: f32) {
    let took = start.elapsed().as_secs_f32();
    assert!((least..most).contains(&took), "{took} s");
}

fn post(further: &str) -> String {
    format!("POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n{further}")
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let server = impatient().await;
    for begin in ["", "PRI * HTTP/2.0\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\n"] {
        let mut wire = Wire::open(&server).await;
        let start = Instant::now();
        wire.send(begin).await;
        // One more byte now and then does not buy more time.
        let (mut reader, mut writer) = wire.stream.split();
        let drip = async {
            loop {
                sleep(Duration::from_millis(200)).await;
                if begin.is_empty() || writer.write_all(b"x").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut all = Vec::new();
        tokio::select! {
            end = timeout(PATIENCE, reader.read_to_end(&mut all)) => assert!(end.is_ok(), "{begin:?}: still open"),
            () = drip => unreachable!(),
        }
        assert_about(start, 0.0, 3.0);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_refused_and_cut_off() {
    let server = impatient().await;
    let start = Instant::now();
    let answer = exchange(&server, post("Content-Length: 100\r\n\r\ngrant_type=")).await;
    assert_eq!(status(&answer), "400");
    assert!(answer.contains("the body took too long to arrive"), "{answer}");
    assert_about(start, 1.0, 3.0);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = impatient().await;
    let mut wire = Wire::open(&server).await;
    wire.send(GET).await;
    assert_eq!(status(&wire.answer().await), "200");
    let start = Instant::now();
    assert_eq!(wire.rest().await, "");
    assert_about(start, 0.9, 3.0);
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answers_is_cut_off() {
    let server = impatient().await;
    let one = exchange(&server, "GET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.len();
    let asked = 64 * 1024 * 1024 / one;
    let mut wire = Wire::open(&server).await;
    let (mut reader, mut writer) = wire.stream.split();
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(asked);
    // The server stops reading when nobody takes what it writes, and then ends it.
    let refused = timeout(PATIENCE, async {
        let sent = writer.write_all(requests.as_bytes()).await;
        sleep(Duration::from_millis(2_300)).await;
        sent
    });
    drop(refused.await.unwrap());
    let mut all = Vec::new();
    drop(timeout(PATIENCE, reader.read_to_end(&mut all)).await.expect("the connection ends"));
    assert!(all.len() < asked * one, "all {} bytes were kept for it", all.len());
}

#[tokio::test]
async fn whoever_finds_no_place_waits_for_one() {
    let server = TestServer::start_with(Db::Sqlite, |config| config.server.max_connections = 2).await;
    let (mut one, mut two, mut three) =
        (Wire::open(&server).await, Wire::open(&server).await, Wire::open(&server).await);
    for wire in [&mut one, &mut two] {
        wire.send(GET).await;
        assert_eq!(status(&wire.answer().await), "200");
    }
    three.send(GET).await;
    assert!(timeout(Duration::from_millis(300), three.stream.readable()).await.is_err(), "served beyond the bound");
    drop(one);
    assert_eq!(status(&three.answer().await), "200");
    two.send(GET).await;
    assert_eq!(status(&two.answer().await), "200");
}

#[tokio::test]
async fn a_network_that_has_its_connections_gets_no_more_until_it_ends_one() {
    let most = |config: &mut Config| config.server.max_connections_per_network = 2;
    let server = TestServer::start_with(Db::Sqlite, most).await;
    let (one, mut two) = (Wire::open(&server).await, Wire::open(&server).await);
    two.send(GET).await;
    assert_eq!(status(&two.answer().await), "200");
    assert_eq!(Wire::open(&server).await.rest().await, "", "it is closed without a word");
    two.send(GET.replace("healthz", "metrics")).await;
    let metrics = two.answer().await;
    let refused = metrics.lines().find_map(|line| line.strip_prefix("keyward_connections_refused_total "));
    assert!(refused.is_some_and(|refused| refused.parse::<u64>().unwrap() >= 1), "{metrics}");
    drop(one);
    let served = async {
        loop {
            let mut three = Wire::open(&server).await;
            // A connection that is closed already may refuse to take anything.
            drop(three.stream.write_all(GET.replace("Host: a", "Host: a\r\nConnection: close").as_bytes()).await);
            if three.rest().await.starts_with("HTTP/1.1 200") {
                break;
            }
        }
    };
    timeout(PATIENCE, served).await.expect("the place that was left is given on");

    let server = TestServer::start_with(Db::Sqlite, |config| {
        most(config);
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let server = server.await;
    for mut wire in [Wire::open(&server).await, Wire::open(&server).await, Wire::open(&server).await] {
        wire.send(GET).await;
        assert_eq!(status(&wire.answer().await), "200", "a trusted proxy may have more");
    }
}

/// RFC 9112 §3.2 and RFC 9110 §7.2.
#[tokio::test]
async fn a_recipient_that_is_not_clear_is_refused() {
    let server = impatient().await;
    for hosts in [
        "",
        "Host:\r\n",
        "Host: a b\r\n",
        "Host: user@a\r\n",
        "Host: a/b\r\n",
        "Host: a:b\r\n",
        "Host: [::1\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host: a, b\r\n",
    ] {
        let answer = exchange(&server, format!("GET /healthz HTTP/1.1\r\n{hosts}\r\n{GET}")).await;
        assert_eq!(status(&answer), "400", "{hosts:?}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        assert!(answer.contains("\"error\":\"invalid_request\""), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "the next request was answered: {answer}");
    }
    for request in [
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n",
        "GET http://elsewhere.example/healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "\r\nGET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(status(&exchange(&server, request).await), "200", "{request:?}");
    }
}

/// RFC 9112 §6.3, §5.1, §5.2 and §2.2. Each is followed by a request that must not be answered.
#[tokio::test]
async fn framing_that_is_not_clear_is_refused() {
    let server = impatient().await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    for request in [
        post(&format!("Content-Length: 5\r\n{chunked}\r\n0\r\n\r\n")),
        post(&format!("{chunked}Content-Length: 5\r\n\r\n0\r\n\r\n")),
        post(&format!("{chunked}content-LENGTH: 0\r\n\r\n0\r\n\r\n")),
        post("Content-Length: 1\r\nContent-Length: 2\r\n\r\na"),
        post("Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        post("Content-Length: 1, 1\r\n\r\na"),
        post("Content-Length: -1\r\n\r\n"),
        post("Content-Length: +1\r\n\r\na"),
        post("Content-Length: 0x1\r\n\r\na"),
        post("Content-Length: 99999999999999999999999\r\n\r\na"),
        post("Content-Length: \r\n\r\n"),
        post("Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        post("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        post("Transfer-Encoding: identity\r\n\r\n"),
        post(&format!("{chunked}{chunked}\r\n0\r\n\r\n")),
        post("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        post("Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
        post("Content-Length : 0\r\n\r\n"),
        post(" Content-Length: 0\r\n\r\n"),
        post("A: b\r\n c\r\n\r\n"),
        post("A: b\r\n\tc\r\n\r\n"),
        post("A: b\n\r\n"),
        post("A: b\r\n\n"),
        post("A: b\rC: d\r\n\r\n"),
        post("A: b\0c\r\n\r\n"),
        post("A\0: b\r\n\r\n"),
        post("A b: c\r\n\r\n"),
        post(": c\r\n\r\n"),
        post("A\r\n\r\n"),
        "GET /healthz HTTP/1.1\nHost: a\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\nHost: a\n\n".to_owned(),
        "GET /hea\0lthz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(),
        "GET /healthz\r\nHost: a\r\n\r\n".to_owned(),
        "GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "G\u{e9}T /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("POST /token HTTP/1.0\r\nHost: a\r\n{chunked}\r\n0\r\n\r\n"),
    ] {
        let answer = exchange(&server, format!("{request}{GET}")).await;
        assert_eq!(status(&answer), "400", "{request:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{request:?}: the next request was answered: {answer}");
    }
}

#[tokio::test]
async fn a_refused_request_leaves_the_answers_before_it_alone() {
    let server = impatient().await;
    let bad = post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n");
    let answer = exchange(&server, format!("{GET}{GET}{bad}{GET}")).await;
    let statuses: Vec<_> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| status(&answer[at..])).collect();
    assert_eq!(statuses, ["200", "200", "400"], "{answer}");
}

#[tokio::test]
async fn a_chunked_body_that_is_broken_is_no_way_to_smuggle() {
    let server = impatient().await;
    for body in
        ["x\r\n", "-1\r\n", "1\r\nab\r\n0\r\n\r\n", "1\na\n0\n\n", "ffffffffffffffffff\r\n", "0\n\n", "5;a\nb\r\n"]
    {
        let request = post(&format!("Transfer-Encoding: chunked\r\n\r\n{body}{GET}"));
        let answer = exchange(&server, request).await;
        assert_eq!(status(&answer), "400", "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{body:?}: {answer}");
    }
}

#[tokio::test]
async fn clear_framing_of_every_kind_is_understood() {
    let server = impatient().await;
    let form = "grant_type=nonsense";
    for request in [
        post(&format!("Content-Length: {}\r\n\r\n{form}", form.len())),
        post("transfer-encoding:chunked\r\n\r\n5;x=y\r\ngrant\r\nE\r\n_type=nonsense\r\n0\r\nTrailer: x\r\n\r\n"),
    ] {
        let mut wire = Wire::open(&server).await;
        // However it is cut, and twice on one connection.
        for byte in request.as_bytes() {
            wire.send([*byte]).await;
        }
        let answer = wire.answer().await;
        assert!(answer.contains("unsupported_grant_type"), "{answer}");
        wire.send(format!("{request}{GET}")).await;
        assert!(wire.answer().await.contains("unsupported_grant_type"));
        assert_eq!(status(&wire.answer().await), "200");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = impatient().await;
    for request in [
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(20_000)),
        format!("GET /healthz HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(20_000)),
        format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100)),
        format!("GET /healthz HTTP/1.1\r\nHost: a\r\nA: {}", "a".repeat(100_000)),
    ] {
        let answer = exchange(&server, request).await;
        assert!(matches!(status(&answer), "400" | "414" | "431"), "{answer}");
    }
}

#[tokio::test]
async fn unusual_requests_are_no_fault_of_the_server() {
    let server = impatient().await;
    let close = "Host: a\r\nConnection: close\r\n";
    for request in [
        format!("CONNECT a:80 HTTP/1.1\r\n{close}\r\n"),
        format!("OPTIONS * HTTP/1.1\r\n{close}\r\n"),
        format!("TRACE /token HTTP/1.1\r\n{close}\r\n"),
        format!("BREW /token HTTP/1.1\r\n{close}\r\n"),
        format!("GET /../../etc/passwd HTTP/1.1\r\n{close}\r\n"),
        format!("GET /%00%ff HTTP/1.1\r\n{close}\r\n"),
        format!("GET /api/v1/clients/%ff HTTP/1.1\r\n{close}\r\n"),
        format!("GET //evil.example/ HTTP/1.1\r\n{close}\r\n"),
        format!(
            "GET /healthz?{} HTTP/1.1\r\n{close}Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            "a".repeat(5_000)
        ),
        format!("HEAD /token HTTP/1.1\r\n{close}\r\n"),
        format!("POST /token HTTP/1.1\r\n{close}Expect: 200-maybe\r\n\r\n"),
    ] {
        let answer = exchange(&server, &request).await;
        assert!(matches!(status(&answer).as_bytes(), [b'2' | b'4', _, _]), "{request:?}: {answer}");
    }
    // The preface of HTTP/2, which is spoken only where TLS has agreed on it, gets no answer at all.
    let answer = exchange(&server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(matches!(status(&answer), "" | "400"), "{answer}");
}

#[tokio::test]
async fn whoever_sends_too_much_still_reads_why_it_was_refused() {
    let server = impatient().await;
    for _ in 0..5 {
        let mut wire = Wire::open(&server).await;
        // The client writes all before it reads, as many do; a reset would take the answer from it.
        let length = 2 * 1024 * 1024;
        wire.send(post(&format!("Content-Length: {length}\r\n\r\n"))).await;
        wire.send("a".repeat(length)).await;
        let answer = wire.rest().await;
        assert_eq!(status(&answer), "400");
        assert!(answer.contains("the body is larger than 16 KiB"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_is_asked_for_before_it_is_sent() {
    let server = impatient().await;
    let mut wire = Wire::open(&server).await;
    wire.send(post("Content-Length: 19\r\nExpect: 100-continue\r\n\r\n")).await;
    assert_eq!(wire.answer().await, "HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("grant_type=nonsense").await;
    assert!(wire.answer().await.contains("unsupported_grant_type"));
    // Refused before its body, it may keep it; the connection says so by ending.
    wire.send("POST /token?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 19\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(status(&wire.rest().await), "400");
}

#[tokio::test]
async fn no_answer_is_built_from_the_host_that_was_asked_for() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let token = &admin.token;
    let authorized = format!("Authorization: Bearer {token}\r\n");
    let new = r#"{"name":"by an odd host"}"#;
    for (request, expected) in [
        ("GET /.well-known/oauth-authorization-server".to_owned(), "200"),
        ("GET /.well-known/openid-configuration".to_owned(), "200"),
        ("GET /jwks".to_owned(), "200"),
        ("GET /openapi.json".to_owned(), "200"),
        ("GET /docs".to_owned(), "200"),
        ("GET /docs/".to_owned(), "404"),
        ("GET /status-lists/1".to_owned(), "200"),
        ("GET /metrics".to_owned(), "403"),
        ("GET /nothing/here".to_owned(), "404"),
        ("POST /token".to_owned(), "400"),
        ("GET /api/v1/users/me".to_owned(), "401"),
        ("GET http://evil.example/.well-known/oauth-authorization-server".to_owned(), "200"),
    ] {
        let further = "Host: evil.example\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n";
        let answer = exchange(&server, format!("{request} HTTP/1.1\r\n{further}Connection: close\r\n\r\n")).await;
        assert_eq!(status(&answer), expected, "{request}");
        assert!(!answer.contains("evil"), "{request}: {answer}");
    }
    let create = format!(
        "POST /api/v1/clients HTTP/1.1\r\nHost: evil.example\r\n{authorized}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{new}",
        new.len()
    );
    let answer = exchange(&server, create).await;
    assert_eq!(status(&answer), "201", "{answer}");
    assert!(answer.to_lowercase().contains("location: /api/v1/clients/client_"), "{answer}");
    assert!(!answer.contains("evil"), "{answer}");
}

#[tokio::test]
async fn a_stopping_server_finishes_what_is_under_way_and_closes_the_rest_at_once() {
    let mut server = TestServer::start(Db::Sqlite).await;
    let (mut idle, mut busy) = (Wire::open(&server).await, Wire::open(&server).await);
    idle.send(GET).await;
    assert_eq!(status(&idle.answer().await), "200");
    busy.send(post("Content-Length: 19\r\n\r\ngrant_type")).await;
    // The request is under way when its body is asked for; nothing tells a client so.
    sleep(Duration::from_millis(200)).await;
    let address = server.address();
    let start = Instant::now();
    let stopping = async {
        assert!(server.stop_serving().await, "what was under way was not finished");
        start.elapsed()
    };
    let clients = async {
        assert_eq!(idle.rest().await, "", "the idle connection is closed");
        assert_about(start, 0.0, 1.0);
        assert!(TcpStream::connect(address).await.is_err(), "a new connection is accepted");
        sleep(Duration::from_millis(300)).await;
        busy.send("=nonsense").await;
        let answer = busy.rest().await;
        assert!(answer.contains("unsupported_grant_type"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    };
    let (took, ()) = tokio::join!(stopping, clients);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_client_that_hangs_does_not_hold_up_the_end() {
    let mut server = TestServer::start_with(Db::Sqlite, |config| config.server.shutdown_grace_s = 1).await;
    let mut hanging = Wire::open(&server).await;
    hanging.send(post("Content-Length: 19\r\n\r\ngrant_type")).await;
    sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    assert!(!server.stop_serving().await, "it says that something was cut off");
    assert_about(start, 0.9, 3.0);
    assert_eq!(hanging.rest().await, "");
}
