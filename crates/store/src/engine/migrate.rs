//! Bringing the schema to the version of this program, one transaction a step.
//!
//! 1. Take the lock that keeps other nodes out for the length of the transaction
//! 2. Compare what was applied with what this program knows
//! 3. Apply the first step that is missing, and note it; again until none is

use aws_lc_rs::digest::{SHA256, digest};

use super::{Backend, Engine, Row, Tx, Value};
use crate::StoreError;

/// One step of the schema. Once released it never changes: its checksum is kept in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Counts from 1 without gaps.
    pub version: u32,
    /// What the step is for, in a few words.
    pub name: &'static str,
    /// Statements with `BIGINT`, `TEXT` and `{{BLOB}}` columns; `{{STRICT}}` may stand after a table, `{{CLUSTERED}}`
    /// after one whose rows are found by their key.
    pub sql: &'static str,
}

const CREATE_LEDGER: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)";

pub(super) async fn run(engine: &Engine, migrations: &[Migration]) -> Result<u32, StoreError> {
    check_list(migrations)?;
    let mut applied = 0;
    while apply_next(engine, migrations).await? {
        applied += 1;
    }
    Ok(applied)
}

fn check_list(migrations: &[Migration]) -> Result<(), StoreError> {
    for (migration, expected) in migrations.iter().zip(1u32..) {
        if migration.version != expected {
            let found = migration.version;
            return Err(StoreError::Migration(format!("version {found} stands where {expected} is expected")));
        }
        // A deferred check would fail only at the COMMIT of a whole group of transactions, and take all of them along.
        if migration.sql.to_ascii_uppercase().contains("DEFERRABLE") {
            return Err(StoreError::Migration(format!("version {expected} has a DEFERRABLE constraint")));
        }
    }
    Ok(())
}

async fn apply_next(engine: &Engine, migrations: &[Migration]) -> Result<bool, StoreError> {
    let dialect = Dialect::of(engine);
    let mut tx = engine.begin().await?;
    tx.script(dialect.lock).await?;
    tx.execute(CREATE_LEDGER, &[]).await?;
    let ledger = tx.query("SELECT version, name, checksum FROM schema_migrations ORDER BY version", &[]).await?;
    compare(&ledger, migrations)?;

    let Some(next) = migrations.get(ledger.len()) else {
        tx.commit(false).await?;
        return Ok(false);
    };
    apply(&mut tx, next, &dialect)
        .await
        .map_err(|error| StoreError::Migration(format!("version {} ({}): {error}", next.version, next.name)))?;
    tx.commit(false).await?;
    tracing::info!(version = next.version, name = next.name, "migration applied");
    Ok(true)
}

fn compare(ledger: &[Row], migrations: &[Migration]) -> Result<(), StoreError> {
    for (at, row) in ledger.iter().enumerate() {
        let (version, name, checksum) = (row.int(0)?, row.text(1)?, row.text(2)?);
        let Some(known) = migrations.get(at) else {
            return Err(StoreError::Migration(format!(
                "the database is at version {version} ({name}), newer than this program, which knows {}",
                migrations.len()
            )));
        };
        if i64::from(known.version) != version {
            return Err(StoreError::Migration(format!("version {} is missing before {version}", known.version)));
        }
        if checksum_of(known) != checksum {
            return Err(StoreError::Migration(format!(
                "version {version} ({name}) was applied with another text than this program holds"
            )));
        }
    }
    Ok(())
}

async fn apply(tx: &mut Tx, migration: &Migration, dialect: &Dialect) -> Result<(), StoreError> {
    let mut script = migration.sql.to_owned();
    for (from, to) in dialect.words {
        script = script.replace(from, to);
    }
    tx.script(&script).await?;
    let note = format!(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, {})",
        dialect.now
    );
    let values: [Value; 3] =
        [i64::from(migration.version).into(), migration.name.into(), checksum_of(migration).into()];
    tx.execute(&note, &values).await?;
    Ok(())
}

/// SHA-256 of the text before anything is filled in: the same on both engines, and with either kind of line end.
fn checksum_of(migration: &Migration) -> String {
    let text = migration.sql.replace("\r\n", "\n");
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the schema needs said differently.
struct Dialect {
    /// Keeps other nodes from migrating until the end of the transaction.
    lock: &'static str,
    words: &'static [(&'static str, &'static str)],
    /// The time of the database in Unix milliseconds; a migration has no request to take `now` from.
    now: &'static str,
}

impl Dialect {
    fn of(engine: &Engine) -> Self {
        match engine.backend {
            // BEGIN IMMEDIATE is the lock.
            Backend::Sqlite(_) => Self {
                lock: "",
                // A STRICT table does not know the word BIGINT; its INTEGER has 64 bits.
                words: &[
                    ("{{BLOB}}", "BLOB"),
                    ("{{STRICT}}", "STRICT"),
                    ("{{CLUSTERED}}", "WITHOUT ROWID"),
                    ("BIGINT", "INTEGER"),
                ],
                now: "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            },
            // A migration of a big table may take longer than a statement of a request; nodes queue behind it.
            Backend::Postgres(_) => Self {
                lock: "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(7165933160420372836)",
                words: &[("{{BLOB}}", "BYTEA"), ("{{STRICT}}", ""), ("{{CLUSTERED}}", "")],
                now: "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
            },
        }
    }
}
