//! Places in the status list: one for each credential and each device session, all from one counter.
//!
//! Tokens end together by leaving their place: the old one stays ended until the last token that can name it is dead,
//! and tokens issued from then on name the new one. That takes a fixed number of statements, whatever it is about.

use keyward_model::id::{ApiId, ClientId, CredentialId, DeviceSessionId, UserId};
use keyward_model::rights::ScopeSet;
use keyward_model::time::Timestamp;

use crate::{Store, StoreError, Tx};

/// Which tokens are meant: all that were got with the same credentials and device sessions.
#[derive(Debug, Clone, Copy)]
pub enum TokensOf<'a> {
    /// Got with this credential.
    Credential(CredentialId),
    /// Got in this device session.
    DeviceSession(DeviceSessionId),
    /// Issued to this client.
    Client(ClientId),
    /// Of clients this user owns, and of the user's own device sessions.
    User(UserId),
    /// Of clients that may ask for this API.
    Api(ApiId),
    /// Behind which somebody holds one of these scopes by name.
    Holders(&'a ScopeSet),
}

/// The rows of one table that have the places.
struct Rows {
    table: &'static str,
    /// With the value `$1`.
    condition: String,
    value: String,
}

impl TokensOf<'_> {
    fn rows(&self) -> Vec<Rows> {
        let value = match self {
            Self::Credential(id) => id.to_string(),
            Self::DeviceSession(id) => id.to_string(),
            Self::Client(id) => id.to_string(),
            Self::User(id) => id.to_string(),
            Self::Api(id) => id.to_string(),
            Self::Holders(scopes) => scopes.iter().map(|scope| format!(" {scope} ")).collect(),
        };
        let of_api = "client IN (SELECT client FROM client_apis WHERE api = $1)".to_owned();
        let (credentials, sessions) = match self {
            Self::Credential(_) => (Some("id = $1".to_owned()), None),
            Self::DeviceSession(_) => (None, Some("id = $1".to_owned())),
            Self::Client(_) => (Some("client = $1".to_owned()), Some("client = $1".to_owned())),
            Self::User(_) => (
                Some("client IN (SELECT id FROM clients WHERE owner = $1)".to_owned()),
                Some("user_id = $1".to_owned()),
            ),
            Self::Api(_) => (Some(of_api.clone()), Some(of_api)),
            Self::Holders(_) => (
                Some(format!(
                    "({} OR client IN (SELECT k.id FROM clients k JOIN users u ON u.id = k.owner WHERE {} OR {}))",
                    holds("coalesce(credentials.scope, '')"),
                    holds("k.scope"),
                    holds("u.scope"),
                )),
                Some(format!(
                    "({} OR client IN (SELECT k.id FROM clients k WHERE {}) OR user_id IN (SELECT u.id FROM users u WHERE {}))",
                    holds("device_sessions.scope"),
                    holds("k.scope"),
                    holds("u.scope"),
                )),
            ),
        };
        let rows = |table, condition: Option<String>| {
            condition.map(|condition| Rows { table, condition, value: value.clone() })
        };
        [rows("credentials", credentials), rows("device_sessions", sessions)].into_iter().flatten().collect()
    }
}

/// Whether one of the scopes in `$1`, each between spaces of its own, is among those of a column.
fn holds(column: &str) -> String {
    // A name is never part of another between spaces; LIKE would need its wildcards escaped.
    format!(
        "EXISTS (SELECT 1 FROM scopes s WHERE replace($1, ' ' || s.name || ' ', '') <> $1 \
         AND replace(' ' || {column} || ' ', ' ' || s.name || ' ', '') <> ' ' || {column} || ' ')"
    )
}

/// Where in the log the catalogue was last lowered, as a column beside whatever has a place: tokens that name it must not
/// be issued by what was true before.
pub(crate) const LOWERED: &str = "(SELECT value FROM counters WHERE name = 'catalogue_lowered')";

/// Whoever is disabled stands first, and leads to what is theirs: those are few, and credentials are many. SQLite
/// keeps the order of a CROSS JOIN. A place may come twice: to sort that out it would go through all in their order.
const ENDED: &str = "SELECT status_index FROM ended_status_indices \
     UNION ALL SELECT status_index FROM credentials WHERE ended_at IS NOT NULL \
     UNION ALL SELECT status_index FROM credentials WHERE expires_at <= $1 AND ended_at IS NULL \
     UNION ALL SELECT status_index FROM credentials WHERE retire_at <= $1 AND ended_at IS NULL \
     UNION ALL SELECT c.status_index FROM clients k CROSS JOIN credentials c \
           WHERE k.disabled_at IS NOT NULL AND c.client = k.id \
     UNION ALL SELECT c.status_index FROM users u CROSS JOIN clients k CROSS JOIN credentials c \
           WHERE u.disabled_at IS NOT NULL AND k.owner = u.id AND c.client = k.id \
     UNION ALL SELECT status_index FROM device_sessions WHERE ended_at IS NOT NULL \
     UNION ALL SELECT status_index FROM device_sessions WHERE expires_at <= $1 AND ended_at IS NULL \
     UNION ALL SELECT s.status_index FROM clients k CROSS JOIN device_sessions s \
           WHERE k.disabled_at IS NOT NULL AND s.client = k.id \
     UNION ALL SELECT s.status_index FROM users u CROSS JOIN device_sessions s \
           WHERE u.disabled_at IS NOT NULL AND s.user_id = u.id";

