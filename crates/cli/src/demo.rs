//! `keyward demo`: the whole road in front of the reader, in a directory that is deleted afterwards.

mod exchange;
mod plant;
mod walk;

use std::path::PathBuf;

use clap::Args;
use keyward_model::entropy::Entropy;
use keyward_server::Server;
use keyward_server::config::{Config, LogLevel};
use keyward_server::telemetry;
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::serve::Stop;
use crate::settings;
use crate::terminal::{self, Paint};
use plant::Plant;
use walk::Walk;

/// Show the whole road: a key, a token, an API that checks it, another key in its place, and the end
///
/// Starts a server with an embedded database in a temporary directory and walks in front of you from the first key over
/// its rotation to a revoked one. Every request is printed as a `curl` that you can paste and repeat.
#[derive(Args)]
pub(crate) struct Demo {
    /// End after the walk instead of waiting for Ctrl-C.
    #[arg(long)]
    exit: bool,
}

/// A directory that goes with the demo.
struct Temporary(PathBuf);

impl Temporary {
    fn make(entropy: &Entropy) -> anyhow::Result<Self> {
        let name = u64::from_be_bytes(entropy.bytes()?);
        let path = std::env::temp_dir().join(format!("keyward-demo-{name:016x}"));
        settings::create_private(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            terminal::note(&format!("{} could not be deleted: {error}", self.0.display()));
        }
    }
}

impl Demo {
    /// Shows it.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let stop = Stop::on_signals()?;
        let directory = Temporary::make(&Entropy::system())?;
        let config = config(&directory)?;
        let _telemetry = telemetry::start(&config)?;
        let surroundings = settings::surroundings(settings::open(&config).await?, &config);
        let mut server = Server::start(&config, surroundings).await?;
        let url = server.app.issuer.clone();
        let bootstrap = server.bootstrap.take().ok_or_else(|| Failure::new("the temporary directory was not empty"))?;
        let (end, ended) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async { drop(ended.await) }));
        let paint = Paint::stdout();
        let shown = async {
            let plant = Plant::open(&url).await?;
            Walk::new(&url, &plant, paint)?.show(&directory.0, &bootstrap).await?;
            if !self.exit {
                let (keyward, plant) = (paint.bold(&url), paint.bold(&plant.url));
                terminal::print(&format!(
                    "Still running: Keyward at {keyward} (its API is described at {url}/docs),\nthe plant at {plant}. Ctrl-C ends \
                     both and deletes everything.\n"
                ))?;
                std::future::pending::<()>().await;
            }
            anyhow::Ok(())
        };
        let outcome = tokio::select! {
            outcome = shown => outcome,
            () = stop.asked() => Ok(()),
        };
        drop(end);
        serving.await?;
        drop(directory);
        terminal::print("Ended; everything is deleted.\n")?;
        outcome
    }
}

/// Nothing of the environment counts: the demo touches nothing that is there.
fn config(directory: &Temporary) -> anyhow::Result<Config> {
    let mut config = Config::defaults()?;
    config.server.data.clone_from(&directory.0);
    config.server.listen.set_port(0);
    config.server.shutdown_grace_s = 1;
    config.log.level = LogLevel::Error;
    Ok(config)
}
