//! The seam between SQL and the databases: "run this statement with these values".
//!
//! One SQL text serves both engines: `TEXT` and `BIGINT` columns, `$1…` parameters, `RETURNING`, `ON CONFLICT`.
//! What differs between the engines stays behind this file, in `engine/`.

mod migrate;
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;
mod url;
mod value;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{Instrument as _, Span};

pub use migrate::Migration;
pub use postgres::Question;
pub use url::DatabaseUrl;
pub use value::{Row, Value};

use crate::StoreError;
use url::Target;

/// What the databases are called, in OpenTelemetry's semantic conventions too.
const SQLITE: &str = "sqlite";
const POSTGRESQL: &str = "postgresql";

/// How to open a database. `Options::new(url)` holds defaults that suit one server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Which database.
    pub url: DatabaseUrl,
    /// SQLite: at most this many connections for reading; they are opened when first needed.
    pub readers: usize,
    /// SQLite: refuse to open while another server has the file open. Tools that work beside a server set `false`.
    pub exclusive: bool,
    /// PostgreSQL: at most this many connections, one more listens for changes.
    pub pool_size: usize,
    /// PostgreSQL: PEM file with the certificate authorities to trust instead of those of the system.
    pub tls_ca: Option<PathBuf>,
    /// PostgreSQL: limit of one connection attempt to one host.
    pub connect_timeout: Duration,
    /// PostgreSQL: limit of one statement. SQLite: how long to wait for a lock held by another process.
    pub statement_timeout: Duration,
    /// PostgreSQL: a connection older than this is replaced, so that a changed host or password takes effect.
    pub max_connection_age: Duration,
    /// A transaction that waits longer than this for its next statement is rolled back.
    pub idle_limit: Duration,
}

impl Options {
    /// The defaults for `url`.
    #[must_use]
    pub fn new(url: DatabaseUrl) -> Self {
        let cores = std::thread::available_parallelism().map_or(4, usize::from);
        Self {
            url,
            // Reads run on the threads of the runtime, one a core: nobody ever waits for a reader.
            readers: cores + 2,
            exclusive: true,
            pool_size: 16,
            tls_ca: None,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            max_connection_age: Duration::from_mins(30),
            idle_limit: Duration::from_secs(5),
        }
    }
}

/// An open database; clones share it.
#[derive(Clone, Debug)]
pub struct Engine {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl Engine {
    /// Opens the database; an SQLite file is created when missing (mode 0600), its directory is not.
    pub async fn open(options: &Options) -> Result<Self, StoreError> {
        let backend = match options.url.target() {
            Target::Sqlite(path) => Backend::Sqlite(sqlite::Sqlite::open(path, options)?),
            Target::Postgres(config) => Backend::Postgres(postgres::Postgres::open(config, options).await?),
        };
        Ok(Self { backend })
    }

    /// Runs one reading statement outside a transaction and returns all its rows.
    pub async fn query(&self, sql: &str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        value::check(args)?;
        let work = async {
            match &self.backend {
                Backend::Sqlite(engine) => engine.query(sql, args),
                Backend::Postgres(engine) => engine.query(sql, args).await,
            }
        };
        work.instrument(span(self.name(), sql)).await
    }

    /// Begins a transaction that may write. On SQLite it takes its turn when its first statement arrives.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let backend = match &self.backend {
            Backend::Sqlite(engine) => TxBackend::Sqlite(engine.begin()),
            Backend::Postgres(engine) => TxBackend::Postgres(engine.begin().await?),
        };
        Ok(Tx { backend, state: TxState::Usable })
    }

    /// Brings the schema to the newest of `migrations` and returns how many were applied. Safe on many nodes at once.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<u32, StoreError> {
        migrate::run(self, migrations).await
    }

    /// Subscribes to commits made with `notify`, on this node or another, from now on.
    /// An SQLite file changed by another process wakes nobody: that is found by polling.
    #[must_use]
    pub fn changes(&self) -> Changes {
        let receiver = match &self.backend {
            Backend::Sqlite(engine) => engine.changes(),
            Backend::Postgres(engine) => engine.changes(),
        };
        Changes { receiver }
    }

    /// Asks all other nodes to write down at once what they keep in memory, waits until those that listen say that they
    /// have, and returns how many have not said so after `at_most`. Whoever has SQLite is alone.
    pub async fn ask_others(&self, at_most: Duration) -> Result<usize, StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(0),
            Backend::Postgres(engine) => engine.ask_others(at_most).await,
        }
    }

    /// Subscribes to what other nodes ask, from now on; whoever subscribes to the changes too hears it.
    #[must_use]
    pub fn questions(&self) -> Questions {
        let asked = match &self.backend {
            Backend::Sqlite(_) => None,
            Backend::Postgres(engine) => Some(engine.questions()),
        };
        Questions { asked }
    }

    /// Closes the connections after the transactions under way; later calls answer `Unavailable`.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(engine) => engine.close().await,
            Backend::Postgres(engine) => engine.close().await,
        }
    }

    /// `sqlite` or `postgresql`, for people and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.backend {
            Backend::Sqlite(_) => SQLITE,
            Backend::Postgres(_) => POSTGRESQL,
        }
    }
}

