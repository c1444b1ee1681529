//! `keyward health`: whether a server is ready, as an exit code; for images that have no other program to ask with.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::failure::Failure;
use crate::options::Global;
use crate::settings::{self, Settings};
use crate::terminal;

/// Longer than the server itself waits for its database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ask a server whether it is ready
///
/// Asks the server of --url, else the one that these settings make listen on this machine. Exits 0 if it is ready,
/// else 1.
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward health
  keyward health --url https://keyward.example")]
pub(crate) struct Health {
    #[command(flatten)]
    settings: Settings,
    /// Address it listens on.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl Health {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let url = match global.server() {
            Some(url) => crate::profile::base(url)?,
            None => settings::local_url(&self.settings.load(self.listen)?),
        };
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        let answer = http.build()?.get(format!("{url}/readyz")).send().await;
        let refused = |why: String| Failure::new(format!("{url} is not ready ({why})")).hint("its log says why");
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(terminal::print("ready\n")?),
            Ok(answer) => Err(refused(answer.status().to_string()).into()),
            Err(error) => Err(crate::remote::unreachable(&url, &error).into()),
        }
    }
}
