//! Options that several commands share.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use keyward_model::rights::{ResSet, ScopeSet};
use keyward_model::time::Timestamp;
use keyward_server::api::credentials::CredentialChange;
use serde::Serialize;

use crate::profile::shelf::Shelf;
use crate::profile::{Given, Profile};
use crate::remote::Remote;
use crate::terminal;
use crate::when::End;

/// Options of every command that talks to a server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The server to talk to; that of the profile if absent.
    #[arg(long, global = true, value_name = "URL", env = "KEYWARD_URL", hide_env_values = true)]
    url: Option<String>,
    /// The profile to use: the name of one (see `keyward profile`), or a file like those.
    #[arg(long, global = true, value_name = "NAME|FILE", env = "KEYWARD_PROFILE", hide_env_values = true)]
    profile: Option<String>,
    /// Answer in JSON, for scripts.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Global {
    /// The server that is named, if one is.
    pub(crate) fn server(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| !url.is_empty())
    }

    /// Where the profile is.
    pub(crate) fn profile_path(&self) -> anyhow::Result<PathBuf> {
        match self.profile.as_deref().filter(|text| !text.is_empty()) {
            None => Shelf::at_home().and_then(|shelf| Ok(shelf.path(&shelf.current()?))),
            // A name is a word; whatever has a dot or a slash in it is a file.
            Some(text) => match text.parse() {
                Ok(name) => Shelf::at_home().map(|shelf| shelf.path(&name)),
                Err(_) => Ok(PathBuf::from(text)),
            },
        }
    }

    /// As whom to talk to which server.
    pub(crate) fn profile(&self) -> anyhow::Result<Profile> {
        let given = Given { url: self.server().map(str::to_owned), ..Given::default() };
        Profile::resolve(given.with_environment(), &self.profile_path()?)
    }

    /// The server, signed in.
    pub(crate) async fn remote(&self) -> anyhow::Result<Remote> {
        Remote::sign_in(self.profile()?, self.profile_path()?).await
    }

    /// Prints an answer: the API's own JSON for scripts, else the text.
    pub(crate) fn answer<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        if self.json { terminal::print_json(value) } else { Ok(terminal::print(&text(value))?) }
    }
}

/// How much something may do.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RightsOptions {
    /// Scopes: several separated by spaces, or the option several times.
    #[arg(long, value_name = "SCOPES")]
    scope: Vec<ScopeSet>,
    /// Resources such as plant/7, or * for all: several separated by spaces, or the option several times.
    #[arg(long, value_name = "PATHS")]
    res: Vec<ResSet>,
}

impl RightsOptions {
    /// The scopes, if any were named; `--scope ""` names none.
    pub(crate) fn scope(&self) -> Option<ScopeSet> {
        union(&self.scope)
    }

    /// The resources, if any were named.
    pub(crate) fn res(&self) -> Option<ResSet> {
        (!self.res.is_empty()).then(|| self.res.iter().flat_map(ResSet::iter).cloned().collect())
    }
}

/// What a key is to be, as far as it is said: the one that is changed, or the successor of one that is rotated.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyOptions {
    /// What people call it.
    #[arg(long)]
    label: Option<String>,
    /// When it ends by itself: 90d from now, 2027-01-31 or 2027-01-31T18:00:00Z.
    #[arg(long, value_name = "WHEN")]
    expires: Option<End>,
    /// It does not end by itself.
    #[arg(long, conflicts_with = "expires")]
    no_expiry: bool,
    #[command(flatten)]
    rights: RightsOptions,
    /// It has all scopes of its client.
    #[arg(long, conflicts_with = "scope")]
    all_scopes: bool,
    /// It has all resources of its client.
    #[arg(long, conflicts_with = "res")]
    all_res: bool,
}

impl KeyOptions {
    /// The same for the server.
    pub(crate) fn change(self, now: Timestamp) -> CredentialChange {
        CredentialChange {
            label: self.label,
            expires_at: if self.no_expiry { Some(None) } else { self.expires.map(|end| Some(end.from(now))) },
            scope: if self.all_scopes { Some(None) } else { self.rights.scope().map(Some) },
            res: if self.all_res { Some(None) } else { self.rights.res().map(Some) },
        }
    }
}

/// All scopes of an option that may be given several times; `None` if it was not given.
pub(crate) fn union(sets: &[ScopeSet]) -> Option<ScopeSet> {
    (!sets.is_empty()).then(|| sets.iter().flat_map(ScopeSet::iter).cloned().collect())
}

/// An option whose value is one of these words.
pub(crate) fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse())
}

/// Options of a list.
#[derive(Debug, Clone, Args)]
pub(crate) struct Limit {
    /// The most entries to give; all if absent.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Limit {
    /// How many entries to give at most.
    pub(crate) fn most(&self) -> Option<usize> {
        self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

/// Options of what cannot be undone.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sure {
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// The values separated by spaces.
pub(crate) fn words<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}
