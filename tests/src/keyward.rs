//! The real program: built once a run, started as a process of its own, killed
//! with the test.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::run;

/// How long `keyward serve` may take to say that it listens, on a machine that
/// is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// The path of the `keyward` program, built from this work tree.
pub fn binary() -> PathBuf {
    let path = run::once("keyward", || {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(["build", "--workspace", "--bin", "keyward", "--message-format=json-render-diagnostics"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .stderr(Stdio::inherit());
        let output = command.output().expect("cargo can be started");
        assert!(output.status.success(), "{command:?}: {}", output.status);
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|message| message.get("executable")?.as_str().map(str::to_owned))
            .expect("cargo names the executable that it built")
    });
    PathBuf::from(path)
}

/// `keyward` with these arguments, in an empty directory and with no settings in
/// its environment.
pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null()).current_dir(run::subdirectory("keyward"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEYWARD_") {
            command.env_remove(name);
        }
    }
    command
}

/// A running `keyward serve`.
#[derive(Debug)]
pub struct Process {
    child: Child,
    directory: PathBuf,
    address: String,
    settings: Vec<(String, String)>,
}

/// What `keyward serve` wrote to its bootstrap file: the first key.
#[derive(Debug)]
pub struct Bootstrap {
    /// `client_…`
    pub client_id: String,
    /// `kw_…`
    pub client_secret: String,
    /// Where the server listens.
    pub url: String,
}

impl Process {
    /// Starts a server with its data in a new directory and returns when it
    /// listens. `settings` are environment variables, `KEYWARD_DATABASE_URL`
    /// and the like.
    pub async fn serve(settings: &[(&str, &str)]) -> Self {
        let directory = run::subdirectory("serve");
        let address = format!("127.0.0.1:{}", run::free_port());
        let settings: Vec<_> = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let child = launch(&directory, &address, &settings);
        let mut process = Self { child, directory, address, settings };
        process.until_it_listens(0).await;
        process
    }

    /// Starts the server again, after its end, on the same data and address.
    pub async fn start_again(&mut self) {
        let log = self.log().len();
        self.child = launch(&self.directory, &self.address, &self.settings);
        self.until_it_listens(log).await;
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The directory given as `--data`.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What it wrote to standard output and standard error so far, all starts
    /// together.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("log")).unwrap_or_default()).into_owned()
    }

    /// The first key, as written by the first start.
    pub fn bootstrap(&self) -> Bootstrap {
        let path = bootstrap_file(&self.directory);
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; its log:\n{}", path.display(), self.log()));
        let json: Value = serde_json::from_str(&text).expect("the bootstrap file is JSON");
        let member = |name: &str| {
            let value = json.get(name).and_then(Value::as_str);
            value.unwrap_or_else(|| panic!("the bootstrap file has no {name}: {text}")).to_owned()
        };
        Bootstrap { client_id: member("client_id"), client_secret: member("client_secret"), url: member("url") }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: not one more instruction.
    pub fn kill_9(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// SIGTERM, and waits for the end without holding up the test's runtime.
    pub async fn terminate(&mut self) -> ExitStatus {
        run::send("TERM", &[self.id()]);
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns when the log, from `start` on, says that the server listens.
    async fn until_it_listens(&mut self, start: usize) {
        let said = format!("listening on {}", self.url());
        let waiting = async {
            while !self.log().get(start..).is_some_and(|log| log.contains(&said)) {
                if let Some(status) = self.child.try_wait().expect("it is our child") {
                    panic!("keyward serve ended with {status}; its log:\n{}", self.log());
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("keyward serve did not say {said:?} within {PATIENCE:?}; its log:\n{}", self.log());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_9();
    }
}

fn launch(directory: &Path, address: &str, settings: &[(String, String)]) -> Child {
    let mut command = command(["serve", "--listen", address]);
    for (name, value) in settings {
        command.env(name, value);
    }
    let log = File::options().create(true).append(true).open(directory.join("log")).expect("the log can be opened");
    command
        .arg("--data")
        .arg(directory.join("data"))
        .arg("--bootstrap-file")
        .arg(bootstrap_file(directory))
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .expect("keyward was just built")
}

fn bootstrap_file(directory: &Path) -> PathBuf {
    directory.join("bootstrap.json")
}
