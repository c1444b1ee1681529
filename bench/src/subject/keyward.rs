//! Keyward as a process, and what the scenarios set up in it over its REST API.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Answer, Credentials, Rendered, exchange};
use crate::placement::Cpus;
use crate::process::Process;
use crate::scenario::Bench;
use crate::subject::Scratch;

/// The token request for Keyward's own REST API.
pub const REST_FORM: &str = "grant_type=client_credentials&resource=urn:keyward:api";
/// The audience of the API that the measured tokens are for.
pub const AUDIENCE: &str = "https://plant.example/api";
/// How often a starting server is asked whether it is ready.
const POLL: Duration = Duration::from_micros(500);
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the start is printed to, inside the scratch directory.
const LOG: &str = "keyward.log";
/// How many lines of it are told when a measurement fails.
const COMPLAINTS: usize = 5;

/// A running Keyward.
#[derive(Debug)]
pub struct Keyward {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// From spawning it to the first 200 of `/readyz`.
    pub ready_after: Duration,
}

/// What a token answer holds of interest.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
}

/// The id of something created.
#[derive(Deserialize)]
struct Created {
    id: String,
}

/// What somebody invited is sent.
#[derive(Deserialize)]
struct Invited {
    link: String,
}

impl Keyward {
    /// Starts it with its data in `scratch` and waits until it is ready.
    pub fn start(bench: &Bench, scratch: &Scratch, cpus: Cpus) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = bench.placement.command(cpus, &bench.keyward);
        let directory = scratch.path();
        command
            .arg("serve")
            .arg("--data")
            .arg(directory.join("data"))
            .args(["--listen", &address.to_string()])
            .arg("--bootstrap-file")
            .arg(bootstrap_file(directory));
        configure(&mut command, bench, address, directory)?;
        let mut process = Process::start(&mut command)?;
        let ready_after = wait_until_ready(&mut process, address)
            .with_context(|| fs::read_to_string(directory.join(LOG)).unwrap_or_default())?;
        Ok(Self { process, address, ready_after })
    }

    /// Creates an API, a client for it with the right `Worker` on `plant/7`, and a credential of that client.
    pub fn set_up(&self, scratch: &Scratch) -> anyhow::Result<Credentials> {
        let rest = self.administrator(scratch)?;
        let client = rest.create_client("bench")?;
        rest.create_api(AUDIENCE, &[&client])?;
        rest.create_credential(&client)
    }

    /// The REST API as the first administrator: the bootstrap credential ends with the first key that is issued with
    /// it, so that one is issued for the driver itself.
    pub fn administrator(&self, scratch: &Scratch) -> anyhow::Result<Administrator> {
        let bootstrap = bootstrap(scratch)?;
        let first = Administrator { address: self.address, token: self.token(&bootstrap, REST_FORM)? };
        let lasting = first.create_credential(&bootstrap.client_id)?;
        Ok(Administrator { address: self.address, token: self.token(&lasting, REST_FORM)? })
    }

    /// One token.
    pub fn token(&self, client: &Credentials, form: &str) -> anyhow::Result<String> {
        let request = Rendered::form(self.address, "/token", client, form);
        let answer: TokenAnswer = exchange(self.address, &request)?.into_json()?;
        Ok(answer.access_token)
    }
}

/// The REST API with an administrator's token.
#[derive(Debug)]
pub struct Administrator {
    address: SocketAddr,
    token: String,
}

impl Administrator {
    /// A confidential client with `Worker` on `plant/7`; gives its id.
    pub fn create_client(&self, name: &str) -> anyhow::Result<String> {
        self.create("/api/v1/clients", &json!({"name": name, "scope": "Worker", "res": ["plant/7"]}))
    }

    /// An API that these clients may ask tokens for; gives its id.
    pub fn create_api(&self, audience: &str, clients: &[&str]) -> anyhow::Result<String> {
        let body = json!({"name": "plant", "audience": audience, "scopes": ["Worker", "Supervisor", "Admin"]});
        let api = self.create("/api/v1/apis", &body)?;
        for client in clients {
            let path = format!("/api/v1/clients/{client}");
            self.change(&path, &json!({"apis": [&api]}))?;
        }
        Ok(api)
    }

