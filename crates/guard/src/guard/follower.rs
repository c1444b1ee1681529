//! Learns what is revoked: from the feed, as a stream or by long polling, and from the status list while there is none.
//!
//! 1. The stream tells of everything at once; one that is silent for three seconds is lost
//! 2. Where streams keep breaking, as behind a proxy that holds answers back, the same events are polled for
//! 3. Without a feed the list is fetched whenever the copy's time is over
//!
//! Whoever holds a feed back holds its readers in the past. So each event says when it was told; what was told too long
//! ago, or does not say when, makes nothing certain.
//!
//! One task does it all, one thing after the other, so that nothing older ever overwrites what is newer.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::StatusCode;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use keyward_model::time::Timestamp;
use tokio::time::{Instant, sleep, timeout_at};

use super::event::{Event, Polled, Told};
use super::fetch::{Answer, Endpoint, Fault, Http, fault};
use super::pace::{Backoff, spread};
use super::sse::{Message, Parser};
use super::state::State;
use super::status_list::{ListError, MAX_JWT, StatusList, Wanted};
use crate::Unreachable;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const MAX_POLLED: usize = 1024 * 1024;
/// So many streams in a row that broke early, and it is polled instead.
const PATIENCE: u32 = 3;
/// How often a list that is asked for as of an event may not be there yet.
const ATTEMPTS: u32 = 3;
/// The longest that a server may ask to be left alone.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

pub(super) struct Follower {
    state: Arc<State>,
    http: Http,
    /// `None` where the API wants none.
    feed: Option<Endpoint>,
    list: Endpoint,
    /// The place in the server's log up to which everything is known.
    last: Option<u64>,
    /// Which log that is: one whose newest events were lost gives their places to others.
    log: Option<String>,
    known: Option<Copy>,
    /// How often in a row the list could not be had.
    failures: u32,
    broken: u32,
    poll_until: Option<Instant>,
}

/// What makes it unnecessary to fetch the list whole.
struct Copy {
    etag: String,
    exp: Timestamp,
    ttl: Duration,
}

/// When something was heard by the guard's clock, and said by the server's.
#[derive(Clone, Copy)]
struct Heard {
    at: Timestamp,
    said_at: Option<Timestamp>,
}

/// How a feed was lost.
enum Lost {
    /// There is none, or it has no room: told by an answer.
    Refused(Fault, Option<Duration>),
    /// It began, and then broke.
    Broken(Fault),
    /// Nobody answered.
    Unreached(Fault),
    /// It is time to try something better.
    Enough,
}

impl Follower {
    pub(super) fn new(state: Arc<State>, http: Http, feed: bool) -> Result<Self, Fault> {
        let base = state.issuer.trim_end_matches('/');
        // What `reset` says is what counts; until then, where Keyward has its only list.
        let list = Endpoint::parse(&format!("{base}/status-lists/1"))?;
        let feed = if feed { Some(Endpoint::parse(&format!("{base}/revocations"))?) } else { None };
        let (last, known, failures, broken, poll_until) = (None, None, 0, 0, None);
        Ok(Self { state, http, feed, list, last, log: None, known, failures, broken, poll_until })
    }

    pub(super) async fn run(mut self) {
        let pace = self.state.pace;
        let (mut feed_pauses, mut list_pauses) = (Backoff::new(pace.pause), Backoff::new(pace.pause));
        // Without keys there is no list to be read; what was wrong with them is known to whoever waits for them.
        if let Some(keys) = self.state.keys_asked.first() {
            drop(keys.first().await);
        }
        let (mut feed_at, mut list_at) = (Instant::now(), Instant::now());
        loop {
            if let Some(feed) = self.feed.clone().filter(|_| Instant::now() >= feed_at) {
                let (lost, was_live) = self.follow(&feed).await;
                if was_live {
                    feed_pauses.reset();
                }
                feed_at = Instant::now() + self.pause(lost, &mut feed_pauses);
                if was_live {
                    // The feed is asked once more before the list is.
                    list_at = feed_at + pace.silence;
                }
            }
            if Instant::now() >= list_at {
                // However little an API accepts on trust, the issuer is not asked without end.
                list_at = Instant::now() + self.read_list(&mut list_pauses).await.max(pace.pause.0);
            }
            let next = if self.feed.is_some() { feed_at.min(list_at) } else { list_at };
            if self.state.list_asked.rest(next.saturating_duration_since(Instant::now()), pace.list).await {
                list_at = Instant::now();
            }
        }
    }

