//! The one thread that writes to an SQLite file.
//!
//! 1. The first waiting transaction opens a group: BEGIN IMMEDIATE
//! 2. Each transaction runs inside a SAVEPOINT, one after another; its commit RELEASEs the savepoint
//! 3. When none waits, or the group is full or old enough: COMMIT
//! 4. Only now is every member of the group told that it is durable
//!
//! A transaction joins the queue with its first statement, so that nobody waits for one that has nothing to do yet.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::super::{Row, Value};
use super::{Source, changes_of, error_of, rows_of};
use crate::StoreError;

/// Transactions that may wait for their turn; more are refused at once.
const QUEUE: usize = 1024;
/// Transactions in one COMMIT at most.
const GROUP: usize = 256;
/// How long the first member waits for others to join before the group is committed.
const GROUP_AGE: Duration = Duration::from_millis(5);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// The handle on the thread, which ends on `close`, or when the handle and all transactions are gone.
#[derive(Debug)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
    changes: watch::Sender<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Turn(Turn),
    Stop,
}

/// A transaction that wants its turn, from its first statement on.
struct Turn {
    first: Command,
    more: Receiver<Command>,
}

enum Command {
    Query(Statement, Answer<Vec<Row>>),
    Execute(Statement, Answer<u64>),
    ExecuteEach(String, Vec<Vec<Value>>, Answer<Vec<u64>>),
    Script(String, Answer<()>),
    Commit { notify: bool, done: Answer<()> },
}

struct Statement {
    sql: String,
    args: Vec<Value>,
}

impl Writer {
    /// Starts the thread; it keeps `lock` until its connection is closed.
    pub(super) fn start(
        connection: Connection,
        source: Source,
        lock: Option<File>,
        idle_limit: Duration,
    ) -> Result<Self, StoreError> {
        let (sender, queue) = sync_channel(QUEUE);
        let changes = watch::Sender::new(0);
        let mut work = Work { queue, source, changes: changes.clone(), idle_limit, stopping: false };
        let thread = std::thread::Builder::new()
            .name("keyward-writer".to_owned())
            .spawn(move || {
                work.run(connection);
                drop(lock);
            })
            .map_err(|error| StoreError::Unavailable(format!("no thread for writing: {error}")))?;
        Ok(Self { queue: sender, changes, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn begin(&self) -> SqliteTx {
        SqliteTx { stage: Stage::Waiting(self.queue.clone()) }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Lets the transactions that have begun finish, then ends the thread and waits for it.
    pub(super) async fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let queue = self.queue.clone();
        let stop = move || {
            let _stopped = queue.send(Message::Stop);
            thread.map(JoinHandle::join)
        };
        let _joined = tokio::task::spawn_blocking(stop).await;
    }
}

/// A transaction as its caller sees it. Dropping it hangs up, which rolls it back.
#[derive(Debug)]
pub(in super::super) struct SqliteTx {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Waiting(SyncSender<Message>),
    Running(Sender<Command>),
}

impl SqliteTx {
    pub(in super::super) async fn query(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.ask(|answer| Command::Query(Statement::new(sql, args), answer)).await
    }

    pub(in super::super) async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, StoreError> {
        self.ask(|answer| Command::Execute(Statement::new(sql, args), answer)).await
    }

    pub(in super::super) async fn execute_each(
        &mut self,
        sql: &str,
        rows: &[Vec<Value>],
    ) -> Result<Vec<u64>, StoreError> {
        self.ask(|answer| Command::ExecuteEach(sql.to_owned(), rows.to_vec(), answer)).await
    }

    pub(in super::super) async fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        self.ask(|answer| Command::Script(sql.to_owned(), answer)).await
    }

    pub(in super::super) async fn commit(mut self, notify: bool) -> Result<(), StoreError> {
        if matches!(self.stage, Stage::Waiting(_)) {
            return Ok(());
        }
        self.ask(|done| Command::Commit { notify, done }).await
    }

    async fn ask<T>(&mut self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer))?;
        answered.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the writer stopped in the middle".to_owned())))
    }

