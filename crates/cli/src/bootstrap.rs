//! `keyward bootstrap`: from the key that a new server printed to a key of one's own, kept in the profile.
//!
//! 1. See that the profile can be written: the key can be used once
//! 2. Get a token with it; its credential's id is also its client's
//! 3. Make a client for the command line, and issue its key: this ends the bootstrap key
//! 4. Keep that key in the profile

use clap::Args;
use keyward_model::api::KEYWARD_AUDIENCE;
use keyward_model::id::ClientId;
use keyward_model::key::Key;
use keyward_model::rights::ScopeSet;
use keyward_server::api::clients::{ClientView, NewClient};
use keyward_server::api::credentials::{IssuedCredential, NewCredential};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::options::Global;
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
  keyward bootstrap --url https://keyward.example - < key")]
pub(crate) struct Bootstrap {
    /// The bootstrap key, or - to read it from standard input.
    key: String,
    /// What to call the client of this command line.
    #[arg(long, default_value = "keyward-cli")]
    name: String,
    /// Replace a profile that is there.
    #[arg(long)]
    force: bool,
}

impl Bootstrap {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let text = if self.key == "-" { terminal::read_secret("the bootstrap key")? } else { Zeroizing::new(self.key) };
        let url = global.server().ok_or_else(|| {
            Failure::usage("which server?").hint("the first start prints the whole command, --url among it")
        })?;
        let path = global.profile_path()?;
        if path.exists() && !self.force {
            return Err(Failure::new(format!("there is a profile at {} already", path.display()))
                .hint("keep it and name another with --profile FILE, or replace it with --force")
                .into());
        }
        let bootstrap = bootstrap_profile(profile::base(url)?, text)?;
        let remote = Remote::sign_in(bootstrap.clone()).await?;
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

/// As whom a bootstrap key signs in: the server gives its client and its credential the same UUID.
fn bootstrap_profile(url: String, text: Zeroizing<String>) -> anyhow::Result<Profile> {
    let key = Key::parse(&text).map_err(|e| Failure::usage(e.to_string()))?;
    Ok(Profile { url, client_id: ClientId::from_uuid(key.credential.as_uuid()), client_secret: text })
}

/// A client for the command line, with its key.
async fn administrator(remote: &Remote, name: String) -> anyhow::Result<Profile> {
    let api = remote.api(KEYWARD_AUDIENCE).await?.id;
    let scope: ScopeSet = SCOPE.parse()?;
    let new = NewClient { name, kind: None, owner: None, scope, res: None, subject: None, apis: vec![api] };
    let client: ClientView = remote.post("clients", &new).await?;
    let new = NewCredential { label: "command line".to_owned(), ..NewCredential::default() };
    let issued: IssuedCredential = remote.post(&format!("clients/{}/credentials", client.id), &new).await?;
    let secret = issued.client_secret.ok_or_else(|| Failure::new("the server did not show the new key"))?;
    Ok(Profile { url: remote.url.clone(), client_id: issued.client_id, client_secret: Zeroizing::new(secret) })
}
