//! Notices: people are told in time that a key is about to end, or that something is wrong with it.
//!
//! 1. What is due is found in the database, never on the way of a request: every minute, and whenever callers have
//!    been written down                                                                 `find.rs`
//! 2. A notice is noted once for its occasion, with its event and its deliveries       `note`
//! 3. Deliveries are sent by whichever node takes them, again until they arrive        `deliver.rs`

mod deliver;
mod find;
mod letter;
mod mail;
mod message;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use keyward_model::event::{Actor, Draft};
use keyward_model::id::DeliveryId;
use keyward_model::notice::{Channel, Delivery, DeliveryState, Notice};
use keyward_model::time::Timestamp;
use keyward_store::{Origin, Tx};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::app::{App, StartError};
use crate::config::{Config, ConfigError, NoticesConfig};
use crate::meter::{self, Fate};

pub(crate) use message::Message;

/// The most deliveries that wait for one receiver.
const MOST_WAITING: u32 = 10_000;
/// How often it is looked for what has become due.
const LOOK: Duration = Duration::from_secs(60);
/// The least time between two looks.
const PAUSE: Duration = Duration::from_secs(1);
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

    /// Whether plain HTTP may be used at all: only within networks that were opened by name.
    pub(crate) fn takes_plain_http(&self) -> bool {
        self.webhooks.takes_plain_http()
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
    loop {
        changes.next(POLL).await;
        if let Err(error) = app.send_notices().await {
            meter::DATABASE_ERRORS.increment();
            tracing::warn!(%error, "the outbox of notices could not be worked off; it is tried again");
            tokio::time::sleep(POLL).await;
        }
    }
}

impl App {
    /// Notes a notice with its event, and puts it into the outbox for everybody who is to be told; `false` if it was
    /// noted before.
    async fn note(&self, tx: &mut Tx, message: &Message, bound: Option<(u16, Timestamp)>) -> Result<bool, StartError> {
        let notice = &message.notice;
        if !tx.insert_notice(notice, bound).await? {
            return Ok(false);
        }
        for webhook in tx.list_webhooks().await?.iter().filter(|webhook| webhook.wants(notice.kind)) {
            self.address(tx, notice, Channel::Webhook, webhook.id.to_string()).await?;
        }
        if let Some(mail) = &self.notices.mail {
            for address in message.email.iter().map(String::as_str).chain(mail.team()) {
                self.address(tx, notice, Channel::Mail, address.to_owned()).await?;
            }
        }
        tx.record(Draft {
            kind: "notice.due",
            subject: notice.credential.map(|credential| credential.to_string()).unwrap_or_default(),
            data: json!({
                "notice": notice.id, "about": notice.kind, "client": message.client,
                "deadline": notice.occasion.deadline, "rung": notice.occasion.rung,
            }),
        });
        Ok(true)
    }

    /// Puts a notice into the outbox for one receiver.
    pub(crate) async fn address(
        &self,
        tx: &mut Tx,
        notice: &Notice,
        channel: Channel,
        target: String,
    ) -> Result<Delivery, StartError> {
        let mut delivery = Delivery {
            id: DeliveryId::new(notice.created_at, &self.entropy)?,
            notice: notice.id,
            channel,
            target,
            state: DeliveryState::Waiting,
            attempts: 0,
            due_at: notice.created_at,
            problem: String::new(),
            ended_at: None,
        };
        if tx.insert_delivery(&delivery, notice, MOST_WAITING).await? == Some(DeliveryState::Dead) {
            delivery.state = DeliveryState::Dead;
            meter::count_delivery(channel, Fate::Dead);
        }
        Ok(delivery)
    }
}

fn origin(now: Timestamp) -> Origin {
    Origin { actor: Actor::system("notices"), source: None, now }
}
