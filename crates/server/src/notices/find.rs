//! What is due: found by reading alone, so that looking costs no writer anything. Two nodes may find the same; the
//! insert of the notice decides.

use std::time::Duration;

use keyward_model::credential::KEPT_AFTER_END;
use keyward_model::notice::{ESTABLISHED_AFTER, KEPT, MOST_NEW_NETWORKS, NoticeKind, QUIET_AFTER, ladder};
use keyward_model::time::Timestamp;
use keyward_store::{CallerFilter, Concerned, Stretch};

use crate::app::{App, StartError};
use crate::notices::message::Message;
use crate::notices::origin;

/// Notices noted by one transaction, so that nobody waits long behind it.
const BATCH: u16 = 50;
/// Callers named in a notice.
const NAMED: u16 = 5;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl App {
    /// Finds what people are to be told now, and notes it. Safe on many nodes at once.
    pub async fn find_notices(&self) -> Result<(), StartError> {
        let now = self.clock.now();
        let lately = |length: Duration| Stretch { after: now.minus(length), until: now };
        for rung in ladder(&self.notices.days, now) {
            while self
                .note_all(NoticeKind::Ending, self.store.list_ending(&rung, lately(QUIET_AFTER), BATCH).await?, now)
                .await?
            {}
        }
        while self
            .note_all(
                NoticeKind::RevokedInUse,
                self.store.list_revoked_in_use(lately(KEPT_AFTER_END), BATCH).await?,
                now,
            )
            .await?
        {}
        let found = self.store.list_new_networks(lately(DAY), ESTABLISHED_AFTER, MOST_NEW_NETWORKS, BATCH);
        self.note_all(NoticeKind::NewNetwork, found.await?, now).await?;
        while self.forget_notices(now).await? {}
        Ok(())
    }

    /// Notes what was found in one transaction; true if there may be more.
    async fn note_all(&self, kind: NoticeKind, found: Vec<Concerned>, now: Timestamp) -> Result<bool, StartError> {
        if found.is_empty() {
            return Ok(false);
        }
        let mut messages = Vec::with_capacity(found.len());
        for concerned in &found {
            let filter = CallerFilter { credential: Some(concerned.credential), ..CallerFilter::default() };
            let mut callers = self.store.list_callers(&filter, now, None, NAMED).await?;
            callers.truncate(NAMED.into());
            messages.push(Message::new(kind, concerned, &callers, now, &self.entropy)?);
        }
        // Of new networks one key has a bound a day; everything else is bounded by its occasions.
        let bound = (kind == NoticeKind::NewNetwork).then(|| (MOST_NEW_NETWORKS, now.minus(DAY)));
        let mut noted = false;
        let mut tx = self.store.begin().await?;
        for message in &messages {
            noted |= self.note(&mut tx, message, bound).await?;
        }
        tx.commit(&origin(now)).await?;
        Ok(noted && found.len() == usize::from(BATCH))
    }

    /// One batch of notices from long ago; true if there may be more.
    async fn forget_notices(&self, now: Timestamp) -> Result<bool, StartError> {
        let mut tx = self.store.begin().await?;
        tx.forget_webhook_secrets(now).await?;
        let forgotten = tx.forget_notices(now.minus(KEPT), now, BATCH).await?;
        tx.commit(&origin(now)).await?;
        Ok(forgotten == u64::from(BATCH))
    }
}
