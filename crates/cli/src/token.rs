//! `keyward token`: an access token, to try an API with.

use clap::Args;

use crate::access::{Access, TokenRequest};
use crate::options::{Global, RightsOptions};

/// Get an access token
///
/// As the client of the profile or whoever is signed in there, or as the client of KEYWARD_CLIENT_ID and
/// KEYWARD_CLIENT_SECRET.
#[derive(Args)]
#[command(after_help = "\
Examples:
  curl -H \"$(keyward token --header)\" http://127.0.0.1:8080/api/v1/clients
  keyward token --scope Worker --res plant/7 --json
  KEYWARD_CLIENT_ID=client_… KEYWARD_CLIENT_SECRET=kw_… keyward token --url http://127.0.0.1:8080")]
pub(crate) struct Token {
    #[command(flatten)]
    rights: RightsOptions,
    /// The audience of the API it is for, where the client may use several; several times for several.
    #[arg(long, value_name = "AUDIENCE")]
    resource: Vec<String>,
    /// Print it as an HTTP header field.
    #[arg(long, conflicts_with = "json")]
    header: bool,
}

impl Token {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let request = TokenRequest {
            scope: self.rights.scope().map(|scope| scope.to_string()),
            res: self.rights.res().map(|res| res.to_text()),
            resources: self.resource,
        };
        let token = Access::new(global.profile()?, global.profile_path()?)?.token(&request).await?;
        token.warn();
        let field = if self.header { "Authorization: Bearer " } else { "" };
        global.answer(&token, |token| format!("{field}{}\n", *token.access_token))
    }
}
