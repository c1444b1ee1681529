//! Our word for an error of PostgreSQL, and what it means for the connection.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::StoreError;

/// A failed statement.
pub(super) struct Fault {
    pub(super) error: StoreError,
    /// The connection must not be used again.
    pub(super) spoils: bool,
    /// The server does not take writes any more.
    pub(super) read_only: bool,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self { error, spoils: false, read_only: false }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // Closed, I/O, TLS, connect: the source says which.
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            return Self { error: StoreError::Unavailable(format!("{error}{source}")), spoils: true, read_only: false };
        };
        let error = error_of(db);
        let read_only = *db.code() == SqlState::READ_ONLY_SQL_TRANSACTION;
        let spoils = read_only || matches!(error, StoreError::Unavailable(_) | StoreError::Corrupt(_));
        Self { error, spoils, read_only }
    }
}

fn error_of(db: &DbError) -> StoreError {
    let code = db.code().code();
    match code {
        "23505" => return StoreError::Conflict { constraint: unique_constraint(db) },
        "23503" => return StoreError::foreign_key(),
        _ => {}
    }
    let text = format!("{} (SQLSTATE {code})", db.message());
    match (code.get(..2).unwrap_or_default(), code) {
        // Deadlock, serialization, lock not available, statement timeout.
        ("40", _) | (_, "55P03" | "57014") => StoreError::Busy(text),
        ("XX", "XX001" | "XX002") => StoreError::Corrupt(text),
        ("28", _) | (_, "3D000") => StoreError::Config(text),
        // 0A000: a cached plan whose tables were changed by a newer node; 26000: a pooler has lost the statement.
        ("08" | "25" | "53" | "57" | "58" | "XX", _) | (_, "0A000" | "26000") => StoreError::Unavailable(text),
        ("23" | "42", _) => StoreError::Query(text),
        // The messages of other classes may repeat a value.
        _ => StoreError::Query(format!("SQLSTATE {code}")),
    }
}

/// As SQLite names it: the columns, or the index when it is over an expression. They stand in the detail, in front of
/// the values: `Key (a, b)=(1, 2) already exists.`
fn unique_constraint(db: &DbError) -> String {
    let columns = db
        .detail()
        .and_then(|detail| detail.split_once(")=("))
        .and_then(|(columns, _)| columns.split_once('('))
        .map(|(_, columns)| columns)
        .filter(|columns| !columns.contains(['(', ':']));
    match (db.table(), columns) {
        (Some(table), Some(columns)) => {
            let columns = columns.split(", ").map(|column| format!("{table}.{}", column.trim_matches('"')));
            columns.collect::<Vec<_>>().join(", ")
        }
        _ => db.constraint().unwrap_or("unique").to_owned(),
    }
}
