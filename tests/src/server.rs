//! A server in this process: the real router behind a real listener, with a clock that a test moves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keyward_model::entropy::Entropy;
use keyward_model::sealing::MasterKey;
use keyward_model::time::Timestamp;
use keyward_server::Server;
use keyward_server::app::{App, Patience, Surroundings};
use keyward_server::clock::Clock;
use keyward_server::config::Config;
use keyward_server::master_key::MasterKeySource;
use keyward_store::{DatabaseUrl, Options, Store};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::postgres::{self, TestDatabase};
use crate::run;

pub use crate::api::{Answer, Api};

/// When every frozen clock begins: 2026-11-23T12:00:00Z.
pub const START: Timestamp = Timestamp::from_seconds(1_795_435_200);

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Db {
    /// A file of its own.
    Sqlite,
    /// A database of its own.
    Postgres,
}

/// Declares tests that run on both databases: `on_both_databases! { async fn name(server: TestServer) { … } }`.
#[macro_export]
macro_rules! on_both_databases {
    ($($(#[$attribute:meta])* async fn $name:ident($server:ident: $server_type:ty) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports, reason = "not every story needs all of its file's imports")]
            use super::*;

            $(#[$attribute])*
            async fn story($server: $server_type) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                story($crate::server::TestServer::start($crate::server::Db::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgresql() {
                story($crate::server::TestServer::start($crate::server::Db::Postgres).await).await;
            }
        }
    )*};
}

/// A running server. Stops with the value.
pub struct TestServer {
    /// What it works with.
    pub app: Arc<App>,
    /// Its clock.
    pub clock: Clock,
    /// A client that follows no redirect.
    pub http: reqwest::Client,
    /// Where its files are.
    pub directory: std::path::PathBuf,
    address: SocketAddr,
    bootstrap: Option<Secrets>,
    database: Database,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<bool>>,
}

/// A `client_id` and its key.
#[derive(Clone)]
pub struct Secrets {
    /// `client_…`
    pub client_id: String,
    /// `kw_…`
    pub client_secret: String,
}

#[derive(Clone)]
enum Database {
    Sqlite,
    Postgres(Arc<TestDatabase>),
}

impl Secrets {
    /// The id of the credential inside the key.
    pub fn credential(&self) -> String {
        let key = keyward_model::key::Key::parse(&self.client_secret).expect("a key");
        key.credential.to_string()
    }
}

impl Database {
    async fn new(db: Db) -> Self {
        match db {
            Db::Sqlite => Self::Sqlite,
            Db::Postgres => Self::Postgres(Arc::new(postgres::database_with_schema().await)),
        }
    }
}

/// The right to write, held by a test.
pub enum Writing {
    /// SQLite has one writer.
    Sqlite(rusqlite::Connection),
    /// Every transaction of the server begins with the end of the log.
    Postgres(tokio_postgres::Client, JoinHandle<Result<(), tokio_postgres::Error>>),
}

impl Writing {
    /// Lets the server write again.
    pub async fn release(self) {
        match self {
            Self::Sqlite(file) => file.execute_batch("ROLLBACK").expect("a transaction is open"),
            Self::Postgres(client, connection) => {
                drop(client);
                drop(connection.await);
            }
        }
    }
}

impl TestServer {
    /// A new server on a new database.
    pub async fn start(db: Db) -> Self {
        Self::start_with(db, |_| {}).await
    }

    /// A new server on a new database, with other settings.
    pub async fn start_with(db: Db, change: impl FnOnce(&mut Config)) -> Self {
        Self::launch(Database::new(db).await, run::subdirectory("server"), Clock::frozen(START), change).await
    }

    /// A new server that does not wait as long as it otherwise would for receivers of notices, with other settings.
    pub async fn start_impatient(db: Db, patience: Patience, change: impl FnOnce(&mut Config)) -> Self {
        let (directory, clock) = (run::subdirectory("server"), Clock::frozen(START));
        Self::launch_impatient(Database::new(db).await, directory, clock, patience, change).await
    }

    /// A new server whose clock is the system's, for clients that wait by their own.
    pub async fn start_in_real_time(db: Db, change: impl FnOnce(&mut Config)) -> Self {
        Self::launch(Database::new(db).await, run::subdirectory("server"), Clock::system(), change).await
    }

    /// A new server on a database that the test has made, with the settings' defaults.
    pub async fn start_on(database: TestDatabase) -> Self {
        let database = Database::Postgres(Arc::new(database));
        Self::launch(database, run::subdirectory("server"), Clock::frozen(START), |_| {}).await
    }

    /// A new server that browsers find by a name, so that they offer passkeys: `http://localhost:PORT`.
    pub async fn start_for_browsers(db: Db) -> Self {
        let port = run::free_port();
        Self::start_with(db, |config| {
            config.server.listen = ([127, 0, 0, 1], port).into();
            config.server.issuer = format!("http://localhost:{port}");
        })
        .await
    }

    /// Two nodes that find the same PostgreSQL database empty at the same moment, with the master key in their settings.
    pub async fn start_two_at_once() -> (Self, Self) {
        let database = Database::Postgres(Arc::new(postgres::database().await));
        let key = MasterKey::generate(&Entropy::system()).expect("random bytes").reveal();
        let node = async || {
            let directory = run::subdirectory("server");
            let settings = |config: &mut Config| {
                config.master_key.value.clone_from(&key);
                config.server.issuer = "https://keyward.example".to_owned();
            };
            Self::launch(database.clone(), directory, Clock::frozen(START), settings).await
        };
        tokio::join!(node(), node())
    }

    /// One more node on the same database (PostgreSQL only), with the same clock and master key.
    pub async fn another_node(&self) -> Self {
        self.another_node_with(|_| {}).await
    }

    /// The same with other settings.
    pub async fn another_node_with(&self, change: impl FnOnce(&mut Config)) -> Self {
        assert!(matches!(self.database, Database::Postgres(_)), "only PostgreSQL has several nodes");
        let issuer = self.app.issuer.clone();
        let (database, directory) = (self.database.clone(), self.directory.clone());
        Self::launch(database, directory, self.clock.clone(), |config| {
            config.server.issuer = issuer;
            change(config);
        })
        .await
    }

    /// Stops in an orderly way and starts again on the same database and address.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same with other settings.
    pub async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.stop_serving().await;
        let (issuer, address) = (self.url(), self.address);
        let (database, directory, clock) = (self.database.clone(), self.directory.clone(), self.clock.clone());
        drop(self);
        Self::launch(database, directory, clock, |config| {
            config.server.issuer = issuer;
            config.server.listen = address;
            change(config);
        })
        .await
    }

    async fn launch(
        database: Database,
        directory: std::path::PathBuf,
        clock: Clock,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::launch_impatient(database, directory, clock, Patience::default(), change).await
    }

    async fn launch_impatient(
        database: Database,
        directory: std::path::PathBuf,
        clock: Clock,
        patience: Patience,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::defaults().expect("the defaults are whole");
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.server.data.clone_from(&directory);
        // Receivers of webhooks, and other issuers, are on this machine here.
        config.notices.allow_networks = vec!["127.0.0.0/8".parse().expect("a network")];
        config.gateway.allow_networks.clone_from(&config.notices.allow_networks);
        // A device is told at once that it has to wait: no test waits for that, unless it says so.
        config.device_grants.hold_s = 0;
        change(&mut config);
        let url = match &database {
            Database::Sqlite => format!("sqlite:{}", directory.join("keyward.db").display()),
            Database::Postgres(database) => database.url().to_owned(),
        };
        let url: DatabaseUrl = url.parse().expect("a database URL");
        let surroundings = Surroundings {
            store: Store::open(&Options::new(url)).await.expect("the database opens"),
            clock: clock.clone(),
            entropy: Entropy::system(),
            master_key: MasterKeySource::from_config(&config, None),
            patience,
        };
        let server = Server::start(&config, surroundings).await.expect("the server starts");
        let address = server.address().expect("it listens");
        let app = Arc::clone(&server.app);
        let bootstrap = server.bootstrap.as_ref().map(|bootstrap| Secrets {
            client_id: bootstrap.client.to_string(),
            client_secret: bootstrap.key.reveal().to_string(),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async {
            // A dropped sender stops it too.
            drop(stopped.await);
        }));
        let (stop, serving) = (Some(stop), Some(serving));
        Self { app, clock, http: crate::http(), directory, address, bootstrap, database, stop, serving }
    }

    /// Stops serving; true if all requests under way could be finished.
    pub async fn stop_serving(&mut self) -> bool {
        drop(self.stop.take());
        match self.serving.take() {
            Some(serving) => serving.await.expect("serving does not panic"),
            None => true,
        }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the PostgreSQL database.
    pub fn database_url(&self) -> Option<&str> {
        match &self.database {
            Database::Sqlite => None,
            Database::Postgres(database) => Some(database.url()),
        }
    }

    /// Changes the database behind the server's back.
    pub async fn execute(&self, sql: &str) {
        if let Database::Postgres(database) = &self.database {
            let (client, connection) = postgres::connect(database.url()).await;
            client.batch_execute(sql).await.expect("it can be carried out");
            drop(client);
            drop(connection.await);
        } else {
            self.file().execute_batch(sql).expect("it can be carried out");
        }
    }

    /// What a statement that counts says, asked behind the server's back.
    pub async fn count(&self, sql: &str) -> i64 {
        if let Database::Postgres(database) = &self.database {
            database.count(sql).await
        } else {
            let count = self.file().query_row(sql, [], |row| row.get(0));
            count.expect("it counts")
        }
    }

    /// Keeps the server from writing anything, until released; it can read.
    pub async fn keep_from_writing(&self) -> Writing {
        if let Database::Postgres(database) = &self.database {
            let (client, connection) = postgres::connect(database.url()).await;
            client.batch_execute("BEGIN; SELECT seq FROM event_head FOR UPDATE").await.expect("the row is there");
            Writing::Postgres(client, connection)
        } else {
            let file = self.file();
            file.execute_batch("BEGIN IMMEDIATE").expect("nobody writes for long");
            Writing::Sqlite(file)
        }
    }

    fn file(&self) -> rusqlite::Connection {
        let file = rusqlite::Connection::open(self.directory.join("keyward.db")).expect("the database is there");
        file.busy_timeout(Duration::from_secs(10)).expect("a time to wait");
        file
    }

    /// The bootstrap key of the first start.
    pub fn bootstrap(&self) -> Secrets {
        self.bootstrap.clone().expect("this was not the first start")
    }

    /// Whether this node made the first start.
    pub fn was_first(&self) -> bool {
        self.bootstrap.is_some()
    }

    /// A form to an OAuth endpoint, authenticated by HTTP Basic.
    pub fn form(&self, path: &str, secrets: &Secrets, form: &[(&str, &str)]) -> RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.url()));
        request.basic_auth(&secrets.client_id, Some(&secrets.client_secret)).form(form)
    }

    /// The answer to a token request with further parameters.
    pub async fn token_answer(&self, secrets: &Secrets, further: &[(&str, &str)]) -> Answer {
        let form = [&[("grant_type", "client_credentials")], further].concat();
        Answer::of(self.form("/token", secrets, &form)).await
    }

    /// A token; the request must succeed.
    pub async fn token(&self, secrets: &Secrets, further: &[(&str, &str)]) -> String {
        let answer = self.token_answer(secrets, further).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["access_token"].as_str().expect("a token").to_owned()
    }

    /// What introspection says of a token to its own client.
    pub async fn introspect(&self, secrets: &Secrets, token: &str) -> Value {
        let answer = Answer::of(self.form("/introspect", secrets, &[("token", token)])).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body
    }

    /// The administrator, with a key of its own got by the bootstrap key.
    pub async fn admin(&self) -> Api<'_> {
        let bootstrap = self.bootstrap();
        let token = self.token(&bootstrap, &[]).await;
        let api = Api { server: self, secrets: bootstrap.clone(), token };
        let own = api.get("/api/v1/clients").await.body["items"][0].clone();
        let new = json!({ "name": "administration", "scope": "keyward:admin", "apis": own["apis"] });
        let client = api.post("/api/v1/clients", &new).await.created();
        let secrets = api.issue(client["id"].as_str().expect("an id"), &json!({ "label": "administration" })).await;
        self.api(&secrets).await
    }

    /// The REST API as whoever holds this key.
    pub async fn api(&self, secrets: &Secrets) -> Api<'_> {
        let token = self.token(secrets, &[("resource", "urn:keyward:api")]).await;
        Api { server: self, secrets: secrets.clone(), token }
    }
}
