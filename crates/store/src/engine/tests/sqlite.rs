//! What only a file can do wrong.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn raw(db: &Db) -> rusqlite::Connection {
    rusqlite::Connection::open(db.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_is_told_of_a_commit_finds_it_in_the_file() {
    let db = Db::sqlite();
    let engine = db.with_counter().await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..32i64 {
        let (engine, other_process) = (engine.clone(), raw(&db));
        tasks.spawn(async move {
            for turn in 0..20i64 {
                let name = format!("{task}-{turn}");
                let mut tx = engine.begin().await.unwrap();
                tx.execute("INSERT INTO counters VALUES ($1, 1)", &[Value::from(&name)]).await.unwrap();
                tx.commit(false).await.unwrap();
                let sql = "SELECT COUNT(*) FROM counters WHERE name = ?1";
                let found: i64 = other_process.query_row(sql, [&name], |row| row.get(0)).unwrap();
                assert_eq!(found, 1, "{name} was acknowledged before its COMMIT");
            }
        });
    }
    tasks.join_all().await;
}

/// Two transactions in one group: the second is already waiting when the first commits.
async fn two_in_one_group(engine: &Engine, first: &str, second: &'static str) -> [Result<(), StoreError>; 2] {
    let mut one = engine.begin().await.unwrap();
    one.execute(first, NO_ARGS).await.unwrap();
    let two = tokio::spawn({
        let engine = engine.clone();
        async move {
            let mut tx = engine.begin().await.unwrap();
            tx.execute(second, NO_ARGS).await?;
            tx.commit(false).await
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let first = one.commit(false).await;
    [first, two.await.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_fails_is_told_to_everyone_in_its_group() {
    let db = Db::sqlite();
    let engine = db.with_counter().await;
    let mut tx = engine.begin().await.unwrap();
    // Migrations may not have such a constraint; it is the one way to make a COMMIT fail at will.
    tx.script("CREATE TABLE late (id TEXT REFERENCES counters (name) DEFERRABLE INITIALLY DEFERRED)").await.unwrap();
    tx.commit(false).await.unwrap();

    let good = "UPDATE counters SET count = 8 WHERE name = 'a'";
    let told = two_in_one_group(&engine, good, "INSERT INTO late VALUES ('nobody')").await;
    assert!(told.iter().all(|outcome| matches!(outcome, Err(StoreError::Unavailable(_)))), "{told:?}");
    assert_eq!(count(&engine).await, 0, "what was refused was not done");

    let told = two_in_one_group(&engine, good, "INSERT INTO counters VALUES ('b', 1)").await;
    assert_eq!(told, [Ok(()), Ok(())]);
    assert_eq!(count(&engine).await, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_fails_the_writer_and_nothing_acknowledged_is_lost() {
    let db = Db::sqlite();
    let engine = db.with_counter().await;
    let mut tx = engine.begin().await.unwrap();
    tx.query("PRAGMA max_page_count = 20", NO_ARGS).await.unwrap();
    tx.commit(false).await.unwrap();
    let [first, second] = two_in_one_group(
        &engine,
        "UPDATE counters SET count = 8 WHERE name = 'a'",
        "INSERT INTO counters VALUES (hex(randomblob(500000)), 1)",
    )
    .await;
    assert!(matches!(second, Err(StoreError::Unavailable(_))), "{second:?}");
    assert_eq!(first.is_ok(), count(&engine).await == 8, "{first:?}");
    set_count(&engine, 9).await.expect("small changes still fit");
    assert_eq!(count(&engine).await, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_panic_of_the_writer_is_survived() {
    let db = Db::sqlite();
    let engine = db.with_counter().await;
    let mut tx = engine.begin().await.unwrap();
    tx.execute("UPDATE counters SET count = 1", NO_ARGS).await.unwrap();
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move { set_count(&engine, 5).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let panicked = tx.execute("PANIC", NO_ARGS).await;
    assert!(matches!(panicked, Err(StoreError::Unavailable(_))), "{panicked:?}");
    timeout(Duration::from_secs(5), waiting).await.expect("nobody hangs").unwrap().unwrap();
    assert_eq!(count(&engine).await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn too_many_waiting_transactions_are_refused_at_once() {
    let db = Db::sqlite();
    let engine = db.with_counter().await;
    let mut holder = engine.begin().await.unwrap();
    holder.execute("UPDATE counters SET count = 1", NO_ARGS).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..1100 {
        let engine = engine.clone();
        waiting.spawn(async move { set_count(&engine, 2).await });
    }
    // While the holder keeps its turn, only the refused ones come back.
    let refused = timeout(Duration::from_secs(3), waiting.join_next()).await.expect("refused at once");
    assert!(matches!(refused, Some(Ok(Err(StoreError::Unavailable(_))))), "{refused:?}");
    holder.commit(false).await.unwrap();
    let outcomes = waiting.join_all().await;
    assert!(outcomes.iter().filter(|outcome| outcome.is_ok()).count() >= 1024);
    assert_eq!(count(&engine).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_locked_by_another_process_is_busy_and_then_usable_again() {
    let mut db = Db::sqlite();
    db.options.statement_timeout = Duration::from_millis(200);
    let engine = db.with_counter().await;
    let other_process = raw(&db);
    other_process.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = set_count(&engine, 1).await;
    assert!(matches!(busy, Err(StoreError::Busy(_))), "{busy:?}");
    assert_eq!(count(&engine).await, 0, "reading goes on");
    other_process.execute_batch("ROLLBACK").unwrap();
    set_count(&engine, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_server_on_the_file_is_refused_and_a_tool_is_not() {
    let mut db = Db::sqlite();
    db.options.exclusive = true;
    let server = db.with_counter().await;
    let refused = Engine::open(&db.options).await.map(drop);
    assert!(matches!(&refused, Err(StoreError::Config(text)) if text.contains("another server")), "{refused:?}");
    let mut beside = db.options.clone();
    beside.exclusive = false;
    let tool = Engine::open(&beside).await.unwrap();
    set_count(&tool, 3).await.unwrap();
    assert_eq!(count(&server).await, 3);
    tool.close().await;
    server.close().await;
    db.open().await.close().await;

    // Also without an orderly end.
    drop(db.open().await);
    eventually("the lock is given up", async || Engine::open(&db.options).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_files_are_for_their_owner_only_and_close_leaves_one() {
    let mut db = Db::sqlite();
    db.options.exclusive = true;
    let engine = db.with_counter().await;
    assert_eq!(count(&engine).await, 0);
    let directory = db.path().parent().unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
        seen += 1;
    }
    assert_eq!(seen, 4, "database, log, index of the log, lock");
    engine.close().await;
    assert!(!db.path().with_extension("db-wal").exists(), "the log is folded into the file");
    assert_eq!(count(&db.open().await).await, 0);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_told() {
    let mut db = Db::sqlite();
    std::fs::write(db.path(), "this is not a database, it only has the name of one").unwrap();
    let damaged = Engine::open(&db.options).await.map(drop);
    assert!(matches!(damaged, Err(StoreError::Corrupt(_))), "{damaged:?}");
    db.options.url = DatabaseUrl::sqlite(db.path().with_file_name("nowhere").join("test.db"));
    let missing = Engine::open(&db.options).await.map(drop);
    assert!(matches!(&missing, Err(StoreError::Config(text)) if text.contains("nowhere")), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_readers_at_once_than_connections_all_get_their_answer() {
    let mut db = Db::sqlite();
    db.options.readers = 1;
    let engine = db.with_counter().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let engine = engine.clone();
        tasks.spawn(async move {
            for _ in 0..200 {
                assert_eq!(count(&engine).await, 0);
            }
        });
    }
    tasks.join_all().await;
}
