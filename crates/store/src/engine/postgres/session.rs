//! One pooled connection in use, and what becomes of it afterwards.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object};
use futures_util::future::try_join_all;
use tokio::time::timeout;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::super::{Row, Value};
use super::error::Fault;
use super::{GRACE, Inner, types};
use crate::StoreError;

pub(super) struct Session {
    connection: Option<Object>,
    state: State,
    inner: Arc<Inner>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Goes back to the pool.
    Sound,
    /// A statement is under way: whoever gives up now leaves it running.
    Running,
    /// Must not be used again.
    Spoiled,
}

impl Session {
    pub(super) fn new(connection: Object, inner: Arc<Inner>) -> Self {
        Self { connection: Some(connection), state: State::Sound, inner }
    }

    pub(super) async fn query(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        let (limit, connection) = self.start()?;
        let outcome = timeout(limit, query(connection, sql, args)).await;
        self.settle(outcome)
    }

    pub(super) async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, StoreError> {
        let (limit, connection) = self.start()?;
        let outcome = timeout(limit, execute(connection, sql, args)).await;
        self.settle(outcome)
    }

    pub(super) async fn execute_each(&mut self, sql: &str, rows: &[Vec<Value>]) -> Result<Vec<u64>, StoreError> {
        let (limit, connection) = self.start()?;
        let outcome = timeout(limit, execute_each(connection, sql, rows)).await;
        self.settle(outcome)
    }

    /// Runs statements without parameters.
    pub(super) async fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        let (limit, connection) = self.start()?;
        let outcome = timeout(limit, script(connection, sql)).await;
        self.settle(outcome)
    }

    /// The same without our limit on time: a migration may work for long.
    pub(super) async fn long_script(&mut self, sql: &str) -> Result<(), StoreError> {
        let (_, connection) = self.start()?;
        let outcome = script(connection, sql).await;
        self.settle(Ok(outcome))
    }

    /// Keeps the connection from being used again.
    pub(super) fn spoil(&mut self) {
        self.state = State::Spoiled;
    }

    /// Ends the open transaction, in the background since this is called by a drop, and gives the connection back.
    pub(super) fn roll_back(mut self) {
        if self.state != State::Sound {
            return;
        }
        // Until the roll-back has succeeded, whatever ends the task also ends the connection.
        self.spoil();
        let runtime = self.inner.runtime.clone();
        runtime.spawn(async move {
            if self.script("ROLLBACK").await.is_err() {
                self.spoil();
            }
        });
    }

    fn start(&mut self) -> Result<(Duration, &ClientWrapper), StoreError> {
        let connection = self.connection.as_deref().ok_or_else(super::over)?;
        self.state = State::Running;
        Ok((self.inner.statement_limit, connection))
    }

    fn settle<T>(&mut self, outcome: Result<Result<T, Fault>, tokio::time::error::Elapsed>) -> Result<T, StoreError> {
        match outcome {
            Ok(Ok(answer)) => {
                self.state = State::Sound;
                Ok(answer)
            }
            Ok(Err(fault)) => {
                self.state = if fault.spoils { State::Spoiled } else { State::Sound };
                if fault.read_only {
                    // The server no longer takes writes, nor will the other sessions that lead to it.
                    self.inner.pool.retain(|_, _| false);
                }
                Err(fault.error)
            }
            // Still `Running`: the drop cancels the statement.
            Err(_elapsed) => Err(StoreError::Unavailable("no answer in time".to_owned())),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.state == State::Sound {
            return;
        }
        let discarded = Object::take(connection);
        if self.state == State::Running {
            // A server process that waits for a lock does not notice that its client has gone.
            let (token, tls) = (discarded.cancel_token(), self.inner.tls.clone());
            self.inner.runtime.spawn(async move {
                let _at_most = timeout(GRACE, token.cancel_query(tls)).await;
            });
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state).finish_non_exhaustive()
    }
}

async fn query(connection: &ClientWrapper, sql: &str, args: &[Value]) -> Result<Vec<Row>, Fault> {
    let statement = prepare(connection, sql, args).await?;
    let rows = connection.query(&statement, &bind(args)).await?;
    Ok(rows.iter().map(types::row_of).collect::<Result<_, _>>()?)
}

async fn execute(connection: &ClientWrapper, sql: &str, args: &[Value]) -> Result<u64, Fault> {
    let statement = prepare(connection, sql, args).await?;
    Ok(connection.execute(&statement, &bind(args)).await?)
}

/// All rows are sent before the first answer is awaited: one round trip for all of them.
async fn execute_each(connection: &ClientWrapper, sql: &str, rows: &[Vec<Value>]) -> Result<Vec<u64>, Fault> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let statement = prepare(connection, sql, first).await?;
    for args in rows {
        types::check(statement.params(), args)?;
    }
    let bound: Vec<_> = rows.iter().map(|args| bind(args)).collect();
    Ok(try_join_all(bound.iter().map(|args| connection.execute(&statement, args))).await?)
}

async fn script(connection: &ClientWrapper, sql: &str) -> Result<(), Fault> {
    Ok(connection.batch_execute(sql).await?)
}

async fn prepare(connection: &ClientWrapper, sql: &str, args: &[Value]) -> Result<Statement, Fault> {
    let statement = connection.prepare_cached(sql).await?;
    types::check(statement.params(), args)?;
    Ok(statement)
}

fn bind(args: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    args.iter().map(|arg| arg as &(dyn ToSql + Sync)).collect()
}
