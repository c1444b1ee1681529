//! PostgreSQL for tests: one server for a whole run, one fresh database a test,
//! and private servers for tests that kill theirs.
//!
//! Nothing is configured. `KEYWARD_TEST_POSTGRES_URL` names a server to use
//! instead (its user must be allowed to create databases); otherwise `initdb`
//! and `pg_ctl` are found on the machine.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use keyward_store::{Options, Store};
use tokio_postgres::{Config, NoTls};

use crate::run;

/// Names a server to use instead of one of our own.
const ELSEWHERE: &str = "KEYWARD_TEST_POSTGRES_URL";

/// A database of its own for one test; dropped with the value.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: String,
    url: String,
}

/// A new, empty database on the server of this run.
pub async fn database() -> TestDatabase {
    TestDatabase::create(server(), "template0").await
}

/// A new database with today's schema and nothing in it: a copy of one that is made once in a run, for what is tested is
/// seldom how the schema comes about.
pub async fn database_with_schema() -> TestDatabase {
    if env::var_os(ELSEWHERE).is_some() {
        // Nobody would take the copied one away there.
        return database().await;
    }
    let server = server();
    let template = run::once("postgres-schema", || {
        let (server, name) = (server.clone(), format!("keyward_schema_{}", run::random_hex::<4>()));
        apart(async move {
            execute(&server, &format!("CREATE DATABASE {name} TEMPLATE template0")).await.expect("it may");
            let url = with_database(&server, &name).parse().expect("the URL of a database");
            let store = Store::open(&Options::new(url)).await.expect("the schema can be made");
            // Whoever copies waits until nobody is connected.
            store.close().await;
            name
        })
    });
    TestDatabase::create(server, &template).await
}

fn server() -> String {
    env::var(ELSEWHERE).unwrap_or_else(|_| {
        run::once("postgres", || {
            let server = Server::create(Durability::None);
            server.start();
            server.url()
        })
    })
}

/// Where no other future may run meanwhile: in a thread with a runtime of its own.
fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a thread may have a runtime of its own");
        runtime.block_on(work)
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl TestDatabase {
    async fn create(server: String, template: &str) -> Self {
        let name = format!("keyward_{}", run::random_hex::<8>());
        execute(&server, &format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .await
            .expect("the test user may create databases");
        Self { url: with_database(&server, &name), name, server }
    }

    /// `postgres://user:password@host:port/database`, for `KEYWARD_DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What a statement that counts says.
    pub async fn count(&self, sql: &str) -> i64 {
        let (client, connection) = connect(&self.url).await;
        let count = client.query_one(sql, &[]).await.expect("it counts").get(0);
        drop(client);
        drop(connection.await);
        count
    }
}

impl Drop for TestDatabase {
    /// Connections of the test may still be open: `FORCE` ends them. A server
    /// that is gone already has no database to drop.
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropping = async move {
            let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            tokio::time::timeout(Duration::from_secs(10), execute(&server, &statement)).await
        };
        drop(apart(dropping));
    }
}

/// A durable server for one test alone, which may kill it and start it again.
#[derive(Debug)]
pub struct PrivateCluster {
    server: Server,
}

impl PrivateCluster {
    /// A new server with `fsync` on, ready for connections.
    pub fn start() -> Self {
        let server = Server::create(Durability::Full);
        server.start();
        Self { server }
    }

    /// A new, empty database on this server.
    pub async fn database(&self) -> TestDatabase {
        TestDatabase::create(self.server.url(), "template0").await
    }

    /// Kills every process of the server at once (SIGKILL): nobody can finish a
    /// commit or write one more byte.
    pub fn kill_9(&self) {
        self.server.kill_9();
    }

    /// Stops every process of the server where it stands: it refuses nothing and answers nothing.
    pub fn freeze(&self) {
        run::send("STOP", &self.server.processes());
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        run::send("CONT", &self.server.processes());
    }

    /// Starts the killed server again, at the same address; returns when its
    /// recovery is over.
    pub fn start_again(&self) {
        self.server.start();
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        self.server.kill_9();
        drop(fs::remove_dir_all(&self.server.directory));
    }
}

#[derive(Clone, Copy, Debug)]
enum Durability {
    /// The server lives as long as the tests: nothing waits for a disk.
    None,
    /// What production has.
    Full,
}

/// A server in a subdirectory of the run's directory, whose watchdog ends it.
#[derive(Debug)]
struct Server {
    directory: PathBuf,
    programs: PathBuf,
    account: Option<Account>,
    password: String,
    port: u16,
}

/// Whom the server runs as: PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug)]
struct Account {
    user: u32,
    group: u32,
}