    /// Until the feed is lost; and whether it ever was there.
    async fn follow(&mut self, feed: &Endpoint) -> (Lost, bool) {
        let began = Instant::now();
        self.poll_until = self.poll_until.filter(|until| *until > began);
        let lost = if self.poll_until.is_some() { self.poll(feed).await } else { self.stream(feed).await };
        let Err(lost) = lost;
        let revocations = &self.state.revocations;
        let was_live = revocations.is_live();
        revocations.set_live(false);
        if let (Lost::Broken(_), None) = (&lost, self.poll_until) {
            self.broken = if began.elapsed() < self.state.pace.early { self.broken + 1 } else { 0 };
            if self.broken >= PATIENCE {
                self.broken = 0;
                self.poll_until = Some(Instant::now() + self.state.pace.stream_again);
            }
        }
        (lost, was_live)
    }

    fn pause(&self, lost: Lost, pauses: &mut Backoff) -> Duration {
        let (fault, asked) = match lost {
            Lost::Enough => return Duration::ZERO,
            Lost::Refused(fault, asked) => (fault, asked),
            Lost::Broken(fault) | Lost::Unreached(fault) => (fault, None),
        };
        self.state.meter.fetched(Some(&fault));
        asked.unwrap_or_default() + pauses.next()
    }

    /// Server-Sent Events, resumed where the last ones ended.
    async fn stream(&mut self, feed: &Endpoint) -> Result<std::convert::Infallible, Lost> {
        let last = self.last.map(|last| last.to_string());
        let mut headers = vec![(ACCEPT, "text/event-stream"), (CACHE_CONTROL, "no-store")];
        headers.extend(last.as_deref().map(|last| (LAST_EVENT_ID, last)));
        let feed = &match &self.log {
            Some(log) => feed.with_query(&format!("log={log}")).map_err(Lost::Unreached)?,
            None => feed.clone(),
        };
        let mut answer = self.http.get(feed, &headers).await.map_err(Lost::Unreached)?;
        let is_stream = answer.header(CONTENT_TYPE).is_some_and(|of| of.starts_with("text/event-stream"));
        if answer.status != StatusCode::OK || !is_stream {
            return Err(refused(feed, &answer));
        }
        self.state.meter.fetched(None);
        let broken = |why: &str| Lost::Broken(fault(feed, why));
        let (mut parser, mut messages) = (Parser::default(), Vec::<Message>::new());
        let mut silent_at = Instant::now() + self.state.pace.silence;
        loop {
            let chunk = tokio::select! {
                chunk = timeout_at(silent_at, answer.chunk()) => chunk,
                () = self.state.list_asked.urged(), if self.state.revocations.is_live() => {
                    self.state.list_asked.end_at_once();
                    continue;
                }
            };
            let chunk = chunk.map_err(|_| broken("the feed fell silent"))?.map_err(Lost::Broken)?;
            let chunk = chunk.ok_or_else(|| broken("the feed ended"))?;
            let heard_at = self.state.now();
            parser.push(&chunk, |message| messages.push(message)).map_err(|_| broken("the feed sends garbage"))?;
            for message in messages.drain(..) {
                let told = Told::read(&message).map_err(|err| broken(&err))?;
                let said_at = told.said_at;
                self.hear(told).await.map_err(Lost::Broken)?;
                self.is_certain(Heard { at: heard_at, said_at }, self.state.pace.silence).map_err(broken)?;
                silent_at = Instant::now() + self.state.pace.silence;
            }
        }
    }

