//! Everything Keyward remembers. The only crate that knows SQL; `engine` is the only part that names a database.
//!
//! Reads go through [`Store`]. Every change goes through a [`Tx`], whose [`commit`](Tx::commit) appends the events it
//! recorded in the same transaction. Single use, rotation and the like are always one conditional statement.

pub mod engine;
mod error;

mod apis;
mod authorization_codes;
mod callers;
mod clients;
mod credentials;
mod deliveries;
mod device_grants;
mod device_sessions;
mod events;
mod idempotency;
mod invitations;
mod listing;
mod logins;
mod migrations;
mod notices;
mod owners;
mod passkeys;
mod passwords;
mod principals;
mod recovery_codes;
mod refresh_tokens;
mod revocations;
mod revoked_tokens;
mod rotation;
mod scopes;
mod sealed_secrets;
mod signing_keys;
mod status_list;
mod transfers;
mod users;
mod webhooks;

use std::time::Duration;

use keyward_model::event::Draft;

pub use authorization_codes::{Authorization, Redeemed};
pub use callers::{CallerCount, CallerFilter, CallerKey, CallerPlace, CallerSummary, CountedCaller, SeenCaller};
pub use clients::ClientFilter;
pub use credentials::CredentialFilter;
pub use deliveries::{AT_ONCE, DeliveryFilter, Room};
pub use device_grants::GrantCodes;
pub use device_sessions::{DeviceSessionFilter, FoundSession, FoundWho};
pub use engine::{Changes, DatabaseUrl, Options, Question, Questions};
pub use error::StoreError;
pub use events::{EventFilter, Head, Origin};
pub use idempotency::Made;
pub use listing::Page;
pub use logins::Standing;
pub use migrations::MIGRATIONS;
pub use notices::{Concerned, NoticeFilter, Stretch};
pub use owners::{Belongings, ClientRange};
pub use principals::FoundPrincipal;
pub use refresh_tokens::{Presented, SealedAnswer, Succession};
pub use revocations::{LogRange, Revocation, Revocations};
pub use rotation::Finish;
pub use signing_keys::{KeyRow, NewKey};
pub use status_list::TokensOf;
pub use transfers::{OpenTransfer, TransferFilter};
pub use users::UserFilter;
pub use webhooks::SealedWebhook;

use engine::{Engine, Row, Value};

/// The database, ready for use. Cloning shares it.
#[derive(Clone)]
pub struct Store {
    engine: Engine,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    pub async fn open(options: &Options) -> Result<Self, StoreError> {
        let engine = Engine::open(options).await?;
        engine.migrate(MIGRATIONS).await?;
        Ok(Self { engine })
    }

    /// Starts a transaction; dropping it undoes everything.
    ///
    /// It takes the end of the log first and holds it until commit: changes happen one after the other, so what one
    /// reads cannot be changed by another before it commits, and events stand in the order of their commits.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let mut tx = Tx { tx: self.engine.begin().await?, drafts: Vec::new() };
        tx.execute("UPDATE event_head SET seq = seq WHERE id = 1", &[]).await?;
        Ok(tx)
    }

    /// Wakes whenever this node or another has committed events.
    pub fn changes(&self) -> Changes {
        self.engine.changes()
    }

    /// Has all other nodes write down at once what they keep in memory; gives how many have not said in time that they did.
    pub async fn ask_others(&self, at_most: Duration) -> Result<usize, StoreError> {
        self.engine.ask_others(at_most).await
    }

    /// What other nodes ask of this one.
    pub fn questions(&self) -> Questions {
        self.engine.questions()
    }

    /// Finishes what is under way and closes the database.
    pub async fn close(&self) {
        self.engine.close().await;
    }

    /// What kind of database it is, for people.
    pub fn database_name(&self) -> &'static str {
        self.engine.name()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.engine.query("SELECT seq FROM event_head", &[]).await.map(|_| ())
    }

    async fn query(&self, sql: &str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.engine.query(sql, args).await
    }

    async fn find<T>(
        &self,
        sql: &str,
        args: &[Value],
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.query(sql, args).await?.first().map(read).transpose()
    }
}

/// A transaction: changes, and the events that tell of them.
pub struct Tx {
    tx: engine::Tx,
    drafts: Vec<Draft>,
}

impl Tx {
    /// Notes an event, to be appended to the log at commit.
    pub fn record(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }

    async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, StoreError> {
        self.tx.execute(sql, args).await
    }

    async fn find<T>(
        &mut self,
        sql: &str,
        args: &[Value],
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.tx.query(sql, args).await?.first().map(read).transpose()
    }

    /// The next value of a counter.
    async fn next(&mut self, counter: &str) -> Result<i64, StoreError> {
        let sql = "UPDATE counters SET value = value + 1 WHERE name = $1 RETURNING value";
        let value = self.find(sql, &[counter.into()], |row| row.int(0)).await?;
        value.ok_or_else(|| StoreError::Corrupt(format!("counters has no {counter}")))
    }

    async fn count(&mut self, sql: &str, args: &[Value]) -> Result<u64, StoreError> {
        let count = self.find(sql, args, |row| row.int(0)).await?.unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

/// Columns of one table among several.
fn columns_of(table: &str, columns: &str) -> String {
    columns.split(", ").map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
}

/// A stored text as what it must be.
fn parsed<T: std::str::FromStr>(text: &str, column: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt(format!("{column} holds what is not one")))
}
