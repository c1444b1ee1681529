//! A verifier that follows the revocation feed, as it is on the wire.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use crate::server::{Answer, TestServer};

/// Longer than anything in the feed takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// One event of the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Up to which place in the log everything is known with it.
    pub id: i64,
    /// `reset`, `places`, `tokens`, `keys` or `alive`.
    pub event: String,
    /// Its particulars, without what every event says.
    pub data: Value,
    /// Of which log the place is.
    pub log: String,
    /// The server's time, in Unix milliseconds.
    pub now: i64,
}

impl Told {
    fn of(id: i64, event: String, mut data: Value) -> Self {
        let mut common = |name| data.as_object_mut().and_then(|data| data.remove(name)).unwrap_or_default();
        let (log, now) = (common("log"), common("now"));
        Self { id, event, data, log: text(&log), now: now.as_i64().expect("a time") }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The feed as Server-Sent Events.
pub struct Stream {
    response: Response,
    unread: String,
}

impl Stream {
    /// Opens it, to go on from this place.
    pub async fn open(server: &TestServer, known: Option<i64>) -> Self {
        let response = Self::request(server, known).send().await.expect("the server answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { response, unread: String::new() }
    }

    /// The request that opens it.
    pub fn request(server: &TestServer, known: Option<i64>) -> reqwest::RequestBuilder {
        let request = server.http.get(format!("{}/revocations", server.url())).header("accept", "text/event-stream");
        known.map_or(request.try_clone().expect("no body"), |id| request.header("last-event-id", id))
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((frame, rest)) = self.unread.split_once("\n\n") {
                let told = parse(frame);
                self.unread = rest.to_owned();
                return Some(told);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("the stream says something");
            let chunk = chunk.ok().flatten()?;
            self.unread.push_str(std::str::from_utf8(&chunk).expect("whole characters"));
        }
    }

    /// The next event that says more than that the node is alive.
    pub async fn news(&mut self) -> Told {
        loop {
            let told = self.next().await.expect("the stream goes on");
            if told.event != "alive" {
                return told;
            }
        }
    }

    /// Reads on to its end.
    pub async fn end(mut self) {
        while self.next().await.is_some() {}
    }
}

/// Strict: three lines, in this order, nothing else.
fn parse(frame: &str) -> Told {
    let lines: Vec<&str> = frame.split('\n').collect();
    let [id, event, data] = lines.as_slice() else { panic!("not three lines: {frame:?}") };
    let value = |line: &str, name: &str| line.strip_prefix(name).unwrap_or_else(|| panic!("{frame:?}")).to_owned();
    let data = serde_json::from_str(&value(data, "data: ")).expect("JSON");
    Told::of(value(id, "id: ").parse().expect("a number"), value(event, "event: "), data)
}

/// Asks by long polling: the place up to which everything is known, and the events.
pub async fn poll(server: &TestServer, query: &str) -> (i64, Vec<Told>) {
    let answer = poll_answer(server, query).await.ok();
    let told =
        |event: &Value| Told::of(event["id"].as_i64().expect("an id"), text(&event["event"]), event["data"].clone());
    (answer["last"].as_i64().expect("a place"), answer["events"].as_array().expect("a list").iter().map(told).collect())
}

/// The whole answer to a poll.
pub async fn poll_answer(server: &TestServer, query: &str) -> Answer {
    let request = server.http.get(format!("{}/revocations{query}", server.url())).header("accept", "application/json");
    Answer::of(request).await
}

/// What a verifier knows that has applied the feed to the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verifier {
    /// Places that it refuses.
    pub ended: BTreeSet<u64>,
    /// Single tokens that it refuses.
    pub tokens: BTreeSet<String>,
}

impl Verifier {
    /// Applies one event; what says that the list must be fetched anew is the caller's.
    pub fn apply(&mut self, told: &Told) {
        let list = |name: &str| told.data[name].as_array().cloned().unwrap_or_default();
        let place = |value: Value| value.as_u64().expect("a place");
        match told.event.as_str() {
            "places" => {
                self.ended.extend(list("ended").into_iter().map(place));
                for restored in list("restored") {
                    self.ended.remove(&place(restored));
                }
            }
            "tokens" => {
                self.tokens.extend(list("revoked").iter().map(|t| t["jti"].as_str().expect("a jti").to_owned()));
            }
            "alive" | "keys" => {}
            other => panic!("{other} cannot be applied"),
        }
    }
}
