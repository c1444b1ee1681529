//! Callers. Counts are only ever added to, so that any number of nodes add up, in any order.

use std::fmt;
use std::str::FromStr;

use keyward_model::caller::{Caller, MOST_CALLERS, MOST_NETWORKS, OTHER, Outcome, Sightings};
use keyward_model::credential::StateName;
use keyward_model::id::{ClientId, CredentialId, UserId};
use keyward_model::time::Timestamp;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Store, StoreError, Tx, credentials, parsed};

const COLUMNS: &str =
    "credential, fingerprint, reporter, network, user_agent, instance, first_seen_at, last_seen_at, accepted, refused";
/// What happens to a row that is there: it moves forward only.
const ADD: &str = "ON CONFLICT (credential, fingerprint) DO UPDATE SET \
     first_seen_at = CASE WHEN excluded.first_seen_at < callers.first_seen_at \
                          THEN excluded.first_seen_at ELSE callers.first_seen_at END, \
     last_seen_at = CASE WHEN excluded.last_seen_at > callers.last_seen_at \
                         THEN excluded.last_seen_at ELSE callers.last_seen_at END, \
     accepted = callers.accepted + excluded.accepted, refused = callers.refused + excluded.refused";

/// What was seen of one caller since the last count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerCount {
    /// What it used.
    pub credential: CredentialId,
    /// Who it is; `None` for those who are not told apart.
    pub caller: Option<Caller<'static>>,
    /// When and how often.
    pub sightings: Sightings,
}

/// Which callers to list.
#[derive(Debug, Clone, Default)]
pub struct CallerFilter {
    /// Of this credential.
    pub credential: Option<CredentialId>,
    /// Of the credentials of this client.
    pub client: Option<ClientId>,
    /// Of the credentials of clients owned by this user.
    pub owner: Option<UserId>,
    /// Seen at this instant or later.
    pub since: Option<Timestamp>,
    /// Let in, or refused, at least once.
    pub outcome: Option<Outcome>,
    /// With credentials that authenticate.
    pub authenticated: bool,
}

/// A caller, and the credential it was seen with.
#[derive(Debug, Clone)]
pub struct SeenCaller {
    /// What it used.
    pub credential: CredentialId,
    /// What people call that credential.
    pub label: String,
    /// Where that credential stands.
    pub state: StateName,
    /// Whose credential it is.
    pub client: ClientId,
    /// The client that reported it; the server itself if there is none.
    pub reporter: Option<ClientId>,
    /// From where on the network; empty for those who are not told apart.
    pub network: String,
    /// What it says it runs.
    pub user_agent: String,
    /// What it says it is called.
    pub instance: String,
    /// When and how often.
    pub sightings: Sightings,
    fingerprint: String,
}

impl SeenCaller {
    /// Where it stands in a list, newest first.
    pub fn place(&self) -> CallerPlace {
        CallerPlace {
            last_seen_at: self.sightings.last_seen_at,
            credential: self.credential,
            fingerprint: self.fingerprint.clone(),
        }
    }
}

/// A place in a list of callers, newest first. Its text is a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerPlace {
    last_seen_at: Timestamp,
    credential: CredentialId,
    fingerprint: String,
}

impl fmt::Display for CallerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.last_seen_at.as_millis(), self.credential, self.fingerprint)
    }
}

/// A text that is no place in a list of callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no place in a list of callers")]
pub struct CallerPlaceError;

impl FromStr for CallerPlace {
    type Err = CallerPlaceError;

    fn from_str(text: &str) -> Result<Self, CallerPlaceError> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(CallerPlaceError);
        Ok(Self {
            last_seen_at: Timestamp::from_millis(part()?.parse().map_err(|_| CallerPlaceError)?),
            credential: part()?.parse().map_err(|_| CallerPlaceError)?,
            fingerprint: part()?.to_owned(),
        })
    }
}