    fn send(&mut self, command: Command) -> Result<(), StoreError> {
        match &self.stage {
            Stage::Running(thread) => thread.send(command).map_err(|_| {
                StoreError::Unavailable("the transaction was idle for too long and is rolled back".to_owned())
            }),
            Stage::Waiting(queue) => {
                let (sender, more) = channel();
                queue.try_send(Message::Turn(Turn { first: command, more })).map_err(|error| {
                    StoreError::Unavailable(match error {
                        TrySendError::Full(_) => "too many transactions are waiting".to_owned(),
                        TrySendError::Disconnected(_) => "it is closed".to_owned(),
                    })
                })?;
                self.stage = Stage::Running(sender);
                Ok(())
            }
        }
    }
}

impl Statement {
    fn new(sql: &str, args: &[Value]) -> Self {
        Self { sql: sql.to_owned(), args: args.to_vec() }
    }
}

/// What the thread needs.
struct Work {
    queue: Receiver<Message>,
    source: Source,
    changes: watch::Sender<u64>,
    idle_limit: Duration,
    stopping: bool,
}

/// Members of the group that have released their savepoint and wait for the COMMIT.
#[derive(Default)]
struct Group {
    members: Vec<Answer<()>>,
    /// When the first member began to wait.
    since: Option<Instant>,
    notify: bool,
}

/// How one transaction ended.
enum Ended {
    Released {
        notify: bool,
        done: Answer<()>,
    },
    RolledBack,
    /// SQLite gave up the whole group, not only this transaction.
    GroupLost(StoreError),
}

impl Work {
    fn run(&mut self, connection: Connection) {
        let mut connection = Some(connection);
        while !self.stopping
            && let Ok(Message::Turn(turn)) = self.queue.recv()
        {
            let Some(usable) = connection.take().map_or_else(|| self.reopen(), Some) else {
                self.refuse(turn, &StoreError::Unavailable("the file cannot be opened again".to_owned()));
                continue;
            };
            // A panic drops the answers of everyone concerned, who then see that the writer stopped; the connection is
            // given up with it, since nobody knows what it was doing.
            connection =
                catch_unwind(AssertUnwindSafe(|| self.group(&usable, turn))).is_ok_and(|sound| sound).then_some(usable);
        }
    }

    fn reopen(&self) -> Option<Connection> {
        self.source.writing().inspect_err(|error| tracing::error!(%error, "the writer cannot reopen its file")).ok()
    }

    /// Serves one group; `false` when the connection must not be used again.
    fn group(&mut self, connection: &Connection, first: Turn) -> bool {
        if let Err(error) = run(connection, "BEGIN IMMEDIATE") {
            self.refuse(first, &error);
            return connection.is_autocommit();
        }
        let mut group = Group::default();
        let mut served = 0;
        let mut next = Some(first);
        while let Some(turn) = next {
            match self.serve(connection, turn) {
                Ended::Released { notify, done } => {
                    group.members.push(done);
                    group.since.get_or_insert_with(Instant::now);
                    group.notify |= notify;
                }
                Ended::RolledBack => {}
                Ended::GroupLost(error) => {
                    group.fail(&error);
                    return connection.is_autocommit();
                }
            }
            served += 1;
            let full = served >= GROUP || group.since.is_some_and(|since| since.elapsed() >= GROUP_AGE);
            next = if full { None } else { self.waiting() };
        }
        self.commit(connection, group)
    }

    fn waiting(&mut self) -> Option<Turn> {
        match self.queue.try_recv() {
            Ok(Message::Turn(turn)) => Some(turn),
            Ok(Message::Stop) => {
                self.stopping = true;
                None
            }
            Err(_) => None,
        }
    }

