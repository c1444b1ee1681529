//! `keyward scope`: the catalogue of scopes and what each implies.

use clap::{Args, Subcommand};
use keyward_model::rights::{Scope as Name, ScopeSet};
use keyward_server::api::list::List;
use keyward_server::api::scopes::{NewScope, ScopeChange, ScopeView};

use crate::options::{Global, Limit, Sure, union, words};
use crate::table::{self, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// Manage the catalogue of scopes
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  keyward scope create Foreman --implies Worker --description 'Run a line'
  keyward scope list")]
pub(crate) enum Scope {
    /// List the catalogue
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one scope
    Show {
        name: Name,
    },
    Create(CreateScope),
    Change(ChangeScope),
    /// Delete a scope: it is worth nothing wherever it is still named
    Delete {
        name: Name,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Add a scope
#[derive(Args)]
pub(crate) struct CreateScope {
    name: Name,
    /// What it allows.
    #[arg(long, default_value = "")]
    description: String,
    /// The scopes it brings with it: several separated by spaces, or the option several times.
    #[arg(long, value_name = "SCOPES")]
    implies: Vec<ScopeSet>,
}

/// Change a scope; what is not named stays as it is
#[derive(Args)]
pub(crate) struct ChangeScope {
    name: Name,
    /// What it allows.
    #[arg(long)]
    description: Option<String>,
    /// The scopes it brings with it, instead of those it has; "" for none.
    #[arg(long, value_name = "SCOPES")]
    implies: Vec<ScopeSet>,
}

impl Scope {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let remote = global.remote().await?;
        match self {
            Self::List { limit } => {
                let found: List<ScopeView> = remote.list("scopes", &(), limit.most()).await?;
                global.answer(&found, |found| rows(&found.items))
            }
            Self::Show { name } => show(global, &remote.get(&path(&name)).await?),
            Self::Create(create) => {
                let implies = names(&create.implies).unwrap_or_default();
                let new = NewScope { name: create.name, description: create.description, implies };
                show(global, &remote.post("scopes", &new).await?)
            }
            Self::Change(change) => {
                let new = ScopeChange { description: change.description, implies: names(&change.implies) };
                show(global, &remote.patch(&path(&change.name), &new).await?)
            }
            Self::Delete { name, sure } => {
                terminal::confirm(&format!("Delete the scope {name}?"), sure.yes)?;
                remote.delete(&path(&name)).await?;
                terminal::note(&format!("deleted {name}"));
                Ok(())
            }
        }
    }
}

fn names(sets: &[ScopeSet]) -> Option<Vec<Name>> {
    union(sets).map(|set| set.iter().cloned().collect())
}

/// A scope may hold any visible character, so its name is encoded in full (RFC 3986 §2.1).
fn path(name: &Name) -> String {
    let encoded = name.as_str().bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
        // A dot too: `.` and `..` would be taken for steps in the path.
        _ => format!("%{byte:02X}"),
    });
    format!("scopes/{}", encoded.collect::<String>())
}

fn rows(scopes: &[ScopeView]) -> String {
    let columns = [whole("SCOPE"), text("IMPLIES"), text("DESCRIPTION")];
    let row = |scope: &ScopeView| vec![scope.name.to_string(), words(&scope.implies), scope.description.clone()];
    table::render(&columns, scopes.iter().map(row).collect(), terminal::width(), Paint::stdout())
}

fn show(global: &Global, scope: &ScopeView) -> anyhow::Result<()> {
    global.answer(scope, |scope| {
        table::properties(&[
            ("scope", scope.name.to_string()),
            ("description", scope.description.clone()),
            ("implies", words(&scope.implies)),
            ("created", when::minute(scope.created_at.0)),
            ("changed", when::minute(scope.updated_at.0)),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_scope_has_a_path_of_its_own() {
        for (name, expected) in [
            ("keyward:admin", "scopes/keyward%3Aadmin"),
            ("..", "scopes/%2E%2E"),
            ("a/b?c#d%e", "scopes/a%2Fb%3Fc%23d%25e"),
        ] {
            assert_eq!(path(&name.parse().unwrap()), expected);
        }
    }
}
