//! What is due: found by reading alone, so that looking costs no writer anything. Two nodes may find the same; the
//! insert of the notice decides.

use std::time::Duration;

use keyward_model::credential::KEPT_AFTER_END;
use keyward_model::notice::{ESTABLISHED_AFTER, KEPT, MOST_NEW_NETWORKS, NoticeKind, QUIET_AFTER, ladder};
use keyward_model::time::Timestamp;
use keyward_store::{CallerFilter, Concerned, Page, Stretch};

use crate::app::{App, StartError};
use crate::callers::Written;
use crate::notices::message::Message;
use crate::notices::origin;
use crate::notices::outbox::Outbox;

/// Notices noted by one transaction, so that nobody waits long behind it.
const BATCH: u16 = 50;
/// Keys found by one search. What was found is not searched anew for each batch.
const PAGE: u16 = 1000;
/// Callers named in a notice.
const NAMED: u16 = 5;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl App {
    /// Finds what people are to be told now, and notes it. Safe on many nodes at once.
    pub async fn find_notices(&self) -> Result<(), StartError> {
        let now = self.clock.now();
        let lately = |length: Duration| Stretch { after: now.minus(length), until: now };
        for rung in ladder(&self.notices.days, now) {
            let mut next = Some(first_page());
            while let Some(page) = next {
                let found = self.store.list_ending(&rung, lately(QUIET_AFTER), &page).await?;
                self.note_all(NoticeKind::Ending, &found, now).await?;
                next = page_after(&found);
            }
        }
        self.find_revoked_in_use(now).await?;
        self.find_new_networks(lately(DAY), now).await?;
        while self.forget_notices(now).await? {}
        Ok(())
    }

    /// Finds what callers who were written down just now are a reason for: they are not left waiting for the next look.
    /// Should this fail, that look finds it.
    pub(crate) async fn find_notices_of(&self, written: Written) -> Result<(), StartError> {
        let now = self.clock.now();
        if written.has_refused {
            self.find_revoked_in_use(now).await?;
        }
        if let Some(since) = written.accepted_since {
            // Whoever is new was first seen since then: all others are not even looked at.
            let after = since.minus(Duration::from_millis(1)).max(now.minus(DAY));
            self.find_new_networks(Stretch { after, until: now }, now).await?;
        }
        Ok(())
    }

    async fn find_revoked_in_use(&self, now: Timestamp) -> Result<(), StartError> {
        let ended = Stretch { after: now.minus(KEPT_AFTER_END), until: now };
        let mut next = Some(first_page());
        while let Some(page) = next {
            let found = self.store.list_revoked_in_use(ended, &page).await?;
            self.note_all(NoticeKind::RevokedInUse, &found, now).await?;
            next = page_after(&found);
        }
        Ok(())
    }

    async fn find_new_networks(&self, seen: Stretch, now: Timestamp) -> Result<(), StartError> {
        let bound = (MOST_NEW_NETWORKS, now.minus(DAY));
        let found = self.store.list_new_networks(seen, ESTABLISHED_AFTER, bound, PAGE).await?;
        self.note_all(NoticeKind::NewNetwork, &found, now).await
    }

    /// Notes what was found, some at a time.
    async fn note_all(&self, kind: NoticeKind, found: &[Concerned], now: Timestamp) -> Result<(), StartError> {
        // Of new networks one key has a bound a day; everything else is bounded by its occasions.
        let bound = (kind == NoticeKind::NewNetwork).then(|| (MOST_NEW_NETWORKS, now.minus(DAY)));
        for batch in found.chunks(BATCH.into()) {
            let mut messages = Vec::with_capacity(batch.len());
            for concerned in batch {
                let filter = CallerFilter { credential: Some(concerned.credential), ..CallerFilter::default() };
                let mut callers = self.store.list_callers(&filter, now, None, NAMED).await?;
                callers.truncate(NAMED.into());
                messages.push(Message::new(kind, concerned, &callers, now, &self.entropy)?);
            }
            let mut tx = self.store.begin().await?;
            let mut outbox = Outbox::open(self, &mut tx).await?;
            for message in &messages {
                outbox.note(message, bound).await?;
            }
            tx.commit(&origin(now)).await?;
        }
        Ok(())
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

fn first_page() -> Page {
    Page { after: None, limit: PAGE }
}

/// Where it goes on, if there may be more.
fn page_after(found: &[Concerned]) -> Option<Page> {
    let last = found.last().filter(|_| found.len() == usize::from(PAGE))?;
    Some(Page { after: Some(last.credential.to_string()), limit: PAGE })
}
