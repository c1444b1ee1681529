//! The promises of the seam, held against a real file and against a real PostgreSQL.

mod both;
mod migrations;
mod postgres;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keyward_tests::postgres::TestDatabase;

use super::{DatabaseUrl, Engine, Options, Questions, Value};
use crate::StoreError;

/// One test for each engine; the body gets a fresh, empty database.
macro_rules! on_both {
    ($(async fn $name:ident($db:ident: &Db) $body:block)+) => { $(
        mod $name {
            use super::*;

            async fn scenario($db: &Db) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn sqlite() {
                scenario(&Db::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn postgres() {
                scenario(&Db::postgres().await).await;
            }
        }
    )+ };
}
pub(super) use on_both;

/// A database for one test, and the options that open it.
pub(super) struct Db {
    pub(super) options: Options,
    directory: Option<PathBuf>,
    /// Dropped from the server with the value.
    database: Option<TestDatabase>,
}

impl Db {
    pub(super) fn sqlite() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("keyward-engine-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut options = Options::new(DatabaseUrl::sqlite(directory.join("test.db")));
        // Several engines stand for several processes.
        options.exclusive = false;
        Self { options, directory: Some(directory), database: None }
    }

    pub(super) async fn postgres() -> Self {
        let database = keyward_tests::postgres::database().await;
        let mut options = Options::new(database.url().parse().unwrap());
        options.pool_size = 12;
        Self { options, directory: None, database: Some(database) }
    }

    /// With its password, which `options.url` hides.
    pub(super) fn postgres_url(&self) -> &str {
        self.database.as_ref().unwrap().url()
    }

    pub(super) async fn open(&self) -> Engine {
        Engine::open(&self.options).await.unwrap()
    }

    /// An engine on a database that has `counters(name, count)` with one row, `a` at 0.
    pub(super) async fn with_counter(&self) -> Engine {
        let engine = self.open().await;
        let mut tx = engine.begin().await.unwrap();
        tx.script("CREATE TABLE counters (name TEXT PRIMARY KEY, count BIGINT NOT NULL)").await.unwrap();
        tx.execute("INSERT INTO counters (name, count) VALUES ($1, $2)", &["a".into(), 0.into()]).await.unwrap();
        tx.commit(false).await.unwrap();
        engine
    }

    pub(super) fn path(&self) -> &Path {
        self.options.url.sqlite_path().unwrap()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _left = std::fs::remove_dir_all(directory);
        }
    }
}

pub(super) async fn count(engine: &Engine) -> i64 {
    engine.query("SELECT count FROM counters WHERE name = 'a'", &[]).await.unwrap()[0].int(0).unwrap()
}

pub(super) async fn set_count(engine: &Engine, to: i64) -> Result<(), StoreError> {
    let mut tx = engine.begin().await?;
    tx.execute("UPDATE counters SET count = $1 WHERE name = 'a'", &[to.into()]).await?;
    tx.commit(false).await
}

/// Waits until `check` holds, at most ten seconds.
pub(super) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never happened: {what}");
}

pub(super) const NO_ARGS: &[Value] = &[];