impl Server {
    fn create(durability: Durability) -> Self {
        let directory = run::subdirectory("pg");
        let server = Self {
            programs: find_programs(),
            account: is_root(&directory).then(Account::find),
            password: run::random_hex::<16>(),
            port: run::free_port(),
            directory,
        };
        let (data, password_file) = (server.data(), server.directory.join("password"));
        fs::create_dir(&data).expect("the run's directory is writable");
        run::write_private(&password_file, &server.password);
        server.give_away(&data);
        server.give_away(&password_file);
        server.give_away(&server.directory);
        server.run(
            server
                .command("initdb")
                .args(["--username=keyward", "--auth=password", "--encoding=UTF8"])
                .args(["--locale=C", "--no-sync", "--no-instructions"])
                .arg(format!("--pwfile={}", password_file.display()))
                .arg("--pgdata")
                .arg(&data),
        );
        let fsync = match durability {
            Durability::None => "off",
            Durability::Full => "on",
        };
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n\
             max_connections = 300\nfsync = {fsync}\n",
            server.port,
        );
        // After what initdb found out about the machine, such as which shared memory works; the last word counts.
        let file = fs::File::options().append(true).open(data.join("postgresql.conf"));
        file.and_then(|mut file| file.write_all(settings.as_bytes())).expect("initdb wrote its settings");
        server
    }

    /// Returns when the server takes connections.
    fn start(&self) {
        self.run(
            self.command("pg_ctl")
                .args(["start", "--wait", "--silent", "--timeout=60", "--pgdata"])
                .arg(self.data())
                .arg("--log")
                .arg(self.log()),
        );
    }

    fn url(&self) -> String {
        format!("postgres://keyward:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// SIGKILL to the first process and all its children in one call. Does
    /// nothing to a server that is down.
    fn kill_9(&self) {
        let all = self.processes();
        if all.is_empty() {
            return;
        }
        run::kill_9(&all);
        // Where nobody reaps the dead, a dead server would look alive to the next.
        drop(fs::remove_file(self.data().join("postmaster.pid")));
    }

    /// The first process and its children; none of a server that is down.
    fn processes(&self) -> Vec<u32> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let Some(first) = file.lines().next() else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let all = format!("{first} {}", children.unwrap_or_default());
        all.split_whitespace().filter_map(|process| process.parse().ok()).collect()
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn give_away(&self, path: &Path) {
        if let Some(Account { user, group }) = self.account {
            chown(path, Some(user), Some(group)).expect("root may give its files away");
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        // The directory this process stands in may be closed to the account.
        command.current_dir(&self.directory);
        if let Some(Account { user, group }) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    fn run(&self, command: &mut Command) {
        let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        assert!(
            output.status.success(),
            "{command:?}: {}\n{}{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            fs::read_to_string(self.log()).unwrap_or_default(),
        );
    }
}

impl Account {
    /// The account that PostgreSQL's package made, else the one for no rights.
    fn find() -> Self {
        for name in ["postgres", "nobody"] {
            if let (Some(user), Some(group)) = (id("-u", name), id("-g", name)) {
                return Self { user, group };
            }
        }
        panic!("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
    }
}

fn id(flag: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([flag, name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// A directory just made belongs to whom this process runs as.
fn is_root(made: &Path) -> bool {
    fs::metadata(made).expect("the directory was just made").uid() == 0
}

/// The directory with PostgreSQL's programs: on the path, else the newest that
/// Debian's packages installed.
fn find_programs() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    env::split_paths(&path)
        .chain(versions.into_iter().rev().map(|(_, programs)| programs))
        .find(|programs| ["initdb", "pg_ctl", "postgres"].iter().all(|program| programs.join(program).is_file()))
        .expect("PostgreSQL is not installed: `tests/run` installs it, or set KEYWARD_TEST_POSTGRES_URL")
}

/// A connection of a test's own, beside those of the server.
pub(crate) async fn connect(
    url: &str,
) -> (tokio_postgres::Client, tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database is there");
    (client, tokio::spawn(connection))
}

async fn execute(url: &str, statement: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = Config::from_str(url)?.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let done = client.batch_execute(statement).await;
    drop(client);
    drop(connection.await);
    done
}

/// The same server, another database: replaces the path of the URL.
fn with_database(url: &str, name: &str) -> String {
    let (start, query) = match url.split_once('?') {
        Some((start, query)) => (start, format!("?{query}")),
        None => (url, String::new()),
    };
    let authority = start.find("://").map_or(0, |at| at + 3);
    let end = start.get(authority..).and_then(|rest| rest.find('/')).map_or(start.len(), |at| authority + at);
    format!("{}/{name}{query}", start.get(..end).unwrap_or(start))
}
