//! What holds on every engine alike.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;

on_both! {
    async fn a_committed_change_is_there_after_a_new_start(db: &Db) {
        let engine = db.with_counter().await;
        set_count(&engine, 7).await.unwrap();
        assert_eq!(count(&engine).await, 7);
        engine.close().await;
        assert_eq!(count(&db.open().await).await, 7);
    }

    async fn a_dropped_transaction_leaves_nothing_behind(db: &Db) {
        let engine = db.with_counter().await;
        let mut tx = engine.begin().await.unwrap();
        assert_eq!(tx.execute("UPDATE counters SET count = 1", NO_ARGS).await.unwrap(), 1);
        assert_eq!(tx.query("SELECT count FROM counters", NO_ARGS).await.unwrap()[0].int(0).unwrap(), 1);
        assert_eq!(count(&engine).await, 0, "not committed, not visible to others");
        drop(tx);
        let mut next = engine.begin().await.unwrap();
        assert_eq!(next.query("SELECT count FROM counters", NO_ARGS).await.unwrap()[0].int(0).unwrap(), 0);
        drop(next);
        set_count(&engine, 2).await.unwrap();
        assert_eq!(count(&engine).await, 2);
    }

    async fn one_statement_for_many_rows_tells_for_each_what_it_changed(db: &Db) {
        let engine = db.with_counter().await;
        let mut tx = engine.begin().await.unwrap();
        let add = "UPDATE counters SET count = count + $1 WHERE name = $2";
        let row = |by: i64, name: &str| vec![by.into(), name.into()];
        let rows = [row(3, "a"), row(5, "nobody"), row(4, "a")];
        assert_eq!(tx.execute_each(add, &rows).await.unwrap(), [1, 0, 1]);
        assert_eq!(tx.execute_each(add, &[]).await.unwrap(), [0_u64; 0]);
        tx.commit(false).await.unwrap();
        assert_eq!(count(&engine).await, 7);

        let mut tx = engine.begin().await.unwrap();
        let rows = [row(1, "a"), vec![1i64.into()], row(1, "a")];
        assert!(tx.execute_each(add, &rows).await.is_err(), "a row without all values");
        assert!(tx.commit(false).await.is_err(), "half of the rows must not be committed");
        assert_eq!(count(&engine).await, 7);
    }

    async fn a_statement_given_up_in_the_middle_is_not_done_and_blocks_nobody(db: &Db) {
        let engine = db.with_counter().await;
        let mut holder = engine.begin().await.unwrap();
        holder.execute("UPDATE counters SET count = 1 WHERE name = 'a'", NO_ARGS).await.unwrap();

        // Waits for the holder, and is given up.
        assert!(timeout(Duration::from_millis(100), set_count(&engine, 99)).await.is_err());
        // The same with a transaction that outlives its statement: it must not be committed half done.
        let mut patient = engine.begin().await.unwrap();
        let waits = patient.execute("UPDATE counters SET count = 98 WHERE name = 'a'", NO_ARGS);
        assert!(timeout(Duration::from_millis(100), waits).await.is_err());
        assert!(matches!(patient.query("SELECT 1", NO_ARGS).await, Err(StoreError::Query(_))));
        assert!(matches!(patient.commit(false).await, Err(StoreError::Query(_))));

        holder.commit(false).await.unwrap();
        assert_eq!(count(&engine).await, 1);
        timeout(Duration::from_secs(2), set_count(&engine, 2)).await.expect("nobody holds the row").unwrap();
        assert_eq!(count(&engine).await, 2);
    }

    async fn of_ten_racers_for_one_conditional_update_exactly_one_wins(db: &Db) {
        let engine = db.with_counter().await;
        let mut racers = tokio::task::JoinSet::new();
        for racer in 1..=10i64 {
            let engine = engine.clone();
            racers.spawn(async move {
                let mut tx = engine.begin().await.unwrap();
                let sql = "UPDATE counters SET count = $1 WHERE name = 'a' AND count = 0 RETURNING count";
                let won = tx.query(sql, &[racer.into()]).await.unwrap();
                tx.commit(false).await.unwrap();
                won.first().map(|row| row.int(0).unwrap())
            });
        }
        let winners: Vec<i64> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners, [count(&engine).await]);
    }

    async fn no_increment_of_many_at_once_is_lost(db: &Db) {
        let engine = db.with_counter().await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let engine = engine.clone();
            tasks.spawn(async move {
                for _ in 0..25 {
                    let mut tx = engine.begin().await.unwrap();
                    tx.execute("UPDATE counters SET count = count + 1 WHERE name = 'a'", NO_ARGS).await.unwrap();
                    tx.commit(false).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(count(&engine).await, 200);
    }

    async fn a_failed_statement_ends_its_own_transaction_only(db: &Db) {
        let engine = db.with_counter().await;
        let mut broken = engine.begin().await.unwrap();
        broken.execute("UPDATE counters SET count = 5 WHERE name = 'a'", NO_ARGS).await.unwrap();
        let neighbour = tokio::spawn({
            let engine = engine.clone();
            async move {
                let mut tx = engine.begin().await.unwrap();
                tx.execute("INSERT INTO counters VALUES ('b', 1)", NO_ARGS).await.unwrap();
                tx.commit(false).await
            }
        });
        let error = broken.execute("INSERT INTO nowhere VALUES (1)", NO_ARGS).await.unwrap_err();
        assert!(matches!(&error, StoreError::Query(text) if text.contains("nowhere")), "{error}");
        assert!(matches!(broken.execute("UPDATE counters SET count = 6", NO_ARGS).await, Err(StoreError::Query(_))));
        assert!(matches!(broken.commit(true).await, Err(StoreError::Query(_))));
        neighbour.await.unwrap().unwrap();
        let rows = engine.query("SELECT name, count FROM counters ORDER BY name", NO_ARGS).await.unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.text(0).unwrap(), row.int(1).unwrap())).collect();
        assert_eq!(found, [("a".to_owned(), 0), ("b".to_owned(), 1)]);
    }

    async fn an_idle_transaction_is_ended_so_that_others_proceed(db: &Db) {
        let mut options = db.options.clone();
        options.idle_limit = Duration::from_millis(300);
        db.with_counter().await.close().await;
        let engine = Engine::open(&options).await.unwrap();
        let mut idle = engine.begin().await.unwrap();
        idle.execute("UPDATE counters SET count = 1 WHERE name = 'a'", NO_ARGS).await.unwrap();
        let mut idle_too = engine.begin().await.unwrap();
        let waits = idle_too.execute("UPDATE counters SET count = 2 WHERE name = 'a'", NO_ARGS);
        timeout(Duration::from_secs(3), waits).await.expect("the idle one is ended").unwrap();
        timeout(Duration::from_secs(3), set_count(&engine, 3)).await.expect("and the next").unwrap();
        assert!(matches!(idle.query("SELECT 1", NO_ARGS).await, Err(StoreError::Unavailable(_))));
        assert!(idle.commit(false).await.is_err());
        assert!(matches!(idle_too.commit(false).await, Err(StoreError::Unavailable(_))));
        assert_eq!(count(&engine).await, 3);
    }

    async fn a_conflict_has_the_same_name_on_every_engine(db: &Db) {
        let engine = db.open().await;
        let mut tx = engine.begin().await.unwrap();
        tx.script(
            "CREATE TABLE parents (id TEXT PRIMARY KEY, a TEXT, b TEXT, name TEXT, \"order\" BIGINT UNIQUE, gone BIGINT,
                UNIQUE (a, b));
             CREATE UNIQUE INDEX parents_by_name ON parents (lower(name));
             CREATE UNIQUE INDEX parents_living ON parents (name) WHERE gone IS NULL;
             CREATE TABLE children (id TEXT PRIMARY KEY, parent TEXT NOT NULL REFERENCES parents (id));
             INSERT INTO parents VALUES ('p', 'x', 'y', 'Name', 1, NULL);
             INSERT INTO children VALUES ('c', 'p');",
        ).await.unwrap();
        tx.commit(false).await.unwrap();

        for (sql, constraint) in [
            ("INSERT INTO parents (id) VALUES ('p')", "parents.id"),
            ("INSERT INTO parents (id, a, b) VALUES ('q', 'x', 'y')", "parents.a, parents.b"),
            ("INSERT INTO parents (id, \"order\") VALUES ('q', 1)", "parents.order"),
            ("INSERT INTO parents (id, name) VALUES ('q', 'NAME')", "parents_by_name"),
            ("INSERT INTO children VALUES ('d', 'nobody')", StoreError::FOREIGN_KEY),
            ("DELETE FROM parents", StoreError::FOREIGN_KEY),
        ] {
            let mut tx = engine.begin().await.unwrap();
            let error = tx.execute(sql, NO_ARGS).await.unwrap_err();
            assert!(error.is_conflict_on(constraint), "{sql}: {error:?}");
        }
        let mut tx = engine.begin().await.unwrap();
        tx.script("DROP INDEX parents_by_name").await.unwrap();
        let error = tx.execute("INSERT INTO parents (id, name) VALUES ('q', 'Name')", NO_ARGS).await.unwrap_err();
        assert!(error.is_conflict_on("parents.name"), "{error:?}");
    }

    async fn values_come_back_as_they_went_in(db: &Db) {
        let engine = db.open().await;
        let mut tx = engine.begin().await.unwrap();
        let blob = if engine.name() == "sqlite" { "BLOB" } else { "BYTEA" };
        tx.script(&format!("CREATE TABLE things (id BIGINT, t TEXT, n BIGINT, b {blob})")).await.unwrap();
        let insert = "INSERT INTO things VALUES ($1, $2, $3, $4)";
        for (id, values) in [
            (1i64, [Value::from("čaj ☕ 'quoted' $1"), i64::MIN.into(), Value::from(&[0u8, 255, 7])]),
            (2, [Value::from(""), i64::MAX.into(), Value::from(Vec::new())]),
            (3, [Value::Null, Value::Null, Value::Null]),
        ] {
            let [t, n, b] = values;
            assert_eq!(tx.execute(insert, &[id.into(), t, n, b]).await.unwrap(), 1);
        }
        tx.commit(false).await.unwrap();
        let rows = engine.query("SELECT t, n, b FROM things ORDER BY id", NO_ARGS).await.unwrap();
        assert_eq!(rows[0].text(0).unwrap(), "čaj ☕ 'quoted' $1");
        assert_eq!(rows[0].int(1).unwrap(), i64::MIN);
        assert_eq!(rows[0].blob(2).unwrap(), [0, 255, 7]);
        assert_eq!(rows[1].opt_text(0).unwrap().as_deref(), Some(""));
        assert_eq!(rows[1].opt_int(1).unwrap(), Some(i64::MAX));
        assert_eq!(rows[1].opt_blob(2).unwrap(), Some(vec![]));
        assert_eq!(rows[2].opt_text(0).unwrap(), None);
        assert_eq!(rows[2].opt_int(1).unwrap(), None);
        assert_eq!(rows[2].opt_blob(2).unwrap(), None);
        for wrong in [rows[0].int(0).err(), rows[0].text(1).err(), rows[2].text(0).err(), rows[0].text(9).err()] {
            assert!(matches!(wrong, Some(StoreError::Corrupt(_))), "{wrong:?}");
        }
        let truths = engine.query("SELECT EXISTS (SELECT 1 FROM things), COUNT(*) FROM things", NO_ARGS).await.unwrap();
        assert_eq!((truths[0].int(0).unwrap(), truths[0].int(1).unwrap()), (1, 3));
        let found = engine.query("SELECT id FROM things WHERE n = $2 AND t = $1", &["".into(), i64::MAX.into()]).await.unwrap();
        assert_eq!(found.len(), 1);
        let paged = engine.query("SELECT id FROM things WHERE id > $1 ORDER BY id LIMIT $2", &[1.into(), 1.into()]).await.unwrap();
        assert_eq!(paged[0].int(0).unwrap(), 2);
    }

    async fn parameters_count_by_their_number_wherever_they_stand(db: &Db) {
        let engine = db.with_counter().await;
        let sql = "SELECT CAST($2 AS TEXT), CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($10 AS TEXT), CAST($9 AS TEXT)
                   WHERE 'x' IN ($3, $4, $5, $6, $7, $8)";
        let mut args: Vec<Value> = ["a", "b", "x", "x", "x", "x", "x", "x", "i"].map(Value::from).into();
        let short = engine.query(sql, &args).await;
        assert!(matches!(short, Err(StoreError::Query(_))), "{short:?}");
        args.push("j".into());
        let rows = engine.query(sql, &args).await.unwrap();
        let found: String = (0..5).map(|at| rows[0].text(at).unwrap()).collect();
        assert_eq!(found, "babji");
        args.push("k".into());
        let long = engine.query(sql, &args).await;
        assert!(matches!(long, Err(StoreError::Query(_))), "{long:?}");
    }

    async fn an_answer_tells_how_many_rows_changed(db: &Db) {
        let engine = db.with_counter().await;
        let mut tx = engine.begin().await.unwrap();
        let many = "INSERT INTO counters VALUES ('b', 1), ('c', 1), ('d', 2) ON CONFLICT (name) DO NOTHING";
        assert_eq!(tx.execute(many, NO_ARGS).await.unwrap(), 3);
        assert_eq!(tx.execute(many, NO_ARGS).await.unwrap(), 0);
        assert_eq!(tx.execute("UPDATE counters SET count = 9 WHERE count = 1 RETURNING name", NO_ARGS).await.unwrap(), 2);
        assert_eq!(tx.execute("UPDATE counters SET count = 9 WHERE count = 77", NO_ARGS).await.unwrap(), 0);
        assert_eq!(tx.query("DELETE FROM counters WHERE count = 9 RETURNING name", NO_ARGS).await.unwrap().len(), 2);
        assert_eq!(tx.execute("DELETE FROM counters", NO_ARGS).await.unwrap(), 2);
    }

    async fn a_query_outside_a_transaction_cannot_write(db: &Db) {
        let engine = db.with_counter().await;
        let refused = engine.query("UPDATE counters SET count = 1 RETURNING count", NO_ARGS).await;
        assert!(matches!(refused, Err(StoreError::Query(_))), "{refused:?}");
        assert_eq!(count(&engine).await, 0);
    }

    async fn an_error_never_repeats_a_value(db: &Db) {
        let engine = db.open().await;
        let mut tx = engine.begin().await.unwrap();
        tx.script("CREATE TABLE secrets (id TEXT PRIMARY KEY, n BIGINT NOT NULL CHECK (n > 0))").await.unwrap();
        tx.execute("INSERT INTO secrets VALUES ('hunter2', 1)", NO_ARGS).await.unwrap();
        tx.commit(false).await.unwrap();
        let secret = || Value::from("hunter2");
        for (sql, args) in [
            ("INSERT INTO secrets VALUES ($1, 1)", vec![secret()]),
            ("INSERT INTO secrets VALUES ($1, -1)", vec![secret()]),
            ("INSERT INTO secrets VALUES ($1, NULL)", vec![secret()]),
            ("INSERT INTO secrets VALUES ('x', $1)", vec![Value::from("hunter2\0")]),
            ("SELECT nothing FROM secrets WHERE id = $1", vec![secret()]),
            ("SELECT $1", vec![secret(), secret()]),
        ] {
            let mut tx = engine.begin().await.unwrap();
            let error = tx.execute(sql, &args).await.unwrap_err();
            assert!(!format!("{error} {error:?} {args:?}").contains("hunter2"), "{error:?}");
        }
    }

    async fn a_commit_that_notifies_wakes_whoever_waits(db: &Db) {
        let engine = db.with_counter().await;
        let mut changes = engine.changes();
        let mut other = engine.changes();
        // A listener that has just arrived may report once, since it cannot know what it missed.
        changes.next(Duration::from_secs(1)).await;

        let quiet = Instant::now();
        set_count(&engine, 1).await.unwrap();
        changes.next(Duration::from_millis(300)).await;
        assert!(quiet.elapsed() >= Duration::from_millis(300), "a commit without notify wakes nobody");

        let waiting = tokio::spawn(async move {
            changes.next(Duration::from_secs(30)).await;
        });
        let mut tx = engine.begin().await.unwrap();
        tx.execute("UPDATE counters SET count = 2", NO_ARGS).await.unwrap();
        tx.commit(true).await.unwrap();
        timeout(Duration::from_secs(5), waiting).await.expect("woken").unwrap();
        timeout(Duration::from_secs(5), other.next(Duration::from_secs(30))).await.expect("also who comes later");
    }

    async fn a_closed_database_is_unavailable(db: &Db) {
        let engine = db.with_counter().await;
        let mut changes = engine.changes();
        let unused = engine.begin().await.unwrap();
        timeout(Duration::from_secs(8), engine.close()).await.expect("an unused transaction does not hold it up");
        drop(unused);
        let read = engine.query("SELECT 1", NO_ARGS).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        let write = set_count(&engine, 1).await;
        assert!(matches!(write, Err(StoreError::Unavailable(_))), "{write:?}");
        changes.next(Duration::from_millis(10)).await;
        engine.close().await;
    }
}
