//! Rotation: the arrows into, along and out of a credential's retirement.
//!
//! Each is one conditional statement with the conditions of its arrow in `keyward_model::credential`; `None` says that
//! they did not hold.

use keyward_model::credential::{Credential, EndReason};
use keyward_model::id::CredentialId;
use keyward_model::time::Timestamp;

use crate::credentials::{AUTHENTICATES, COLUMNS, read};
use crate::engine::{Row, Value};
use crate::{StoreError, Tx};

/// A caller that used the credential since the instant `$3`.
const RECENT: &str = "accepted > 0 AND last_seen_at > $3";

/// How a retirement is ended before its time.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    /// When.
    pub now: Timestamp,
    /// It is in use if a caller was seen since.
    pub quiet_since: Timestamp,
    /// Also if it is in use.
    pub force: bool,
}

/// Somebody who uses a credential that is to be finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemainingCaller {
    /// The network it calls from.
    pub network: String,
    /// What its program calls itself.
    pub user_agent: String,
    /// The name that it gives itself.
    pub instance: String,
    /// When it was last seen.
    pub last_seen_at: Timestamp,
    /// How often it used the credential.
    pub count: i64,
}

impl Tx {
    /// Rotation: gives an active credential its successor and its hard end, or its expiry if that is earlier.
    pub async fn retire_credential(
        &mut self,
        id: CredentialId,
        successor: CredentialId,
        retire_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET state = 'retiring', successor = $3, updated_at = $2, version = version + 1, \
             retire_at = CASE WHEN expires_at < $4 THEN expires_at ELSE $4 END \
             WHERE id = $1 AND state = 'active' AND purpose <> 'bootstrap' AND {AUTHENTICATES} RETURNING {COLUMNS}"
        );
        let args =
            [id.to_string().into(), now.as_millis().into(), successor.to_string().into(), retire_at.as_millis().into()];
        self.find(&sql, &args, read).await
    }

    /// Makes a retiring credential active again, if its successor is this one and was not rotated in its turn.
    pub async fn cancel_retirement(
        &mut self,
        id: CredentialId,
        successor: CredentialId,
        now: Timestamp,
    ) -> Result<Option<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET state = 'active', successor = NULL, retire_at = NULL, updated_at = $2, \
             version = version + 1 WHERE id = $1 AND state = 'retiring' AND successor = $3 AND {AUTHENTICATES} \
             AND NOT EXISTS (SELECT 1 FROM credentials AS s WHERE s.id = $3 AND s.successor IS NOT NULL) \
             RETURNING {COLUMNS}"
        );
        let args = [id.to_string().into(), now.as_millis().into(), successor.to_string().into()];
        self.find(&sql, &args, read).await
    }

    /// Moves the hard end of a retiring credential, no further than its expiry.
    pub async fn extend_retirement(
        &mut self,
        id: CredentialId,
        retire_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET updated_at = $2, version = version + 1, \
             retire_at = CASE WHEN expires_at < $3 THEN expires_at ELSE $3 END \
             WHERE id = $1 AND state = 'retiring' AND {AUTHENTICATES} RETURNING {COLUMNS}"
        );
        self.find(&sql, &[id.to_string().into(), now.as_millis().into(), retire_at.as_millis().into()], read).await
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
        let recent = format!("FROM callers WHERE callers.credential = credentials.id AND {RECENT}");
        let unused = if finish.force { String::new() } else { format!("AND NOT EXISTS (SELECT 1 {recent})") };
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
        self.find(&sql, &args, |row| Ok((read(row)?, row.int(18)?))).await
    }

    /// Who has used a credential since an instant: the most recent first, and how many there are in all.
    pub async fn list_remaining_callers(
        &mut self,
        id: CredentialId,
        since: Timestamp,
        most: u16,
    ) -> Result<(Vec<RemainingCaller>, i64), StoreError> {
        let sql = format!(
            "SELECT network, user_agent, instance, last_seen_at, accepted, COUNT(*) OVER () FROM callers \
             WHERE credential = $1 AND {RECENT} ORDER BY last_seen_at DESC, network, user_agent, instance LIMIT $2"
        );
        let args: [Value; 3] = [id.to_string().into(), i64::from(most).into(), since.as_millis().into()];
        let rows = self.tx.query(&sql, &args).await?;
        let all = rows.first().map_or(Ok(0), |row| row.int(5))?;
        Ok((rows.iter().map(caller).collect::<Result<_, _>>()?, all))
    }
}

fn caller(row: &Row) -> Result<RemainingCaller, StoreError> {
    Ok(RemainingCaller {
        network: row.text(0)?,
        user_agent: row.text(1)?,
        instance: row.text(2)?,
        last_seen_at: Timestamp::from_millis(row.int(3)?),
        count: row.int(4)?,
    })
}
