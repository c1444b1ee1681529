//! `keyward serve`: runs the server until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use keyward_server::Server;
use keyward_server::config::Config;
use keyward_server::first_start::Bootstrap;
use keyward_server::{private_file, telemetry};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::settings::{self, Settings};
use crate::{terminal, when};

/// Run the server
///
/// Needs no configuration: the first start creates the data directory with the database and the master key, and prints
/// a key to begin with. SIGTERM and Ctrl-C finish the requests under way; a second signal ends at once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward serve
  keyward serve --data /var/lib/keyward --listen 127.0.0.1:8080
  keyward serve --config /etc/keyward/keyward.toml
  KEYWARD_DATABASE_URL=postgres://keyward:secret@db/keyward keyward serve")]
pub(crate) struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Write the URL, and at the first start the key to begin with, to this JSON file (mode 0600), not to the output.
    #[arg(long, value_name = "FILE")]
    bootstrap_file: Option<PathBuf>,
}

impl Serve {
    /// Serves until told to stop.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load(self.listen)?;
        let _telemetry = telemetry::start(&config)?;
        settings::create_data_directory(&config)?;
        // Registered before anything is created: a signal during the start is not lost.
        let stop = Stop::on_signals()?;
        let surroundings = settings::surroundings(settings::open(&config).await?, &config);
        let server = Server::start(&config, surroundings).await?;
        let url = url(&server)?;
        if let Some(path) = &self.bootstrap_file {
            write_bootstrap_file(path, &url, server.bootstrap.as_ref())?;
        }
        // A server serves, whether or not anybody reads along.
        drop(terminal::print(&self.greeting(&config, &server, &url)?));
        warn(&config, &server);
        tell_systemd("READY=1");
        let finished = server.serve(stop.asked()).await;
        if finished {
            Ok(())
        } else {
            Err(Failure::new("some requests were cut off: they took longer than shutdown_grace_s").into())
        }
    }

    fn greeting(&self, config: &Config, server: &Server, url: &str) -> anyhow::Result<String> {
        let mut text = format!(
            "Keyward {}\nlistening on {}://{}\nissuer {}\ndatabase {}\n",
            env!("CARGO_PKG_VERSION"),
            scheme(server),
            server.address()?,
            server.app.issuer,
            settings::database(config)?,
        );
        if let Some(bootstrap) = &server.bootstrap {
            // Whoever configured a public URL means it to be used; without one there is only this machine.
            let url = if config.server.issuer.is_empty() { url } else { &config.server.issuer };
            // Output is kept in more places than a file of mode 0600.
            let (key, place) = match &self.bootstrap_file {
                Some(path) => (format!("--file {}", path.display()), "The key in that file"),
                None => (bootstrap.key.reveal().to_string(), "The key in it is shown once,"),
            };
            text.push_str(&format!(
                "\nThis is the first start. Make yourself the administrator with\n\n    \
                 keyward bootstrap --url {url} {key}\n\n\
                 {place} works until {}, and ends with the first key that is issued with it.\n\n",
                when::minute(bootstrap.expires_at),
            ));
        }
        Ok(text)
    }
}

/// The URL under which this machine reaches the server.
fn url(server: &Server) -> anyhow::Result<String> {
    Ok(format!("{}://{}", scheme(server), settings::reachable(server.address()?)))
}

fn scheme(server: &Server) -> &'static str {
    if server.is_tls() { "https" } else { "http" }
}

/// To the log, for that is what an operator reads.
fn warn(config: &Config, server: &Server) {
    let beyond = !config.server.listen.ip().is_loopback();
    if beyond && !server.is_tls() && config.server.trusted_proxies.is_empty() {
        tracing::warn!(
            "listening beyond this machine without TLS: keys and tokens can be read on the way; set tls_certificate and \
             tls_key, or listen on 127.0.0.1 behind a proxy"
        );
    }
    if beyond && config.server.issuer.is_empty() {
        tracing::warn!(
            issuer = server.app.issuer,
            "without the setting [server] issuer, tokens name the listening address; set it to the public URL"
        );
    }
}

/// For scripts: where the server is, and the first key if there is one.
fn write_bootstrap_file(path: &Path, url: &str, bootstrap: Option<&Bootstrap>) -> anyhow::Result<()> {
    let content = match bootstrap {
        Some(b) => json!({ "client_id": b.client, "client_secret": &*b.key.reveal(), "url": url }),
        None => json!({ "url": url }),
    };
    let text = Zeroizing::new(format!("{content}\n"));
    private_file::replace(path, text.as_bytes()).with_context(|| format!("the bootstrap file {}", path.display()))
}

/// The signals that stop the server.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Listens for them from now on.
    pub(crate) fn on_signals() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn one(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Completes at the first signal; the second one ends the process where it stands.
    pub(crate) async fn asked(mut self) {
        self.one().await;
        tell_systemd("STOPPING=1");
        tracing::info!("stopping: requests under way are finished first; a second signal ends at once");
        tokio::spawn(async move {
            self.one().await;
            std::process::exit(1);
        });
    }
}

/// Tells a supervisor that understands systemd's protocol how it stands; others are not told anything.
fn tell_systemd(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").and_then(|path| path.into_string().ok()) else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name),
        None => std::os::unix::net::SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|a| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &a));
    if let Err(error) = sent {
        tracing::warn!(%error, "the supervisor at NOTIFY_SOCKET could not be told {state}");
    }
}
