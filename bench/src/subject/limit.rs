//! The limit server as a process: see `bin/limit`.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::http::Credentials;
use crate::placement::Cpus;
use crate::process::Process;
use crate::scenario::Bench;

/// A running limit server.
#[derive(Debug)]
pub struct Limit {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// From spawning it to its line `ready`.
    pub ready_after: Duration,
    /// A token to ask about, when it serves introspection.
    pub token: Option<String>,
}

impl Limit {
    /// Starts it with one client. `serve` is `token`, `introspect`, `jwks` or `nothing`.
    pub fn start(bench: &Bench, cpus: Cpus, serve: &str, client: &Credentials) -> anyhow::Result<Self> {
        let mut command = bench.placement.command(cpus, &bench.limit);
        command
            .args(["--listen", "127.0.0.1:0", "--serve", serve])
            .args(["--client-id", &client.client_id])
            .args(["--client-secret", &client.client_secret])
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let stdout = process.take_stdout().context("the limit server has no output")?;
        let mut address = None;
        let mut token = None;
        for line in BufReader::new(stdout).lines() {
            match line?.split_once(' ') {
                Some(("listening", url)) => {
                    address = Some(url.trim_start_matches("http://").parse()?);
                }
                Some(("token", issued)) => token = Some(issued.to_owned()),
                _ => {
                    return Ok(Self {
                        ready_after: process.started.elapsed(),
                        address: address.context("the limit server did not say where it listens")?,
                        process,
                        token,
                    });
                }
            }
        }
        bail!("the limit server ended before it was ready")
    }
}
