//! `keyward user disable`: shows what stops, offers what is to go on to somebody else, asks, and disables.

use clap::Args;
use keyward_server::api::credentials::CredentialView;
use keyward_server::api::impact::Impact;
use keyward_server::api::users::UserView;

use crate::caller;
use crate::client::transfer;
use crate::options::{Global, Sure};
use crate::remote::Remote;
use crate::table::{self, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// Stop a user: every key and token of every client they own stops at once
///
/// First shows what stops, and asks. What is to go on can be offered to somebody else; it works again when they have
/// accepted it.
#[derive(Args)]
pub(crate) struct Disable {
    user: String,
    /// Offer all their clients to this user first.
    #[arg(long, value_name = "USER")]
    transfer_to: Option<String>,
    #[command(flatten)]
    sure: Sure,
}

impl Disable {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let user = remote.user(&self.user).await?;
        let to = match &self.transfer_to {
            Some(to) => Some(remote.user(to).await?),
            None => None,
        };
        let impact: Impact = remote.get(&format!("users/{}/impact", user.id)).await?;
        // Standard output is for the answer, which scripts read.
        terminal::note(&told(&impact, to.as_ref()));
        terminal::confirm(&format!("Disable the user {:?} ({})?", user.name, user.id), self.sure.yes)?;
        if let Some(to) = &to {
            let offered = transfer::offer_all(remote, &user, to).await?;
            terminal::note(&format!(
                "offered {offered} clients to {:?}: `keyward client transfers` lists them",
                to.name
            ));
        }
        let disabled = remote.act(&format!("users/{}/disable", user.id)).await?;
        super::show(global, &disabled)
    }
}

/// What stops, and the lines that keep it going.
fn told(impact: &Impact, to: Option<&UserView>) -> String {
    let Impact { clients, credentials, callers, apis, .. } = impact;
    let mut out = format!("What stops with {:?}:\n\n", impact.name);
    out.push_str(&table::properties(&[
        ("clients", clients.total.to_string()),
        ("credentials", format!("{} that work", credentials.total)),
        ("callers", format!("{} since {}", callers.total, when::minute(impact.since.0))),
        ("apis", format!("{} whose own client is one of these", apis.total)),
    ]));
    if clients.total == 0 {
        return out;
    }
    let columns = [text("NAME"), whole("CLIENT"), whole("CREDENTIALS"), text("LAST CALLER"), whole("LAST SEEN")];
    let now = when::now();
    let rows = clients.items.iter().map(|client| {
        let of_client = |credential: &&CredentialView| credential.client == client.id;
        let last = callers.items.iter().find(|caller| caller.client == client.id);
        vec![
            client.name.clone(),
            client.id.to_string(),
            credentials.items.iter().filter(of_client).count().to_string(),
            last.map_or_else(String::new, |last| caller::name(last).to_owned()),
            last.map_or_else(String::new, |last| when::relative(last.last_seen_at.0, now)),
        ]
    });
    out.push('\n');
    out.push_str(&table::render(&columns, rows.collect(), terminal::width(), Paint::never()));
    let unseen = clients.total - i64::try_from(clients.items.len()).unwrap_or(0);
    if unseen > 0 {
        out.push_str(&format!("and {unseen} more\n"));
    }
    if to.is_none() {
        out.push_str(
            "\nTo let them go on, offer them to somebody else, each by itself or all with --transfer-to USER:\n\n",
        );
        for client in &clients.items {
            out.push_str(&format!("  keyward client transfer {} --to USER\n", client.id));
        }
    }
    out
}
