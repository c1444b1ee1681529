//! Rotation: the arrows into, along and out of a credential's retirement.
//!
//! Each is one conditional statement with the conditions of its arrow in `keyward_model::credential`; `None` says that
//! they did not hold.

use keyward_model::credential::{Credential, EndReason};
use keyward_model::id::CredentialId;
use keyward_model::time::Timestamp;

use crate::credentials::{AUTHENTICATES, COLUMNS, WIDTH, authenticates, read};
use crate::{StoreError, Tx};

/// How a credential is ended that may be in use: the old one by `finish`, its successor by `cancel`.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    /// When.
    pub now: Timestamp,
    /// It is in use if a caller was seen at this instant or later.
    pub quiet_since: Timestamp,
    /// Also if it is in use.
    pub force: bool,
}

impl Finish {
    /// The callers that are in the way, as `summarize_callers` counts them; `$3` is `quiet_since`.
    fn recent(of: &str) -> String {
        format!("FROM callers WHERE callers.credential = {of} AND accepted > 0 AND last_seen_at >= $3")
    }

    /// The condition that there are none, or that it does not matter.
    fn unused(self, recent: &str) -> String {
        if self.force { String::new() } else { format!("AND NOT EXISTS (SELECT 1 {recent})") }
    }
}

impl Tx {
    /// Rotation: gives an active credential its successor and its hard end, or its expiry if that is earlier. Its
    /// successor was made after its likeness: nothing of it may have changed since it was read.
    pub async fn retire_credential(
        &mut self,
        old: &Credential,
        successor: CredentialId,
        retire_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET state = 'retiring', successor = $3, updated_at = $2, version = version + 1, \
             retire_at = CASE WHEN expires_at < $4 THEN expires_at ELSE $4 END \
             WHERE id = $1 AND version = $5 AND state = 'active' AND purpose <> 'bootstrap' AND {AUTHENTICATES} \
             RETURNING {COLUMNS}"
        );
        let args = [
            old.id.to_string().into(),
            now.as_millis().into(),
            successor.to_string().into(),
            retire_at.as_millis().into(),
            old.version.into(),
        ];
        self.find(&sql, &args, read).await
    }

    /// Makes a retiring credential active again, if its successor is this one, was not rotated in its turn, and is not in
    /// use; with `force` also if it is. Gives the number of callers of the successor that were still seen. What the old one
    /// holds was judged: nothing of it may have changed since it was read. What has leaked stays on its way out.
    ///
    /// A successor that has ended is used by nobody, whoever was seen with it before.
    pub async fn cancel_retirement(
        &mut self,
        old: &Credential,
        successor: CredentialId,
        cancel: &Finish,
    ) -> Result<Option<(Credential, i64)>, StoreError> {
        let works = format!("SELECT s.id FROM credentials AS s WHERE s.id = $4 AND {}", authenticates("s.", "$2"));
        let recent = Finish::recent(&format!("({works})"));
        let unused = cancel.unused(&recent);
        let sql = format!(
            "UPDATE credentials SET state = 'active', successor = NULL, retire_at = NULL, updated_at = $2, \
             version = version + 1 WHERE id = $1 AND version = $5 AND state = 'retiring' AND successor = $4 \
             AND leaked_at IS NULL \
             AND {AUTHENTICATES} \
             AND NOT EXISTS (SELECT 1 FROM credentials AS s WHERE s.id = $4 AND s.successor IS NOT NULL) {unused} \
             RETURNING {COLUMNS}, (SELECT COUNT(*) {recent})"
        );
        let args = [
            old.id.to_string().into(),
            cancel.now.as_millis().into(),
            cancel.quiet_since.as_millis().into(),
            successor.to_string().into(),
            old.version.into(),
        ];
        self.find(&sql, &args, |row| Ok((read(row)?, row.int(WIDTH)?))).await
    }

    /// Moves the hard end of a retiring credential, no further than its expiry and never away after a leak, if nothing of
    /// it has changed since it was read and judged.
    pub async fn extend_retirement(
        &mut self,
        old: &Credential,
        retire_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET updated_at = $2, version = version + 1, \
             retire_at = CASE WHEN expires_at < $3 THEN expires_at ELSE $3 END \
             WHERE id = $1 AND version = $4 AND state = 'retiring' AND (leaked_at IS NULL OR retire_at >= $3) \
             AND {AUTHENTICATES} RETURNING {COLUMNS}"
        );
        let args =
            [old.id.to_string().into(), now.as_millis().into(), retire_at.as_millis().into(), old.version.into()];
        self.find(&sql, &args, read).await
    }

    /// Ends a retirement before its time, if nobody uses the credential any more; with `force` whoever does. Gives the
    /// number of callers that were still seen.
    ///
    /// Whether there are any is asked by the statement that ends it, so that one written down before is never overlooked.
    pub async fn finish_retirement(
        &mut self,
        id: CredentialId,
        finish: &Finish,
    ) -> Result<Option<(Credential, i64)>, StoreError> {
        let recent = Finish::recent("credentials.id");
        let unused = finish.unused(&recent);
        let sql = format!(
            "UPDATE credentials SET state = 'expired', ended_at = $2, end_reason = $4, updated_at = $2, \
             version = version + 1 WHERE id = $1 AND state = 'retiring' AND {AUTHENTICATES} {unused} \
             RETURNING {COLUMNS}, (SELECT COUNT(*) {recent})"
        );
        let args = [
            id.to_string().into(),
            finish.now.as_millis().into(),
            finish.quiet_since.as_millis().into(),
            EndReason::Finished.as_str().into(),
        ];
        self.find(&sql, &args, |row| Ok((read(row)?, row.int(WIDTH)?))).await
    }
}
