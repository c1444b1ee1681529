//! Following the event log: every change, made here or on another node, drops what it makes untrue in memory.

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyward_model::client::COMMAND_LINE;
use keyward_model::event::Event;
use keyward_model::time::Timestamp;
use keyward_store::{EventFilter, Head, LogRange, Origin, StoreError, Tx};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::api::changes::MOVED;
use crate::app::{App, StartError};
use crate::key_ring::KeyRing;
use crate::meter;
use crate::oauth::status_list::concerns_verifiers;
use crate::registry::Registry;
use crate::revoked_tokens::RevokedTokens;

/// Without a notification the log is looked at this often, so a lost one delays a change by no more. To read it may take as
/// long.
const AT_MOST: Duration = Duration::from_millis(500);
/// When memory was not known to be true for so long, it is no longer trusted.
const DOUBT_AFTER: Duration = Duration::from_secs(2);
const BATCH: u16 = 500;

/// Follows the log until the server stops.
pub(crate) async fn follow(app: Arc<App>) {
    let mut changes = app.store.changes();
    let (mut true_at, mut in_doubt) = (Instant::now(), false);
    loop {
        tokio::select! {
            () = changes.next(AT_MOST) => {}
            () = app.looks.wanted.notified() => {}
        }
        let begun = Instant::now();
        let look_number = app.looks.begin();
        // Time decides and not how a look fails: a database that hangs is doubted as soon as one that refuses.
        let doubt_at = true_at + DOUBT_AFTER;
        let mut look = pin!(catch_up(&app));
        let looked = tokio::select! {
            biased;
            looked = &mut look => looked,
            // A look that began late, because this machine stood still, has its time all the same.
            () = sleep_until(doubt_at.max(begun + AT_MOST)), if !in_doubt => {
                in_doubt = true;
                doubt(&app, &"what it says is not applied in time");
                // It is not given up: it may be in the middle of what it found.
                look.await
            }
        };
        match if in_doubt && looked.is_ok() { trust_again(&app).await } else { looked } {
            Ok(()) => {
                app.feed.note_look();
                app.looks.ended.send_replace(look_number);
                (true_at, in_doubt) = (begun, false);
            }
            Err(error) => {
                meter::DATABASE_ERRORS.increment();
                if !in_doubt && Instant::now() >= doubt_at {
                    in_doubt = true;
                    doubt(&app, &error);
                }
            }
        }
    }
}

/// Looks at the log, counted: who needs to know what is in it now waits for one that begins later.
#[derive(Default)]
pub(crate) struct Looks {
    begun: AtomicU64,
    /// The last that read the log to its end.
    ended: watch::Sender<u64>,
    wanted: Notify,
    /// How often what this node knows became something else.
    turns: AtomicU64,
}

impl Looks {
    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the next look to begin.
    fn next(&self) -> u64 {
        self.begun.load(Ordering::Acquire) + 1
    }

    fn turn(&self) {
        self.turns.fetch_add(1, Ordering::AcqRel);
    }
}

fn doubt(app: &App, error: &dyn Display) {
    tracing::error!(%error, "the event log cannot be read: nothing remembered is trusted until it can");
    app.principals.doubt(true);
    app.looks.turn();
}

/// What is kept as a whole is read anew too: what comes back after a failover may be another log than the one that was
/// followed.
async fn trust_again(app: &App) -> Result<(), StartError> {
    read_anew(app).await?;
    tracing::info!("the event log can be read again");
    Ok(())
}

async fn read_anew(app: &App) -> Result<(), StartError> {
    load_registry(app).await?;
    load_keys(app).await?;
    app.revoked_tokens.replace(RevokedTokens::load(&app.store, app.clock.now()).await?);
    app.status_list.note_anything();
    app.device_grants.waiting.wake_all();
    app.principals.doubt(false);
    Ok(())
}

/// A failover or a copy put back has lost the newest events of the log. New ones have their numbers, so nothing that memory
/// says of any place in it counts.
async fn begin_anew(app: &App) -> Result<(), StartError> {
    // In no log, until all is read: whoever waits for a place must not be told that it was applied.
    let lost = app.applied.send_replace(Head::default());
    app.principals.doubt(true);
    tracing::error!(
        applied = lost.seq,
        "the event log is another one than was followed: events are lost; all is read anew"
    );
    // First, as at the start: what changes while the rest is read is applied again.
    let head = app.store.head().await?;
    read_anew(app).await?;
    app.feed.begin_anew(&head);
    app.looks.turn();
    app.applied.send_replace(head);
    Ok(())
}

async fn load_registry(app: &App) -> Result<(), StartError> {
    app.registry.store(Arc::new(Registry::load(&app.store, &app.issuer).await?));
    Ok(())
}

async fn load_keys(app: &App) -> Result<(), StartError> {
    let master = app.master().await?;
    let known = app.key_ring.load_full();
    app.key_ring.store(Arc::new(KeyRing::load(&app.store, &master, Some(&known)).await?));
    Ok(())
}

