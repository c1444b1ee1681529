//! `keyward whoami`: as whom this command line speaks.

use clap::Args;
use keyward_model::id::{ClientId, UserId};
use keyward_server::api::users::UserView;
use serde::Serialize;

use crate::access::{Access, TokenRequest};
use crate::options::Global;
use crate::remote;
use crate::table;

/// Show as whom commands run, and what they may do
#[derive(Args)]
pub(crate) struct Whoami {}

/// Who it is.
#[derive(Serialize)]
struct Speaker {
    url: String,
    user: UserId,
    name: String,
    /// `login`, or `key` where a client acts for the user.
    by: &'static str,
    client_id: ClientId,
    scope: String,
}

impl Whoami {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let profile = global.profile()?;
        let (by, client_id) = (profile.identity.kind(), profile.client_id);
        let access = Access::new(profile, global.profile_path()?)?;
        let token = access.token(&TokenRequest::default()).await?;
        token.warn();
        let user: UserView = remote::whoami(&access.url, &token.access_token).await?;
        let speaker = Speaker { url: access.url, user: user.id, name: user.name, by, client_id, scope: token.scope };
        global.answer(&speaker, |speaker| {
            table::properties(&[
                ("name", speaker.name.clone()),
                ("user", speaker.user.to_string()),
                ("server", speaker.url.clone()),
                ("by", speaker.by.to_owned()),
                ("client", speaker.client_id.to_string()),
                ("scope", speaker.scope.clone()),
            ])
        })
    }
}