    /// A credential of the client.
    pub fn create_credential(&self, client: &str) -> anyhow::Result<Credentials> {
        let path = format!("/api/v1/clients/{client}/credentials");
        self.send("POST", &path, &json!({"label": "bench"}))?.into_json()
    }

    fn create(&self, path: &str, body: &Value) -> anyhow::Result<String> {
        let created: Created = self.send("POST", path, body)?.into_json()?;
        Ok(created.id)
    }

    /// A public client through which devices may be signed in with `Worker` on `plant/7`; gives its id.
    pub fn create_device_client(&self, name: &str) -> anyhow::Result<String> {
        let body = json!({"name": name, "kind": "public", "scope": "Worker", "res": ["plant/7"], "device_grant": {}});
        self.create("/api/v1/clients", &body)
    }

    /// A user with `Worker` on `plant/7`; gives the secret of the link by which they set a password.
    pub fn invite(&self, name: &str) -> anyhow::Result<String> {
        let user = self.create("/api/v1/users", &json!({"name": name, "scope": "Worker", "res": ["plant/7"]}))?;
        let path = format!("POST /api/v1/users/{user}/invitation");
        let invited = exchange(self.address, &Rendered::json(self.address, &path, &self.token, &json!({})))?;
        let Invited { link } = invited.into_json()?;
        Ok(link.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// Changes what is at the path.
    pub fn change(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        self.send("PATCH", path, body)?.into_json::<Value>()?;
        Ok(())
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Answer> {
        exchange(self.address, &Rendered::json(self.address, &format!("{method} {path}"), &self.token, body))
    }
}

/// The SQLite database of a server that has this scratch directory.
pub fn database(scratch: &Scratch) -> PathBuf {
    scratch.path().join("data").join("keyward.db")
}

/// What the server has complained of last, for a measurement that failed: the reason is often there.
pub fn complaints(scratch: &Scratch) -> String {
    let log = fs::read_to_string(scratch.path().join(LOG)).unwrap_or_default();
    format!("keyward said last:\n{}", last_complaints(&log))
}

fn last_complaints(log: &str) -> String {
    let complains = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    let mut lines: Vec<&str> = log.lines().rev().filter(complains).take(COMPLAINTS).collect();
    lines.reverse();
    lines.join("\n")
}

/// The bootstrap credential that a first start left behind.
pub fn bootstrap(scratch: &Scratch) -> anyhow::Result<Credentials> {
    let text = fs::read_to_string(bootstrap_file(scratch.path()))?;
    Ok(serde_json::from_str(&text)?)
}

fn bootstrap_file(directory: &Path) -> PathBuf {
    directory.join("bootstrap.json")
}

/// Settings that differ from the defaults: the issuer, as somebody who listens elsewhere would set it, and what
/// the scenario asks for.
fn configure(command: &mut Command, bench: &Bench, address: SocketAddr, directory: &Path) -> anyhow::Result<()> {
    let log = File::create(directory.join(LOG))?;
    command
        .current_dir(directory)
        .env("KEYWARD_SERVER_ISSUER", format!("http://{address}"))
        .envs(bench.settings.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(())
}

/// An address nobody listens on now.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn wait_until_ready(process: &mut Process, address: SocketAddr) -> anyhow::Result<Duration> {
    let deadline = Instant::now() + PATIENCE;
    let request = Rendered::get(address, "/readyz");
    while Instant::now() < deadline {
        // Refused connections and 503 both mean: not yet.
        if exchange(address, &request).is_ok_and(|answer| answer.status == 200) {
            return Ok(process.started.elapsed());
        }
        ensure!(!process.has_ended()?, "keyward ended before it was ready");
        thread::sleep(POLL);
    }
    bail!("keyward was not ready in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complaints_are_told_in_order_and_nothing_else() {
        let lines = (0..7).map(|number| format!("at  INFO fine {number}\nat  WARN late {number}\n"));
        let log: String = lines.chain(["at ERROR lost\n".to_owned()]).collect();
        let told = "at  WARN late 3\nat  WARN late 4\nat  WARN late 5\nat  WARN late 6\nat ERROR lost";
        assert_eq!(last_complaints(&log), told);
    }
}
