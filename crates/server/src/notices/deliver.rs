//! The outbox: takes what is due, sends it, and notes what became of it.
//!
//! A delivery is sent at least once. Whoever dies between sending and noting leaves a lease that ends; the next one
//! sends again, under the same `webhook-id`.

use std::borrow::Cow;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use keyward_model::notice::{Channel, Delivery, LEASE, retry_at};
use keyward_model::time::Timestamp;
use keyward_model::webhook::{WebhookSecret, sealed_name};

use super::outbox::dead;
use super::webhook::Post;
use crate::app::{App, StartError};
use crate::notices::origin;

/// The most that is sent at once, and of that for one receiver.
const AT_ONCE: u16 = 32;
const AT_ONCE_EACH: u16 = 4;

/// Why an attempt failed. Says nothing of the receiver's URL or answer, which may hold secrets.
#[derive(Debug)]
pub(super) struct Problem {
    why: Cow<'static, str>,
    /// Whether it makes sense to try again.
    is_passing: bool,
}

impl Problem {
    /// It may be better next time.
    pub(super) fn passing(why: impl Into<Cow<'static, str>>) -> Self {
        Self { why: why.into(), is_passing: true }
    }

    /// It will not get better by itself.
    pub(super) fn lasting(why: &'static str) -> Self {
        Self { why: why.into(), is_passing: false }
    }
}

impl App {
    /// Sends what is due now. Safe on many nodes at once.
    pub async fn send_notices(&self) -> Result<(), StartError> {
        while self.store.has_due_deliveries(self.clock.now()).await? {
            let now = self.clock.now();
            let mut tx = self.store.begin().await?;
            let claimed = tx.claim_deliveries(now, now.plus(LEASE), AT_ONCE_EACH, AT_ONCE).await?;
            tx.commit(&origin(now)).await?;
            if claimed.is_empty() {
                return Ok(());
            }
            let mut sending: FuturesUnordered<_> =
                claimed.iter().map(|delivery| self.try_to_deliver(delivery)).collect();
            // One that cannot be noted must not keep the others from being noted.
            let mut outcome = Ok(());
            while let Some(done) = sending.next().await {
                outcome = outcome.and(done);
            }
            outcome?;
        }
        Ok(())
    }

    async fn try_to_deliver(&self, delivery: &Delivery) -> Result<(), StartError> {
        let now = self.clock.now();
        let sent = match self.store.find_notice_body(delivery.notice).await? {
            Some(body) => self.deliver(delivery, body, now).await?,
            // Forgotten meanwhile, and the delivery with it.
            None => return Ok(()),
        };
        self.note_outcome(delivery, sent).await
    }

    async fn deliver(
        &self,
        delivery: &Delivery,
        body: String,
        now: Timestamp,
    ) -> Result<Result<(), Problem>, StartError> {
        match (delivery.channel, &self.notices.mail) {
            (Channel::Mail, Some(mail)) => Ok(mail.send(delivery, &body, now).await),
            (Channel::Mail, None) => Ok(Err(Problem::passing("[mail] smtp_url names no mail server"))),
            (Channel::Webhook, _) => self.post(delivery, body, now).await,
        }
    }

    async fn post(&self, delivery: &Delivery, body: String, now: Timestamp) -> Result<Result<(), Problem>, StartError> {
        let gone = || Ok(Err(Problem::lasting("the webhook was deleted")));
        let Ok(id) = delivery.target.parse() else { return gone() };
        let Some(webhook) = self.store.find_webhook(id).await? else { return gone() };
        let Some(sealed) = self.store.find_sealed_webhook(id).await? else { return gone() };
        let master = self.master().await?;
        let before = sealed.before.filter(|(_, until)| now < *until).map(|(sealed, _)| sealed);
        let mut secrets = Vec::with_capacity(2);
        for sealed in [Some(sealed.sealed), before].into_iter().flatten() {
            let opened = master.open(&sealed_name(id), &sealed).ok();
            match opened.and_then(|bytes| WebhookSecret::from_bytes(&bytes)) {
                Some(secret) => secrets.push(secret),
                // The master key is being replaced at this very moment, or the row was tampered with.
                None => return Ok(Err(Problem::passing("the webhook's secret cannot be opened"))),
            }
        }
        let post = Post { webhook: &webhook, secrets: &secrets, notice: delivery.notice, body };
        Ok(self.notices.webhooks.send(post, now).await)
    }

    async fn note_outcome(&self, delivery: &Delivery, sent: Result<(), Problem>) -> Result<(), StartError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        match sent {
            Ok(()) => drop(tx.finish_delivery(delivery, now).await?),
            Err(Problem { why, is_passing }) => {
                let again = if is_passing { retry_at(delivery.attempts, now, &self.entropy)? } else { None };
                tracing::warn!(delivery = %delivery.id, attempt = delivery.attempts, problem = %why, "a notice did not arrive");
                match again {
                    Some(at) => drop(tx.retry_delivery(delivery, at, &why).await?),
                    None if tx.give_up_delivery(delivery, now, &why).await? => tx.record(dead(delivery, &why)),
                    None => {}
                }
            }
        }
        tx.commit(&origin(now)).await?;
        Ok(())
    }
}