    /// The same events by requests that wait until there are some.
    async fn poll(&mut self, feed: &Endpoint) -> Result<std::convert::Infallible, Lost> {
        let pace = self.state.pace;
        let http = self.http.waiting(pace.poll);
        while self.poll_until.is_none_or(|until| Instant::now() < until) {
            let query = match self.last {
                Some(last) => {
                    let log = self.log.as_ref().map_or_else(String::new, |log| format!("&log={log}"));
                    format!("after={last}{log}&wait={}", pace.poll.as_secs())
                }
                None => "wait=0".to_owned(),
            };
            let url = feed.with_query(&query).map_err(Lost::Unreached)?;
            let answer = tokio::select! {
                answer = http.get(&url, &[(ACCEPT, "application/json")]) => answer.map_err(Lost::Unreached)?,
                () = self.state.list_asked.urged(), if self.state.revocations.is_live() => {
                    self.state.list_asked.end_at_once();
                    continue;
                }
            };
            if answer.status != StatusCode::OK {
                return Err(refused(&url, &answer));
            }
            let heard_at = self.state.now();
            let json = answer.whole(MAX_POLLED).await.map_err(Lost::Broken)?;
            let polled = Polled::read(&json).map_err(|err| Lost::Broken(fault(&url, err)))?;
            self.state.meter.fetched(None);
            for told in polled.events {
                self.hear(told).await.map_err(Lost::Broken)?;
            }
            if self.last.is_none() {
                return Err(Lost::Broken(fault(&url, "nothing was told to begin with")));
            }
            (self.last, self.log) = (Some(polled.last), polled.log);
            let heard = Heard { at: heard_at, said_at: polled.said_at };
            self.is_certain(heard, pace.poll + pace.answer).map_err(|why| Lost::Broken(fault(&url, why)))?;
            // Whatever is told meanwhile is told at once by the next; a server that does not wait is not asked without end.
            sleep(pace.pause.0 / 4).await;
        }
        Err(Lost::Enough)
    }

    async fn hear(&mut self, told: Told) -> Result<(), Fault> {
        let revocations = &self.state.revocations;
        let too_much = |_| Fault("the feed tells more than a guard can hold".into());
        match told.event {
            Event::Reset { list } => self.begin_anew(told.id, &list).await?,
            _ if self.last.is_none() => return Err(Fault("the feed did not begin with a reset".into())),
            Event::Places(places) => {
                // The copy that is named by its ETag is not the one that is here any more.
                self.known = None;
                revocations.apply(&places).map_err(too_much)?;
            }
            Event::Tokens(tokens) => revocations.revoke(&tokens, self.state.now()).map_err(too_much)?,
            // Told again if it fails: the place in the log moves on only with what it stands for.
            Event::Keys => self.fetch_keys_as_of(told.id).await?,
            Event::Alive | Event::Unknown => {}
        }
        (self.last, self.log) = (Some(told.id), told.log);
        Ok(())
    }

    async fn fetch_keys_as_of(&self, id: u64) -> Result<(), Fault> {
        self.state.want_keys_as_of(Some(id));
        self.fetch_keys().await
    }

    async fn fetch_keys(&self) -> Result<(), Fault> {
        match self.state.keys_asked.first() {
            Some(keys) => keys.fresh().await,
            None => Ok(()),
        }
    }

