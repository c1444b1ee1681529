//! SQLite: readers in place, one writer thread that groups commits.
//!
//! A point read takes about 4 µs, less than a change of thread would, so it runs where it is asked for. Writes take
//! turns in `writer.rs`, where many transactions share one COMMIT and thereby one fsync.

mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError as Contended};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tokio::sync::watch;

use super::{Options, Row, Value, value};
use crate::StoreError;
pub(super) use writer::SqliteTx;
use writer::Writer;

/// Prepared statements kept per connection: more than the program has.
const STATEMENTS: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    readers: Vec<Mutex<Option<Connection>>>,
    closed: AtomicBool,
    writer: Writer,
}

/// How to open a connection, at the start and again after a fault.
#[derive(Debug, Clone)]
struct Source {
    path: PathBuf,
    busy_timeout: Duration,
}

impl Sqlite {
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        create_private(path)?;
        let lock = if options.exclusive { Some(lock(path)?) } else { None };
        let source = Source { path: path.to_owned(), busy_timeout: options.statement_timeout };
        let connection = source.writing()?;
        let writer = Writer::start(connection, source.clone(), lock, options.idle_limit)?;
        let readers = (0..options.readers.max(1)).map(|_| Mutex::new(None)).collect();
        Ok(Self { inner: Arc::new(Inner { source, readers, closed: AtomicBool::new(false), writer }) })
    }

    pub(super) fn query(&self, sql: &str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut reader = self.inner.free_reader();
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("it is closed".to_owned()));
        }
        if reader.is_none() {
            *reader = Some(self.inner.source.reading()?);
        }
        match reader.as_ref() {
            Some(connection) => rows_of(connection, sql, args),
            None => Err(StoreError::Unavailable("no reader".to_owned())),
        }
    }

    pub(super) fn begin(&self) -> SqliteTx {
        self.inner.writer.begin()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.writer.changes()
    }

    /// Readers first: the last connection to close then folds the write-ahead log into the file.
    pub(super) async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        for reader in &self.inner.readers {
            drop(reader.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        self.inner.writer.close().await;
    }
}

impl Inner {
    /// The first free reader: under light load always the same one, whose cache is warm, and the others never open.
    fn free_reader(&self) -> MutexGuard<'_, Option<Connection>> {
        for reader in &self.readers {
            match reader.try_lock() {
                Ok(guard) => return guard,
                Err(Contended::Poisoned(poisoned)) => {
                    // Whoever panicked may have left a statement open, and with it an old view of the data.
                    reader.clear_poison();
                    let mut guard = poisoned.into_inner();
                    *guard = None;
                    return guard;
                }
                Err(Contended::WouldBlock) => {}
            }
        }
        // More callers at once than readers: another read ends in microseconds.
        match self.readers.first() {
            Some(reader) => reader.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("there is at least one reader"),
        }
    }
}

impl Source {
    fn writing(&self) -> Result<Connection, StoreError> {
        let connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE, "synchronous = FULL", 8)?;
        let mode: String = connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(|error| error_of(&error))?;
        if mode != "wal" {
            let path = self.path.display();
            return Err(StoreError::Config(format!("{path}: this file system cannot hold a write-ahead log")));
        }
        connection
            .execute_batch("PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;")
            .map_err(|error| error_of(&error))?;
        Ok(connection)
    }

    fn reading(&self) -> Result<Connection, StoreError> {
        self.open(OpenFlags::SQLITE_OPEN_READ_ONLY, "query_only = ON", 4)
    }

    fn open(&self, access: OpenFlags, setting: &str, cache_mib: u32) -> Result<Connection, StoreError> {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|error| error_of(&error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.busy_timeout(self.busy_timeout).map_err(|error| error_of(&error))?;
        // With this, plans never depend on values: else SQLite drops a plan with a partial index in view at every new
        // value, and prepares the statement again, which takes longer than running it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(|error| error_of(&error))?;
        // No memory map: an I/O error there would be a signal that ends the process instead of an error. Sorting stays
        // in memory, since an image without a writable /tmp is a normal place to run.
        let cache_kib = cache_mib * 1024;
        connection
            .execute_batch(&format!(
                "PRAGMA {setting}; PRAGMA cache_size = -{cache_kib}; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
                 PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
            ))
            .map_err(|error| error_of(&error))?;
        Ok(connection)
    }
}

