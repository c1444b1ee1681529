//! The way into the outbox: a notice is noted once for its occasion, with its event and one delivery a receiver.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use keyward_model::event::Draft;
use keyward_model::id::DeliveryId;
use keyward_model::notice::{Channel, Delivery, DeliveryState, Notice};
use keyward_model::time::Timestamp;
use keyward_model::webhook::Webhook;
use keyward_store::{StoreError, Tx};
use serde_json::json;

use super::message::Message;
use crate::app::{App, StartError};
use crate::meter::{self, Fate};

/// The most deliveries that wait for one receiver.
pub(crate) const MOST_WAITING: u64 = 10_000;

/// What one transaction puts into the outbox. Who receives, and how many wait for them, is read once, however many
/// notices there are: all who write wait until it is done.
pub(crate) struct Outbox<'a> {
    app: &'a App,
    tx: &'a mut Tx,
    webhooks: Vec<Webhook>,
    waiting: HashMap<String, u64>,
}

impl<'a> Outbox<'a> {
    /// Nothing is in it yet.
    pub(crate) async fn open(app: &'a App, tx: &'a mut Tx) -> Result<Self, StoreError> {
        let webhooks = tx.list_webhooks().await?;
        Ok(Self { app, tx, webhooks, waiting: HashMap::new() })
    }

    /// Notes a notice with its event, and addresses it to everybody who is to be told; `false` if it was noted before.
    /// With a bound, a key has not more than so many notices of this kind since that instant.
    pub(crate) async fn note(
        &mut self,
        message: &Message,
        bound: Option<(u16, Timestamp)>,
    ) -> Result<bool, StartError> {
        let notice = &message.notice;
        if !self.tx.insert_notice(notice, bound).await? {
            return Ok(false);
        }
        let wanting = self.webhooks.iter().filter(|webhook| webhook.wants(notice.kind));
        for webhook in wanting.map(|webhook| webhook.id.to_string()).collect::<Vec<_>>() {
            self.address(notice, Channel::Webhook, webhook).await?;
        }
        if let Some(mail) = &self.app.notices.mail {
            // The owner, not their address: it is looked up when the mail is sent, for until then it may change.
            let owner = message.email.as_deref().filter(|email| Some(*email) != mail.team());
            let owner = owner.map(|_| message.owner.to_string());
            for target in owner.into_iter().chain(mail.team().map(str::to_owned)) {
                self.address(notice, Channel::Mail, target).await?;
            }
        }
        self.tx.record(Draft {
            kind: "notice.due",
            subject: notice.credential.map_or_else(|| message.owner.to_string(), |credential| credential.to_string()),
            data: json!({
                "notice": notice.id, "about": notice.kind, "client": message.client,
                "deadline": notice.occasion.deadline, "rung": notice.occasion.rung,
            }),
        });
        Ok(true)
    }

    /// Addresses a notice to one receiver. For whom too many wait already, it is dead from the start, and the log says
    /// so: it can be sent by hand later, and the queue stays bounded.
    pub(crate) async fn address(
        &mut self,
        notice: &Notice,
        channel: Channel,
        target: String,
    ) -> Result<Delivery, StartError> {
        let has_place = self.has_place(&target).await?;
        let delivery = Delivery {
            id: DeliveryId::new(notice.created_at, &self.app.entropy)?,
            notice: notice.id,
            channel,
            target,
            state: if has_place { DeliveryState::Waiting } else { DeliveryState::Dead },
            attempts: 0,
            due_at: notice.created_at,
            problem: if has_place { "" } else { "too many wait for this receiver" }.to_owned(),
            ended_at: (!has_place).then_some(notice.created_at),
        };
        if self.tx.insert_delivery(&delivery).await? && !has_place {
            self.tx.record(dead(&delivery, &delivery.problem));
            meter::count_delivery(channel, Fate::Dead);
        }
        Ok(delivery)
    }

    /// Whether one more may wait for this receiver, which then does.
    async fn has_place(&mut self, target: &str) -> Result<bool, StoreError> {
        let waiting = match self.waiting.entry(target.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(self.tx.count_deliveries(target, DeliveryState::Waiting).await?),
        };
        let has_place = *waiting < MOST_WAITING;
        *waiting += u64::from(has_place);
        Ok(has_place)
    }
}

/// What the log says of a delivery that was given up.
pub(super) fn dead(delivery: &Delivery, problem: &str) -> Draft {
    Draft {
        kind: "delivery.dead",
        subject: delivery.id.to_string(),
        data: json!({ "notice": delivery.notice, "channel": delivery.channel, "problem": problem }),
    }
}
