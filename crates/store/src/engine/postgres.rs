//! PostgreSQL: a pool of connections with prepared statements, and one more that listens for changes.
//!
//! Several hosts may be given; connections go to the one that takes writes. A session that has become read-only while
//! its server stays up is given up, with all idle ones, so that the next connection finds the new primary.

mod error;
mod listener;
mod questions;
mod session;
mod tls;
mod types;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Options, Row, Value};
use crate::StoreError;
use listener::Listener;
use questions::Talk;
use session::Session;

pub use questions::Question;
pub(super) use questions::Questions;

/// Added to the server's own limits before the connection itself is taken to be dead.
const GRACE: Duration = Duration::from_secs(5);
/// What `commit(notify)` and [`questions`] notify and [`listener`] listens to.
const CHANNEL: &str = "keyward_events";

#[derive(Clone, Debug)]
pub(super) struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    tls: MakeRustlsConnect,
    listener: Listener,
    statement_limit: Duration,
    runtime: Handle,
}

impl Postgres {
    pub(super) async fn open(config: &Config, options: &Options) -> Result<Self, StoreError> {
        let config = with_defaults(config, options);
        let tls = tls::connector(&config, options.tls_ca.as_deref())?;
        let pool = pool(&config, tls.clone(), options)?;
        let runtime = Handle::current();
        let listener = Listener::new(config, tls.clone(), runtime.clone());
        let statement_limit = options.statement_timeout + GRACE;
        let this = Self { inner: Arc::new(Inner { pool, tls, listener, statement_limit, runtime }) };
        // Wrong credentials or an unreachable server are told at the start.
        drop(this.session().await?);
        Ok(this)
    }

    pub(super) async fn query(&self, sql: &str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        // On SQLite the reading connections refuse to write; here a slip is caught by its first word.
        let verb = sql.split_whitespace().next().unwrap_or_default();
        if !["SELECT", "WITH", "VALUES", "SHOW"].iter().any(|reading| verb.eq_ignore_ascii_case(reading)) {
            return Err(StoreError::Query(format!("{verb} needs a transaction")));
        }
        self.session().await?.query(sql, args).await
    }

    pub(super) async fn begin(&self) -> Result<PostgresTx, StoreError> {
        let mut session = self.session().await?;
        session.script("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        Ok(PostgresTx { session: Some(Box::new(session)) })
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.listener.subscribe()
    }

    /// Connections in use close when they come back; this waits for them a while.
    pub(super) async fn close(&self) {
        self.inner.listener.stop();
        self.inner.pool.close();
        let drained = async {
            while self.inner.pool.status().size > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _at_most = timeout(GRACE, drained).await;
    }

    fn talk(&self) -> &Talk {
        self.inner.listener.talk()
    }

    async fn session(&self) -> Result<Session, StoreError> {
        let connection = self.inner.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                error::Fault::from(&error).error
            }
            PoolError::Timeout(kind) => StoreError::Unavailable(format!("no connection in time ({kind:?})")),
            PoolError::Closed => StoreError::Unavailable("it is closed".to_owned()),
            other => StoreError::Unavailable(other.to_string()),
        })?;
        Ok(Session::new(connection, Arc::clone(&self.inner)))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("pool", &self.pool.status()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct PostgresTx {
    /// Taken by `commit`, or by the roll-back that follows a drop.
    session: Option<Box<Session>>,
}

impl PostgresTx {
    pub(super) async fn query(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.session()?.query(sql, args).await
    }

    pub(super) async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, StoreError> {
        self.session()?.execute(sql, args).await
    }

    pub(super) async fn execute_each(&mut self, sql: &str, rows: &[Vec<Value>]) -> Result<Vec<u64>, StoreError> {
        self.session()?.execute_each(sql, rows).await
    }

    pub(super) async fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        self.session()?.long_script(sql).await
    }

    pub(super) async fn commit(mut self, notify: bool) -> Result<(), StoreError> {
        let mut session = self.session.take().ok_or_else(over)?;
        // One round trip: a failing first half keeps the second from running.
        let notification = if notify { format!("SELECT pg_notify('{CHANNEL}', ''); ") } else { String::new() };
        let outcome = session.script(&format!("{notification}COMMIT")).await;
        if outcome.is_err() {
            session.spoil();
        }
        outcome
    }

    fn session(&mut self) -> Result<&mut Session, StoreError> {
        self.session.as_deref_mut().ok_or_else(over)
    }
}

impl Drop for PostgresTx {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.roll_back();
        }
    }
}

fn over() -> StoreError {
    StoreError::Query("the transaction is over".to_owned())
}

fn with_defaults(config: &Config, options: &Options) -> Config {
    /// What `Config` has when the URL says nothing: far too long to notice a dead peer.
    const UNSET_KEEPALIVE: Duration = Duration::from_hours(2);

    let mut config = config.clone();
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(options.connect_timeout);
    }
    if config.get_application_name().is_none() {
        config.application_name("keyward");
    }
    if config.get_keepalives_idle() == UNSET_KEEPALIVE {
        config.keepalives_idle(Duration::from_secs(30));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(15));
    }
    config
}

fn pool(config: &Config, tls: MakeRustlsConnect, options: &Options) -> Result<Pool, StoreError> {
    let settings = format!(
        "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}",
        options.statement_timeout.as_millis(),
        options.idle_limit.as_millis()
    );
    let prepare = Hook::async_fn(move |connection: &mut deadpool_postgres::ClientWrapper, _| {
        let settings = settings.clone();
        Box::pin(async move { connection.batch_execute(&settings).await.map_err(HookError::Backend) })
    });
    let age = options.max_connection_age;
    let retire =
        Hook::sync_fn(
            move |_, metrics| {
                if metrics.age() < age { Ok(()) } else { Err(HookError::message("older than the maximum age")) }
            },
        );
    // The connect timeout covers neither TLS nor authentication.
    let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(1).max(1);
    let create = options.connect_timeout * hosts + GRACE;
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_config(config.clone(), tls, manager))
        .max_size(options.pool_size.max(1))
        .wait_timeout(Some(options.statement_timeout))
        .create_timeout(Some(create))
        .post_create(prepare)
        .pre_recycle(retire)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Config(error.to_string()))
}