/// Creates the file before SQLite does, readable for its owner only; SQLite gives its companions the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    open_private(path).map(drop)
}

/// The advisory lock that two servers on one file would share otherwise.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = open_private(Path::new(&name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Config(format!(
            "{}: another server has this database open; several servers need PostgreSQL",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => {
            Err(StoreError::Config(format!("cannot lock {}: {error}", Path::new(&name).display())))
        }
    }
}

fn open_private(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| StoreError::Config(format!("cannot open {}: {error}", path.display())))
}

/// Runs a statement to its end and returns its rows.
fn rows_of(connection: &Connection, sql: &str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(|error| error_of(&error))?;
    let columns = statement.column_count();
    bind(&mut statement, args)?;
    let mut found = statement.raw_query();
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(|error| error_of(&error))? {
        let values = (0..columns).map(|at| column_of(row, at)).collect::<Result<_, _>>()?;
        rows.push(Row::new(values));
    }
    Ok(rows)
}

/// Runs a statement to its end and returns how many rows it changed, or found when it only reads.
fn changes_of(connection: &Connection, sql: &str, args: &[Value]) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(|error| error_of(&error))?;
    let reads = statement.readonly();
    bind(&mut statement, args)?;
    let mut found = statement.raw_query();
    let mut count = 0;
    while found.next().map_err(|error| error_of(&error))?.is_some() {
        count += 1;
    }
    Ok(if reads { count } else { connection.changes() })
}

/// To SQLite `$2` is a name like any other and counts where it first appears, so the number is read out of it.
fn bind(statement: &mut rusqlite::Statement<'_>, args: &[Value]) -> Result<(), StoreError> {
    let mut wanted = 0;
    for at in 1..=statement.parameter_count() {
        let name = statement.parameter_name(at).unwrap_or("?");
        let number =
            name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()).filter(|number| *number > 0);
        let Some(number) = number else {
            return Err(StoreError::Query(format!("parameter {name} is not a number like $1")));
        };
        wanted = wanted.max(number);
        if let Some(arg) = args.get(number - 1) {
            statement.raw_bind_parameter(at, arg).map_err(|error| error_of(&error))?;
        }
    }
    value::check_count(wanted, args)
}

fn column_of(row: &rusqlite::Row<'_>, at: usize) -> Result<Value, StoreError> {
    match row.get_ref(at).map_err(|error| error_of(&error))? {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(int) => Ok(Value::Int(int)),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes)
            .map(Value::from)
            .map_err(|_| StoreError::Corrupt(format!("column {at} is text that is not UTF-8"))),
        ValueRef::Blob(bytes) => Ok(Value::from(bytes)),
        ValueRef::Real(_) => Err(StoreError::Query(format!("column {at} is a floating-point number"))),
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Int(int) => ValueRef::Integer(*int),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Our word for an error of SQLite. Its messages name tables and columns, never values.
fn error_of(error: &rusqlite::Error) -> StoreError {
    let (failure, message) = match error {
        rusqlite::Error::SqliteFailure(failure, message) => (failure, message.clone().unwrap_or_default()),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error, msg.clone()),
        other => return StoreError::Query(other.to_string()),
    };
    let text = if message.is_empty() { failure.to_string() } else { message };
    match failure.extended_code {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            return StoreError::Conflict { constraint: unique_constraint(&text) };
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => return StoreError::foreign_key(),
        _ => {}
    }
    match failure.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Busy(text),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Corrupt(text),
        ErrorCode::CannotOpen
        | ErrorCode::DiskFull
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted
        | ErrorCode::OutOfMemory
        | ErrorCode::PermissionDenied
        | ErrorCode::SystemIoFailure => StoreError::Unavailable(text),
        _ => StoreError::Query(text),
    }
}

/// `UNIQUE constraint failed: t.a, t.b` or `…: index 'name'`.
fn unique_constraint(message: &str) -> String {
    let name = message.rsplit_once("failed: ").map_or(message, |(_, name)| name);
    name.strip_prefix("index '").and_then(|name| name.strip_suffix('\'')).unwrap_or(name).to_owned()
}
