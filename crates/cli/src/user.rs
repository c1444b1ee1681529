//! `keyward user`: people, whose rights bound every key they own.

mod disable;
mod invite;

use clap::{Args, Subcommand};
use keyward_server::api::list::List;
use keyward_server::api::users::{NewUser, UserChange, UserQuery, UserView};

use crate::caller::CallerOptions;
use crate::options::{Global, Limit, RightsOptions, Sure, one_of};
use crate::remote::Remote;
use crate::state::{Standing, activity};
use crate::table::{self, spare, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// Manage users: the people behind the clients
///
/// Wherever a user is named, an id or a name does; `me` is yourself.
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  keyward user create alice --email alice@plant.example --scope 'Supervisor keyward:self' --res plant/7
  keyward user invite alice
  keyward user change alice --scope Worker
  keyward user disable alice --transfer-to bob")]
pub(crate) enum User {
    List(ListUsers),
    /// Show one user
    Show {
        #[arg(default_value = "me")]
        user: String,
    },
    Create(CreateUser),
    Change(ChangeUser),
    /// Show from where the credentials that a user answers for are used
    Callers {
        #[arg(default_value = "me")]
        user: String,
        #[command(flatten)]
        options: CallerOptions,
    },
    Invite(invite::Invite),
    Disable(disable::Disable),
    /// Let a disabled user's clients work again
    Enable {
        user: String,
    },
    /// Delete a user who owns nothing
    Delete {
        user: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// List users
#[derive(Args)]
pub(crate) struct ListUsers {
    /// Only the one with this name.
    #[arg(long)]
    name: Option<String>,
    /// Only those in this state.
    #[arg(long, value_parser = one_of::<Standing>(Standing::WORDS))]
    state: Option<Standing>,
    #[command(flatten)]
    limit: Limit,
}

/// Add a user
#[derive(Args)]
pub(crate) struct CreateUser {
    /// What people call them; nobody else may have the name.
    name: String,
    /// Where notices go.
    #[arg(long)]
    email: Option<String>,
    #[command(flatten)]
    rights: RightsOptions,
}

/// Change a user; what is not named stays as it is
///
/// Lower rights hold at once: for the next token, and for those already out wherever they are introspected.
#[derive(Args)]
pub(crate) struct ChangeUser {
    user: String,
    /// What people call them.
    #[arg(long)]
    name: Option<String>,
    /// Where notices go; "" for nowhere.
    #[arg(long)]
    email: Option<String>,
    #[command(flatten)]
    rights: RightsOptions,
}

impl User {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let remote = global.remote().await?;
        match self {
            Self::List(list) => list.run(global, &remote).await,
            Self::Show { user } => show(global, &remote.user(&user).await?),
            Self::Create(create) => {
                let (scope, res) = (create.rights.scope(), create.rights.res());
                let new = NewUser {
                    name: create.name,
                    email: create.email,
                    scope: scope.unwrap_or_default(),
                    res: res.unwrap_or_default(),
                };
                show(global, &remote.post("users", &new).await?)
            }
            Self::Change(change) => change.run(global, &remote).await,
            Self::Callers { user, options } => {
                let user = remote.user(&user).await?;
                options.list(global, &remote, &format!("users/{}", user.id)).await
            }
            Self::Invite(invite) => invite.run(global, &remote).await,
            Self::Disable(disable) => disable.run(global, &remote).await,
            Self::Enable { user } => act(global, &remote, &user, "enable").await,
            Self::Delete { user, sure } => {
                let user = remote.user(&user).await?;
                terminal::confirm(&format!("Delete the user {:?} ({})?", user.name, user.id), sure.yes)?;
                remote.delete(&format!("users/{}", user.id)).await?;
                terminal::note(&format!("deleted {}", user.id));
                Ok(())
            }
        }
    }
}

impl ListUsers {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let filter = UserQuery { name: self.name, state: self.state.map(Into::into), ..UserQuery::default() };
        let found: List<UserView> = remote.list("users", &filter, self.limit.most()).await?;
        global.answer(&found, |found| rows(found.items.clone()))
    }
}

fn rows(users: Vec<UserView>) -> String {
    let columns =
        [text("NAME"), whole("ID"), spare("EMAIL"), text("SCOPE"), text("RES"), text("STATE"), spare("CREATED")];
    let now = when::now();
    let row = |user: UserView| {
        vec![
            user.name,
            user.id.to_string(),
            user.email.unwrap_or_default(),
            user.scope.to_string(),
            user.res.to_text(),
            activity(user.disabled_at, now),
            when::relative(user.created_at.0, now),
        ]
    };
    table::render(&columns, users.into_iter().map(row).collect(), terminal::width(), Paint::stdout())
}

fn show(global: &Global, user: &UserView) -> anyhow::Result<()> {
    global.answer(user, |user| {
        let now = when::now();
        table::properties(&[
            ("name", user.name.clone()),
            ("id", user.id.to_string()),
            ("email", user.email.clone().unwrap_or_default()),
            ("state", activity(user.disabled_at, now)),
            ("scope", user.scope.to_string()),
            ("res", user.res.to_text()),
            ("created", format!("{} ({})", when::minute(user.created_at.0), when::relative(user.created_at.0, now))),
            ("changed", format!("{} ({})", when::minute(user.updated_at.0), when::relative(user.updated_at.0, now))),
        ])
    })
}

impl ChangeUser {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let user = remote.user(&self.user).await?;
        let change = UserChange {
            name: self.name,
            email: self.email.map(|email| Some(email).filter(|email| !email.is_empty())),
            scope: self.rights.scope(),
            res: self.rights.res(),
        };
        show(global, &remote.patch(&format!("users/{}", user.id), &change).await?)
    }
}

async fn act(global: &Global, remote: &Remote, user: &str, what: &str) -> anyhow::Result<()> {
    let user = remote.user(user).await?;
    show(global, &remote.act(&format!("users/{}/{what}", user.id)).await?)
}
