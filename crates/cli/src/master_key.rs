//! `keyward master-key`: the key under which everything else rests sealed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use keyward_model::entropy::Entropy;
use keyward_model::sealing::MasterKey as Key;
use keyward_server::master_key;
use zeroize::Zeroizing;

use crate::settings::{self, Settings};
use crate::terminal;

/// Rotate the master key, or make one
#[derive(Subcommand)]
pub(crate) enum MasterKey {
    Rotate(Rotate),
    /// Print a new master key, to be handed to a server as file, environment variable or systemd credential
    New,
}

/// Seal everything anew under another master key
///
/// Works on the server's own files, beside a running server too. Where the server keeps the key in a file of its own,
/// the file is replaced; where the key is handed to it, say with --new-key-file under which key to seal. Hand the server
/// both keys (the new one first) until that is done, then the new one alone.
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward master-key rotate --data /var/lib/keyward
  keyward master-key rotate --config /etc/keyward/keyward.toml --new-key-file /root/new.key")]
pub(crate) struct Rotate {
    #[command(flatten)]
    settings: Settings,
    /// File with the new key; if it is not there, a new key is made and written to it.
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
}

impl MasterKey {
    /// Does it.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::New => Ok(terminal::print(&format!("{}\n", *Key::generate(&Entropy::system())?.reveal()))?),
            Self::Rotate(rotate) => rotate.run().await,
        }
    }
}

impl Rotate {
    async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load(None)?;
        let source = settings::master_key(&config);
        let entropy = Entropy::system();
        let replacement = self.new_key_file.as_deref().map(|path| read_or_make(path, &entropy)).transpose()?;
        let store = settings::open_beside(&config).await?;
        let resealed = master_key::rotate(&store, &source, replacement, &entropy).await?;
        store.close().await;
        let then = match &self.new_key_file {
            None => format!("{} holds it", source.describe()),
            Some(path) => format!("put the key of {} alone into {} now", path.display(), source.describe()),
        };
        Ok(terminal::print(&format!("{resealed} secrets are sealed under the new master key; {then}.\n"))?)
    }
}

fn read_or_make(path: &Path, entropy: &Entropy) -> anyhow::Result<Key> {
    let named = || format!("the new master key in {}", path.display());
    if path.exists() {
        let text = Zeroizing::new(std::fs::read_to_string(path).with_context(named)?);
        return Key::parse(&text).with_context(named);
    }
    let key = Key::generate(entropy)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(named)?;
    writeln!(file, "{}", *key.reveal()).and_then(|()| file.sync_all()).with_context(named)?;
    Ok(key)
}
