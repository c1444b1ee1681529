//! What only a server can do wrong.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;

/// The condition that a session listens, and says so.
const LISTENING: &str = "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted)";

async fn increment_and_notify(engine: &Engine) {
    let mut tx = engine.begin().await.unwrap();
    tx.execute("UPDATE counters SET count = count + 1", NO_ARGS).await.unwrap();
    tx.commit(true).await.unwrap();
}

/// How many sessions of this database, but the one that asks, `condition` holds for.
async fn sessions(engine: &Engine, condition: &str) -> i64 {
    let sql = format!(
        "SELECT COUNT(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}"
    );
    engine.query(&sql, NO_ARGS).await.unwrap()[0].int(0).unwrap()
}

/// Ends all sessions of this database but the one that asks.
async fn terminate_all(engine: &Engine) {
    let sql = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    engine.query(sql, NO_ARGS).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_on_one_node_wakes_another_also_after_its_sessions_were_ended() {
    let db = Db::postgres().await;
    let (writer, watcher) = (db.with_counter().await, db.open().await);
    let mut changes = watcher.changes();
    for round in 0..2 {
        eventually("the watcher listens", async || sessions(&writer, LISTENING).await == 1).await;
        // Takes the report that comes with the start of listening.
        changes.next(Duration::from_millis(200)).await;
        let waits = timeout(Duration::from_secs(10), changes.next(Duration::from_secs(60)));
        let (woken, ()) = tokio::join!(waits, async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            increment_and_notify(&writer).await;
        });
        woken.expect("woken by the other node");
        assert_eq!(count(&watcher).await, round + 1);
        terminate_all(&writer).await;
    }
    // What was committed while nobody listened is reported when listening starts again.
    timeout(Duration::from_secs(10), changes.next(Duration::from_secs(60))).await.expect("listening again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_asks_the_other_nodes_waits_until_each_has_answered() {
    const FOR_EVER: Duration = Duration::from_secs(3600);
    let db = Db::postgres().await;
    let (one, two, three) = (db.open().await, db.open().await, db.open().await);
    let engines = [&one, &two, &three];
    let mut questions = engines.map(Engine::questions);
    // From now on they listen.
    let _changes = engines.map(Engine::changes);
    eventually("all listen", async || sessions(&one, LISTENING).await == 3).await;

    let unanswered = one.ask_others(Duration::from_millis(50)).await;
    assert_eq!(unanswered, Ok(2), "nobody has answered");
    let [own, second, third] = &mut questions;
    let asking = async { timeout(Duration::from_secs(30), one.ask_others(FOR_EVER)).await };
    let answering = async |heard: &mut Questions| {
        // The one of before first: an answer to it counts for no other.
        for _ in 0..2 {
            heard.next().await.answer().await.unwrap();
        }
    };
    let (asked, (), ()) = tokio::join!(asking, answering(second), answering(third));
    assert_eq!(asked, Ok(Ok(0)), "both have answered");
    assert!(timeout(Duration::from_millis(200), own.next()).await.is_err(), "a node asks nothing of itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_ended_session_costs_at_most_the_statement_that_used_it() {
    let db = Db::postgres().await;
    let (engine, other) = (db.with_counter().await, db.open().await);
    let mut tx = engine.begin().await.unwrap();
    tx.execute("UPDATE counters SET count = 1", NO_ARGS).await.unwrap();
    terminate_all(&other).await;
    let lost = tx.commit(false).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    eventually("the pool has noticed", async || set_count(&engine, 2).await.is_ok()).await;
    assert_eq!(count(&engine).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_became_read_only_is_replaced() {
    let mut db = Db::postgres().await;
    db.options.pool_size = 1;
    let engine = db.with_counter().await;
    let mut tx = engine.begin().await.unwrap();
    tx.script("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").await.unwrap();
    tx.commit(false).await.unwrap();
    let refused = set_count(&engine, 1).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    set_count(&engine, 2).await.expect("a new session takes writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_statement_given_up_is_ended_on_the_server_too() {
    let mut db = Db::postgres().await;
    db.options.statement_timeout = Duration::from_secs(60);
    let engine = db.with_counter().await;
    let sleeping = "state = 'active' AND query LIKE '%pg_sleep%'";
    let mut tx = engine.begin().await.unwrap();
    tx.execute("UPDATE counters SET count = 1", NO_ARGS).await.unwrap();
    let slow = tx.query("SELECT CAST(pg_sleep(30) AS TEXT)", NO_ARGS);
    assert!(timeout(Duration::from_millis(200), slow).await.is_err());
    assert_eq!(sessions(&engine, sleeping).await, 1);
    drop(tx);
    let alone = engine.query("SELECT CAST(pg_sleep(31) AS TEXT)", NO_ARGS);
    assert!(timeout(Duration::from_millis(200), alone).await.is_err());
    eventually("nothing sleeps on", async || sessions(&engine, sleeping).await == 0).await;
    timeout(Duration::from_secs(5), set_count(&engine, 2)).await.expect("the row is free").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_statement_that_takes_too_long_is_busy() {
    let mut db = Db::postgres().await;
    db.options.statement_timeout = Duration::from_millis(200);
    let engine = db.with_counter().await;
    let mut holder = engine.begin().await.unwrap();
    holder.execute("UPDATE counters SET count = 1", NO_ARGS).await.unwrap();
    let waited = set_count(&engine, 2).await;
    assert!(matches!(waited, Err(StoreError::Busy(_))), "{waited:?}");
    holder.commit(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_transactions_in_each_others_way_one_is_busy() {
    let db = Db::postgres().await;
    let engine = db.with_counter().await;
    let mut tx = engine.begin().await.unwrap();
    tx.execute("INSERT INTO counters VALUES ('b', 0)", NO_ARGS).await.unwrap();
    tx.commit(false).await.unwrap();
    let [mut one, mut two] = [engine.begin().await.unwrap(), engine.begin().await.unwrap()];
    let update = "UPDATE counters SET count = 1 WHERE name = $1";
    one.execute(update, &["a".into()]).await.unwrap();
    two.execute(update, &["b".into()]).await.unwrap();
    let (b, a) = ([Value::from("b")], [Value::from("a")]);
    let outcomes: [_; 2] = tokio::join!(async { (one.execute(update, &b).await, drop(one)).0 }, async {
        (two.execute(update, &a).await, drop(two)).0
    })
    .into();
    assert_eq!(
        outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Busy(_)))).count(),
        1,
        "{outcomes:?}"
    );
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_parameter_of_another_type_is_told_with_its_remedy() {
    let db = Db::postgres().await;
    let engine = db.with_counter().await;
    for (sql, args, part) in [
        ("SELECT substr('abc', $1)", vec![Value::from(2)], "$1 is inferred as int4"),
        ("SELECT name FROM counters WHERE name = $1", vec![Value::from(2)], "CAST($1 AS BIGINT)"),
        ("SELECT SUM(count) FROM counters", vec![], "numeric"),
        ("SELECT 1", vec![Value::from(1)], "0 parameters, 1 values"),
    ] {
        let told = engine.query(sql, &args).await;
        assert!(matches!(&told, Err(StoreError::Query(text)) if text.contains(part)), "{told:?}");
    }
    assert_eq!(count(&engine).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_all_connections_are_in_use_the_wait_ends() {
    let mut db = Db::postgres().await;
    db.options.pool_size = 1;
    db.options.statement_timeout = Duration::from_millis(300);
    let engine = db.with_counter().await;
    let holder = engine.begin().await.unwrap();
    let waited = engine.query("SELECT 1", NO_ARGS).await;
    assert!(matches!(waited, Err(StoreError::Unavailable(_))), "{waited:?}");
    drop(holder);
    eventually("the connection is back", async || engine.query("SELECT 1", NO_ARGS).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_past_its_age_is_replaced() {
    let mut db = Db::postgres().await;
    db.options.pool_size = 1;
    db.options.max_connection_age = Duration::from_millis(100);
    let engine = db.open().await;
    let who =
        async || engine.query("SELECT CAST(pg_backend_pid() AS BIGINT)", NO_ARGS).await.unwrap()[0].int(0).unwrap();
    let first = who().await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_ne!(who().await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_unreachable_host_is_passed_over_and_a_wrong_name_is_a_setting() {
    let mut db = Db::postgres().await;
    let good = db.postgres_url().to_owned();
    let (front, back) = good.split_once('@').unwrap();
    let user = front.split_once("://").unwrap().1;

    // Port 9 (discard) is closed on a test machine.
    db.options.url = format!("postgres://{user}@127.0.0.1:9,{back}").parse().unwrap();
    let engine = Engine::open(&db.options).await.unwrap();
    engine.query("SELECT 1", NO_ARGS).await.unwrap();
    engine.close().await;

    db.options.url = format!("postgres://{user}@127.0.0.1:9/keyward").parse().unwrap();
    let started = Instant::now();
    let refused = Engine::open(&db.options).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(5));

    let host = back.split('/').next().unwrap();
    db.options.url = format!("postgres://{user}@{host}/no_such_database").parse().unwrap();
    let unknown = Engine::open(&db.options).await.map(drop);
    assert!(matches!(&unknown, Err(StoreError::Config(text)) if text.contains("no_such_database")), "{unknown:?}");

    // The server of the tests offers no TLS.
    db.options.url = format!("postgres://{user}@{back}?sslmode=require").parse().unwrap();
    let plain = Engine::open(&db.options).await.map(drop);
    assert!(matches!(plain, Err(StoreError::Unavailable(_))), "{plain:?}");
}
