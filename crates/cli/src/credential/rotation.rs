//! `keyward credential rotate`, `cancel`, `extend` and `finish`: a key is replaced without a pause.

use std::time::Duration;

use clap::Args;
use keyward_model::id::CredentialId;
use keyward_server::api::credentials::{CredentialChange, CredentialView, IssuedCredential};
use keyward_server::api::rotation::{Extension, Finish, Rotation};

use crate::credential::handed_over;
use crate::failure::Failure;
use crate::names::Meant;
use crate::options::{Global, KeyOptions};
use crate::remote::Remote;
use crate::terminal::{self, Paint};
use crate::watch;
use crate::when::{self, End};

/// Replace a credential: prints its successor's key, this once
///
/// The old key goes on until its hard end. The successor has the label, scopes and resources of the old one, and as long
/// a life, unless something else is said.
#[derive(Args)]
pub(crate) struct RotateCredential {
    /// The credential, or its client if that has only one active.
    credential: String,
    /// For how long the old key goes on: 14d, 12h. The server's setting if absent, 7d by default.
    #[arg(long, value_name = "DURATION", value_parser = when::parse_duration)]
    overlap: Option<Duration>,
    /// Until when the old key goes on: 2027-01-31 or 2027-01-31T18:00:00Z.
    #[arg(long, value_name = "WHEN", conflicts_with = "overlap")]
    until: Option<End>,
    /// Go on with `keyward credential watch`: the old key's callers leave, the new one's arrive.
    #[arg(long)]
    watch: bool,
    #[command(flatten, next_help_heading = "The successor")]
    successor: KeyOptions,
}

/// Move the hard end of a retiring key, later or earlier
#[derive(Args)]
pub(crate) struct ExtendRetirement {
    credential: String,
    /// The hard end: 14d from now, 2027-01-31 or 2027-01-31T18:00:00Z.
    #[arg(long, value_name = "WHEN")]
    until: End,
}

/// End a retiring key now, if nobody uses it any more
#[derive(Args)]
pub(crate) struct FinishRetirement {
    credential: String,
    #[command(flatten)]
    unless_used: UnlessUsed,
}

/// Undo a rotation: the old key goes on, its successor is revoked, if nobody uses that
#[derive(Args)]
pub(crate) struct CancelRotation {
    /// The old key.
    credential: String,
    #[command(flatten)]
    unless_used: UnlessUsed,
}

/// What is ended only if it is not in use.
#[derive(Args)]
struct UnlessUsed {
    /// For how long nobody may have used what is ended: 2h. The server's setting if absent, 24h by default.
    #[arg(long, value_name = "DURATION", value_parser = when::parse_duration)]
    quiet_for: Option<Duration>,
    /// End it even if it is in use.
    #[arg(long)]
    force: bool,
}

impl RotateCredential {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let now = when::now();
        let CredentialChange { label, expires_at, scope, res } = self.successor.change(now);
        let retire_at = self.until.map(|end| end.from(now));
        let overlap_seconds = self.overlap.map(|overlap| overlap.as_secs());
        let rotation = Rotation { label, expires_at, retire_at, overlap_seconds, scope, res };
        let old = remote.credential(&self.credential, Meant::Active).await?;
        let issued: IssuedCredential = remote.post(&format!("credentials/{old}/rotate"), &rotation).await?;
        if global.json {
            terminal::print_json(&issued)?;
        } else {
            show(remote, old, &issued).await?;
        }
        if self.watch { watch::follow(global, remote, old).await } else { Ok(()) }
    }
}

/// The successor's key, and what becomes of the old one.
async fn show(remote: &Remote, old: CredentialId, issued: &IssuedCredential) -> anyhow::Result<()> {
    // From here on the key is the only thing that must not get lost: whatever else cannot be told is left out.
    let client = remote.client(&issued.client_id.to_string()).await;
    let retiring = remote.get::<CredentialView>(&format!("credentials/{old}")).await.ok();
    let ends = retiring.and_then(|old| old.retire_at).map_or_else(String::new, |at| {
        format!(" It works until {} ({}).", when::minute(at.0), when::relative(at.0, when::now()))
    });
    let key = match client {
        Ok(client) => handed_over(remote, &client, issued).await?,
        Err(_) => format!("{}\n", issued.client_secret.as_deref().unwrap_or_default()),
    };
    let paint = Paint::stdout();
    let next = ["watch", "finish", "cancel"].map(|then| paint.cyan(&format!("keyward credential {then} {old}")));
    Ok(terminal::print(&format!(
        "{key}\nThe old key {old} retires.{ends}\nSee its callers leave; when all have, end it; or go back to it:\n\n    {}\n",
        next.join("\n    "),
    ))?)
}

impl CancelRotation {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let view = self.unless_used.end(global, remote, &self.credential, "cancel").await?;
        global.answer(&view, |view| format!("{} is {} again; its successor has ended\n", view.id, view.state))
    }
}

impl ExtendRetirement {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let credential = remote.credential(&self.credential, Meant::Retiring).await?;
        let extension = Extension { retire_at: self.until.from(when::now()) };
        let view: CredentialView = remote.post(&format!("credentials/{credential}/extend"), &extension).await?;
        global.answer(&view, |view| {
            let until =
                view.retire_at.map(|at| format!("{} ({})", when::minute(at.0), when::relative(at.0, when::now())));
            format!("{} retires until {}\n", view.id, until.unwrap_or_default())
        })
    }
}

impl FinishRetirement {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let view = self.unless_used.end(global, remote, &self.credential, "finish").await?;
        global.answer(&view, |view| format!("{} is {}\n", view.id, view.state))
    }
}

impl UnlessUsed {
    /// Does this, `finish` or `cancel`, or says who still uses the key that would end.
    async fn end(
        &self,
        global: &Global,
        remote: &Remote,
        credential: &str,
        action: &str,
    ) -> anyhow::Result<CredentialView> {
        let credential = remote.credential(credential, Meant::Retiring).await?;
        let quiet_for_seconds = self.quiet_for.map(|quiet_for| quiet_for.as_secs());
        let asked = Finish { force: self.force, quiet_for_seconds };
        match remote.post(&format!("credentials/{credential}/{action}"), &asked).await {
            Ok(view) => Ok(view),
            Err(error) => {
                let command = format!("keyward credential {action} {credential} --force");
                Err(refused(error, &command, global)?)
            }
        }
    }
}

/// A refusal because of those who still use the key: people read them in a table, programs as the server said it.
fn refused(error: anyhow::Error, command: &str, global: &Global) -> anyhow::Result<anyhow::Error> {
    let failure = error.downcast::<Failure>()?;
    let Some(problem) = failure.problem() else { return Ok(failure.into()) };
    if global.json {
        terminal::print_json(problem)?;
    }
    Ok(failure.hint(format!("`{command}` ends it under them, and that cannot be undone")).into())
}
