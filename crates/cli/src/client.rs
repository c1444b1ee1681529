//! `keyward client`: applications.

mod device;
pub(crate) mod transfer;

use clap::{Args, Subcommand};
use keyward_model::client::{ClientKind, Subject};
use keyward_server::api::clients::{ClientChange, ClientQuery, ClientView, NewClient};
use keyward_server::api::credentials::{CredentialQuery, CredentialView};
use keyward_server::api::list::List;

use crate::caller::CallerOptions;
use crate::credential;
use crate::names::Names;
use crate::options::{Global, Limit, RightsOptions, Sure, one_of, words};
use crate::remote::Remote;
use crate::state::{Standing, activity};
use crate::table::{self, spare, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// Manage clients: the applications that hold API keys
///
/// Wherever a client, user or API is named, its id or its name does.
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  keyward client create press-7 --scope Worker --res plant/7 --api https://plant.example/api
  keyward client list --owner alice
  keyward client transfer press-7 --to bob
  keyward client disable press-7")]
pub(crate) enum Client {
    List(ListClients),
    /// Show one client with its credentials
    Show {
        client: String,
    },
    Create(CreateClient),
    Change(ChangeClient),
    /// Show from where the credentials of a client are used
    Callers {
        client: String,
        #[command(flatten)]
        options: CallerOptions,
    },
    Transfer(transfer::Transfer),
    /// List the clients on offer: to you, by you, or all if you may see them
    Transfers,
    Accept(transfer::Accept),
    /// Decline a client that is offered to you
    Decline {
        client: String,
    },
    /// Stop a client: none of its keys and tokens work until it is enabled
    Disable {
        client: String,
    },
    /// Let a disabled client work again
    Enable {
        client: String,
    },
    /// Delete a client with all its credentials
    Delete {
        client: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// List clients
#[derive(Args)]
pub(crate) struct ListClients {
    /// Only those with this name.
    #[arg(long)]
    name: Option<String>,
    /// Only those of this user; `me` for your own.
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Only those in this state.
    #[arg(long, value_parser = one_of::<Standing>(Standing::WORDS))]
    state: Option<Standing>,
    #[command(flatten)]
    limit: Limit,
}

/// Register a client
#[derive(Args)]
pub(crate) struct CreateClient {
    /// What people call it.
    name: String,
    #[command(flatten)]
    rights: RightsOptions,
    /// An API it may ask tokens for; several times for several.
    #[arg(long, value_name = "API")]
    api: Vec<String>,
    /// Its owner, if not you: the user as whom it acts and whose rights bound it.
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Who its tokens name as `sub`: its owner, or the client itself.
    #[arg(long, value_parser = one_of::<Subject>(&["owner", "client"]))]
    subject: Option<Subject>,
    /// It cannot keep a secret: no credentials.
    #[arg(long)]
    public: bool,
    /// Where browsers are led back to after a user has let it in; several times for several.
    #[arg(long, value_name = "URI")]
    redirect_uri: Vec<String>,
    #[command(flatten)]
    device: device::DeviceOptions,
}

/// Change a client; what is not named stays as it is
#[derive(Args)]
pub(crate) struct ChangeClient {
    client: String,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    rights: RightsOptions,
    /// The APIs it may ask tokens for, instead of those it has; several times for several.
    #[arg(long, value_name = "API")]
    api: Vec<String>,
    /// Who its tokens name as `sub`: its owner, or the client itself.
    #[arg(long, value_parser = one_of::<Subject>(&["owner", "client"]))]
    subject: Option<Subject>,
    /// Where browsers are led back to, instead of where they are now; several times for several.
    #[arg(long, value_name = "URI")]
    redirect_uri: Vec<String>,
    #[command(flatten)]
    device: device::DeviceOptions,
}

impl Client {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let remote = global.remote().await?;
        match self {
            Self::List(list) => list.run(global, &remote).await,
            Self::Show { client } => show(global, &remote, remote.client(&client).await?).await,
            Self::Create(create) => create.run(global, &remote).await,
            Self::Change(change) => change.run(global, &remote).await,
            Self::Callers { client, options } => {
                let client = remote.client(&client).await?;
                options.list(global, &remote, &format!("clients/{}", client.id)).await
            }
            Self::Transfer(transfer) => transfer.run(global, &remote).await,
            Self::Transfers => transfer::list(global, &remote).await,
            Self::Accept(accept) => accept.run(global, &remote).await,
            Self::Decline { client } => transfer::decline(&remote, &client).await,
            Self::Disable { client } => act(global, &remote, &client, "disable").await,
            Self::Enable { client } => act(global, &remote, &client, "enable").await,
            Self::Delete { client, sure } => {
                let client = remote.client(&client).await?;
                let question = format!("Delete the client {:?} ({}) with all its credentials?", client.name, client.id);
                terminal::confirm(&question, sure.yes)?;
                remote.delete(&format!("clients/{}", client.id)).await?;
                terminal::note(&format!("deleted {}", client.id));
                Ok(())
            }
        }
    }
}

impl ListClients {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let owner = match &self.owner {
            Some(owner) => Some(remote.user(owner).await?.id),
            None => None,
        };
        let filter =
            ClientQuery { name: self.name, owner, state: self.state.map(Into::into), ..ClientQuery::default() };
        let found: List<ClientView> = remote.list("clients", &filter, self.limit.most()).await?;
        if global.json {
            return terminal::print_json(&found);
        }
        let owners = remote.user_names(found.items.iter().map(|client| client.owner)).await;
        Ok(terminal::print(&rows(found.items, &owners))?)
    }
}

fn rows(clients: Vec<ClientView>, owners: &Names) -> String {
    let columns =
        [text("NAME"), whole("ID"), spare("OWNER"), text("SCOPE"), text("RES"), text("STATE"), spare("CREATED")];
    let now = when::now();
    let row = |client: ClientView| {
        vec![
            client.name,
            client.id.to_string(),
            owners.of(client.owner),
            client.scope.to_string(),
            client.res.to_text(),
            activity(client.disabled_at, now),
            when::relative(client.created_at.0, now),
        ]
    };
    table::render(&columns, clients.into_iter().map(row).collect(), terminal::width(), Paint::stdout())
}

impl CreateClient {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let owner = match &self.owner {
            Some(owner) => Some(remote.user(owner).await?.id),
            None => None,
        };
        let new = NewClient {
            name: self.name,
            kind: self.public.then_some(ClientKind::Public),
            owner,
            scope: self.rights.scope().unwrap_or_default(),
            res: self.rights.res(),
            subject: self.subject,
            apis: remote.api_ids(&self.api).await?,
            redirect_uris: self.redirect_uri,
            device_grant: self.device.change().flatten(),
        };
        let made: ClientView = remote.post("clients", &new).await?;
        show(global, remote, made).await
    }
}

