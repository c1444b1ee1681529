//! `keyward credential rotate`, `cancel`, `extend` and `finish`: a key is replaced without a pause.

use std::time::Duration;

use clap::Args;
use keyward_model::id::CredentialId;
use keyward_server::api::credentials::{CredentialView, IssuedCredential};
use keyward_server::api::rotation::{Extension, Finish, Rotation};

use crate::credential::handed_over;
use crate::failure::Failure;
use crate::options::{Global, RightsOptions};
use crate::remote::Remote;
use crate::terminal::{self, Paint};
use crate::when::{self, End};

/// Replace a credential: prints its successor's key, this once
///
/// The old key goes on until its hard end. The successor has the label, scopes and resources of the old one, and as long
/// a life, unless something else is said.
#[derive(Args)]
pub(crate) struct RotateCredential {
    credential: CredentialId,
    /// For how long the old key goes on: 14d, 12h. The server's setting if absent, 7d by default.
    #[arg(long, value_name = "DURATION", value_parser = when::parse_duration)]
    overlap: Option<Duration>,
    /// Until when the old key goes on: 2027-01-31 or 2027-01-31T18:00:00Z.
    #[arg(long, value_name = "WHEN", conflicts_with = "overlap")]
    until: Option<End>,
    /// What people call the successor.
    #[arg(long)]
    label: Option<String>,
    /// When the successor ends by itself: 90d, 2027-01-31 or 2027-01-31T18:00:00Z.
    #[arg(long, value_name = "WHEN")]
    expires: Option<End>,
    /// The successor does not end by itself.
    #[arg(long, conflicts_with = "expires")]
    no_expiry: bool,
    #[command(flatten)]
    rights: RightsOptions,
    /// The successor has all scopes of its client.
    #[arg(long, conflicts_with = "scope")]
    all_scopes: bool,
    /// The successor has all resources of its client.
    #[arg(long, conflicts_with = "res")]
    all_res: bool,
}

/// Move the hard end of a retiring key, later or earlier
#[derive(Args)]
pub(crate) struct ExtendRetirement {
    credential: CredentialId,
    /// The hard end: 14d from now, 2027-01-31 or 2027-01-31T18:00:00Z.
    #[arg(long, value_name = "WHEN")]
    until: End,
}

/// End a retiring key now, if nobody uses it any more
#[derive(Args)]
pub(crate) struct FinishRetirement {
    credential: CredentialId,
    #[command(flatten)]
    unless_used: UnlessUsed,
}

/// Undo a rotation: the old key goes on, its successor is revoked, if nobody uses that
#[derive(Args)]
pub(crate) struct CancelRotation {
    /// The old key.
    credential: CredentialId,
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
        let rotation = Rotation {
            label: self.label,
            expires_at: if self.no_expiry { Some(None) } else { self.expires.map(|end| Some(end.from(now))) },
            retire_at: self.until.map(|end| end.from(now)),
            overlap_seconds: self.overlap.map(|overlap| overlap.as_secs()),
            scope: if self.all_scopes { Some(None) } else { self.rights.scope().map(Some) },
            res: if self.all_res { Some(None) } else { self.rights.res().map(Some) },
        };
        let old = self.credential;
        let issued: IssuedCredential = remote.post(&format!("credentials/{old}/rotate"), &rotation).await?;
        if global.json {
            return terminal::print_json(&issued);
        }
        // From here on the key is the only thing that must not get lost: whatever else cannot be told is left out.
        let client = remote.client(&issued.client_id.to_string()).await;
        let retiring = remote.get::<CredentialView>(&format!("credentials/{old}")).await.ok();
        let ends = retiring.and_then(|old| old.retire_at).map_or_else(String::new, |at| {
            format!(" It works until {} ({}).", when::minute(at.0), when::relative(at.0, now))
        });
        let key = match client {
            Ok(client) => handed_over(remote, &client, &issued).await?,
            Err(_) => format!("{}\n", issued.client_secret.as_deref().unwrap_or_default()),
        };
        let paint = Paint::stdout();
        let next = ["watch", "finish", "cancel"].map(|then| paint.cyan(&format!("keyward credential {then} {old}")));
        Ok(terminal::print(&format!(
            "{key}\nThe old key {old} retires.{ends}\nSee its callers leave; when all have, end it; or go back to it:\n\n    {}\n",
            next.join("\n    "),
        ))?)
    }
}

impl CancelRotation {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let view = self.unless_used.end(global, remote, &format!("credentials/{}/cancel", self.credential)).await?;
        global.answer(&view, |view| format!("{} is {} again; its successor has ended\n", view.id, view.state))
    }
}

impl ExtendRetirement {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let extension = Extension { retire_at: self.until.from(when::now()) };
        let view: CredentialView = remote.post(&format!("credentials/{}/extend", self.credential), &extension).await?;
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
        let view = self.unless_used.end(global, remote, &format!("credentials/{}/finish", self.credential)).await?;
        global.answer(&view, |view| format!("{} is {}\n", view.id, view.state))
    }
}

impl UnlessUsed {
    /// Ends what is named so, or says who is in the way.
    async fn end(&self, global: &Global, remote: &Remote, path: &str) -> anyhow::Result<CredentialView> {
        let quiet_for_seconds = self.quiet_for.map(|quiet_for| quiet_for.as_secs());
        match remote.post(path, &Finish { force: self.force, quiet_for_seconds }).await {
            Ok(view) => Ok(view),
            Err(error) => Err(refused(error, global)?),
        }
    }
}

/// A refusal because of those who still use the key: people read them in a table, programs as the server said it.
fn refused(error: anyhow::Error, global: &Global) -> anyhow::Result<anyhow::Error> {
    let failure = error.downcast::<Failure>()?;
    let Some(problem) = failure.problem() else { return Ok(failure.into()) };
    if global.json {
        terminal::print_json(problem)?;
    }
    Ok(failure.hint("--force ends it under them, and that cannot be undone").into())
}
