//! `keyward credential`: API keys.

pub(crate) mod rotation;
mod scan;

use clap::{Args, Subcommand};
use keyward_model::credential::StateName;
use keyward_model::time::Timestamp;
use keyward_server::api::callers::CallersInShort;
use keyward_server::api::clients::ClientView;
use keyward_server::api::credentials::{CredentialQuery, CredentialView, IssuedCredential, NewCredential};
use keyward_server::api::list::List;

use crate::caller::CallerOptions;
use crate::failure::Failure;
use crate::names::Meant;
use crate::options::{Global, KeyOptions, Limit, RightsOptions, one_of};
use crate::remote::Remote;
use crate::table::{self, spare, text, whole};
use crate::terminal::{self, Paint};
use crate::watch::Watch;
use crate::when::{self, End};
use rotation::{CancelRotation, ExtendRetirement, FinishRetirement, RotateCredential};

/// Manage credentials: API keys, which are OAuth client secrets
///
/// A credential is named by its id. The name of its client does too, where only one key of it can be meant.
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  keyward credential issue press-7 --label 'PLC in hall 3' --expires 90d
  keyward credential list press-7
  keyward credential rotate press-7 --overlap 14d --watch
  keyward credential finish press-7
  keyward credential callers cred_01h455vb4pex5vsknk084sn02q --within 24h
  keyward credential revoke cred_01h455vb4pex5vsknk084sn02q")]
pub(crate) enum Credential {
    List(ListCredentials),
    /// Show one credential, never its secret
    Show {
        credential: String,
    },
    Issue(IssueCredential),
    Change(ChangeCredential),
    Rotate(RotateCredential),
    Cancel(CancelRotation),
    Extend(ExtendRetirement),
    Finish(FinishRetirement),
    /// Show from where a credential is used
    Callers {
        credential: String,
        #[command(flatten)]
        options: CallerOptions,
    },
    Watch(Watch),
    Scan(scan::Scan),
    /// End credentials at once; their tokens end with them
    Revoke {
        #[arg(required = true, value_name = "CREDENTIAL")]
        credentials: Vec<String>,
    },
}

/// List credentials
#[derive(Args)]
pub(crate) struct ListCredentials {
    /// Only those of this client.
    client: Option<String>,
    /// Only those of clients of this user; `me` for your own.
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Only those in this state.
    #[arg(long, value_parser = one_of::<StateName>(&["active", "retiring", "expired", "revoked", "purged"]))]
    state: Option<StateName>,
    #[command(flatten)]
    limit: Limit,
}

/// Issue a credential: prints the key, this once
#[derive(Args)]
pub(crate) struct IssueCredential {
    /// The client it is for.
    client: String,
    /// What people call it.
    #[arg(long, default_value = "")]
    label: String,
    /// When it ends by itself: 90d, 12h, 2027-01-31 or 2027-01-31T18:00:00Z.
    #[arg(long, value_name = "WHEN")]
    expires: Option<End>,
    #[command(flatten)]
    rights: RightsOptions,
}

/// Change a credential; what is not named stays as it is
#[derive(Args)]
pub(crate) struct ChangeCredential {
    credential: String,
    #[command(flatten)]
    change: KeyOptions,
}

impl Credential {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let command = match self {
            // It also works where there is no server.
            Self::Scan(scan) => return scan.run(global).await,
            command => command,
        };
        let remote = global.remote().await?;
        match command {
            Self::Scan(scan) => scan.run(global).await,
            Self::List(list) => list.run(global, &remote).await,
            Self::Show { credential } => {
                let credential = remote.credential(&credential, Meant::Working).await?;
                let view = remote.get(&format!("credentials/{credential}")).await?;
                show(global, &view)
            }
            Self::Issue(issue) => issue.run(global, &remote).await,
            Self::Change(change) => change.run(global, &remote).await,
            Self::Rotate(rotate) => rotate.run(global, &remote).await,
            Self::Cancel(cancel) => cancel.run(global, &remote).await,
            Self::Extend(extend) => extend.run(global, &remote).await,
            Self::Finish(finish) => finish.run(global, &remote).await,
            Self::Callers { credential, options } => {
                let credential = remote.credential(&credential, Meant::Working).await?;
                options.list(global, &remote, &format!("credentials/{credential}")).await
            }
            Self::Watch(watch) => watch.run(global, &remote).await,
            Self::Revoke { credentials } => {
                // All are found before one is ended: a slip in the third must not leave half of it done.
                let mut ids = Vec::with_capacity(credentials.len());
                for credential in &credentials {
                    ids.push(remote.credential(credential, Meant::Working).await?);
                }
                for credential in ids {
                    let view: CredentialView = remote.act(&format!("credentials/{credential}/revoke")).await?;
                    global.answer(&view, |view| format!("{} is {}\n", view.id, view.state))?;
                }
                Ok(())
            }
        }
    }
}

impl ListCredentials {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let client = match &self.client {
            Some(client) => Some(remote.client(client).await?.id),
            None => None,
        };
        let owner = match &self.owner {
            Some(owner) => Some(remote.user(owner).await?.id),
            None => None,
        };
        let filter = CredentialQuery { client, owner, state: self.state, ..CredentialQuery::default() };
        let found: List<CredentialView> = remote.list("credentials", &filter, self.limit.most()).await?;
        global.answer(&found, |found| rows(found.items.clone()))
    }
}

