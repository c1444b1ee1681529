//! `keyward bootstrap`: from the key that a new server printed to a key of one's own, kept in the profile.
//!
//! 1. See that the profile can be written: the key can be used once
//! 2. Get a token with it; its credential's id is also its client's
//! 3. Make a client for the command line, and issue its key: this ends the bootstrap key
//! 4. Keep that key in the profile

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use keyward_model::api::KEYWARD_AUDIENCE;
use keyward_model::id::ClientId;
use keyward_model::key::Key;
use keyward_model::rights::ScopeSet;
use keyward_server::api::clients::{ClientView, NewClient};
use keyward_server::api::credentials::{IssuedCredential, NewCredential};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::options::Global;
use crate::profile::identity::Identity;
use crate::profile::{self, Profile};
use crate::remote::Remote;
use crate::terminal::{self, Paint};

const SCOPE: &str = "keyward:admin";

/// Make yourself the administrator of a new server
///
/// Uses the key that the first start (or `keyward recover`) printed to make a client for this command line, and keeps
/// that client's own key in the profile. The bootstrap key ends thereby.
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward bootstrap --url http://127.0.0.1:8080 kw_…
  keyward bootstrap --url https://keyward.example - < key
  keyward bootstrap --file bootstrap.json")]
pub(crate) struct Bootstrap {
    /// The bootstrap key, or - to read it from standard input.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    key: Option<String>,
    /// The file that `keyward serve --bootstrap-file` wrote, with key and URL in it.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What to call the client of this command line.
    #[arg(long, default_value = "keyward-cli")]
    name: String,
    /// Replace a profile that is there.
    #[arg(long)]
    force: bool,
}

impl Bootstrap {
    fn given(&self) -> anyhow::Result<Given> {
        let Some(path) = &self.file else {
            let key = self.key.as_deref().unwrap_or("-");
            let text =
                if key == "-" { terminal::read_secret("the bootstrap key")? } else { Zeroizing::new(key.to_owned()) };
            return Ok(Given { url: None, client_secret: text });
        };
        let text = fs::read_to_string(path).map(Zeroizing::new).with_context(|| path.display().to_string())?;
        // The parser's own words may quote what it read.
        serde_json::from_str(&text).map_err(|_| {
            Failure::new(format!("{} holds no bootstrap key", path.display()))
                .hint("only the first start writes one; `keyward recover` prints another")
                .into()
        })
    }

    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let given = self.given()?;
        let url = global.server().map(str::to_owned).or(given.url).ok_or_else(|| {
            Failure::usage("which server?").hint("the first start prints the whole command, --url among it")
        })?;
        let path = global.profile_path()?;
        if path.exists() && !self.force {
            return Err(Failure::new(format!("there is a profile at {} already", path.display()))
                .hint("keep it and name another with --profile FILE, or replace it with --force")
                .into());
        }
        let bootstrap = bootstrap_profile(profile::base(&url)?, given.client_secret)?;
        let remote = Remote::sign_in(bootstrap.clone(), path.clone()).await?;
        // What is written now cannot work for long; it proves that what is written next can be.
        let replaced = Profile::load(&path).ok();
        bootstrap.store(&path)?;
        let profile = match administrator(&remote, self.name).await {
            Ok(profile) => profile,
            Err(error) => {
                match replaced {
                    Some(replaced) => replaced.store(&path)?,
                    None => std::fs::remove_file(&path)?,
                }
                return Err(error);
            }
        };
        profile.store(&path)?;
        let paint = Paint::stdout();
        Ok(terminal::print(&format!(
            "You are the administrator of {}. The key is kept in {}; the bootstrap key has ended.\n\nNext:\n\n    {}\n    {}\n    {}\n",
            profile.url,
            path.display(),
            paint.cyan(
                "keyward api create plant --audience https://plant.example/api --scope 'Admin Supervisor Worker'"
            ),
            paint.cyan("keyward client create press-7 --scope Worker --res plant/7 --api plant"),
            paint.cyan("keyward credential issue press-7 --expires 90d"),
        ))?)
    }
}

/// What is known of the first key; in the form of the file that `keyward serve` writes.
#[derive(Deserialize)]
struct Given {
    url: Option<String>,
    client_secret: Zeroizing<String>,
}

/// As whom a bootstrap key signs in: the server gives its client and its credential the same UUID.
fn bootstrap_profile(url: String, text: Zeroizing<String>) -> anyhow::Result<Profile> {
    let key = Key::parse(&text).map_err(|e| Failure::usage(e.to_string()))?;
    let client_id = ClientId::from_uuid(key.credential.as_uuid());
    Ok(Profile { url, client_id, identity: Identity::Key(text), way: None })
}

/// A client for the command line, with its key.
async fn administrator(remote: &Remote, name: String) -> anyhow::Result<Profile> {
    let api = remote.api(KEYWARD_AUDIENCE).await?.id;
    let scope: ScopeSet = SCOPE.parse()?;
    let apis = vec![api];
    let new = NewClient {
        name,
        kind: None,
        owner: None,
        scope,
        res: None,
        subject: None,
        apis,
        redirect_uris: Vec::new(),
        device_grant: None,
    };
    let client: ClientView = remote.post("clients", &new).await?;
    let new = NewCredential { label: "command line".to_owned(), ..NewCredential::default() };
    let issued: IssuedCredential = remote.post(&format!("clients/{}/credentials", client.id), &new).await?;
    let secret = issued.client_secret.ok_or_else(|| Failure::new("the server did not show the new key"))?;
    let identity = Identity::Key(Zeroizing::new(secret));
    Ok(Profile { url: remote.url.clone(), client_id: issued.client_id, identity, way: None })
}
