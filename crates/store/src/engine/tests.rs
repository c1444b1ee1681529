//! The promises of the seam, held against a real file and, when `KEYWARD_TEST_POSTGRES_URL` names a server whose user
//! may create databases, against a real PostgreSQL.

mod both;
mod migrations;
mod postgres;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_postgres::NoTls;

use super::{DatabaseUrl, Engine, Options, Value};
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
                if let Some(db) = Db::postgres().await {
                    scenario(&db).await;
                    db.drop_database().await;
                }
            }
        }
    )+ };
}
pub(super) use on_both;

/// A database for one test, and the options that open it.
pub(super) struct Db {
    pub(super) options: Options,
    directory: Option<PathBuf>,
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
        Self { options, directory: Some(directory) }
    }

    /// `None`, with a word about it, when no server is given.
    #[expect(clippy::print_stderr, reason = "whoever reads the output of the tests must see what did not run")]
    pub(super) async fn postgres() -> Option<Self> {
        let Ok(server) = std::env::var("KEYWARD_TEST_POSTGRES_URL") else {
            eprintln!("skipped: KEYWARD_TEST_POSTGRES_URL is not set");
            return None;
        };
        let unique = random_name();
        let name = format!("engine_{unique}");
        admin(&format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        let (head, tail) = server.split_at(server.find("://").unwrap() + 3);
        let (authority, path) = tail.split_once('/').unwrap_or((tail, ""));
        let parameters = path.find('?').map_or("", |at| &path[at..]);
        let url = format!("{head}{authority}/{name}{parameters}").parse().unwrap();
        let mut options = Options::new(url);
        options.pool_size = 12;
        Some(Self { options, directory: None })
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

    pub(super) async fn drop_database(&self) {
        let url = self.options.url.to_string();
        let name = url.rsplit_once('/').unwrap().1.split('?').next().unwrap().to_owned();
        admin(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _left = std::fs::remove_dir_all(directory);
        }
    }
}

/// Runs one statement as the user of the test server.
pub(super) async fn admin(sql: &str) {
    let server = std::env::var("KEYWARD_TEST_POSTGRES_URL").unwrap();
    let (client, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
}

fn random_name() -> String {
    let mut bytes = [0; 8];
    #[expect(clippy::disallowed_methods, reason = "the name of a test database must differ between runs")]
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
