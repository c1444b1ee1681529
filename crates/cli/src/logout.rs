//! `keyward logout`: end the login of a profile, on the server and here.

use clap::Args;

use crate::access::lock;
use crate::failure::Failure;
use crate::login::authority::Authority;
use crate::options::Global;
use crate::profile::Profile;
use crate::profile::identity::Identity;
use crate::terminal;

/// Sign out: ends the session on the server and forgets its tokens
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward logout
  keyward --profile work logout")]
pub(crate) struct Logout {
    /// Forget the tokens even if the server cannot be told. The session then goes on until it ends by itself, or until
    /// somebody ends it: `keyward session revoke`.
    #[arg(long)]
    force: bool,
}

impl Logout {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let path = global.profile_path()?;
        if !path.exists() {
            return Ok(terminal::print("Nobody was signed in.\n")?);
        }
        let _turn = lock(&path).await?;
        let profile = Profile::load(&path)?;
        let login = match &profile.identity {
            Identity::Login(login) => login.clone(),
            Identity::SignedOut => return Ok(terminal::print("Nobody was signed in.\n")?),
            Identity::Key(_) => {
                return Err(Failure::new(format!("the profile {} holds a key, not a login", path.display()))
                    .hint("`keyward credential revoke` ends a key; `keyward profile remove` forgets one")
                    .into());
            }
        };
        let authority = Authority::known(profile.url.clone(), profile.client_id)?;
        if let Err(error) = authority.revoke(&login.refresh_token).await {
            if !self.force {
                return Err(Failure::new(format!("the session could not be ended: {error:#}"))
                    .hint("try again, or forget the tokens all the same with --force")
                    .into());
            }
            terminal::note(&format!("warning: the session goes on at the server: {error:#}"));
        }
        Profile { identity: Identity::SignedOut, ..profile }.store(&path)?;
        Ok(terminal::print(&format!("{} is signed out.\n", terminal::visible(&login.name)))?)
    }
}
