//! The revocation feed: what changes in the status list, told within a second.
//!
//! It says no more than the list does, so it is as public. Every reader gets the same events, from one memory (`ring.rs`)
//! that `follow.rs` fills before a change is acknowledged. Two ways to read, by `Accept`:
//!
//! 1. Server-Sent Events: a stream that says every second that it is alive
//! 2. Long polling, for networks that break streams

mod marks;
pub(crate) mod ring;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::stream::unfold;
use http::{Extensions, HeaderMap, HeaderValue, header};
use keyward_model::time::Timestamp;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::app::App;
use crate::config::{LimitsConfig, ServerConfig};
use crate::listen::Endless;
use crate::listen::room::{Part, Room};
use crate::meter::{self, Inside};
use crate::oauth::token::no_store;
use crate::request::Arrival;
use crate::respond::{ErrorCode, OAuthError};
use marks::{Known, Mark};
use ring::{Next, Told};

/// How often a stream says that it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// A node that has not read the log for so long says nothing more.
const TRUE_FOR: Duration = Duration::from_millis(1_500);
/// And after so long it ends its streams: another node may know more.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// How long a reader may be behind another node before it is told to begin anew.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Seconds that a poll waits unless it says otherwise, and at most.
const USUAL_WAIT: u64 = 20;
const MOST_WAIT: u64 = 30;
const RETRY_UNREADABLE: Duration = Duration::from_secs(1);
const RETRY_FULL: Duration = Duration::from_secs(30);

/// How many may read at once.
pub(crate) struct Readers {
    places: Arc<Semaphore>,
    /// One network may have half of them: nobody takes the feed from all others.
    room: Arc<Room>,
}

/// A reader's place, until dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    _part: Option<Part>,
    _counted: Inside,
}

impl Readers {
    /// As many as the settings say.
    pub(crate) fn new(limits: &LimitsConfig, server: &ServerConfig) -> Self {
        let most = usize::try_from(limits.feed_readers).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let room = Room::new(limits.feed_readers.div_ceil(2), server.trusted_proxies.clone());
        Self { places: Arc::new(Semaphore::new(most)), room }
    }

    fn enter(&self, extensions: &Extensions) -> Result<Place, OAuthError> {
        let full = || {
            ErrorCode::ServerError
                .because("the feed has as many readers as it may: use the status list")
                .retry_in(RETRY_FULL)
        };
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| full())?;
        let part = Arrival::address(extensions).map(|address| self.room.part(address).ok_or_else(full)).transpose()?;
        Ok(Place { _permit: permit, _part: part, _counted: meter::FEED_READERS.enter() })
    }
}

/// Where a reader goes on, and how long a poll waits for something.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    after: Option<i64>,
    wait: Option<u64>,
    log: Option<String>,
}

impl Wanted {
    /// What the reader knows: up to this place, of the log it names.
    fn known(&self, id: Option<i64>) -> Result<Option<Known>, OAuthError> {
        let log: Option<Mark> = self.log.as_deref().map(str::parse).transpose().map_err(|_| wrong_parameters())?;
        Ok(id.map(|id| Known { id, log }))
    }
}

fn wrong_parameters() -> OAuthError {
    ErrorCode::InvalidRequest
        .because("the parameters are after (a place in the log), log (as it came with that) and wait (seconds)")
}

/// `GET /revocations`
pub async fn revocations(
    State(app): State<Arc<App>>,
    query: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, OAuthError> {
    let Query(wanted) = query.map_err(|_| wrong_parameters())?;
    // Whoever polls is a reader while it waits.
    let place = app.readers.enter(&extensions)?;
    if wants_json(&headers) {
        return answer_poll(&app, &wanted).await;
    }
    if wanted.after.is_some() || wanted.wait.is_some() {
        return Err(ErrorCode::InvalidRequest
            .because("after and wait are for Accept: application/json; a stream goes on from Last-Event-ID"));
    }
    require_true(&app)?;
    let known = wanted.known(headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()))?;
    catch_up(&app, known).await;
    Ok(stream(app, place, known))
}

/// A stream unless something else is asked for: `Accept` that names JSON and no stream.
fn wants_json(headers: &HeaderMap) -> bool {
    let names = |kind: &str| {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind))
    };
    names("application/json") && !names("text/event-stream")
}

/// A node that cannot read the log does not know what it does not tell.
fn require_true(app: &App) -> Result<(), OAuthError> {
    if app.feed.age() < TRUE_FOR {
        return Ok(());
    }
    Err(ErrorCode::ServerError.because("this node cannot read the event log; try another").retry_in(RETRY_UNREADABLE))
}

/// Whoever comes from another node may know more than this one yet, and no more than it will at its next look; else they
/// come from another database. Nobody makes the database work by naming a place.
async fn catch_up(app: &App, known: Option<Known>) {
    if let Some(Known { id, .. }) = known
        && id > app.applied.borrow().seq
    {
        app.applies_soon(id, CATCH_UP).await;
    }
}

/// A reader of the stream.
struct Reader {
    app: Arc<App>,
    known: Option<Known>,
    wake: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    /// When it says that it is alive if nothing else is to be said: at once, and then every second.
    alive_at: Instant,
    _place: Place,
}

