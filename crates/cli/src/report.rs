//! `keyward report`: what deserves a look.

use clap::Subcommand;
use keyward_server::api::list::List;
use keyward_server::api::reports::{Orphan, OrphanQuery};

use crate::client::transfer::beyond;
use crate::options::{Global, Limit};
use crate::state::activity;
use crate::table::{self, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// Look at what deserves a look
#[derive(Subcommand)]
pub(crate) enum Report {
    /// List clients whose owner is disabled, or has less rights than client or credentials ask for
    Owners {
        /// Only those of this user; `me` for your own.
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
}

impl Report {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let remote = global.remote().await?;
        let Self::Owners { owner, limit } = self;
        let owner = match owner {
            Some(owner) => Some(remote.user(&owner).await?.id),
            None => None,
        };
        let filter = OrphanQuery { owner, ..OrphanQuery::default() };
        let found: List<Orphan> = remote.list("reports/owners", &filter, limit.most()).await?;
        global.answer(&found, |found| rows(&found.items))
    }
}

fn rows(orphans: &[Orphan]) -> String {
    let columns = [text("NAME"), whole("CLIENT"), text("OWNER"), text("OWNER IS"), text("BEYOND")];
    let now = when::now();
    let row = |orphan: &Orphan| {
        vec![
            orphan.name.clone(),
            orphan.client.to_string(),
            orphan.owner_name.clone(),
            activity(orphan.owner_disabled_at, now),
            beyond(&orphan.beyond),
        ]
    };
    table::render(&columns, orphans.iter().map(row).collect(), terminal::width(), Paint::stdout())
}
