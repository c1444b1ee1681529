//! Following the event log: every change, made here or on another node, drops what it makes untrue in memory.

use std::sync::Arc;
use std::time::Duration;

use keyward_model::event::Event;
use keyward_model::time::Timestamp;
use keyward_store::{EventFilter, Origin, StoreError, Tx};

use crate::app::{App, StartError};
use crate::key_ring::KeyRing;
use crate::meter;
use crate::registry::Registry;

/// Without a notification the log is looked at this often, so a lost one delays a change by no more.
const AT_MOST: Duration = Duration::from_millis(500);
/// After so many failed looks in a row (with the pauses between them, two seconds) memory is no longer trusted.
const DOUBT_AFTER: u32 = 4;
const BATCH: u16 = 500;

/// Follows the log until the server stops.
pub(crate) async fn follow(app: Arc<App>) {
    let mut changes = app.store.changes();
    let mut failed = 0;
    loop {
        changes.next(AT_MOST).await;
        match catch_up(&app).await {
            Ok(()) => {
                if failed >= DOUBT_AFTER {
                    tracing::info!("the event log can be read again");
                    app.principals.doubt(false);
                }
                failed = 0;
            }
            Err(error) => {
                failed += 1;
                meter::DATABASE_ERRORS.increment();
                if failed == DOUBT_AFTER {
                    tracing::error!(%error, "the event log cannot be read: nothing remembered is trusted until it can");
                    app.principals.doubt(true);
                }
                tokio::time::sleep(AT_MOST).await;
            }
        }
    }
}

async fn catch_up(app: &App) -> Result<(), StartError> {
    loop {
        let after = *app.applied.borrow();
        let filter = EventFilter::default();
        let events = tokio::time::timeout(AT_MOST, app.store.list_events(&filter, after, BATCH)).await;
        let events =
            events.map_err(|_| StoreError::Unavailable("the event log takes too long to read".to_owned()))??;
        let Some(last) = events.last().map(|event| event.seq) else { return Ok(()) };
        apply(app, &events).await?;
        app.applied.send_replace(last);
    }
}

async fn apply(app: &App, events: &[Event]) -> Result<(), StartError> {
    for event in events {
        app.principals.forget(&event.subject);
        if event.kind == "token.revoked" {
            let expires_at = event.data.get("expires_at").and_then(serde_json::Value::as_i64);
            if let (Ok(jti), Some(expires_at)) = (event.subject.parse(), expires_at) {
                app.revoked_tokens.add(jti, Timestamp::from_millis(expires_at), app.clock.now());
            }
        }
    }
    let touched = |prefix: &str| events.iter().any(|event| event.kind.starts_with(prefix));
    if touched("scope.") || touched("api.") {
        app.registry.store(Arc::new(Registry::load(&app.store, &app.issuer).await?));
    }
    if touched("signing_key.") {
        let master = app.master().await?;
        let known = app.key_ring.load_full();
        app.key_ring.store(Arc::new(KeyRing::load(&app.store, &master, Some(&known)).await?));
    }
    // Last, so that no list is signed after this with a key that these events have withdrawn.
    app.status_list.note(events);
    Ok(())
}

impl App {
    /// Waits until memory on this node is true up to this place in the log, so that whoever is told of a change finds
    /// it in force.
    pub async fn wait_until_applied(&self, seq: i64) -> Result<(), StoreError> {
        let mut applied = self.applied.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(5), applied.wait_for(|place| *place >= seq)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            // The change is durable and will be applied; only this node cannot say so now.
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable("the event log is not being followed".to_owned())),
        }
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