    /// That everything is known up to what was heard, for a while; or why that is not so.
    fn is_certain(&self, heard: Heard, good_for: Duration) -> Result<(), &'static str> {
        let Some(said_at) = heard.said_at else { return Err("the feed does not say when it was told") };
        let tolerance = self.state.policy.expect().leeway();
        let stale_at = said_at.plus(tolerance + self.state.pace.silence);
        if heard.at > stale_at {
            return Err("the feed was told too long ago: something holds it back, or a clock is wrong");
        }
        let until = heard.at.plus(good_for).min(said_at.plus(tolerance + good_for));
        self.state.revocations.certain(heard.at.min(said_at), until);
        self.state.revocations.set_live(true);
        Ok(())
    }

    /// Keys and list as of this place in the log.
    async fn begin_anew(&mut self, id: u64, list: &str) -> Result<(), Fault> {
        let ours = list.strip_prefix(self.state.issuer.trim_end_matches('/')).is_some_and(|path| path.starts_with('/'));
        if !ours {
            return Err(Fault(format!("the feed names the status list {list:?}, which is not the issuer's").into()));
        }
        self.list = Endpoint::parse(list)?;
        (self.last, self.log, self.known) = (None, None, None);
        self.fetch_keys_as_of(id).await?;
        let mut pauses = Backoff::new(self.state.pace.pause);
        let mut attempt = 1;
        loop {
            match self.fetch_list(Some(id)).await {
                Err(_) if attempt < ATTEMPTS => sleep(pauses.next()).await,
                done => return done.map(|_| ()),
            }
            attempt += 1;
        }
    }

    /// The list while there is no feed; when to do it again.
    async fn read_list(&mut self, pauses: &mut Backoff) -> Duration {
        // Never one from before what is known, unless no node gets there any more: then it is another database.
        let applied = self.last.filter(|_| self.failures < ATTEMPTS);
        match self.fetch_list(applied).await {
            Ok(good_for) => {
                self.failures = 0;
                pauses.reset();
                spread(good_for)
            }
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                pauses.next()
            }
        }
    }

    /// For how long the list may be used without asking again.
    async fn fetch_list(&mut self, applied: Option<u64>) -> Result<Duration, Fault> {
        self.state.list_asked.begin();
        let fetched = self.try_fetch_list(applied).await;
        let fault = fetched.as_ref().err();
        self.state.meter.fetched(fault);
        self.state.list_asked.end(fault.cloned());
        fetched
    }

    async fn try_fetch_list(&mut self, applied: Option<u64>) -> Result<Duration, Fault> {
        let state = Arc::clone(&self.state);
        let asked_at = state.now();
        let from = match applied {
            Some(id) => self.list.with_query(&format!("applied={id}"))?,
            None => self.list.clone(),
        };
        let known = self.known.take().filter(|known| asked_at < known.exp);
        let mut headers = vec![(ACCEPT, "application/statuslist+jwt")];
        headers.extend(known.as_ref().map(|known| (IF_NONE_MATCH, known.etag.as_str())));
        let answer = self.http.get(&from, &headers).await?;
        if applied.is_none() && self.failures >= ATTEMPTS && answer.status == StatusCode::OK {
            // Its keys are another database's too.
            state.want_keys_as_of(None);
        }
        let ttl = match (answer.status, known) {
            (StatusCode::NOT_MODIFIED, Some(known)) => self.known.insert(known).ttl,
            (StatusCode::OK, _) => self.take_list(&from, answer).await?,
            (status, _) => return Err(fault(&from, format_args!("answered {status}"))),
        };
        // Half of what the API allows, so that one fetch that fails is no refusal yet.
        let good_for = match state.unreachable {
            Unreachable::RefuseAfter(longest) => ttl.min(longest / 2),
            Unreachable::AcceptUntilExpiry => ttl,
        };
        state.revocations.certain(asked_at, asked_at.plus(good_for + state.pace.answer));
        Ok(good_for)
    }

    async fn take_list(&mut self, from: &Endpoint, answer: Answer) -> Result<Duration, Fault> {
        let state = &self.state;
        let etag = answer.header(ETAG).map(str::to_owned);
        let jwt = String::from_utf8(answer.whole(MAX_JWT).await?).map_err(|err| fault(from, err))?;
        let (uri, now) = (self.list.to_string(), state.now());
        let read = || {
            let keys = state.own_keys();
            StatusList::read(&jwt, Wanted { issuer: &state.issuer, uri: &uri, keys: keys.own() }, now)
        };
        let mut list = read();
        // Signed by a key that is newer than those that are here.
        if list == Err(ListError::Key) {
            self.fetch_keys().await?;
            list = read();
        }
        let list = list.map_err(|err| fault(from, err))?;
        let taken = state.revocations.replace(&uri, &list, now);
        taken.map_err(|_| fault(from, "it has more revoked tokens than a guard can hold"))?;
        let StatusList { ttl, exp, .. } = list;
        self.known = etag.map(|etag| Copy { etag, exp, ttl });
        Ok(ttl)
    }
}

fn refused(from: &Endpoint, answer: &Answer) -> Lost {
    let asked = answer.header(RETRY_AFTER).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let why = format_args!("answered {}, which is no feed", answer.status);
    Lost::Refused(fault(from, why), asked.map(|asked| asked.min(MAX_RETRY_AFTER)))
}