impl ChangeClient {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.client(&self.client).await?;
        let change = ClientChange {
            name: self.name,
            scope: self.rights.scope(),
            res: self.rights.res(),
            subject: self.subject,
            apis: if self.api.is_empty() { None } else { Some(remote.api_ids(&self.api).await?) },
            redirect_uris: (!self.redirect_uri.is_empty()).then_some(self.redirect_uri),
            device_grant: self.device.change(),
        };
        let changed = remote.patch(&format!("clients/{}", client.id), &change).await?;
        show(global, remote, changed).await
    }
}

async fn act(global: &Global, remote: &Remote, client: &str, what: &str) -> anyhow::Result<()> {
    let client = remote.client(client).await?;
    let changed = remote.act(&format!("clients/{}/{what}", client.id)).await?;
    show(global, remote, changed).await
}

/// Prints a client; for people with what its ids mean, and its credentials.
async fn show(global: &Global, remote: &Remote, client: ClientView) -> anyhow::Result<()> {
    if global.json {
        return terminal::print_json(&client);
    }
    let now = when::now();
    let owner = remote.user_names([client.owner]).await.of(client.owner);
    let apis = remote.apis().await.unwrap_or_default();
    let audience = |id| apis.iter().find(|api| api.id == id).map_or_else(|| id.to_string(), |api| api.audience.clone());
    let mut out = table::properties(&[
        ("name", client.name.clone()),
        ("id", client.id.to_string()),
        ("kind", client.kind.to_string()),
        ("state", activity(client.disabled_at, now)),
        ("owner", format!("{owner} ({})", client.owner)),
        ("scope", or_none(client.scope.to_string())),
        ("res", or_none(client.res.to_text())),
        ("sub", format!("the {}", client.subject)),
        ("apis", or_none(words(client.apis.iter().map(|id| audience(*id))))),
        ("leads to", or_none(client.redirect_uris.join(" "))),
        ("devices", device::text(client.device_grant.as_ref())),
        ("created", format!("{} ({})", when::minute(client.created_at.0), when::relative(client.created_at.0, now))),
        ("changed", format!("{} ({})", when::minute(client.updated_at.0), when::relative(client.updated_at.0, now))),
    ]);
    if client.kind == ClientKind::Confidential {
        let filter = CredentialQuery { client: Some(client.id), ..CredentialQuery::default() };
        let credentials: List<CredentialView> = remote.list("credentials", &filter, None).await?;
        out.push('\n');
        if credentials.items.is_empty() {
            out.push_str(&format!("no credentials yet: keyward credential issue {}\n", client.id));
        } else {
            out.push_str(&credential::rows(credentials.items));
        }
    }
    Ok(terminal::print(&out)?)
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}
