//! What the server does by itself, now and then.

use std::sync::Arc;
use std::time::Duration;

use keyward_model::caller::{KEPT_UNSEEN, PLACE_KEPT};
use keyward_model::credential::{Credential, KEPT_AFTER_END, State};
use keyward_model::device_grant::KEPT_AFTER_END as GRANT_KEPT_AFTER_END;
use keyward_model::device_session::KEPT_AFTER_END as SESSION_KEPT_AFTER_END;
use keyward_model::event::{Actor, Draft};
use keyward_model::jws::SigningAlgorithm;
use keyward_model::time::Timestamp;
use keyward_store::{Origin, Tx};
use serde_json::json;

use crate::api::{device_sessions, transfers};
use crate::app::{App, StartError};
use crate::device_grants;
use crate::meter;
use crate::signing_keys::{self, Fresh, Turn};

const PAUSE: Duration = Duration::from_secs(10);
/// Rows changed by one transaction, so that nobody waits long behind it.
const BATCH: u16 = 500;
/// Callers looked through each time: a million take less than two hours, and each look some milliseconds.
const STRETCH: u16 = 2000;
/// How long a create may be repeated under its `Idempotency-Key`.
const REPEATABLE: Duration = Duration::from_secs(24 * 3600);

/// Works until the server stops.
pub(crate) async fn work(app: Arc<App>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        if let Err(error) = app.run_schedule().await {
            meter::DATABASE_ERRORS.increment();
            tracing::warn!(%error, "scheduled work failed; it is tried again");
        }
    }
}

impl App {
    /// Does what is due now: writes down ends that time has brought, erases, forgets, rotates. Safe on many nodes at once.
    pub async fn run_schedule(&self) -> Result<(), StartError> {
        let now = self.clock.now();
        while self.end_credentials(now).await? {}
        while self.end_device_sessions(now).await? {}
        while self.end_device_grants(now).await? {}
        self.forget(now).await?;
        while self.expire_transfers(now).await? {}
        self.forget_callers(now).await?;
        while self.forget_logins(now).await? {}
        for algorithm in SigningAlgorithm::ALL {
            self.rotate_when_due(algorithm, now).await?;
        }
        Ok(())
    }

    /// One batch of ends and erasures; true if there may be more.
    async fn end_credentials(&self, now: Timestamp) -> Result<bool, StartError> {
        let mut tx = self.store.begin().await?;
        let expired = tx.expire_credentials(now, BATCH).await?;
        for credential in &expired {
            record(&mut tx, "credential.expired", credential);
        }
        let purged = tx.purge_credentials(now.minus(KEPT_AFTER_END), now, BATCH).await?;
        for credential in &purged {
            record(&mut tx, "credential.purged", credential);
        }
        tx.commit(&origin(now)).await?;
        Ok(expired.len().max(purged.len()) == usize::from(BATCH))
    }

    /// The same for device sessions, which go altogether some time after their end.
    async fn end_device_sessions(&self, now: Timestamp) -> Result<bool, StartError> {
        let mut tx = self.store.begin().await?;
        let expired = tx.expire_device_sessions(now, BATCH).await?;
        for session in &expired {
            tx.record(device_sessions::draft("device_session.expired", session));
        }
        let forgotten = tx.forget_device_sessions(now.minus(SESSION_KEPT_AFTER_END), BATCH).await?;
        let answers = tx.forget_sealed_answers(now, BATCH).await?;
        let codes = tx.forget_authorization_codes(now, BATCH).await?;
        tx.commit(&origin(now)).await?;
        Ok(expired.len() == usize::from(BATCH) || forgotten.max(answers).max(codes) == u64::from(BATCH))
    }

    /// The same for device grants. That nobody entered a code in time is no event: the log is for ever, and anybody may ask.
    async fn end_device_grants(&self, now: Timestamp) -> Result<bool, StartError> {
        let mut tx = self.store.begin().await?;
        let expired = tx.expire_device_grants(now, BATCH).await?;
        for grant in expired.iter().filter(|grant| grant.state.user().is_some()) {
            tx.record(device_grants::draft("device_grant.expired", grant));
        }
        let forgotten = tx.forget_device_grants(now.minus(GRANT_KEPT_AFTER_END), BATCH).await?;
        let answers = tx.forget_device_grant_answers(now, BATCH).await?;
        tx.commit(&origin(now)).await?;
        Ok(expired.len() == usize::from(BATCH) || forgotten.max(answers) == u64::from(BATCH))
    }

