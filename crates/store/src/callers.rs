//! Callers. Counts are only ever added to, so that any number of nodes add up, in any order.

use std::collections::HashSet;
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

/// A row in which the callers beyond [`MOST_CALLERS`] are counted together: whoever is told apart has a network.
const TOGETHER: &str = "network = ''";

/// What was seen of one caller since the last count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerCount {
    /// What it used.
    pub credential: CredentialId,
    /// Who it is.
    pub caller: CountedCaller,
    /// When and how often.
    pub sightings: Sightings,
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CountedCaller {
    /// One who is told apart.
    Known(Caller<'static>),
    /// Those who are not, seen by this client, or by the server itself.
    Together(Option<ClientId>),
}

impl CountedCaller {
    /// The caller, if it is told apart.
    pub fn known(&self) -> Option<&Caller<'static>> {
        match self {
            Self::Known(caller) => Some(caller),
            Self::Together(_) => None,
        }
    }

    /// Who saw it.
    pub fn reporter(&self) -> Option<ClientId> {
        match self {
            Self::Known(caller) => caller.reporter,
            Self::Together(reporter) => *reporter,
        }
    }
}

/// How many callers one observer saw with a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerSummary {
    /// The client that reported them; the server itself if there is none.
    pub reporter: Option<ClientId>,
    /// How many were let in at least once, and seen within the time that was asked for.
    pub recent: i64,
    /// When one was last seen, whatever became of it.
    pub last_seen_at: Timestamp,
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
    /// Seen by the server itself (`false`), or reported.
    pub is_reported: Option<bool>,
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