fn read(row: &Row) -> Result<SeenCaller, StoreError> {
    let reporter = row.text(2)?;
    Ok(SeenCaller {
        credential: parsed(&row.text(0)?, "callers.credential")?,
        fingerprint: row.text(1)?,
        reporter: if reporter.is_empty() { None } else { Some(parsed(&reporter, "callers.reporter")?) },
        network: row.text(3)?,
        user_agent: row.text(4)?,
        instance: row.text(5)?,
        sightings: Sightings {
            first_seen_at: Timestamp::from_millis(row.int(6)?),
            last_seen_at: Timestamp::from_millis(row.int(7)?),
            accepted: row.int(8)?,
            refused: row.int(9)?,
        },
        client: parsed(&row.text(10)?, "credentials.client")?,
        label: row.text(11)?,
        state: parsed(&row.text(12)?, "credentials.state")?,
    })
}

impl Store {
    /// Callers, the one last seen first, with the state of their credentials at `now`.
    pub async fn list_callers(
        &self,
        filter: &CallerFilter,
        now: Timestamp,
        after: Option<&CallerPlace>,
        limit: u16,
    ) -> Result<Vec<SeenCaller>, StoreError> {
        // Deadlines count as soon as they pass, whatever was last written; see `Credential::state_at`.
        let select = format!(
            "SELECT {COLUMNS}, client, label, CASE WHEN state IN ('active', 'retiring') \
             AND (expires_at <= $1 OR retire_at <= $1) THEN 'expired' ELSE state END \
             FROM callers JOIN credentials ON id = credential"
        );
        let mut listing = Listing::with(&select, vec![now.as_millis().into()]);
        listing.and("credential = ?", filter.credential.map(|c| c.to_string()));
        listing.and("client = ?", filter.client.map(|c| c.to_string()));
        listing.and("client IN (SELECT id FROM clients WHERE owner = ?)", filter.owner.map(|o| o.to_string()));
        listing.and("last_seen_at >= ?", filter.since.map(Timestamp::as_millis));
        match filter.outcome {
            None => {}
            Some(Outcome::Accepted) => drop(listing.only("accepted > 0")),
            Some(Outcome::Refused) => drop(listing.only("refused > 0")),
        }
        if filter.authenticated {
            listing.only(&credentials::authenticates("", "$1"));
        }
        if let Some(after) = after {
            let at = listing.value(after.last_seen_at.as_millis());
            let credential = listing.value(after.credential.to_string());
            let fingerprint = listing.value(after.fingerprint.as_str());
            listing.only(&format!(
                "last_seen_at < {at} OR (last_seen_at = {at} AND (credential, fingerprint) > ({credential}, {fingerprint}))"
            ));
        }
        listing.run_in_order(self, "last_seen_at DESC, credential, fingerprint", limit, read).await
    }

    /// Whether this client may report who uses the credential: it is the own client of an API that the credential's
    /// client may use. Without a client, whether there is such a credential.
    pub async fn may_report_on(
        &self,
        credential: CredentialId,
        reporter: Option<ClientId>,
    ) -> Result<bool, StoreError> {
        let Some(reporter) = reporter else {
            let sql = "SELECT 1 FROM credentials WHERE id = $1";
            return Ok(!self.query(sql, &[credential.to_string().into()]).await?.is_empty());
        };
        let sql = "SELECT 1 FROM credentials c JOIN client_apis u ON u.client = c.client \
                   JOIN apis a ON a.id = u.api WHERE c.id = $1 AND a.client = $2";
        Ok(!self.query(sql, &[credential.to_string().into(), reporter.to_string().into()]).await?.is_empty())
    }
}