/// The span of one statement, below that of the request which needs it; what no request needs has none. Values are not
/// part of a statement's text.
fn span(system: &'static str, sql: &str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    tracing::info_span!("database", otel.kind = "client", db.system.name = system, db.query.text = sql)
}

/// A transaction. Dropped without `commit`, it is rolled back, also when its future is dropped in the middle of a
/// statement. After a failed statement it can only be dropped.
#[derive(Debug)]
pub struct Tx {
    backend: TxBackend,
    state: TxState,
}

#[derive(Debug)]
enum TxBackend {
    Sqlite(sqlite::SqliteTx),
    Postgres(postgres::PostgresTx),
}

impl TxBackend {
    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => SQLITE,
            Self::Postgres(_) => POSTGRESQL,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum TxState {
    Usable,
    /// A statement is under way; whoever finds this state again has dropped the future of that statement.
    Running,
    Failed,
}

impl Tx {
    /// Runs one statement and returns its rows; a change returns those of its `RETURNING`.
    pub async fn query(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        value::check(args)?;
        self.start()?;
        let span = span(self.backend.name(), sql);
        let outcome = match &mut self.backend {
            TxBackend::Sqlite(tx) => tx.query(sql, args).instrument(span).await,
            TxBackend::Postgres(tx) => tx.query(sql, args).instrument(span).await,
        };
        self.finish(outcome)
    }

    /// Runs one statement and returns how many rows it changed.
    pub async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, StoreError> {
        value::check(args)?;
        self.start()?;
        let span = span(self.backend.name(), sql);
        let outcome = match &mut self.backend {
            TxBackend::Sqlite(tx) => tx.execute(sql, args).instrument(span).await,
            TxBackend::Postgres(tx) => tx.execute(sql, args).instrument(span).await,
        };
        self.finish(outcome)
    }

    /// Runs one statement with each of these rows of values, and returns how many rows each time changed. The rows go to
    /// the database together instead of each waiting for the one before.
    pub async fn execute_each(&mut self, sql: &str, rows: &[Vec<Value>]) -> Result<Vec<u64>, StoreError> {
        rows.iter().try_for_each(|args| value::check(args))?;
        self.start()?;
        let span = span(self.backend.name(), sql);
        let outcome = match &mut self.backend {
            TxBackend::Sqlite(tx) => tx.execute_each(sql, rows).instrument(span).await,
            TxBackend::Postgres(tx) => tx.execute_each(sql, rows).instrument(span).await,
        };
        self.finish(outcome)
    }

    /// Makes the changes durable, then returns; with `notify`, wakes every [`Changes`] on every node.
    /// `Unavailable` leaves open whether the changes were made.
    pub async fn commit(mut self, notify: bool) -> Result<(), StoreError> {
        self.start()?;
        let span = span(self.backend.name(), "COMMIT");
        match self.backend {
            TxBackend::Sqlite(tx) => tx.commit(notify).instrument(span).await,
            TxBackend::Postgres(tx) => tx.commit(notify).instrument(span).await,
        }
    }

    /// Runs a script of several statements without parameters.
    async fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        self.start()?;
        let outcome = match &mut self.backend {
            TxBackend::Sqlite(tx) => tx.script(sql).await,
            TxBackend::Postgres(tx) => tx.script(sql).await,
        };
        self.finish(outcome)
    }

    fn start(&mut self) -> Result<(), StoreError> {
        if self.state != TxState::Usable {
            return Err(StoreError::Query("this transaction has failed and can only be rolled back".to_owned()));
        }
        self.state = TxState::Running;
        Ok(())
    }

    fn finish<T>(&mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        self.state = if outcome.is_ok() { TxState::Usable } else { TxState::Failed };
        outcome
    }
}

/// A subscription to the commits made with `notify`.
#[derive(Debug, Clone)]
pub struct Changes {
    receiver: watch::Receiver<u64>,
}

impl Changes {
    /// Returns when something was committed with `notify` since the last return, or after `at_most`: the caller then
    /// reads what changed. Wake-ups may come without a change, and a lost one is made good by `at_most`.
    pub async fn next(&mut self, at_most: Duration) {
        let wait = async {
            // A closed engine wakes nobody any more: its subscribers go on at their polling pace.
            if self.receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let _elapsed = tokio::time::timeout(at_most, wait).await;
    }
}

/// A subscription to what other nodes ask of this one: to write down at once what it keeps in memory.
#[derive(Debug)]
pub struct Questions {
    asked: Option<postgres::Questions>,
}

impl Questions {
    /// The next one. It is answered when it is done; whoever asked waits for that.
    pub async fn next(&mut self) -> Question {
        match &mut self.asked {
            Some(asked) => asked.next().await,
            None => std::future::pending().await,
        }
    }
}
