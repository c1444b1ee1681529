//! Notices: which are due, and which were given. What is due is found by reading; what counts is the insert, which of
//! several nodes succeeds on one.

use keyward_model::caller::MOST_NETWORKS;
use keyward_model::credential::StateName;
use keyward_model::id::{ClientId, CredentialId, UserId};
use keyward_model::notice::{Notice, NoticeKind, Occasion, Rung};
use keyward_model::time::Timestamp;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Page, Store, StoreError, Tx, parsed};

const COLUMNS: &str = "id, kind, credential, deadline, rung, body, created_at";
/// What is read of a credential `c`, its client `k` and their owner `u`.
const CONCERNED: &str = "c.id, c.label, c.state, k.id, k.name, u.id, u.name, u.email";
const JOINED: &str = "credentials c JOIN clients k ON k.id = c.client JOIN users u ON u.id = k.owner";
/// What belongs to nobody who is at work is told to nobody.
const ANSWERED_FOR: &str = "c.purpose = 'general' AND k.disabled_at IS NULL AND u.disabled_at IS NULL";
const DAY_MS: i64 = 24 * 3600 * 1000;

/// A key that people are to be told of, and whom it concerns.
#[derive(Debug, Clone)]
pub struct Concerned {
    /// The key.
    pub credential: CredentialId,
    /// What people call it.
    pub label: String,
    /// What was last written of its state.
    pub state: StateName,
    /// Whose key it is.
    pub client: ClientId,
    /// What people call that client.
    pub client_name: String,
    /// Who answers for it.
    pub owner: UserId,
    /// What people call them.
    pub owner_name: String,
    /// Where notices to them go.
    pub email: Option<String>,
    /// What would be told.
    pub occasion: Occasion,
}

/// Which notices to list.
#[derive(Debug, Clone, Default)]
pub struct NoticeFilter {
    /// About this credential.
    pub credential: Option<CredentialId>,
    /// Of this kind.
    pub kind: Option<NoticeKind>,
}

/// A stretch of time: after the first instant, up to and with the second.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// After this.
    pub after: Timestamp,
    /// Up to and with this.
    pub until: Timestamp,
}

fn read(row: &Row) -> Result<Notice, StoreError> {
    let credential = row.text(2)?;
    Ok(Notice {
        id: parsed(row.str(0)?, "notices.id")?,
        kind: parsed(row.str(1)?, "notices.kind")?,
        credential: if credential.is_empty() { None } else { Some(parsed(&credential, "notices.credential")?) },
        occasion: Occasion { deadline: row.int(3)?, rung: row.text(4)? },
        body: row.text(5)?,
        created_at: Timestamp::from_millis(row.int(6)?),
    })
}

fn read_concerned(row: &Row, occasion: Occasion) -> Result<Concerned, StoreError> {
    Ok(Concerned {
        credential: parsed(row.str(0)?, "credentials.id")?,
        label: row.text(1)?,
        state: parsed(row.str(2)?, "credentials.state")?,
        client: parsed(row.str(3)?, "clients.id")?,
        client_name: row.text(4)?,
        owner: parsed(row.str(5)?, "users.id")?,
        owner_name: row.text(6)?,
        email: row.opt_text(7)?,
        occasion,
    })
}