impl Tx {
    /// Adds what was seen to what is known. Callers for whom a credential has no place left are counted together, but
    /// for the first of a network; what was seen of credentials that are gone is gone with them.
    pub async fn count_callers(&mut self, counts: &[CallerCount]) -> Result<(), StoreError> {
        let told_apart = format!("(SELECT count(*) FROM callers WHERE credential = $1 AND fingerprint <> '{OTHER}')");
        let sql = format!(
            "INSERT INTO callers ({COLUMNS}) SELECT id, $2, $3, $4, $5, $6, CAST($7 AS BIGINT), CAST($8 AS BIGINT), \
             CAST($9 AS BIGINT), CAST($10 AS BIGINT) FROM credentials WHERE id = $1 AND ($2 = '{OTHER}' \
             OR EXISTS (SELECT 1 FROM callers WHERE credential = $1 AND fingerprint = $2) \
             OR {told_apart} < {MOST_CALLERS} OR ({told_apart} < {MOST_CALLERS} + {MOST_NETWORKS} \
                 AND NOT EXISTS (SELECT 1 FROM callers WHERE credential = $1 AND network = $4))) {ADD}"
        );
        let rows: Vec<_> = counts.iter().map(|count| values(count, count.caller.as_ref())).collect();
        let changed = self.tx.execute_each(&sql, &rows).await?;
        let without_place = counts.iter().zip(changed).filter(|(_, changed)| *changed == 0);
        let rows: Vec<_> = without_place.map(|(count, _)| values(count, None)).collect();
        self.tx.execute_each(&sql, &rows).await.map(|_| ())
    }

    /// Where callers came for whom there was no place: counts those not seen since `quiet_since` together with them, so
    /// that whoever comes next has a place.
    pub async fn make_place_for_callers(&mut self, quiet_since: Timestamp) -> Result<u64, StoreError> {
        // The sum keeps SQLite from going through everybody seen lately: credentials with others are few, and indexed.
        let quiet = format!(
            "last_seen_at < $1 AND fingerprint <> '{OTHER}' AND credential IN (SELECT o.credential FROM callers o \
             WHERE o.fingerprint = '{OTHER}' AND o.last_seen_at + 0 >= $1 \
             AND (SELECT count(*) FROM callers n WHERE n.credential = o.credential) > {MOST_CALLERS})"
        );
        let fold = format!(
            "INSERT INTO callers ({COLUMNS}) SELECT credential, '{OTHER}', '', '', '{OTHER}', '', min(first_seen_at), \
             max(last_seen_at), CAST(sum(accepted) AS BIGINT), CAST(sum(refused) AS BIGINT) FROM callers \
             WHERE {quiet} GROUP BY credential {ADD}"
        );
        let args: [Value; 1] = [quiet_since.as_millis().into()];
        if self.execute(&fold, &args).await? == 0 {
            return Ok(0);
        }
        self.execute(&format!("DELETE FROM callers WHERE {quiet}"), &args).await
    }

    /// Forgets callers last seen before `before`; gives how many.
    pub async fn forget_callers(&mut self, before: Timestamp, most: u16) -> Result<u64, StoreError> {
        let sql = "DELETE FROM callers WHERE (credential, fingerprint) IN \
                   (SELECT credential, fingerprint FROM callers WHERE last_seen_at < $1 LIMIT $2)";
        self.execute(sql, &[before.as_millis().into(), i64::from(most).into()]).await
    }
}

/// The row of a count, for this caller or for those who are not told apart.
fn values(count: &CallerCount, caller: Option<&Caller<'static>>) -> Vec<Value> {
    let [fingerprint, reporter, network, user_agent, instance] = match caller {
        Some(caller) => [
            caller.fingerprint(),
            caller.reporter.map(|reporter| reporter.to_string()).unwrap_or_default(),
            caller.network.to_string(),
            caller.user_agent.to_string(),
            caller.instance.to_string(),
        ],
        None => [OTHER, "", "", OTHER, ""].map(str::to_owned),
    };
    vec![
        count.credential.to_string().into(),
        fingerprint.into(),
        reporter.into(),
        network.into(),
        user_agent.into(),
        instance.into(),
        count.sightings.first_seen_at.as_millis().into(),
        count.sightings.last_seen_at.as_millis().into(),
        count.sightings.accepted.into(),
        count.sightings.refused.into(),
    ]
}
