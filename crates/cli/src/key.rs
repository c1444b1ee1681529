//! `keyward key`: the server's signing keys.

use clap::Subcommand;
use keyward_model::jws::SigningAlgorithm;
use keyward_server::api::instant::Instant;
use keyward_server::api::list::List;
use keyward_server::api::signing_keys::{Rotation, SigningKeyView, Turn};

use crate::api::ALGORITHMS;
use crate::options::{Global, one_of};
use crate::table::{self, spare, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// Look at the signing keys, and rotate them
#[derive(Subcommand)]
pub(crate) enum Key {
    /// List the signing keys and whose turn it is
    List,
    /// Give the next key its turn
    ///
    /// It signs as soon as every verifier can have seen it; the old key stays published until its last token is dead.
    Rotate {
        /// Of which algorithm.
        #[arg(long, value_parser = one_of::<SigningAlgorithm>(ALGORITHMS))]
        algorithm: Option<SigningAlgorithm>,
        /// At once, even if verifiers may not have seen the next key yet: when a key has leaked.
        #[arg(long)]
        immediately: bool,
    },
}

impl Key {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let remote = global.remote().await?;
        let keys: List<SigningKeyView> = match self {
            Self::List => remote.list("signing-keys", &(), None).await?,
            Self::Rotate { algorithm, immediately } => {
                remote.post("signing-keys/rotate", &Rotation { algorithm, immediately }).await?
            }
        };
        global.answer(&keys, |keys| rows(&keys.items))
    }
}

fn rows(keys: &[SigningKeyView]) -> String {
    let columns =
        [whole("KEY"), whole("ALGORITHM"), whole("STATE"), spare("PUBLISHED"), whole("SIGNS"), whole("LEAVES")];
    let now = when::now();
    let relative = |at: Option<Instant>| at.map_or_else(|| "-".to_owned(), |at| when::relative(at.0, now));
    let row = |key: &SigningKeyView| {
        let state = match key.state {
            Turn::Next => "next",
            Turn::Current => "current",
            Turn::Previous => "previous",
        };
        vec![
            key.id.to_string(),
            key.algorithm.to_string(),
            state.to_owned(),
            when::relative(key.published_at.0, now),
            relative(key.activate_at),
            relative(key.remove_at),
        ]
    };
    table::render(&columns, keys.iter().map(row).collect(), terminal::width(), Paint::stdout())
}