impl Store {
    /// Keys in use whose deadline stands on this rung and that nobody was told of. A rung that lay behind when the key
    /// was issued is none of it. In the order of their ids, those behind the id of the page before.
    pub async fn list_ending(&self, rung: &Rung, used: Stretch, page: &Page) -> Result<Vec<Concerned>, StoreError> {
        let deadline = "CASE WHEN c.retire_at IS NOT NULL AND (c.expires_at IS NULL OR c.retire_at < c.expires_at) \
                        THEN c.retire_at ELSE c.expires_at END";
        let sql = format!(
            "SELECT {CONCERNED}, {deadline} FROM {JOINED} WHERE c.id IN \
             (SELECT id FROM credentials WHERE ended_at IS NULL AND expires_at > $1 AND expires_at <= $2 AND id > $8 \
              UNION SELECT id FROM credentials WHERE ended_at IS NULL AND retire_at > $1 AND retire_at <= $2 AND id > $8) \
             AND {ANSWERED_FOR} AND {deadline} > $1 AND {deadline} - CAST($3 AS BIGINT) >= c.created_at \
             AND EXISTS (SELECT 1 FROM callers s WHERE s.credential = c.id AND s.accepted > 0 AND s.last_seen_at > $4) \
             AND NOT EXISTS (SELECT 1 FROM notices n WHERE n.credential = c.id AND n.kind = $5 \
                             AND n.deadline = {deadline} AND n.rung = $6) ORDER BY c.id LIMIT $7"
        );
        let args: [Value; 8] = [
            rung.after.as_millis().into(),
            rung.until.as_millis().into(),
            millis(rung.lead()).into(),
            used.after.as_millis().into(),
            NoticeKind::Ending.as_str().into(),
            rung.days.to_string().into(),
            i64::from(page.limit).into(),
            page.after.clone().unwrap_or_default().into(),
        ];
        let occasion = |row: &Row| Ok(Occasion { deadline: row.int(8)?, rung: rung.days.to_string() });
        let rows = self.query(&sql, &args).await?;
        rows.iter().map(|row| read_concerned(row, occasion(row)?)).collect()
    }

    /// Revoked keys that were tried with the right secret after their end, once for each day after it. In the order of
    /// their ids, those behind the id of the page before.
    pub async fn list_revoked_in_use(&self, ended: Stretch, page: &Page) -> Result<Vec<Concerned>, StoreError> {
        let day = format!("(s.last_seen_at - c.ended_at) / {DAY_MS}");
        let revoked =
            "SELECT id FROM credentials WHERE ended_at > $1 AND ended_at <= $2 AND state = 'revoked' AND id > $5";
        let sql = format!(
            "SELECT {CONCERNED}, c.ended_at, {day} FROM {JOINED} JOIN \
             (SELECT credential, max(last_seen_at) AS last_seen_at FROM callers \
              WHERE refused > 0 AND credential IN ({revoked}) GROUP BY credential) AS s ON s.credential = c.id \
             WHERE s.last_seen_at >= c.ended_at AND {ANSWERED_FOR} \
             AND NOT EXISTS (SELECT 1 FROM notices n WHERE n.credential = c.id AND n.kind = $3 \
                             AND n.deadline = c.ended_at AND n.rung = CAST({day} AS TEXT)) ORDER BY c.id LIMIT $4"
        );
        let args: [Value; 5] = [
            ended.after.as_millis().into(),
            ended.until.as_millis().into(),
            NoticeKind::RevokedInUse.as_str().into(),
            i64::from(page.limit).into(),
            page.after.clone().unwrap_or_default().into(),
        ];
        let occasion = |row: &Row| Ok(Occasion { deadline: row.int(8)?, rung: row.int(9)?.to_string() });
        let rows = self.query(&sql, &args).await?;
        rows.iter().map(|row| read_concerned(row, occasion(row)?)).collect()
    }