/// A place in the table of callers, in the order of its key; the default is before all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerKey {
    credential: String,
    fingerprint: String,
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
    Ok(SeenCaller {
        credential: parsed(&row.text(0)?, "callers.credential")?,
        fingerprint: row.text(1)?,
        reporter: read_reporter(row.str(2)?)?,
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

/// Nobody is the server itself.
fn read_reporter(text: &str) -> Result<Option<ClientId>, StoreError> {
    if text.is_empty() { Ok(None) } else { parsed(text, "callers.reporter").map(Some) }
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
        match filter.is_reported {
            None => {}
            Some(false) => drop(listing.only("reporter = ''")),
            Some(true) => drop(listing.only("reporter <> ''")),
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

    /// How many callers of a credential were let in at `since` or later, by whose word.
    pub async fn summarize_callers(
        &self,
        credential: CredentialId,
        since: Timestamp,
    ) -> Result<Vec<CallerSummary>, StoreError> {
        let sql = "SELECT reporter, count(CASE WHEN accepted > 0 AND last_seen_at >= $2 THEN 1 END), max(last_seen_at) \
                   FROM callers WHERE credential = $1 GROUP BY reporter ORDER BY reporter";
        let rows = self.query(sql, &[credential.to_string().into(), since.as_millis().into()]).await?;
        let read = |row: &Row| {
            let (recent, last_seen_at) = (row.int(1)?, Timestamp::from_millis(row.int(2)?));
            Ok(CallerSummary { reporter: read_reporter(row.str(0)?)?, recent, last_seen_at })
        };
        rows.iter().map(read).collect()
    }

    /// Goes through the table behind this place, a stretch of so many: gives those last seen before `before`, and where to
    /// go on, from the beginning at the end. It only reads, so nobody who writes waits for it.
    pub async fn list_unseen_callers(
        &self,
        after: &CallerKey,
        before: Timestamp,
        stretch: u16,
    ) -> Result<(Vec<CallerKey>, CallerKey), StoreError> {
        let sql = "SELECT credential, fingerprint, last_seen_at FROM callers WHERE (credential, fingerprint) > ($1, $2) \
                   ORDER BY credential, fingerprint LIMIT $3";
        let args = [after.credential.as_str().into(), after.fingerprint.as_str().into(), i64::from(stretch).into()];
        let rows = self.query(sql, &args).await?;
        let (mut unseen, mut last) = (Vec::new(), CallerKey::default());
        for row in &rows {
            last = CallerKey { credential: row.text(0)?, fingerprint: row.text(1)? };
            if row.int(2)? < before.as_millis() {
                unseen.push(last.clone());
            }
        }
        Ok((unseen, if rows.len() == usize::from(stretch) { last } else { CallerKey::default() }))
    }

    /// Of these credentials those on which this client may report: it is the own client of an API that the credential's
    /// client may use. Without a client, those that exist.
    pub async fn list_reportable(
        &self,
        credentials: &[CredentialId],
        reporter: Option<ClientId>,
    ) -> Result<HashSet<CredentialId>, StoreError> {
        let Some(last) = credentials.last() else { return Ok(HashSet::new()) };
        // Few lengths, so that their statements can stay prepared: what is too much repeats the last.
        let length = credentials.len().next_power_of_two();
        let padded = credentials.iter().chain(std::iter::repeat(last)).take(length);
        let mut args: Vec<Value> = padded.map(|credential| credential.to_string().into()).collect();
        let places = (1..=length).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        let mut sql = format!("SELECT c.id FROM credentials c WHERE c.id IN ({places})");
        if let Some(reporter) = reporter {
            args.push(reporter.to_string().into());
            let of_its_own = format!(
                " AND EXISTS (SELECT 1 FROM client_apis u JOIN apis a ON a.id = u.api \
                 WHERE u.client = c.client AND a.client = ${})",
                args.len()
            );
            sql.push_str(&of_its_own);
        }
        self.query(&sql, &args).await?.iter().map(|row| parsed(row.str(0)?, "credentials.id")).collect()
    }
}

impl Tx {
    /// Adds what was seen to what is known. Callers for whom their observer has no place left at a credential are counted
    /// together, but for the first of a network; what was seen of credentials that are gone is gone with them.
    pub async fn count_callers(&mut self, counts: &[CallerCount]) -> Result<(), StoreError> {
        let told_apart = "(SELECT count(*) FROM callers WHERE credential = $1 AND reporter = $3 AND network <> '')";
        let sql = format!(
            "INSERT INTO callers ({COLUMNS}) SELECT id, $2, $3, $4, $5, $6, CAST($7 AS BIGINT), CAST($8 AS BIGINT), \
             CAST($9 AS BIGINT), CAST($10 AS BIGINT) FROM credentials WHERE id = $1 AND ($4 = '' \
             OR EXISTS (SELECT 1 FROM callers WHERE credential = $1 AND fingerprint = $2) \
             OR {told_apart} < {MOST_CALLERS} OR ({told_apart} < {MOST_CALLERS} + {MOST_NETWORKS} AND NOT EXISTS \
                 (SELECT 1 FROM callers WHERE credential = $1 AND reporter = $3 AND network = $4))) {ADD}"
        );
        let rows: Vec<_> = counts.iter().map(|count| values(count, &count.caller)).collect();
        let changed = self.tx.execute_each(&sql, &rows).await?;
        let without_place = counts.iter().zip(changed).filter(|(_, changed)| *changed == 0);
        let rows: Vec<_> =
            without_place.map(|(count, _)| values(count, &CountedCaller::Together(count.caller.reporter()))).collect();
        self.tx.execute_each(&sql, &rows).await.map(|_| ())
    }

    /// Where callers came for whom there was no place: counts those not seen since `quiet_since` together with them, so
    /// that whoever comes next has a place.
    pub async fn make_place_for_callers(&mut self, quiet_since: Timestamp) -> Result<u64, StoreError> {
        let quiet = format!(
            "last_seen_at < $1 AND network <> '' AND (credential, reporter) IN (SELECT o.credential, o.reporter \
             FROM callers o WHERE o.{TOGETHER} AND o.last_seen_at >= $1 AND (SELECT count(*) FROM callers n \
             WHERE n.credential = o.credential AND n.reporter = o.reporter) > {MOST_CALLERS})"
        );
        let fold = format!(
            "INSERT INTO callers ({COLUMNS}) SELECT credential, '{OTHER}' || reporter, reporter, '', '{OTHER}', '', \
             min(first_seen_at), max(last_seen_at), CAST(sum(accepted) AS BIGINT), CAST(sum(refused) AS BIGINT) \
             FROM callers WHERE {quiet} GROUP BY credential, reporter {ADD}"
        );
        let args: [Value; 1] = [quiet_since.as_millis().into()];
        if self.execute(&fold, &args).await? == 0 {
            return Ok(0);
        }
        self.execute(&format!("DELETE FROM callers WHERE {quiet}"), &args).await
    }

    /// Forgets these callers, those of them that were last seen before `before`.
    pub async fn forget_callers(&mut self, unseen: &[CallerKey], before: Timestamp) -> Result<(), StoreError> {
        let sql = "DELETE FROM callers WHERE credential = $1 AND fingerprint = $2 AND last_seen_at < $3";
        let row = |key: &CallerKey| {
            vec![key.credential.as_str().into(), key.fingerprint.as_str().into(), before.as_millis().into()]
        };
        let rows: Vec<Vec<Value>> = unseen.iter().map(row).collect();
        self.tx.execute_each(sql, &rows).await.map(|_| ())
    }
}

/// The row of a count, for this caller.
fn values(count: &CallerCount, caller: &CountedCaller) -> Vec<Value> {
    let reporter = caller.reporter().map(|reporter| reporter.to_string()).unwrap_or_default();
    let [fingerprint, network, user_agent, instance] = match caller {
        CountedCaller::Known(caller) => [
            caller.fingerprint(),
            caller.network.to_string(),
            caller.user_agent.to_string(),
            caller.instance.to_string(),
        ],
        CountedCaller::Together(_) => [format!("{OTHER}{reporter}"), String::new(), OTHER.to_owned(), String::new()],
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
