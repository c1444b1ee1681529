//! Programs that other people wrote, as clients of Keyward: `tests/clients`.

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::relay::Relay;
use crate::run;

/// What a client is told, and nothing else.
#[derive(Clone, Debug)]
pub struct Key {
    /// The issuer: all else is discovered from it.
    pub issuer: String,
    /// `client_…`
    pub client_id: String,
    /// `kw_…`
    pub client_secret: String,
    /// The audience of the API that the token is for.
    pub resource: String,
    /// The scope to ask for.
    pub scope: String,
}

/// What a client program printed.
#[derive(Debug)]
pub struct Seen {
    /// Whether it ended with exit code 0.
    pub success: bool,
    /// Its one line of JSON.
    pub json: Value,
}

/// openid-client and jose, in Node.js.
pub async fn node(key: &Key) -> Seen {
    run_client(&node_program(), "node/client.mjs", key).await
}

/// A device whose program knows RFC 8628 by a library: it asks, and polls when it is told to.
pub struct DeviceProgram {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl DeviceProgram {
    /// It asks by a library in Node.js, openid-client or oauth4webapi; gives what it shows too.
    pub async fn with_node(library: &str, relay: &Relay, client_id: &str) -> (Self, Value) {
        let mut command = Command::new(node_program());
        command.arg(clients().join("node/device.mjs")).arg(library);
        Self::ask(command, relay, client_id).await
    }

    /// It asks by MSAL in Python; gives what it shows too.
    pub async fn with_msal(relay: &Relay, client_id: &str) -> (Self, Value) {
        let mut command = python_script("device.py");
        if let Some(certificate) = &relay.certificate {
            command.env("REQUESTS_CA_BUNDLE", certificate);
        }
        Self::ask(command, relay, client_id).await
    }

    async fn ask(mut command: Command, relay: &Relay, client_id: &str) -> (Self, Value) {
        command.env("KEYWARD_ISSUER", &relay.url).env("KEYWARD_CLIENT_ID", client_id).env("KEYWARD_SCOPE", "Worker");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }.line().await
    }

    /// Lets it poll, and gives what came of it.
    pub async fn outcome(mut self) -> Value {
        let mut input = self.child.stdin.take().expect("it is piped");
        input.write_all(b"\n").expect("it waits for it");
        let (mut device, outcome) = self.line().await;
        drop(device.child.wait());
        outcome
    }

    async fn line(mut self) -> (Self, Value) {
        let reading = tokio::task::spawn_blocking(move || {
            let line = self.lines.next().expect("one more line").expect("text");
            (self, serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
        });
        reading.await.expect("the thread returns")
    }
}

impl Drop for DeviceProgram {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn node_program() -> PathBuf {
    let own = clients().join("node/.venv/bin/node");
    if own.is_file() { own } else { PathBuf::from("node") }
}

/// A program that people sign in to, in Node.js: openid-client. It says where to send the browser, and waits for where that
/// came back.
pub struct SignsIn {
    program: Child,
    said: BufReader<ChildStdout>,
    /// Where to send the browser.
    pub url: String,
}

impl SignsIn {
    /// Starts it, for a public client.
    pub async fn start(issuer: &str, client_id: &str, redirect_uri: &str) -> Self {
        let mut command = Command::new(node_program());
        command
            .arg(clients().join("node/code.mjs"))
            .env("KEYWARD_ISSUER", issuer)
            .env("KEYWARD_CLIENT_ID", client_id)
            .env("KEYWARD_REDIRECT_URI", redirect_uri)
            .env("KEYWARD_SCOPE", "Worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        tokio::task::spawn_blocking(move || {
            let mut program = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
            let mut said = BufReader::new(program.stdout.take().expect("it is piped"));
            let mut url = String::new();
            said.read_line(&mut url).expect("a line of text");
            Self { program, said, url: url.trim().to_owned() }
        })
        .await
        .expect("the thread returns")
    }

    /// Tells it where the browser came back, and gives what it saw.
    pub async fn comes_back(mut self, url: &str) -> Seen {
        let url = format!("{url}\n");
        tokio::task::spawn_blocking(move || {
            let mut input = self.program.stdin.take().expect("it is piped");
            input.write_all(url.as_bytes()).expect("it waits for it");
            drop(input);
            let mut text = String::new();
            self.said.read_to_string(&mut text).expect("text");
            let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            Seen { success: self.program.wait().expect("it ends").success(), json }
        })
        .await
        .expect("the thread returns")
    }
}

/// Authlib and PyJWT, in Python.
pub async fn python(key: &Key) -> Seen {
    run_client(&clients().join("python/.venv/bin/python"), "python/client.py", key).await
}

/// A script of `tests/clients/python`, to be started.
pub fn python_script(name: &str) -> Command {
    let mut command = Command::new(clients().join("python/.venv/bin/python"));
    command.arg(clients().join("python").join(name)).stdin(Stdio::null());
    command
}

/// Envoy itself.
pub fn envoy() -> PathBuf {
    let packages = clients().join("envoy/.venv/lib");
    let versions = std::fs::read_dir(&packages).expect("it was just installed");
    let found = versions.filter_map(|version| Some(version.ok()?.path().join("site-packages/envoy/_bin/envoy")));
    found.into_iter().find(|path| path.is_file()).expect("the package has a program in it")
}

/// What Keyward at this address answers to questions in Envoy's protocol, one for each.
pub async fn ask_as_envoy(address: SocketAddr, questions: &[Value]) -> Vec<Value> {
    let mut command = Command::new(clients().join("envoy/.venv/bin/python"));
    command.arg(clients().join("envoy/check.py")).arg(address.to_string());
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    let input = run::subdirectory("envoy").join("questions");
    std::fs::write(&input, lines).expect("the run's directory is writable");
    command.stdin(std::fs::File::open(input).expect("it was just written"));
    let output = run_command(command).await;
    let text = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), questions.len(), "{}", String::from_utf8_lossy(&output.stderr));
    answers
}

/// What detect-secrets finds in a directory with the plugin of `deploy/leaks`.
pub async fn detect_secrets(directory: &Path) -> Value {
    let mut command = Command::new(clients().join("scanner/.venv/bin/detect-secrets"));
    command.args(["scan", "--all-files", "--plugin"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/leaks/detect_secrets.py"));
    command.arg(".").current_dir(directory);
    let output = run_command(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The directory of the clients, with the libraries that they import.
fn clients() -> &'static Path {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/clients"));
    run::once("clients", || {
        let output = Command::new(directory.join("install")).output().expect("bash is installed");
        assert!(
            output.status.success(),
            "tests/clients/install: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::new()
    });
    directory
}

/// In a thread of its own: the server may live on the test's runtime.
async fn run_client(program: &Path, script: &str, key: &Key) -> Seen {
    let mut command = Command::new(program);
    command
        .arg(clients().join(script))
        .env("KEYWARD_ISSUER", &key.issuer)
        .env("KEYWARD_CLIENT_ID", &key.client_id)
        .env("KEYWARD_CLIENT_SECRET", &key.client_secret)
        .env("KEYWARD_RESOURCE", &key.resource)
        .env("KEYWARD_SCOPE", &key.scope)
        .stdin(Stdio::null());
    let output = run_command(command).await;
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(&output.stdout);
        panic!("{script}: {error}: {text}\n{}", String::from_utf8_lossy(&output.stderr))
    });
    Seen { success: output.status.success(), json }
}

/// Runs a program to its end without holding up the test's runtime.
pub async fn run_command(mut command: Command) -> std::process::Output {
    tokio::task::spawn_blocking(move || {
        command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
    })
    .await
    .expect("the thread returns")
}
