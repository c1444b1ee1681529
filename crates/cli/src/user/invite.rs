//! `keyward user invite`: the link by which somebody signs in for the first time.

use clap::Args;
use keyward_server::api::logins::Invitation;

use crate::options::Global;
use crate::remote::Remote;
use crate::table;
use crate::terminal;
use crate::when;

/// Make a link by which a user sets a password or passkey, once
///
/// Hand it over where only they read it: whoever opens it can become that user. A link made before stops working. Also for
/// somebody who has lost what they signed in with.
#[derive(Args)]
pub(crate) struct Invite {
    user: String,
}

impl Invite {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let user = remote.user(&self.user).await?;
        let invitation: Invitation = remote.act(&format!("users/{}/invitation", user.id)).await?;
        global.answer(&invitation, |invitation| {
            let expires_at = invitation.expires_at.0;
            let ends = format!("{} ({})", when::minute(expires_at), when::relative(expires_at, when::now()));
            table::properties(&[("user", user.name.clone()), ("link", invitation.link.clone()), ("ends", ends)])
        })?;
        terminal::note("the link is shown this once, and works once");
        Ok(())
    }
}
