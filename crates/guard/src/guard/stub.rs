//! An issuer written to the protocol, which misbehaves on request and remembers what it was asked.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_model::jws::Jwks;
use keyward_model::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::fixture::{KEYS, NOW, published};

/// How it treats whoever wants the feed as a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feed {
    Well,
    Missing,
    Full,
    Silent,
    Comments,
    Garbage,
    Endless,
    Cut,
    /// Tells of places before any reset.
    NoReset,
    /// Begins with a list of somebody else.
    Foreign,
}

#[derive(Clone)]
pub(super) struct Script {
    pub(super) away: bool,
    pub(super) feed: Feed,
    pub(super) polls: bool,
    pub(super) issuer: Option<String>,
    pub(super) jwks: Jwks,
    /// What a node that is behind answers to whoever does not say as of when.
    pub(super) jwks_behind: Option<Jwks>,
    /// Answers to `/jwks` and to the list that take their place.
    pub(super) jwks_answer: Option<String>,
    pub(super) list_answer: Option<String>,
    /// What the feed says of the time.
    pub(super) now: Option<Timestamp>,
    pub(super) bits: Vec<u8>,
    pub(super) revoked: Vec<String>,
    /// Event and data; the place in the log is the place here, from 1.
    pub(super) log: Vec<(&'static str, Value)>,
}

pub(super) struct Stub {
    pub(super) url: String,
    inner: Arc<Inner>,
    serving: tokio::task::JoinHandle<()>,
}

struct Inner {
    url: String,
    script: Mutex<Script>,
    changed: watch::Sender<()>,
    seen: Mutex<Vec<String>>,
}

impl Stub {
    pub(super) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Where nobody listened before.
    pub(super) async fn at(address: SocketAddr) -> Self {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return Self::on(listener),
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    }

