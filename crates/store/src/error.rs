//! What can go wrong below the store. A text never holds a bound value, which may be a secret.

/// Failure of a database operation. Everything but `Conflict` is our own fault or the database's: a 5xx, never a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached, is overloaded, or gave no answer in time. After a commit the outcome is unknown.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A lock, deadlock or serialization failure ended the transaction; running it again may succeed.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// A unique or foreign key constraint refused the change. `constraint` is `table.column[, table.column]`, the name
    /// of the index when it is over an expression, or [`StoreError::FOREIGN_KEY`]: the same on every engine.
    #[error("conflict with existing data: {constraint}")]
    Conflict {
        /// Which constraint refused.
        constraint: String,
    },
    /// Stored data is damaged or not of the shape that the query expects.
    #[error("the stored data is damaged: {0}")]
    Corrupt(String),
    /// The schema cannot be brought to the version of this program.
    #[error("migration: {0}")]
    Migration(String),
    /// The settings of the database cannot work.
    #[error("database setting: {0}")]
    Config(String),
    /// The database refused a statement: a fault in this program.
    #[error("the database refused a statement: {0}")]
    Query(String),
}

impl StoreError {
    /// `constraint` of a foreign key violation; SQLite does not tell which key it was.
    pub const FOREIGN_KEY: &'static str = "foreign key";

    /// Whether this is a conflict on `constraint`.
    #[must_use]
    pub fn is_conflict_on(&self, constraint: &str) -> bool {
        matches!(self, Self::Conflict { constraint: found } if found == constraint)
    }

    pub(crate) fn foreign_key() -> Self {
        Self::Conflict { constraint: Self::FOREIGN_KEY.to_owned() }
    }
}
