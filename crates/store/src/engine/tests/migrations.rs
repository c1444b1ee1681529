//! Bringing the schema up to date.

use super::super::Migration;
use super::*;

const STEPS: &[Migration] = &[
    Migration {
        version: 1,
        name: "things",
        sql: "CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT NOT NULL, b {{BLOB}}) {{STRICT}};
              CREATE INDEX things_by_n ON things (n);",
    },
    Migration { version: 2, name: "first thing", sql: "INSERT INTO things (id, n) VALUES ('one', 1);" },
    Migration { version: 3, name: "owners", sql: "ALTER TABLE things ADD COLUMN owner TEXT;" },
];

async fn ledger(engine: &Engine) -> Vec<(i64, String)> {
    let rows = engine.query("SELECT version, name FROM schema_migrations ORDER BY version", NO_ARGS).await.unwrap();
    rows.iter().map(|row| (row.int(0).unwrap(), row.text(1).unwrap())).collect()
}

fn message(outcome: Result<u32, StoreError>) -> String {
    match outcome {
        Err(StoreError::Migration(message)) => message,
        other => panic!("{other:?}"),
    }
}

on_both! {
    async fn each_step_is_applied_once(db: &Db) {
        let engine = db.open().await;
        assert_eq!(engine.migrate(&STEPS[..1]).await.unwrap(), 1);
        assert_eq!(engine.migrate(STEPS).await.unwrap(), 2);
        assert_eq!(engine.migrate(STEPS).await.unwrap(), 0);
        assert_eq!(ledger(&engine).await.len(), 3);
        let rows = engine.query("SELECT n, b, owner FROM things WHERE id = $1", &["one".into()]).await.unwrap();
        assert_eq!(rows[0].int(0).unwrap(), 1);
        let times = engine.query("SELECT applied_at FROM schema_migrations", NO_ARGS).await.unwrap();
        assert!(times.iter().all(|row| row.int(0).unwrap() > 1_700_000_000_000), "milliseconds");
    }

    async fn nodes_that_start_at_once_apply_each_step_once_between_them(db: &Db) {
        let mut nodes = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let engine = db.open().await;
            nodes.spawn(async move { engine.migrate(STEPS).await.unwrap() });
        }
        assert_eq!(nodes.join_all().await.into_iter().sum::<u32>(), 3);
        assert_eq!(ledger(&db.open().await).await.len(), 3);
    }

    async fn a_step_that_fails_leaves_the_last_good_version(db: &Db) {
        let engine = db.open().await;
        let broken = Migration { version: 2, name: "broken", sql: "CREATE TABLE half (id TEXT); SELECT * FROM nowhere;" };
        let told = message(engine.migrate(&[STEPS[0], broken]).await);
        assert!(told.contains("version 2 (broken)") && told.contains("nowhere"), "{told}");
        assert_eq!(ledger(&engine).await, [(1, "things".to_owned())]);
        assert!(engine.query("SELECT * FROM half", NO_ARGS).await.is_err());
        assert_eq!(engine.migrate(STEPS).await.unwrap(), 2);
    }

    async fn a_step_whose_text_changed_after_release_is_told(db: &Db) {
        let engine = db.open().await;
        engine.migrate(STEPS).await.unwrap();
        let mut changed = STEPS.to_vec();
        changed[1].sql = "INSERT INTO things (id, n) VALUES ('one', 2);";
        let told = message(engine.migrate(&changed).await);
        assert!(told.contains("version 2 (first thing)"), "{told}");
    }

    async fn a_database_newer_than_the_program_is_told(db: &Db) {
        let engine = db.open().await;
        engine.migrate(STEPS).await.unwrap();
        let told = message(engine.migrate(&STEPS[..2]).await);
        assert!(told.contains("version 3 (owners)") && told.contains("newer"), "{told}");
    }
}

#[tokio::test]
async fn a_list_with_a_gap_or_a_deferred_check_is_refused() {
    let db = Db::sqlite();
    let engine = db.open().await;
    assert!(message(engine.migrate(&[STEPS[0], STEPS[2]]).await).contains("version 3"));
    let deferred = Migration {
        version: 1,
        name: "deferred",
        sql: "CREATE TABLE t (id TEXT REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)",
    };
    assert!(message(engine.migrate(&[deferred]).await).contains("DEFERRABLE"));
}