    async fn forget(&self, now: Timestamp) -> Result<(), StartError> {
        let mut tx = self.store.begin().await?;
        tx.forget_dead_tokens(now).await?;
        tx.forget_status_indices(now).await?;
        tx.forget_idempotency_keys(now.minus(REPEATABLE)).await?;
        tx.forget_challenges(now).await?;
        tx.forget_invitations(now).await?;
        signing_keys::remove_dead(&mut tx, now).await?;
        tx.commit(&origin(now)).await?;
        Ok(())
    }

    /// Forgets whom nobody has seen for long, in the next stretch of the table. No index knows them, for it would move with
    /// every use; in time the stretches come to everybody.
    async fn forget_callers(&self, now: Timestamp) -> Result<(), StartError> {
        let before = now.minus(KEPT_UNSEEN);
        let mut place = self.forgotten_up_to.lock().await;
        let (unseen, next) = self.store.list_unseen_callers(&place, before, STRETCH).await?;
        for batch in unseen.chunks(BATCH.into()) {
            let mut tx = self.store.begin().await?;
            tx.forget_callers(batch, before).await?;
            tx.commit(&origin(now)).await?;
        }
        *place = next;
        let mut tx = self.store.begin().await?;
        tx.make_place_for_callers(now.minus(PLACE_KEPT)).await?;
        tx.commit(&origin(now)).await?;
        Ok(())
    }

    /// One batch of logins that ended by themselves; true if there may be more. Their end was told when they began.
    async fn forget_logins(&self, now: Timestamp) -> Result<bool, StartError> {
        let mut tx = self.store.begin().await?;
        let forgotten = tx.forget_logins(self.sign_in.standing(now), BATCH).await?;
        tx.commit(&origin(now)).await?;
        Ok(forgotten == u64::from(BATCH))
    }

    /// One batch of offers that nobody accepted in time; true if there may be more.
    async fn expire_transfers(&self, now: Timestamp) -> Result<bool, StartError> {
        let mut tx = self.store.begin().await?;
        let expired = tx.expire_transfers(now, BATCH).await?;
        for transfer in &expired {
            tx.record(transfers::draft("client.transfer_expired", transfer));
        }
        tx.commit(&origin(now)).await?;
        Ok(expired.len() == usize::from(BATCH))
    }

    async fn rotate_when_due(&self, algorithm: SigningAlgorithm, now: Timestamp) -> Result<(), StartError> {
        let age = Duration::from_secs(u64::from(self.signing_keys.rotate_after_days) * 24 * 3600);
        let since = signing_keys::signing_since(&self.store.list_signing_keys().await?, algorithm);
        if since.is_some_and(|since| now.since(since) >= age) {
            self.rotate_signing_key(algorithm, false, &origin(now)).await?;
        }
        Ok(())
    }

    /// Gives the waiting key of an algorithm its turn; `None` if another rotation was faster or there is no such key.
    pub async fn rotate_signing_key(
        &self,
        algorithm: SigningAlgorithm,
        immediately: bool,
        origin: &Origin,
    ) -> Result<Option<Timestamp>, StartError> {
        let ahead = Duration::from_secs(u64::from(self.signing_keys.publish_ahead_minutes) * 60);
        let turn = Turn { now: origin.now, publish_ahead: ahead, immediately };
        let next = Fresh::make(algorithm, origin.now, &self.entropy).await?;
        let mut tx = self.store.begin().await?;
        let master = self.master_of(&mut tx).await?;
        let Some(activate_at) = signing_keys::rotate(&mut tx, &next, &master, &turn).await? else { return Ok(None) };
        let seq = tx.commit(origin).await?;
        self.wait_until_applied(seq).await?;
        Ok(Some(activate_at))
    }
}

fn record(tx: &mut Tx, kind: &'static str, credential: &Credential) {
    let (client, ended_at) = (credential.client, credential.state.ended_at());
    let data = match credential.state {
        State::Expired { reason, .. } => json!({ "client": client, "ended_at": ended_at, "reason": reason }),
        _ => json!({ "client": client, "ended_at": ended_at }),
    };
    tx.record(Draft { kind, subject: credential.id.to_string(), data });
}

fn origin(now: Timestamp) -> Origin {
    Origin { actor: Actor::system("schedule"), source: None, now }
}