async fn catch_up(app: &App) -> Result<(), StartError> {
    loop {
        let applied = app.applied.borrow().clone();
        let filter = EventFilter::default();
        // The last one applied is read again with what comes then: it tells whether this is still the same log.
        let events = app.store.list_events(&filter, applied.seq - 1, BATCH);
        let events = tokio::time::timeout(AT_MOST, events).await;
        let events =
            events.map_err(|_| StoreError::Unavailable("the event log takes too long to read".to_owned()))??;
        let Some(events) = applied.behind(&events) else {
            begin_anew(app).await?;
            continue;
        };
        let Some(last) = events.last() else { return Ok(()) };
        apply(app, events, LogRange { after: applied.seq, upto: last.seq }).await?;
        app.looks.turn();
        app.applied.send_replace(Head { seq: last.seq, hash: last.hash.clone() });
    }
}

async fn apply(app: &App, events: &[Event], range: LogRange) -> Result<(), StartError> {
    for event in events {
        app.principals.forget(&event.subject);
        // Users and clients are versioned beside the credentials read with them; scopes and APIs are not.
        if event.data.get(MOVED).is_some() && ["scope.", "api."].iter().any(|kinds| event.kind.starts_with(kinds)) {
            app.principals.forget_credentials();
        }
        if event.kind == "token.revoked" {
            let expires_at = event.data.get("expires_at").and_then(serde_json::Value::as_i64);
            if let (Ok(jti), Some(expires_at)) = (event.subject.parse(), expires_at) {
                app.revoked_tokens.add(jti, Timestamp::from_millis(expires_at), app.clock.now());
            }
        }
    }
    let touched = |prefix: &str| events.iter().any(|event| event.kind.starts_with(prefix));
    let command_line = COMMAND_LINE.to_string();
    if touched("scope.") || touched("api.") || events.iter().any(|event| event.subject == command_line) {
        load_registry(app).await?;
    }
    if touched("signing_key.") {
        load_keys(app).await?;
    }
    // After the keys, so that no list is signed after this with a key that these events have withdrawn.
    app.status_list.note(events);
    app.feed.mark(events);
    // Last: whoever is told of a change finds the new list and the new keys.
    if events.iter().any(concerns_verifiers) {
        app.feed.take_up(&app.store, range, app.clock.now()).await?;
    } else {
        app.feed.pass_over(range.upto);
    }
    events.iter().for_each(|event| app.device_grants.waiting.wake(event));
    Ok(())
}

impl App {
    /// Stands for what this node knows by the log: what was judged after it was asked for counts as long as it is the same.
    /// `None` while nothing remembered is trusted.
    pub(crate) fn known(&self) -> Option<u64> {
        let turns = self.looks.turns.load(Ordering::Acquire);
        (!self.principals.is_doubtful()).then_some(turns)
    }

    /// Waits until memory on this node is true up to this place in the log, so that whoever is told of a change finds
    /// it in force.
    pub async fn wait_until_applied(&self, seq: i64) -> Result<(), StoreError> {
        if self.applies(seq, Duration::from_secs(5)).await {
            return Ok(());
        }
        // The change is durable and will be applied; only this node cannot say so now.
        Err(StoreError::Unavailable("the event log is not being followed".to_owned()))
    }

    /// Waits until scopes and APIs on this node are true from this place in the log on. What was read with it names places
    /// in the status list that were given out there: a token that names one must not be granted by what was true before.
    pub(crate) async fn wait_until_catalogue(&self, true_from: i64) -> Result<(), StoreError> {
        // Nearly always it is: only a change of the catalogue that lowers rights, a moment ago, is waited for.
        if self.applied.borrow().seq >= true_from { Ok(()) } else { self.wait_until_applied(true_from).await }
    }

    /// Whether memory on this node becomes true up to this place in the log within this time.
    ///
    /// The log is looked at once more in any case: what was applied before may have been of a log that is lost by now.
    pub(crate) async fn applies(&self, seq: i64, within: Duration) -> bool {
        let look = self.looks.next();
        self.looks.wanted.notify_one();
        self.applies_by(look, seq, within).await
    }

    /// The same at the next look, which comes by itself: nobody can make the database work by asking.
    pub(crate) async fn applies_soon(&self, seq: i64, within: Duration) -> bool {
        self.applies_by(self.looks.next(), seq, within).await
    }

    async fn applies_by(&self, look: u64, seq: i64, within: Duration) -> bool {
        let mut ended = self.looks.ended.subscribe();
        let looked = tokio::time::timeout(within, ended.wait_for(|ended| *ended >= look)).await;
        matches!(looked, Ok(Ok(_))) && self.applied.borrow().seq >= seq
    }

    /// Ends a transaction that found its work done by another, and waits until that is in force on this node.
    ///
    /// Commits may be grouped: what a transaction sees of others is certain only once it is itself committed.
    pub(crate) async fn settle(&self, tx: Tx, origin: &Origin) -> Result<(), StoreError> {
        tx.commit(origin).await?;
        self.catch_up_with_log().await
    }

    /// Waits until everything that is in the log by now is in force on this node.
    pub(crate) async fn catch_up_with_log(&self) -> Result<(), StoreError> {
        self.wait_until_applied(self.store.last_event().await?).await
    }
}
