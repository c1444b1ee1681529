//! The outbox: takes what is due, sends it, and notes what became of it.
//!
//! A delivery is sent at least once. Whoever dies between sending and noting leaves a lease that ends; the next one
//! sends again, under the same `webhook-id`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use keyward_model::notice::{Channel, Delivery, LEASE, retry_at};
use keyward_model::time::Timestamp;
use keyward_model::user::User;
use keyward_model::webhook::{WebhookSecret, sealed_name};
use keyward_store::{AT_ONCE, Room, StoreError};
use tokio::task::{Id, JoinError, JoinSet};

use super::outbox::dead;
use super::webhook::Post;
use crate::app::{App, StartError};
use crate::meter::{self, Fate};
use crate::notices::origin;

/// The most that is sent at once to one receiver; all mail goes to one, the mail server.
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

/// What this node is sending now. Ends with the value.
#[derive(Default)]
pub(super) struct UnderWay {
    attempts: JoinSet<Result<(), StartError>>,
    ways: HashMap<Id, String>,
}

impl UnderWay {
    fn start(&mut self, app: &Arc<App>, delivery: Delivery) {
        let (app, way) = (Arc::clone(app), delivery.way().to_owned());
        let attempt = self.attempts.spawn(async move { app.try_to_deliver(&delivery).await });
        self.ways.insert(attempt.id(), way);
    }

    /// How the next attempt to end ended; `None` if nothing is under way.
    pub(super) async fn next(&mut self) -> Option<Result<(), StartError>> {
        let ended = self.attempts.join_next_with_id().await?;
        self.ways.remove(&ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id));
        Some(ended.map_or_else(
            |error| Err(StoreError::Unavailable(format!("an attempt to send broke off: {error}")).into()),
            |(_, outcome)| outcome,
        ))
    }
}

impl App {
    /// Sends what is due, until nothing is. Safe on many nodes at once.
    pub async fn send_notices(self: &Arc<Self>) -> Result<(), StartError> {
        let mut under_way = UnderWay::default();
        let mut outcome = Ok(());
        loop {
            outcome = outcome.and(self.fill(&mut under_way).await);
            // One that cannot be noted must not keep the others from being noted.
            let Some(ended) = under_way.next().await else { return outcome };
            outcome = outcome.and(ended);
        }
    }

    /// Begins to send what is due and has room.
    pub(super) async fn fill(self: &Arc<Self>, under_way: &mut UnderWay) -> Result<(), StartError> {
        while under_way.ways.len() < AT_ONCE {
            let now = self.clock.now();
            let ways: Vec<_> = under_way.ways.values().map(String::as_str).collect();
            let room = Room { under_way: &ways, each: AT_ONCE_EACH };
            // Looked at by reading first, so that a look costs no writer anything.
            if !self.store.has_due_deliveries(now, &room).await? {
                break;
            }
            let mut tx = self.store.begin().await?;
            let claimed = tx.claim_deliveries(now, now.plus(LEASE), &room).await?;
            tx.commit(&origin(now)).await?;
            if claimed.is_empty() {
                break;
            }
            for delivery in claimed {
                under_way.start(self, delivery);
            }
        }
        Ok(())
    }

    async fn try_to_deliver(&self, delivery: &Delivery) -> Result<(), StartError> {
        let now = self.clock.now();
        // Forgotten meanwhile, and the delivery with it.
        let Some(body) = self.store.find_notice_body(delivery.notice).await? else { return Ok(()) };
        // A mail server that says a byte now and then would be listened to for ever.
        let sent = tokio::time::timeout(self.notices.attempt, self.deliver(delivery, body, now)).await;
        let sent = sent.unwrap_or_else(|_| Ok(Err(Problem::passing("it did not answer in time"))))?;
        self.note_outcome(delivery, sent).await
    }

    async fn deliver(
        &self,
        delivery: &Delivery,
        body: String,
        now: Timestamp,
    ) -> Result<Result<(), Problem>, StartError> {
        match (delivery.channel, &self.notices.mail) {
            (Channel::Mail, Some(mail)) => match self.mail_address(delivery).await? {
                Ok(to) => Ok(mail.send(delivery, &to, &body, now).await),
                Err(problem) => Ok(Err(problem)),
            },
            (Channel::Mail, None) => Ok(Err(Problem::passing("[mail] smtp_url names no mail server"))),
            (Channel::Webhook, _) => self.post(delivery, body, now).await,
        }
    }

    /// Where a user gets mail now; a target that is no user is an address already.
    async fn mail_address(&self, delivery: &Delivery) -> Result<Result<String, Problem>, StartError> {
        let Ok(user) = delivery.target.parse() else { return Ok(Ok(delivery.target.clone())) };
        Ok(match self.store.find_user(user).await? {
            Some(User { email: Some(email), disabled_at: None, .. }) => Ok(email),
            Some(_) => Err(Problem::lasting("this user is disabled, or has no e-mail address any more")),
            None => Err(Problem::lasting("this user was deleted")),
        })
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
        let mut fate = if sent.is_ok() { Fate::Sent } else { Fate::Failed };
        match sent {
            Ok(()) => drop(tx.finish_delivery(delivery, now).await?),
            Err(Problem { why, is_passing }) => {
                let again = if is_passing { retry_at(delivery.attempts, now, &self.entropy)? } else { None };
                tracing::warn!(delivery = %delivery.id, attempt = delivery.attempts, problem = %why, "a notice did not arrive");
                match again {
                    Some(at) => drop(tx.retry_delivery(delivery, at, &why).await?),
                    None if tx.give_up_delivery(delivery, now, &why).await? => {
                        fate = Fate::Dead;
                        tx.record(dead(delivery, &why));
                    }
                    None => {}
                }
            }
        }
        tx.commit(&origin(now)).await?;
        meter::count_delivery(delivery.channel, fate);
        Ok(())
    }
}
