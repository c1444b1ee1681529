//! `keyward recover`: a new bootstrap key for whoever holds the server's files and has lost every key.

use clap::Args;
use keyward_server::app::App;
use keyward_server::first_start;

use crate::settings::{self, Settings};
use crate::terminal::{self, Paint};
use crate::when;

/// Print a new bootstrap key, for when every administrator's key is lost
///
/// Works on the server's own files, beside a running server too. It adds an administrator, and says so in the event log.
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward recover --data /var/lib/keyward
  keyward recover --config /etc/keyward/keyward.toml")]
pub(crate) struct Recover {
    #[command(flatten)]
    settings: Settings,
}

impl Recover {
    /// Does it.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load(None)?;
        let issuer = settings::likely_url(&config);
        let surroundings = settings::surroundings(settings::open_beside(&config).await?, &config);
        let (app, first) = App::start(&config, issuer.clone(), surroundings).await?;
        let bootstrap = match first {
            Some(first) => first,
            None => first_start::recover(&app).await?,
        };
        app.store.close().await;
        let command = format!("keyward bootstrap --force --url {issuer} {}", *bootstrap.key.reveal());
        Ok(terminal::print(&format!(
            "Make yourself an administrator with\n\n    {}\n\nThe key in it is shown once, works until {}, and ends with the \
             first key that is issued with it.\n",
            Paint::stdout().bold(&command),
            when::minute(bootstrap.expires_at),
        ))?)
    }
}