    fn commit(&self, connection: &Connection, group: Group) -> bool {
        if let Err(error) = run(connection, "COMMIT") {
            tracing::error!(%error, members = group.members.len(), "a group of transactions could not be committed");
            let rolled_back = connection.is_autocommit() || run(connection, "ROLLBACK").is_ok();
            group.fail(&error);
            return rolled_back;
        }
        for member in group.members {
            let _gone = member.send(Ok(()));
        }
        if group.notify {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
        true
    }

    /// Serves one transaction until its commit, its end by its owner, a failed statement, or the idle limit.
    fn serve(&self, connection: &Connection, turn: Turn) -> Ended {
        if let Err(error) = run(connection, "SAVEPOINT tx") {
            turn.first.fail(error.clone());
            return Ended::GroupLost(error);
        }
        let mut command = turn.first;
        loop {
            if let Command::Commit { notify, done } = command {
                return release(connection, notify, done);
            }
            if !command.run(connection) {
                return undo(connection);
            }
            command = match turn.more.recv_timeout(self.idle_limit) {
                Ok(command) => command,
                Err(RecvTimeoutError::Disconnected) => return undo(connection),
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!("a transaction was idle for too long and is rolled back");
                    return undo(connection);
                }
            };
        }
    }

    /// Refuses a transaction, and all that wait behind it: they would wait as long again for the same refusal.
    fn refuse(&mut self, turn: Turn, error: &StoreError) {
        let mut refused = vec![turn];
        // All are collected before any is told: whoever tries again at once is not one of them.
        while let Some(waiting) = self.waiting() {
            refused.push(waiting);
        }
        for turn in refused {
            turn.first.fail(error.clone());
        }
    }
}

impl Group {
    fn fail(self, error: &StoreError) {
        let error = StoreError::Unavailable(format!("the commit failed: {error}"));
        for member in self.members {
            let _gone = member.send(Err(error.clone()));
        }
    }
}

fn release(connection: &Connection, notify: bool, done: Answer<()>) -> Ended {
    // Whoever no longer waits for the answer counts as having dropped the transaction.
    if done.is_closed() {
        return undo(connection);
    }
    match run(connection, "RELEASE tx") {
        Ok(()) => Ended::Released { notify, done },
        Err(error) => {
            let _gone = done.send(Err(error));
            undo(connection)
        }
    }
}

fn undo(connection: &Connection) -> Ended {
    // Out of space and I/O errors make SQLite roll back everything, also what other members of the group did.
    if connection.is_autocommit() {
        return Ended::GroupLost(StoreError::Unavailable("another transaction met a fault of the disk".to_owned()));
    }
    match run(connection, "ROLLBACK TO tx").and_then(|()| run(connection, "RELEASE tx")) {
        Ok(()) => Ended::RolledBack,
        Err(error) => {
            let _lost = run(connection, "ROLLBACK");
            Ended::GroupLost(error)
        }
    }
}

fn run(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(|error| error_of(&error))?;
    statement.execute([]).map(drop).map_err(|error| error_of(&error))
}

impl Command {
    /// Runs a statement and answers; whether the transaction may go on. Not for `Commit`.
    fn run(self, connection: &Connection) -> bool {
        match self {
            Self::Query(statement, answer) => reply(answer, || rows_of(connection, &statement.sql, &statement.args)),
            #[cfg(test)]
            Self::Execute(statement, _) if statement.sql == "PANIC" => panic!("a test asked for it"),
            Self::Execute(statement, answer) => {
                reply(answer, || changes_of(connection, &statement.sql, &statement.args))
            }
            Self::ExecuteEach(sql, rows, answer) => {
                reply(answer, || rows.iter().map(|args| changes_of(connection, &sql, args)).collect())
            }
            Self::Script(sql, answer) => {
                reply(answer, || connection.execute_batch(&sql).map_err(|error| error_of(&error)))
            }
            Self::Commit { .. } => false,
        }
    }

    fn fail(self, error: StoreError) {
        match self {
            Self::Query(_, answer) => drop(answer.send(Err(error))),
            Self::Execute(_, answer) => drop(answer.send(Err(error))),
            Self::ExecuteEach(_, _, answer) => drop(answer.send(Err(error))),
            Self::Script(_, answer) | Self::Commit { done: answer, .. } => drop(answer.send(Err(error))),
        }
    }
}

fn reply<T>(answer: Answer<T>, work: impl FnOnce() -> Result<T, StoreError>) -> bool {
    // The owner hung up while waiting: nobody wants the statement any more.
    if answer.is_closed() {
        return false;
    }
    let outcome = work();
    let sound = outcome.is_ok();
    // An answer that nobody takes means that the owner dropped the future of this statement.
    answer.send(outcome).is_ok() && sound
}