    fn on(listener: TcpListener) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Script {
            away: false,
            feed: Feed::Well,
            polls: true,
            issuer: None,
            jwks: published(KEYS.iter()),
            jwks_behind: None,
            jwks_answer: None,
            list_answer: None,
            now: Some(NOW),
            bits: vec![0; 16],
            revoked: vec![],
            log: vec![("keys", json!({}))],
        };
        let (script, seen) = (Mutex::new(script), Mutex::default());
        let inner = Arc::new(Inner { url: url.clone(), script, changed: watch::channel(()).0, seen });
        let shared = Arc::clone(&inner);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inner = Arc::clone(&shared);
                tokio::spawn(async move { drop(inner.serve(stream).await) });
            }
        });
        Self { url, inner, serving }
    }

    /// Changes how it behaves. Streams that are open behave anew too.
    pub(super) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.inner.script());
        self.inner.changed.send_replace(());
    }

    /// Ends a place, in the list and in the log.
    pub(super) fn end_place(&self, place: usize) {
        self.set(|script| {
            script.bits[place / 8] |= 1 << (place % 8);
            script.log.push(("places", json!({ "ended": [place] })));
        });
    }

    /// The requests whose first line or headers contain this.
    pub(super) fn seen(&self, what: &str) -> usize {
        self.inner.seen.lock().unwrap().iter().filter(|request| request.contains(what)).count()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Inner {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut read = Vec::new();
        while !read.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        let request = String::from_utf8_lossy(&read).to_lowercase();
        let script = self.script().clone();
        self.seen.lock().unwrap().push(request.clone());
        if script.away {
            return Ok(());
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let applied: Option<usize> = query.strip_prefix("applied=").map(|id| id.parse().unwrap());
        let answer = match path {
            _ if applied.is_some_and(|id| id > script.log.len()) => status("503 Not Yet"),
            "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration" => {
                let issuer = script.issuer.unwrap_or_else(|| self.url.clone());
                ok(&json!({ "issuer": issuer, "jwks_uri": format!("{}/jwks", self.url) }).to_string(), "")
            }
            "/jwks" => script.jwks_answer.clone().unwrap_or_else(|| key_set(&script, applied.is_some())),
            "/status-lists/1" => script.list_answer.clone().unwrap_or_else(|| self.list(&script, &request)),
            "/revocations" if request.contains("accept: application/json") && script.polls => self.poll(query).await,
            "/revocations" => return self.stream(stream, &request).await,
            _ => status("404 Not Found"),
        };
        stream.write_all(answer.as_bytes()).await
    }

    fn list(&self, script: &Script, request: &str) -> String {
        let etag = format!("W/\"{}\"", URL_SAFE_NO_PAD.encode(format!("{:?}{:?}", script.bits, script.revoked)));
        if request.contains(&format!("if-none-match: {}", etag.to_lowercase())) {
            return status("304 Not Modified");
        }
        ok(&list_jwt(&self.url, &script.bits, &script.revoked), &format!("etag: {etag}\r\n"))
    }

    async fn poll(&self, query: &str) -> String {
        let number = |name| query.split('&').find_map(|pair| pair.strip_prefix(name)?.parse::<usize>().ok());
        let mut changed = self.changed.subscribe();
        let Some(after) = number("after=") else {
            let Script { log, now, .. } = self.script().clone();
            let last = log.len();
            let reset =
                json!({ "id": last, "event": "reset", "data": { "list": format!("{}/status-lists/1", self.url) } });
            return ok(&json!({ "last": last, "now": now, "events": [reset] }).to_string(), "");
        };
        let wait = sleep(Duration::from_secs(number("wait=").unwrap_or(20) as u64));
        tokio::pin!(wait);
        loop {
            let Script { log, now, .. } = self.script().clone();
            let new = log.iter().enumerate().skip(after);
            let events: Vec<_> =
                new.map(|(at, (event, data))| json!({ "id": at + 1, "event": event, "data": data })).collect();
            if !events.is_empty() || wait.is_elapsed() {
                return ok(&json!({ "last": log.len(), "now": now, "events": events }).to_string(), "");
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = &mut wait => {}
            }
        }
    }

    async fn stream(&self, mut to: TcpStream, request: &str) -> std::io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let resumed = request.split("last-event-id: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        let mut changed = self.changed.subscribe();
        let mut told: Option<usize> = None;
        loop {
            let Script { feed, log, away, now, .. } = self.script().clone();
            let say = |event: &str, id: usize, mut data: Value| {
                data["now"] = json!(now);
                format!("event: {event}\nid: {id}\ndata: {data}\n\n")
            };
            let reset = |list: &str| say("reset", log.len(), json!({ "list": list }));
            let begins = told.is_none();
            let text = match feed {
                _ if away => return Ok(()),
                Feed::Missing => status("404 Not Found"),
                Feed::Full => "HTTP/1.1 503 Full\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n".to_owned(),
                Feed::Silent => String::new(),
                Feed::Comments => ": still here\n\n".to_owned(),
                Feed::Garbage => "\u{0}id: x\nevent: places\ndata: ?\n\n".to_owned(),
                Feed::Endless => "data: ".to_owned() + &"x".repeat(20_000),
                Feed::Cut => head.to_owned(),
                Feed::NoReset => "id: 1\nevent: places\ndata: {\"ended\":[1]}\n\n".to_owned(),
                Feed::Foreign => reset("https://other.example/status-lists/1"),
                Feed::Well => match told.or(resumed.filter(|last| *last <= log.len())) {
                    None => {
                        told = Some(log.len());
                        reset(&format!("{}/status-lists/1", self.url))
                    }
                    Some(last) => {
                        told = Some(log.len());
                        let new = log.iter().enumerate().skip(last);
                        let mut text: String =
                            new.map(|(at, (event, data))| say(event, at + 1, data.clone())).collect();
                        if text.is_empty() {
                            text = say("alive", last, json!({}));
                        }
                        text
                    }
                },
            };
            if begins && !matches!(feed, Feed::Missing | Feed::Full | Feed::Cut) {
                to.write_all(head.as_bytes()).await?;
                told.get_or_insert(0);
            }
            to.write_all(text.as_bytes()).await?;
            if matches!(feed, Feed::Missing | Feed::Full | Feed::Cut) {
                return Ok(());
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
    }
}

fn key_set(script: &Script, is_as_of: bool) -> String {
    let keys = script.jwks_behind.as_ref().filter(|_| !is_as_of).unwrap_or(&script.jwks);
    ok(&serde_json::to_string(keys).unwrap(), "")
}

pub(super) fn list_jwt(issuer: &str, bits: &[u8], revoked: &[String]) -> String {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bits).unwrap();
    let lst = URL_SAFE_NO_PAD.encode(encoder.finish().unwrap());
    let claims = json!({
        "iss": issuer, "sub": format!("{issuer}/status-lists/1"), "iat": NOW.as_seconds(),
        "exp": NOW.as_seconds() + 100_000, "ttl": 60, "status_list": { "bits": 1, "lst": lst },
        "revoked_tokens": revoked,
    });
    KEYS[1].sign("statuslist+jwt", claims.to_string().as_bytes()).unwrap()
}

pub(super) fn ok(body: &str, headers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

pub(super) fn status(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nlocation: /jwks\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}