/// Credentials as a table.
pub(crate) fn rows(credentials: Vec<CredentialView>) -> String {
    let columns = [
        text("LABEL"),
        whole("CREDENTIAL"),
        whole("STATE"),
        spare("SCOPE"),
        spare("RES"),
        spare("ISSUED"),
        whole("ENDS"),
    ];
    let now = when::now();
    let row = |credential: CredentialView| {
        let ends = credential.ended_at.or(credential.retire_at).or(credential.expires_at);
        vec![
            credential.label,
            credential.id.to_string(),
            credential.state.to_string(),
            credential.scope.map_or_else(|| "(client's)".to_owned(), |scope| scope.to_string()),
            credential.res.map_or_else(|| "(client's)".to_owned(), |res| res.to_text()),
            when::relative(credential.created_at.0, now),
            ends.map_or_else(|| "never".to_owned(), |at| when::relative(at.0, now)),
        ]
    };
    table::render(&columns, credentials.into_iter().map(row).collect(), terminal::width(), Paint::stdout())
}

fn show(global: &Global, credential: &CredentialView) -> anyhow::Result<()> {
    global.answer(credential, properties)
}

fn properties(credential: &CredentialView) -> String {
    let now = when::now();
    let instant = |at: Option<keyward_server::api::instant::Instant>| {
        at.map_or_else(String::new, |at| format!("{} ({})", when::minute(at.0), when::relative(at.0, now)))
    };
    table::properties(&[
        ("credential", credential.id.to_string()),
        ("label", credential.label.clone()),
        ("client", credential.client.to_string()),
        ("state", credential.state.to_string()),
        ("scope", credential.scope.as_ref().map_or_else(|| "(client's)".to_owned(), ToString::to_string)),
        ("res", credential.res.as_ref().map_or_else(|| "(client's)".to_owned(), |res| res.to_text())),
        ("issued", instant(Some(credential.created_at))),
        ("by", credential.created_by.to_string()),
        ("expires", if credential.expires_at.is_none() { "never".to_owned() } else { instant(credential.expires_at) }),
        ("retires", instant(credential.retire_at)),
        ("leaked", instant(credential.leaked_at)),
        ("successor", credential.successor.map_or_else(String::new, |id| id.to_string())),
        ("ended", instant(credential.ended_at)),
        ("because", credential.end_reason.map_or_else(String::new, |reason| reason.to_string())),
        ("purged", instant(credential.purge_at)),
        ("callers", credential.callers.map_or_else(String::new, |callers| in_short(credential.state, callers, now))),
    ])
}

/// `3 callers left, last seen 4 min ago`: of a key that retires those are still to be moved.
fn in_short(state: StateName, callers: CallersInShort, now: Timestamp) -> String {
    let CallersInShort { seen_in_window: count, last_seen_at } = callers;
    let left = if state == StateName::Retiring { " left" } else { "" };
    let seen = last_seen_at.map_or_else(String::new, |at| format!(", last seen {}", when::relative(at.0, now)));
    format!("{count} caller{}{left}{seen}", if count == 1 { "" } else { "s" })
}

impl IssueCredential {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.client(&self.client).await?;
        let new = NewCredential {
            label: self.label,
            expires_at: self.expires.map(|end| end.from(when::now())),
            scope: self.rights.scope(),
            res: self.rights.res(),
        };
        let issued: IssuedCredential = remote.post(&format!("clients/{}/credentials", client.id), &new).await?;
        if global.json {
            return terminal::print_json(&issued);
        }
        Ok(terminal::print(&handed_over(remote, &client, &issued).await?)?)
    }
}

/// The audiences a client can ask for; none known if the caller may not see the APIs.
async fn audiences(remote: &Remote, client: &ClientView) -> Vec<String> {
    let apis = remote.apis().await.unwrap_or_default();
    apis.into_iter().filter(|api| client.apis.contains(&api.id)).map(|api| api.audience).collect()
}

/// The key, and how it is used.
async fn handed_over(remote: &Remote, client: &ClientView, issued: &IssuedCredential) -> anyhow::Result<String> {
    let (url, paint) = (&remote.url, Paint::stdout());
    let audiences = audiences(remote, client).await;
    let secret = issued.client_secret.as_deref().ok_or_else(|| Failure::new("the server showed this key before"))?;
    let credential = &issued.credential;
    let ends = credential
        .expires_at
        .map_or_else(|| "It does not end by itself.".to_owned(), |at| format!("It ends on {}.", when::minute(at.0)));
    let mut out = format!(
        "{} for {:?} ({}). {ends}\n\n    {}\n\nThis is the only time the key is shown. Get a token with it, and call an API with that:\n\n",
        credential.id,
        client.name,
        client.id,
        paint.bold(secret),
    );
    // With several APIs the client must say for which; the first shows how.
    let resource = match audiences.as_slice() {
        [first, _, ..] => format!(" -d resource={first}"),
        _ => String::new(),
    };
    let api =
        audiences.first().map(String::as_str).filter(|a| a.starts_with("http")).unwrap_or("https://your.api.example");
    let lines = [
        format!("TOKEN=$(curl -s {url}/token \\"),
        format!("  -u {}:{secret} \\", client.id),
        format!("  -d grant_type=client_credentials{resource} \\"),
        r#"  | sed 's/.*"access_token":"\([^"]*\)".*/\1/')"#.to_owned(),
        format!("curl -H \"Authorization: Bearer $TOKEN\" {api}"),
    ];
    for line in lines {
        out.push_str(&format!("    {}\n", paint.cyan(&line)));
    }
    if client.apis.is_empty() {
        out.push_str(&format!(
            "\nIt gets no token yet: name an API it may use with `keyward client change {} --api …`.\n",
            client.id
        ));
    }
    Ok(out)
}

impl ChangeCredential {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let credential = remote.credential(&self.credential, Meant::Working).await?;
        let change = self.change.change(when::now());
        let changed = remote.patch(&format!("credentials/{credential}"), &change).await?;
        show(global, &changed)
    }
}
