//! Notices: people are told in time that a key is about to end, or that something is wrong with it, or that somebody signed in
//! as them where they never did (`sign_in.rs`).
//!
//! 1. What is due is found in the database, never on the way of a request: every minute, and whenever callers have
//!    been written down                                                                 `find.rs`
//! 2. A notice is noted once for its occasion, with its event and its deliveries       `outbox.rs`
//! 3. Deliveries are sent by whichever node takes them, again until they arrive        `deliver.rs`

mod deliver;
mod find;
mod letter;
mod mail;
mod message;
mod outbox;
mod sign_in;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use keyward_model::event::Actor;
use keyward_model::notice::ATTEMPT;
use keyward_model::time::Timestamp;
use keyward_store::Origin;
use reqwest::Url;
use tokio::time::MissedTickBehavior;

use crate::app::{App, StartError};
use crate::config::{Config, ConfigError, NoticesConfig};
use crate::meter;
use crate::outbound::PATIENCE;

use deliver::UnderWay;
pub(crate) use mail::address;
pub(crate) use message::{Leak, Message};
pub(crate) use outbox::{MOST_WAITING, Outbox};
pub(crate) use sign_in::note_sign_in;

/// How often it is looked for what has become due.
const LOOK: Duration = Duration::from_secs(60);
/// The least time between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the outbox is looked at when nothing wakes it: the first wait after a failure is as long.
const POLL: Duration = Duration::from_secs(5);

/// How long receivers of notices are waited for. No setting: the program brings the defaults, tests have less time.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the whole answer of a webhook.
    pub answer: Duration,
    /// For one attempt in all, whatever the receiver does. Shorter than a lease.
    pub attempt: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: PATIENCE, attempt: ATTEMPT }
    }
}

/// What notices need: when, to whom, by which way.
pub(crate) struct Notices {
    days: Vec<u16>,
    attempt: Duration,
    webhooks: webhook::Sender,
    mail: Option<mail::Mailer>,
}

impl Notices {
    /// As the settings say.
    pub(crate) fn new(config: &Config, patience: Patience) -> Result<Self, ConfigError> {
        let NoticesConfig { days, allow_networks } = config.notices.clone();
        let mail = mail::Mailer::new(&config.mail)?;
        let webhooks = webhook::Sender::new(allow_networks, patience.answer);
        Ok(Self { days, attempt: patience.attempt, webhooks, mail })
    }

    /// A URL that notices may be sent to, or what is wrong with it.
    pub(crate) fn target(&self, text: &str) -> Result<Url, &'static str> {
        self.webhooks.target(text)
    }
}

/// Looks for what is due until the server stops.
pub(crate) async fn look_out(app: Arc<App>) {
    let mut looking = tokio::time::interval(LOOK);
    looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let found = tokio::select! {
            _ = looking.tick() => app.find_notices().await,
            written = app.callers.written() => app.find_notices_of(written).await,
        };
        if let Err(error) = found {
            meter::DATABASE_ERRORS.increment();
            tracing::warn!(%error, "it could not be found out what people are to be told; it is tried again");
        }
        // When many come for the first time, they are written down many times a second.
        tokio::time::sleep(PAUSE).await;
    }
}

/// Sends until the server stops.
pub(crate) async fn keep_sending(app: Arc<App>) {
    let mut changes = app.store.changes();
    let mut under_way = UnderWay::default();
    loop {
        // Whatever ends makes room: the others do not wait for the slowest.
        tokio::select! {
            () = changes.next(POLL) => {}
            Some(ended) = under_way.next() => trouble(ended.err()),
        }
        if let Err(error) = app.fill(&mut under_way).await {
            trouble(Some(error));
            tokio::time::sleep(POLL).await;
        }
    }
}

fn trouble(error: Option<StartError>) {
    if let Some(error) = error {
        meter::DATABASE_ERRORS.increment();
        tracing::warn!(%error, "the outbox of notices could not be worked off; it is tried again");
    }
}

fn origin(now: Timestamp) -> Origin {
    Origin { actor: Actor::system("notices"), source: None, now }
}
