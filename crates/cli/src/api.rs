//! `keyward api`: the resource servers that tokens are for.

mod trust;

use std::time::Duration;

use clap::{Args, Subcommand};
use keyward_model::id::ClientId;
use keyward_model::jws::SigningAlgorithm;
use keyward_model::rights::ScopeSet;
use keyward_server::api::apis::{ApiChange, ApiView, IdentityIssuerView, NewApi};
use keyward_server::api::list::List;

use crate::options::{Global, Limit, Sure, one_of, union, words};
use crate::remote::Remote;
use crate::table::{self, spare, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// The algorithms on the command line.
pub(crate) const ALGORITHMS: &[&str] = &["ES256", "EdDSA", "RS256"];

/// Manage APIs: the resource servers that tokens are for
///
/// Wherever an API is named, its id, its audience or its name does.
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  keyward api create plant --audience https://plant.example/api --scope 'Admin Supervisor Worker'
  keyward api change plant --lifetime 5m --client plant-api
  keyward api change plant --identity-client plant-login
  keyward api change plant --trust issuer=https://login.example,audience=plant,scope=Worker,res=plant/7")]
pub(crate) enum Api {
    /// List APIs
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one API
    Show {
        api: String,
    },
    Create(CreateApi),
    Change(ChangeApi),
    /// Delete an API that no client uses
    Delete {
        api: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Register an API
#[derive(Args)]
pub(crate) struct CreateApi {
    /// What people call it.
    name: String,
    /// Its absolute URI: the `aud` of its tokens, and the `resource` by which clients ask for them.
    #[arg(long, value_name = "URI")]
    audience: String,
    /// The scopes it knows: several separated by spaces, or the option several times.
    #[arg(long, value_name = "SCOPES")]
    scope: Vec<ScopeSet>,
    #[command(flatten)]
    tokens: Tokens,
    /// The client as which it introspects the tokens it receives.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    #[command(flatten)]
    identities: Identities,
}

/// Change an API; what is not named stays as it is
#[derive(Args)]
pub(crate) struct ChangeApi {
    api: String,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// Its absolute URI. Tokens for the old one are refused by whoever expects the new one.
    #[arg(long, value_name = "URI")]
    audience: Option<String>,
    /// The scopes it knows, instead of those it has.
    #[arg(long, value_name = "SCOPES")]
    scope: Vec<ScopeSet>,
    #[command(flatten)]
    tokens: Tokens,
    /// The client as which it introspects the tokens it receives; "" for none.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    #[command(flatten)]
    identities: Identities,
}

/// What its tokens are like.
#[derive(Args)]
struct Tokens {
    /// How long its tokens live: 10m, 1h.
    #[arg(long, value_name = "DURATION", value_parser = when::parse_duration)]
    lifetime: Option<Duration>,
    /// How its tokens are signed.
    #[arg(long, value_parser = one_of::<SigningAlgorithm>(ALGORITHMS))]
    algorithm: Option<SigningAlgorithm>,
}

/// Whose identity tokens it accepts beside those of the client that calls; what is named replaces what it has.
#[derive(Args)]
struct Identities {
    /// A client whose identity tokens go with the client token of any client; several times for several, "" for none.
    #[arg(long, value_name = "CLIENT")]
    identity_client: Vec<String>,
    /// An issuer whose users it knows: issuer=URL,audience=TEXT, and what they may do at most: scope=SCOPES,res=PATHS.
    /// Several times for several, "" for none.
    #[arg(long, value_name = "ISSUER", value_parser = trust::parse)]
    trust: Vec<Option<IdentityIssuerView>>,
}

impl Identities {
    async fn clients(&self, remote: &Remote) -> anyhow::Result<Option<Vec<ClientId>>> {
        let mut clients = Vec::with_capacity(self.identity_client.len());
        for named in self.identity_client.iter().filter(|named| !named.is_empty()) {
            clients.push(remote.client(named).await?.id);
        }
        Ok((!self.identity_client.is_empty()).then_some(clients))
    }

    fn issuers(&self) -> Option<Vec<IdentityIssuerView>> {
        (!self.trust.is_empty()).then(|| self.trust.iter().flatten().cloned().collect())
    }
}

impl Api {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let remote = global.remote().await?;
        match self {
            Self::List { limit } => {
                let found: List<ApiView> = remote.list("apis", &(), limit.most()).await?;
                global.answer(&found, |found| rows(&found.items))
            }
            Self::Show { api } => show(global, &remote.api(&api).await?),
            Self::Create(create) => create.run(global, &remote).await,
            Self::Change(change) => change.run(global, &remote).await,
            Self::Delete { api, sure } => {
                let api = remote.api(&api).await?;
                terminal::confirm(&format!("Delete the API {:?} ({})?", api.name, api.audience), sure.yes)?;
                remote.delete(&format!("apis/{}", api.id)).await?;
                terminal::note(&format!("deleted {}", api.id));
                Ok(())
            }
        }
    }
}

impl CreateApi {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let client = match &self.client {
            Some(client) => Some(remote.client(client).await?.id),
            None => None,
        };
        let new = NewApi {
            identity_clients: self.identities.clients(remote).await?.unwrap_or_default(),
            identity_issuers: self.identities.issuers().unwrap_or_default(),
            name: self.name,
            audience: self.audience,
            scopes: union(&self.scope).unwrap_or_default().iter().cloned().collect(),
            token_lifetime_seconds: self.tokens.lifetime.map(|lifetime| lifetime.as_secs()),
            signing_algorithm: self.tokens.algorithm,
            client,
        };
        show(global, &remote.post("apis", &new).await?)
    }
}

impl ChangeApi {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let api = remote.api(&self.api).await?;
        let client = match self.client.as_deref() {
            None => None,
            Some("") => Some(None),
            Some(client) => Some(Some(remote.client(client).await?.id)),
        };
        let change = ApiChange {
            identity_clients: self.identities.clients(remote).await?,
            identity_issuers: self.identities.issuers(),
            name: self.name,
            audience: self.audience,
            scopes: union(&self.scope).map(|set| set.iter().cloned().collect()),
            token_lifetime_seconds: self.tokens.lifetime.map(|lifetime| lifetime.as_secs()),
            signing_algorithm: self.tokens.algorithm,
            client,
        };
        show(global, &remote.patch(&format!("apis/{}", api.id), &change).await?)
    }
}

