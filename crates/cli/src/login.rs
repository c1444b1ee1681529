//! `keyward login`: sign in as yourself, with the browser of this machine or, by a code, with any other.
//!
//! 1. Which server, and how it lets people in
//! 2. Which way: as said, else as said before, else by where this runs
//! 3. Sign in, and see as whom
//! 4. Keep the login in the profile, and end the one that was there

pub(crate) mod authority;
mod browser;
mod device;
mod pace;
mod place;
mod screen;

use std::path::Path;

use clap::Args;
use keyward_model::id::{ClientId, UserId};
use keyward_model::rights::ScopeSet;
use keyward_server::api::users::UserView;
use serde::Serialize;

use crate::access::{Token, lock};
use crate::failure::Failure;
use crate::options::{Global, union};
use crate::profile::identity::{Identity, Login as Kept, Way};
use crate::profile::{self, Profile};
use crate::remote;
use crate::settings::create_private;
use crate::terminal::{self, Interrupt, visible};
use crate::when;
use authority::Authority;
use device::Wish;
use screen::Status;

/// Sign in as yourself
///
/// Where a browser is at hand it is opened; over SSH, in a container or without a display, a code is shown that you enter
/// in a browser anywhere. The login is kept in the profile, and all commands use it until `keyward logout`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward login --url https://keyward.example
  keyward login --device
  keyward --profile work login --url https://keyward.example --scope keyward:support")]
pub(crate) struct Login {
    /// By a code that is entered in a browser anywhere; the profile remembers it.
    #[arg(long, conflicts_with = "browser")]
    device: bool,
    /// With the browser of this machine; the profile remembers it.
    #[arg(long)]
    browser: bool,
    /// Show a QR code, whatever is known of the terminal.
    #[arg(long, conflicts_with = "no_qr")]
    qr: bool,
    /// Show no QR code.
    #[arg(long)]
    no_qr: bool,
    /// What to call this terminal where your sessions are listed; the machine's name if absent.
    #[arg(long)]
    label: Option<String>,
    /// Scopes to ask for: several separated by spaces, or the option several times; all you have if absent.
    #[arg(long, value_name = "SCOPES")]
    scope: Vec<ScopeSet>,
    /// Sign in through this public client; the server's own for command lines if absent.
    #[arg(long, value_name = "ID")]
    client_id: Option<ClientId>,
    /// Replace the key that the profile holds.
    #[arg(long)]
    force: bool,
}

/// What scripts are told of a login.
#[derive(Serialize)]
struct SignedIn {
    url: String,
    client_id: ClientId,
    user: UserId,
    name: String,
    scope: String,
    profile: String,
}

impl Login {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let path = global.profile_path()?;
        let stored = if path.exists() { Some(Profile::load(&path)?) } else { None };
        let url = self.server(global, stored.as_ref(), &path)?;
        let said = self.said();
        let remembered = said.or(stored.as_ref().and_then(|stored| stored.way));
        let authority = Authority::find(url, self.client_id).await?;
        // Somebody who signs in for nothing is told before, not after.
        create_private(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        drop(lock(&path).await?);

        let mut status = Status::new();
        let token = self.sign_in(&authority, remembered.unwrap_or_else(place::here), global.json, &mut status).await?;
        match keep(&authority, token, remembered, &path).await {
            Ok(signed_in) => {
                status.settle(&format!("signed in as {}", signed_in.name));
                warn_of_environment();
                if global.json {
                    terminal::print(&format!("{}\n", serde_json::to_string(&signed_in)?))?
                }
                Ok(())
            }
            Err(error) => {
                status.clear();
                Err(error)
            }
        }
    }