impl Store {
    /// Every place whose tokens count no more: its credential or device session has ended, or its client or the user
    /// behind it is disabled, or it was left.
    pub async fn list_ended_status_indices(&self, now: Timestamp) -> Result<Vec<i64>, StoreError> {
        self.query(ENDED, &[now.as_millis().into()]).await?.iter().map(|r| r.int(0)).collect()
    }

    /// The largest place given out so far; 0 if none was.
    pub async fn last_status_index(&self) -> Result<i64, StoreError> {
        let rows = self.query("SELECT value FROM counters WHERE name = 'status_index'", &[]).await?;
        rows.first().map_or(Ok(0), |r| r.int(0))
    }
}

impl Tx {
    /// The next free place in the status list.
    pub async fn next_status_index(&mut self) -> Result<i64, StoreError> {
        self.take_status_indices(1).await
    }

    /// Ends the tokens that are out: gives what has not ended a new place in the status list. Gives how many there were.
    ///
    /// The token of somebody who has not seen the change yet names the old place, and is dead from the start.
    pub async fn end_tokens(
        &mut self,
        of: TokensOf<'_>,
        known_until: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut moved = 0;
        for mut rows in of.rows() {
            rows.condition.push_str(" AND ended_at IS NULL");
            let left = self.leave_places(&rows, known_until).await?;
            if left > 0 {
                self.give_new_places(&rows, left, now).await?;
            }
            moved += left;
        }
        if moved > 0 && matches!(of, TokensOf::Api(_) | TokensOf::Holders(_)) {
            let sql = "UPDATE counters SET value = (SELECT seq + 1 FROM event_head WHERE id = 1) \
                       WHERE name = 'catalogue_lowered'";
            self.execute(sql, &[]).await?;
        }
        Ok(moved)
    }

    /// Keeps places that go with what is about to be deleted.
    pub async fn keep_status_indices(&mut self, of: TokensOf<'_>, known_until: Timestamp) -> Result<(), StoreError> {
        for rows in of.rows() {
            self.leave_places(&rows, known_until).await?;
        }
        Ok(())
    }

    /// Forgets the kept places whose last token is dead.
    pub async fn forget_status_indices(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        self.execute("DELETE FROM ended_status_indices WHERE known_until <= $1", &[now.as_millis().into()]).await
    }

    async fn leave_places(&mut self, rows: &Rows, known_until: Timestamp) -> Result<u64, StoreError> {
        let Rows { table, condition, value } = rows;
        // The end of the log is held since the beginning, so the next place in it is this change's first.
        let sql = format!(
            "INSERT INTO ended_status_indices (status_index, known_until, seq) SELECT status_index, CAST($2 AS BIGINT), \
             (SELECT seq + 1 FROM event_head WHERE id = 1) FROM {table} WHERE {condition}"
        );
        self.execute(&sql, &[value.into(), known_until.as_millis().into()]).await
    }

    async fn give_new_places(&mut self, rows: &Rows, count: u64, now: Timestamp) -> Result<(), StoreError> {
        let Rows { table, condition, value } = rows;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let before = self.take_status_indices(count).await? - count;
        let sql = format!(
            "UPDATE {table} SET status_index = moved.place, updated_at = $2, version = version + 1 FROM \
             (SELECT id, CAST($3 AS BIGINT) + row_number() OVER (ORDER BY id) AS place FROM {table} WHERE {condition}) \
             AS moved WHERE {table}.id = moved.id"
        );
        self.execute(&sql, &[value.into(), now.as_millis().into(), before.into()]).await.map(|_| ())
    }

    /// Takes so many places; gives the last of them.
    async fn take_status_indices(&mut self, count: i64) -> Result<i64, StoreError> {
        let sql = "UPDATE counters SET value = value + $1 WHERE name = 'status_index' RETURNING value";
        self.find(sql, &[count.into()], |row| row.int(0))
            .await?
            .ok_or_else(|| StoreError::Corrupt("counters is empty".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[tokio::test]
    async fn what_has_not_ended_is_not_gone_through_to_list_what_has() {
        let file = keyward_tests::run::subdirectory("ended").join("keyward.db");
        let url = format!("sqlite:{}", file.display()).parse().unwrap();
        let store = Store::open(&Options::new(url)).await.unwrap();
        let plan = store.query(&format!("EXPLAIN QUERY PLAN {ENDED}"), &[1.into()]).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.text(3).unwrap()).collect();
        let steps = |step: &str| plan.iter().filter(|one| one.contains(step)).count();
        assert_eq!((steps("INDEX clients_disabled"), steps("INDEX users_disabled")), (2, 2), "{plan:?}");
        // The places that were left and are kept have all ended. Everything else is searched for.
        assert_eq!((steps("SCAN"), steps("SCAN ended_status_indices")), (1, 1), "{plan:?}");
    }
}