    /// Keys that came, within this stretch, from a network they were never seen in, although they are older than
    /// `established` and others of their networks are known; none of a key of which so many were told since that instant.
    ///
    /// A key whose observer saw it in as many networks as are told apart for certain is at home everywhere: it is left out.
    /// What others report cannot make it so.
    pub async fn list_new_networks(
        &self,
        seen: Stretch,
        established: std::time::Duration,
        bound: (u16, Timestamp),
        most: u16,
    ) -> Result<Vec<Concerned>, StoreError> {
        let sql = format!(
            "SELECT {CONCERNED}, s.network FROM {JOINED} JOIN callers s ON s.credential = c.id \
             WHERE s.first_seen_at > $1 AND s.first_seen_at <= $2 AND s.accepted > 0 AND s.network <> '' \
             AND {ANSWERED_FOR} AND c.ended_at IS NULL AND s.first_seen_at >= c.created_at + CAST($3 AS BIGINT) \
             AND EXISTS (SELECT 1 FROM callers o WHERE o.credential = c.id AND o.network <> s.network \
                         AND o.accepted > 0 AND o.first_seen_at < s.first_seen_at) \
             AND NOT EXISTS (SELECT 1 FROM callers o WHERE o.credential = c.id AND o.network = s.network \
                             AND o.first_seen_at < s.first_seen_at) \
             AND (SELECT count(DISTINCT o.network) FROM callers o WHERE o.credential = c.id \
                  AND o.reporter = s.reporter AND o.network <> '' AND o.first_seen_at < s.first_seen_at) < {MOST_NETWORKS} \
             AND NOT EXISTS (SELECT 1 FROM notices n WHERE n.credential = c.id AND n.kind = $4 AND n.rung = s.network) \
             AND (SELECT count(*) FROM notices n WHERE n.credential = c.id AND n.kind = $4 AND n.created_at > $5) < $6 \
             ORDER BY s.first_seen_at, c.id LIMIT $7"
        );
        let (a_key, told_since) = bound;
        let args: [Value; 7] = [
            seen.after.as_millis().into(),
            seen.until.as_millis().into(),
            millis(established).into(),
            NoticeKind::NewNetwork.as_str().into(),
            told_since.as_millis().into(),
            i64::from(a_key).into(),
            i64::from(most).into(),
        ];
        let occasion = |row: &Row| Ok(Occasion { deadline: 0, rung: row.text(8)? });
        let rows = self.query(&sql, &args).await?;
        rows.iter().map(|row| read_concerned(row, occasion(row)?)).collect()
    }

    /// Notices, the newest first.
    pub async fn list_notices(&self, filter: &NoticeFilter, page: &Page) -> Result<Vec<Notice>, StoreError> {
        let mut listing = Listing::new(&format!("SELECT {COLUMNS} FROM notices"));
        listing.and("credential = ?", filter.credential.map(|c| c.to_string()));
        listing.and("kind = ?", filter.kind.map(NoticeKind::as_str));
        listing.and("id < ?", page.after.as_deref());
        listing.run_in_order(self, "id DESC", page.limit, read).await
    }
}

impl Tx {
    /// Notes a notice unless there is one of the same occasion, or its key was told `most` of its kind since
    /// `counted_from` already; `false` if so.
    pub async fn insert_notice(
        &mut self,
        notice: &Notice,
        bound: Option<(u16, Timestamp)>,
    ) -> Result<bool, StoreError> {
        let sql = format!(
            "INSERT INTO notices ({COLUMNS}) SELECT $1, $2, $3, CAST($4 AS BIGINT), $5, $6, CAST($7 AS BIGINT) \
             WHERE (SELECT count(*) FROM notices WHERE credential = $3 AND kind = $2 AND created_at > $8) < $9 \
             ON CONFLICT (credential, kind, deadline, rung) DO NOTHING"
        );
        let (most, counted_from) = bound.map_or((i64::MAX, Timestamp::from_millis(0)), |(most, at)| (most.into(), at));
        let args: [Value; 9] = [
            notice.id.to_string().into(),
            notice.kind.as_str().into(),
            notice.credential.map(|c| c.to_string()).unwrap_or_default().into(),
            notice.occasion.deadline.into(),
            notice.occasion.rung.as_str().into(),
            notice.body.as_str().into(),
            notice.created_at.as_millis().into(),
            counted_from.as_millis().into(),
            most.into(),
        ];
        Ok(self.execute(&sql, &args).await? == 1)
    }

    /// Forgets notices from before `before` whose deadline has passed, with their deliveries; gives how many.
    pub async fn forget_notices(&mut self, before: Timestamp, now: Timestamp, most: u16) -> Result<u64, StoreError> {
        let sql = "DELETE FROM notices WHERE id IN \
                   (SELECT id FROM notices WHERE created_at < $1 AND deadline <= $2 LIMIT $3)";
        self.execute(sql, &[before.as_millis().into(), now.as_millis().into(), i64::from(most).into()]).await
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