    fn server(&self, global: &Global, stored: Option<&Profile>, path: &Path) -> anyhow::Result<String> {
        let named = global.server().map(profile::base).transpose()?;
        if let Some(Profile { identity: Identity::Key(_), .. }) = stored.filter(|_| !self.force) {
            return Err(Failure::new(format!("the profile {} holds a key", path.display()))
                .hint("keep it and name another profile with --profile NAME, or replace it with --force")
                .into());
        }
        match (named, stored) {
            (Some(named), Some(stored)) if matches!(stored.identity, Identity::Login(_)) && !self.force => {
                stored.require_url(Some(&named))?;
                Ok(named)
            }
            (Some(named), _) => Ok(named),
            (None, Some(stored)) => Ok(stored.url.clone()),
            (None, None) => Err(Failure::usage("which server?").hint("name it with --url or KEYWARD_URL").into()),
        }
    }

    fn said(&self) -> Option<Way> {
        match (self.device, self.browser) {
            (true, _) => Some(Way::Device),
            (_, true) => Some(Way::Browser),
            _ => None,
        }
    }

    async fn sign_in(&self, authority: &Authority, way: Way, json: bool, status: &mut Status) -> anyhow::Result<Token> {
        let scope = union(&self.scope).map(|scope| scope.to_string());
        let label = self.label.clone().unwrap_or_else(machine);
        let qr = if self.qr { Some(true) } else { Some(false).filter(|_| self.no_qr) };
        match (way, &authority.authorization_endpoint) {
            (Way::Browser, Some(endpoint)) => browser::sign_in(authority, endpoint, scope.as_deref(), status).await,
            _ => {
                let wish = Wish { scope: scope.as_deref(), label: &label, qr, json };
                device::sign_in(authority, &wish, status).await
            }
        }
    }
}

/// Keeps a new login in the profile and ends the one that was there. What cannot be kept is ended.
async fn keep(authority: &Authority, token: Token, way: Option<Way>, path: &Path) -> anyhow::Result<SignedIn> {
    let Some(refresh_token) = token.refresh_token.clone() else {
        return Err(Failure::new("the server gave a token but no session with it")
            .hint("is the client of --client-id meant for signing in?")
            .into());
    };
    let kept = store(authority, token, way, path).await;
    match &kept {
        Ok(_) => {}
        Err(_) => drop(authority.revoke(&refresh_token).await),
    }
    kept
}

async fn store(authority: &Authority, token: Token, way: Option<Way>, path: &Path) -> anyhow::Result<SignedIn> {
    let mut interrupt = Interrupt::new()?;
    let ready = async {
        let user: UserView = remote::whoami(&authority.url, &token.access_token).await?;
        Ok::<_, anyhow::Error>((user, lock(path).await?))
    };
    // From here on nothing waits for others before the login is kept: until here it can be left.
    let (user, _turn) = tokio::select! {
        ready = ready => ready?,
        () = interrupt.came() => return Err(cancelled().into()),
    };
    let login = Kept {
        user: user.id,
        name: user.name,
        expires_at: token.expires_at(when::now()),
        refresh_token: token.refresh_token.unwrap_or_default(),
        access_token: token.access_token,
        scope: token.scope,
    };
    let signed_in = SignedIn {
        url: authority.url.clone(),
        client_id: authority.client,
        user: login.user,
        name: login.name.clone(),
        scope: login.scope.clone(),
        profile: path.display().to_string(),
    };
    let before = Profile::load(path).ok();
    let identity = Identity::Login(Box::new(login));
    Profile { url: authority.url.clone(), client_id: authority.client, identity, way }.store(path)?;
    if let Some(Profile { url, client_id, identity: Identity::Login(login), .. }) = before {
        // It may have ended already, and its server may be gone.
        drop(Authority::known(url, client_id)?.revoke(&login.refresh_token).await);
    }
    Ok(signed_in)
}

/// What whoever pressed Ctrl-C is told.
fn cancelled() -> Failure {
    Failure::new("cancelled; nobody is signed in")
}

/// What this machine is called.
fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("keyward on {}", visible(&name))
}

/// A key in the environment goes before every profile.
fn warn_of_environment() {
    if ["KEYWARD_CLIENT_ID", "KEYWARD_CLIENT_SECRET"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
    {
        terminal::note(
            "warning: KEYWARD_CLIENT_ID or KEYWARD_CLIENT_SECRET is set and goes before this login; unset both",
        );
    }
}