fn rows(apis: &[ApiView]) -> String {
    let columns = [text("NAME"), whole("ID"), whole("AUDIENCE"), spare("SCOPES"), spare("TOKENS"), spare("ALGORITHM")];
    let row = |api: &ApiView| {
        vec![
            api.name.clone(),
            api.id.to_string(),
            api.audience.clone(),
            words(&api.scopes),
            lifetime(api),
            api.signing_algorithm.to_string(),
        ]
    };
    table::render(&columns, apis.iter().map(row).collect(), terminal::width(), Paint::stdout())
}

fn lifetime(api: &ApiView) -> String {
    when::span(Duration::from_secs(api.token_lifetime_seconds))
}

fn show(global: &Global, api: &ApiView) -> anyhow::Result<()> {
    global.answer(api, |api| {
        table::properties(&[
            ("name", api.name.clone()),
            ("id", api.id.to_string()),
            ("audience", api.audience.clone()),
            ("scopes", words(&api.scopes)),
            ("tokens", format!("live {}, signed with {}", lifetime(api), api.signing_algorithm)),
            ("introspects as", api.client.map_or_else(String::new, |client| client.to_string())),
            ("identities of", words(&api.identity_clients)),
            ("trusts", api.identity_issuers.iter().map(trust::show).collect::<Vec<_>>().join("\n")),
            ("created", when::minute(api.created_at.0)),
            ("changed", when::minute(api.updated_at.0)),
        ])
    })
}
