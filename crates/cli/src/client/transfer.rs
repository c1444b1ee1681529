//! `keyward client transfer`, `transfers`, `accept`, `decline`: clients that change hands.

use clap::Args;
use keyward_model::id::ClientId;
use keyward_server::api::list::List;
use keyward_server::api::reports::Beyond;
use keyward_server::api::transfers::{Direction, NewTransfer, TransferQuery, TransferView};
use keyward_server::api::users::UserView;

use crate::failure::Failure;
use crate::options::{Global, Sure, words};
use crate::remote::Remote;
use crate::table::{self, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// Offer a client to another owner, or withdraw the offer
///
/// Whoever it is offered to accepts it with `keyward client accept`, within 14 days. Until then nothing changes; from
/// then on the client acts as its new owner, and tokens got before end.
#[derive(Args)]
pub(crate) struct Transfer {
    client: String,
    /// Who is to own it; an id, unless you may see all users.
    #[arg(long, value_name = "USER", required_unless_present = "withdraw")]
    to: Option<String>,
    /// Withdraw the open offer.
    #[arg(long, conflicts_with = "to")]
    withdraw: bool,
}

impl Transfer {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.client(&self.client).await?;
        let Some(to) = self.to else {
            remote.delete(&format!("clients/{}/transfer", client.id)).await?;
            terminal::note(&format!("withdrawn: {} stays with its owner", client.id));
            return Ok(());
        };
        let to = match to.parse() {
            // Whoever sees only themselves may still know whom to give it to.
            Ok(id) => id,
            Err(_) => remote.user(&to).await?.id,
        };
        let view: TransferView = remote.post(&format!("clients/{}/transfer", client.id), &NewTransfer { to }).await?;
        show(global, &view)
    }
}

/// Lists open offers.
pub(crate) async fn list(global: &Global, remote: &Remote) -> anyhow::Result<()> {
    let found: List<TransferView> = remote.list("transfers", &TransferQuery::default(), None).await?;
    if global.json {
        return terminal::print_json(&found);
    }
    let users = found.items.iter().flat_map(|offer| [offer.owner, offer.offered_to]);
    let names = remote.user_names(users).await;
    let columns =
        [text("NAME"), whole("CLIENT"), text("FROM"), text("TO"), whole("ENDS"), text("BEYOND"), text("GAINED")];
    let now = when::now();
    let row = |offer: &TransferView| {
        vec![
            offer.name.clone(),
            offer.client.to_string(),
            names.of(offer.owner),
            names.of(offer.offered_to),
            if offer.stands { when::relative(offer.expires_at.0, now) } else { "counts no more".to_owned() },
            beyond(offer.beyond.as_deref().unwrap_or_default()),
            gained(offer),
        ]
    };
    let rows = found.items.iter().map(row).collect();
    Ok(terminal::print(&table::render(&columns, rows, terminal::width(), Paint::stdout()))?)
}

/// Accept a client that is offered to you
///
/// First shows whose it is, what it would not be granted and what its keys can do with you that they cannot do now, and
/// asks. Whoever has a key of it today has it then.
#[derive(Args)]
pub(crate) struct Accept {
    /// Name or id.
    client: String,
    #[command(flatten)]
    sure: Sure,
}

impl Accept {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let offered = offered(remote, &self.client).await?;
        let path = format!("clients/{offered}/transfer");
        let (view, seen): (TransferView, _) = remote.get_tagged(&path).await?;
        // Standard output is for the answer, which scripts read.
        terminal::note(properties(&view).trim_end());
        let question = format!("Accept {:?} ({offered}), so that it acts as you?", view.name);
        terminal::confirm(&question, self.sure.yes)?;
        let view = remote.act_on(&format!("{path}/accept"), seen).await?;
        show(global, &view)?;
        terminal::note(&format!(
            "yours from now on. Its former owner may know its keys: issue new ones and revoke those, see\n  keyward client show {offered}"
        ));
        Ok(())
    }
}

/// Declines what is offered under this name or id.
pub(crate) async fn decline(remote: &Remote, client: &str) -> anyhow::Result<()> {
    let offered = offered(remote, client).await?;
    remote.done(&format!("clients/{offered}/transfer/decline")).await?;
    terminal::note(&format!("declined: {offered} stays with its owner"));
    Ok(())
}

/// Offers all clients of a user, a page of the server's at a time, to another; gives how many.
pub(crate) async fn offer_all(remote: &Remote, from: &UserView, to: &UserView) -> anyhow::Result<usize> {
    use keyward_server::api::clients::{ClientQuery, ClientView};
    let filter = ClientQuery { owner: Some(from.id), ..ClientQuery::default() };
    let clients: List<ClientView> = remote.list("clients", &filter, None).await?;
    for client in &clients.items {
        let path = format!("clients/{}/transfer", client.id);
        let _: TransferView = remote.post(&path, &NewTransfer { to: to.id }).await?;
    }
    Ok(clients.items.len())
}

/// Whoever is offered a client cannot see it yet, but the offer.
async fn offered(remote: &Remote, text: &str) -> anyhow::Result<ClientId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let filter = TransferQuery { direction: Some(Direction::Incoming), ..TransferQuery::default() };
    let found: List<TransferView> = remote.list("transfers", &filter, None).await?;
    let named: Vec<_> = found.items.iter().filter(|offer| offer.name == text).map(|offer| offer.client).collect();
    match named.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::new(format!("no client {text:?} is offered to you"))
            .hint("`keyward client transfers` lists what is")
            .into()),
        several => Err(Failure::usage(format!("{} clients have the name {text:?}", several.len()))
            .hint(format!("say which by its id: {}", words(several)))
            .into()),
    }
}

fn show(global: &Global, view: &TransferView) -> anyhow::Result<()> {
    global.answer(view, properties)
}

fn properties(view: &TransferView) -> String {
    let now = when::now();
    let void = if view.stands { "" } else { "counts no more: let it be offered again" };
    table::properties(&[
        ("client", format!("{} ({})", view.name, view.client)),
        ("from", view.owner.to_string()),
        ("to", view.offered_to.to_string()),
        ("ends", format!("{} ({})", when::minute(view.expires_at.0), when::relative(view.expires_at.0, now))),
        ("stands", void.to_owned()),
        ("beyond", beyond(view.beyond.as_deref().unwrap_or_default())),
        ("gained", gained(view)),
    ])
}

/// What is asked for and not granted, in one line.
pub(crate) fn beyond(list: &[Beyond]) -> String {
    let one = |beyond: &Beyond| {
        let rights =
            words(beyond.scope.iter().map(ToString::to_string).chain(beyond.res.iter().map(ToString::to_string)));
        beyond.credential.map_or_else(|| rights.clone(), |credential| format!("{credential}: {rights}"))
    };
    list.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn gained(view: &TransferView) -> String {
    let Some(gained) = &view.gained else { return String::new() };
    words(gained.scope.iter().map(ToString::to_string).chain(gained.res.iter().map(ToString::to_string)))
}
