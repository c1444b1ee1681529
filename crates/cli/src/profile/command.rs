//! `keyward profile`: further keys and logins for this command line, each under a name.

use clap::{Args, Subcommand};
use keyward_model::id::ClientId;
use keyward_model::key::Key;
use serde::Serialize;

use super::Profile;
use super::identity::Identity;
use super::shelf::{Name, Shelf};
use crate::failure::Failure;
use crate::options::{Global, Sure};
use crate::table::{self, text, whole};
use crate::terminal::{self, Paint};

/// Keep several keys and logins for this command line, and choose between them
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  keyward profile add press-7 --client client_… < key
  keyward --profile press-7 token
  keyward profile use press-7")]
pub(crate) enum ProfileCommand {
    Add(Add),
    /// List the profiles
    List,
    /// Use a profile wherever --profile names no other
    Use {
        /// Its name.
        name: Name,
    },
    Remove(Remove),
}

/// Keep a key under a name
///
/// The key is read from standard input. The server is that of --url, else that of the profile in use.
#[derive(Args)]
pub(crate) struct Add {
    /// What to call it.
    name: Name,
    /// The OAuth client_id the key belongs to.
    #[arg(long, value_name = "ID")]
    client: ClientId,
    /// Replace a profile that is there.
    #[arg(long)]
    force: bool,
}

/// Remove a profile: a key goes on working, and so does a login; `keyward logout` ends one
#[derive(Args)]
pub(crate) struct Remove {
    /// Its name.
    name: Name,
    #[command(flatten)]
    sure: Sure,
}

/// A profile without its key or tokens.
#[derive(Serialize)]
struct Listed {
    name: String,
    current: bool,
    url: String,
    client_id: Option<ClientId>,
    /// `key`, `login` or `signed out`.
    kind: Option<&'static str>,
    /// Who is signed in.
    user: Option<String>,
}

impl ProfileCommand {
    /// Does it.
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let shelf = Shelf::at_home()?;
        match self {
            Self::Add(add) => add.run(&shelf, global),
            Self::List => list(&shelf, global),
            Self::Use { name } => {
                shelf.choose(&name)?;
                Ok(terminal::print(&format!("{name} is in use.\n"))?)
            }
            Self::Remove(Remove { name, sure }) => {
                let path = shelf.find(&name)?;
                terminal::confirm(&format!("Remove {} with the key or login in it?", path.display()), sure.yes)?;
                shelf.remove(&name)?;
                Ok(terminal::print(&format!("{name} is removed.\n"))?)
            }
        }
    }
}

impl Add {
    fn run(self, shelf: &Shelf, global: &Global) -> anyhow::Result<()> {
        let Self { name, client, force } = self;
        let path = shelf.path(&name);
        if path.exists() && !force {
            return Err(Failure::new(format!("there is a profile {name} already"))
                .hint("replace it with --force")
                .into());
        }
        let url = match global.server() {
            Some(url) => super::base(url)?,
            None => Profile::load(&global.profile_path()?).map(|profile| profile.url).map_err(|_| {
                Failure::usage("which server is the key for?").hint("name it with --url; no profile in use says it")
            })?,
        };
        let client_secret = terminal::read_secret("the key")?;
        Key::parse(&client_secret).map_err(|error| Failure::usage(error.to_string()))?;
        Profile { url, client_id: client, identity: Identity::Key(client_secret), way: None }.store(&path)?;
        Ok(terminal::print(&format!(
            "The key is kept in {}.\n\nNext:\n\n    keyward --profile {name} token\n    keyward profile use {name}\n",
            path.display()
        ))?)
    }
}

fn list(shelf: &Shelf, global: &Global) -> anyhow::Result<()> {
    let current = shelf.current()?;
    let listed = shelf.list()?.into_iter().map(|name| {
        let profile = Profile::load(&shelf.path(&name)).ok();
        Listed {
            current: name == current,
            name: name.to_string(),
            url: profile.as_ref().map_or_else(|| "unreadable".to_owned(), |profile| profile.url.clone()),
            client_id: profile.as_ref().map(|profile| profile.client_id),
            kind: profile.as_ref().map(|profile| profile.identity.kind()),
            user: profile.and_then(|profile| match profile.identity {
                Identity::Login(login) => Some(login.name),
                _ => None,
            }),
        }
    });
    global.answer(&listed.collect::<Vec<_>>(), |listed| {
        let row = |profile: &Listed| {
            let client = profile.client_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            let mark = if profile.current { "*" } else { "" };
            let holds = match &profile.user {
                Some(user) => format!("login of {user}"),
                None => profile.kind.unwrap_or("-").to_owned(),
            };
            vec![mark.to_owned(), profile.name.clone(), profile.url.clone(), holds, client]
        };
        let columns = [whole(""), whole("NAME"), text("URL"), text("HOLDS"), whole("CLIENT")];
        table::render(&columns, listed.iter().map(row).collect(), terminal::width(), Paint::stdout())
    })
}
