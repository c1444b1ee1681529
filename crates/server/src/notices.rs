//! Notices: people are told in time that a key is about to end, or that something is wrong with it.
//!
//! 1. What is due is found in the database, never on the way of a request              `find.rs`
//! 2. A notice is noted once for its occasion, with its event and its deliveries       `note`
//! 3. Deliveries are sent by whichever node takes them, again until they arrive        `deliver.rs`

mod deliver;
mod find;
mod letter;
mod mail;
mod message;
mod outbox;
mod reach;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use keyward_model::event::Actor;
use keyward_model::time::Timestamp;
use keyward_store::Origin;
use reqwest::Url;

use crate::app::{App, StartError};
use crate::config::{Config, ConfigError, NoticesConfig};
use crate::meter;

use deliver::UnderWay;
pub(crate) use mail::address;
pub(crate) use message::{Leak, Message};
pub(crate) use outbox::{MOST_WAITING, Outbox};

/// How often it is looked for what has become due.
const LOOK: Duration = Duration::from_secs(60);
/// How often the outbox is looked at when nothing wakes it: the first wait after a failure is as long.
const POLL: Duration = Duration::from_secs(5);

/// What notices need: when, to whom, by which way.
pub(crate) struct Notices {
    days: Vec<u16>,
    webhooks: webhook::Sender,
    mail: Option<mail::Mailer>,
}

impl Notices {
    /// As the settings say.
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let NoticesConfig { days, allow_networks } = config.notices.clone();
        let mail = mail::Mailer::new(&config.mail)?;
        Ok(Self { days, webhooks: webhook::Sender::new(allow_networks), mail })
    }

    /// A URL that notices may be sent to, or what is wrong with it.
    pub(crate) fn target(&self, text: &str) -> Result<Url, &'static str> {
        self.webhooks.target(text)
    }
}

/// Looks for what is due until the server stops.
pub(crate) async fn look_out(app: Arc<App>) {
    loop {
        if let Err(error) = app.find_notices().await {
            meter::DATABASE_ERRORS.increment();
            tracing::warn!(%error, "it could not be found out what people are to be told; it is tried again");
        }
        tokio::time::sleep(LOOK).await;
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
