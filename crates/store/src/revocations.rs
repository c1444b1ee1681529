//! What events of the log mean to verifiers, as the revocation feed tells it.
//!
//! Nothing is kept for it: the events of a part of the log are joined with what they are about, as that is now.

use std::sync::LazyLock;

use keyward_model::id::TokenId;
use keyward_model::time::Timestamp;

use crate::engine::{Row, Value};
use crate::{Store, StoreError, parsed};

/// A part of the log: the events behind the first place, up to and with the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    /// Where the part before ends.
    pub after: i64,
    /// Where this one ends.
    pub upto: i64,
}

/// What events of the log ended or brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// All behind this place of the log is here, nothing of what came before.
    pub after: i64,
    /// Each with the place of its event, in their order.
    pub changes: Vec<(i64, Revocation)>,
}

/// One thing that verifiers must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// Tokens that name this place in the status list do not count now.
    Ended(i64),
    /// Tokens that name this place count now, and may not have before.
    Restored(i64),
    /// This token was revoked, and must be known as such until then.
    Token(TokenId, Timestamp),
    /// The set of signing keys is another one.
    Keys,
}

static PLACES: LazyLock<String> = LazyLock::new(|| {
    let within = "e.seq > $1 AND e.seq <= $2";
    let stopped = "k.disabled_at IS NOT NULL OR u.disabled_at IS NOT NULL";
    let credential = format!(
        "SELECT e.seq, c.status_index AS place, CASE WHEN c.ended_at IS NOT NULL OR c.expires_at <= $3 OR c.retire_at <= $3 \
         OR {stopped} THEN 1 ELSE 0 END AS ended FROM events e"
    );
    let session = format!(
        "SELECT e.seq, s.status_index AS place, CASE WHEN s.ended_at IS NOT NULL OR s.expires_at <= $3 OR {stopped} \
         THEN 1 ELSE 0 END AS ended FROM events e"
    );
    format!(
        "SELECT seq, place, ended FROM ( \
         {credential} JOIN credentials c ON c.id = e.subject JOIN clients k ON k.id = c.client \
           JOIN users u ON u.id = k.owner \
           WHERE {within} AND e.kind IN ('credential.revoked', 'credential.expired', 'credential.finished') \
         UNION {credential} JOIN clients k ON k.id = e.subject JOIN users u ON u.id = k.owner \
           JOIN credentials c ON c.client = k.id \
           WHERE {within} AND e.kind IN ('client.disabled', 'client.enabled') AND c.ended_at IS NULL \
         UNION {credential} JOIN users u ON u.id = e.subject JOIN clients k ON k.owner = u.id \
           JOIN credentials c ON c.client = k.id \
           WHERE {within} AND e.kind IN ('user.disabled', 'user.enabled') AND c.ended_at IS NULL \
         UNION {session} JOIN device_sessions s ON s.id = e.subject JOIN clients k ON k.id = s.client \
           JOIN users u ON u.id = s.user_id \
           WHERE {within} AND e.kind IN ('device_session.revoked', 'device_session.expired') \
         UNION {session} JOIN clients k ON k.id = e.subject JOIN device_sessions s ON s.client = k.id \
           JOIN users u ON u.id = s.user_id \
           WHERE {within} AND e.kind IN ('client.disabled', 'client.enabled') AND s.ended_at IS NULL \
         UNION {session} JOIN users u ON u.id = e.subject JOIN device_sessions s ON s.user_id = u.id \
           JOIN clients k ON k.id = s.client \
           WHERE {within} AND e.kind IN ('user.disabled', 'user.enabled') AND s.ended_at IS NULL \
         UNION SELECT seq, status_index AS place, 1 AS ended FROM ended_status_indices WHERE seq > $1 AND seq <= $2 \
         ) AS places ORDER BY seq DESC, place DESC LIMIT $4"
    )
});

const TOKENS: &str = "SELECT e.seq, t.jti, t.expires_at FROM events e JOIN revoked_tokens t ON t.jti = e.subject \
                      WHERE e.seq > $1 AND e.seq <= $2 AND e.kind = 'token.revoked' AND t.expires_at > $3 \
                      ORDER BY e.seq DESC LIMIT $4";

const KEYS: &str = "SELECT seq FROM events WHERE seq > $1 AND seq <= $2 \
                    AND kind IN ('signing_key.published', 'signing_key.activated', 'signing_key.removed') \
                    ORDER BY seq DESC LIMIT $3";

impl Store {
    /// What this part of the log is about, with everything as it is now: the newest `most` places, tokens and changes of
    /// keys. Where there are more, `after` says from where on it is all.
    pub async fn list_revocations(&self, of: LogRange, most: u16, now: Timestamp) -> Result<Revocations, StoreError> {
        let [after, upto, now, limit] = [of.after, of.upto, now.as_millis(), i64::from(most) + 1].map(Value::from);
        let mut found = Revocations { after: of.after, changes: Vec::new() };
        let rows = self.query(&PLACES, &[after.clone(), upto.clone(), now.clone(), limit.clone()]).await?;
        found.add(&rows, most, |row| {
            let place = row.int(1)?;
            Ok(if row.int(2)? == 1 { Revocation::Ended(place) } else { Revocation::Restored(place) })
        })?;
        let rows = self.query(TOKENS, &[after.clone(), upto.clone(), now, limit.clone()]).await?;
        found.add(&rows, most, |row| {
            Ok(Revocation::Token(parsed(row.str(1)?, "revoked_tokens.jti")?, Timestamp::from_millis(row.int(2)?)))
        })?;
        let rows = self.query(KEYS, &[after, upto, limit]).await?;
        found.add(&rows, most, |_| Ok(Revocation::Keys))?;
        found.changes.retain(|(seq, _)| *seq > found.after);
        found.changes.sort_by_key(|(seq, _)| *seq);
        Ok(found)
    }
}

impl Revocations {
    /// Adds rows that come with the newest first, one more than `most` if there are others.
    fn add(
        &mut self,
        rows: &[Row],
        most: u16,
        read: impl Fn(&Row) -> Result<Revocation, StoreError>,
    ) -> Result<(), StoreError> {
        for (n, row) in rows.iter().enumerate() {
            let seq = row.int(0)?;
            if n == usize::from(most) {
                // Of the event of this row some are left out.
                self.after = self.after.max(seq);
            }
            self.changes.push((seq, read(row)?));
        }
        Ok(())
    }
}