fn stream(app: Arc<App>, place: Place, known: Option<Known>) -> Response {
    let (wake, closed) = (app.feed.wake(), app.feed.closed());
    let reader = Reader { app, known, wake, closed, alive_at: Instant::now(), _place: place };
    let frames = unfold(reader, async |mut reader| Some((Ok::<_, Infallible>(reader.next().await?), reader)));
    let mut response = no_store(Response::new(Body::from_stream(frames)));
    response.extensions_mut().insert(Endless);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx would otherwise collect what must be there within a second.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Reader {
    /// What is sent next; `None` ends the stream. It is asked only when the client has taken what was sent before.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if *self.closed.borrow() {
                return None;
            }
            self.wake.mark_unchanged();
            match self.app.feed.next(self.known) {
                Next::Told(told, last) => return Some(self.say(&told, last)),
                Next::Reset(last) => return Some(self.say(&[reset(&self.app, last)], last)),
                Next::Nothing(last) => self.known = Some(last),
            }
            let age = self.app.feed.age();
            if age >= SILENT_FOR {
                return None;
            }
            let is_true = age < TRUE_FOR;
            if is_true && self.alive_at <= Instant::now() {
                let last = self.known?;
                return Some(self.say(&[Told { known: last, event: "alive", data: "{}".into() }], last));
            }
            let look_at =
                if is_true { self.alive_at } else { Instant::now() + (SILENT_FOR - age).min(ALIVE_EVERY / 4) };
            tokio::select! {
                _ = self.wake.changed() => {}
                _ = self.closed.changed() => {}
                () = sleep_until(look_at) => {}
            }
        }
    }

    fn say(&mut self, told: &[Told], last: Known) -> Bytes {
        self.known = Some(last);
        self.alive_at = Instant::now() + ALIVE_EVERY;
        let now = self.app.clock.now();
        let frame =
            |told: &Told| format!("id: {}\nevent: {}\ndata: {}\n\n", told.known.id, told.event, told.data_at(now));
        told.iter().map(frame).collect::<String>().into()
    }
}

/// Where to begin: the key set and the list, as they are at this place or later.
fn reset(app: &App, last: Known) -> Told {
    let data = serde_json::json!({ "list": app.status_list_uri }).to_string();
    Told { known: last, event: "reset", data: data.into() }
}

async fn answer_poll(app: &App, wanted: &Wanted) -> Result<Response, OAuthError> {
    let wait = wanted.wait.unwrap_or(USUAL_WAIT);
    if wait > MOST_WAIT {
        return Err(ErrorCode::InvalidRequest.because(format!("wait must be 0 to {MOST_WAIT}")));
    }
    require_true(app)?;
    let known = wanted.known(wanted.after)?;
    catch_up(app, known).await;
    let (mut wake, mut closed) = (app.feed.wake(), app.feed.closed());
    let until = Instant::now() + Duration::from_secs(wait);
    loop {
        wake.mark_unchanged();
        let over = *closed.borrow() || Instant::now() >= until;
        match app.feed.next(known) {
            Next::Told(told, last) => return Ok(polled(app, &told, last)),
            Next::Reset(last) => return Ok(polled(app, &[reset(app, last)], last)),
            Next::Nothing(last) if over => {
                require_true(app)?;
                return Ok(polled(app, &[], last));
            }
            Next::Nothing(_) => {}
        }
        tokio::select! {
            _ = wake.changed() => {}
            _ = closed.changed() => {}
            () = sleep_until(until) => {}
        }
    }
}

fn polled(app: &App, told: &[Told], last: Known) -> Response {
    let now = app.clock.now();
    // What is told is JSON already.
    let event =
        |told: &Told| format!(r#"{{"id":{},"event":"{}","data":{}}}"#, told.known.id, told.event, told.data_at(now));
    let events = told.iter().map(event).collect::<Vec<_>>().join(",");
    let answer = format!(r#"{{"last":{},{},"events":[{events}]}}"#, last.id, members(last, now));
    let mut response = no_store(Response::new(Body::from(answer)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Told {
    /// Its particulars, with what every event says.
    fn data_at(&self, now: Timestamp) -> String {
        let own = self.data.strip_prefix('{').unwrap_or("}");
        let comma = if own == "}" { "" } else { "," };
        format!("{{{}{comma}{own}", members(self.known, now))
    }
}

/// What every answer says of its place: of which log it is, and what time it is here.
fn members(known: Known, now: Timestamp) -> String {
    let log = known.log.map(|log| format!(r#""log":"{log}","#)).unwrap_or_default();
    format!(r#"{log}"now":{}"#, now.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_what_whoever_does_not_ask_for_json_gets() {
        for (accept, json) in [
            (&[][..], false),
            (&["*/*"], false),
            (&["text/event-stream"], false),
            (&["application/json"], true),
            (&["Application/JSON; q=0.9, */*"], true),
            (&["application/json, text/event-stream"], false),
            (&["application/json", "text/event-stream"], false),
            (&["text/html"], false),
        ] {
            let headers = accept.iter().map(|value| (header::ACCEPT, HeaderValue::from_static(value))).collect();
            assert_eq!(wants_json(&headers), json, "{accept:?}");
        }
    }
}
