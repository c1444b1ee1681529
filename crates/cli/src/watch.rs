//! `keyward credential watch`: a key and its successor, live.

mod keys;
#[cfg(test)]
mod picture;
mod view;

use std::time::Duration;

use clap::Args;
use keyward_model::id::CredentialId;
use keyward_model::time::Timestamp;
use keyward_server::api::callers::{CallerQuery, CallerView};
use keyward_server::api::credentials::CredentialView;
use keyward_server::api::list::List;
use keyward_server::api::rotation::Finish;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::names::Meant;
use crate::options::Global;
use crate::remote::Remote;
use crate::terminal::{self, Paint};
use crate::when;
use keys::Keys;
use view::{Change, Frame, changes};

/// How often a key press is looked for; people notice more.
const PRESS: Duration = Duration::from_millis(100);

/// Unless something else is said, a caller that was not seen for so long has left …
const QUIET_FOR: Duration = Duration::from_secs(24 * 3600);
/// … and it is looked so often.
const EVERY: Duration = Duration::from_secs(2);

/// Watch the callers of a credential leave for its successor
///
/// At a terminal the picture is renewed every other second; `f` finishes the rotation once nobody has used the old key
/// for long enough, `q` leaves. In a pipe there is one line for each change. It ends with the credential.
#[derive(Args)]
pub(crate) struct Watch {
    /// The old key, or its client if only one key of that is being replaced.
    credential: String,
    /// A caller that was not seen for so long has left; 24h if absent.
    #[arg(long, alias = "quiet", value_name = "DURATION", value_parser = when::parse_duration)]
    quiet_for: Option<Duration>,
    /// How often to look; every 2s if absent.
    #[arg(long, value_name = "DURATION", value_parser = when::parse_duration)]
    every: Option<Duration>,
}

/// A credential with its callers.
#[derive(Debug, Clone)]
struct Used {
    credential: CredentialView,
    callers: Vec<CallerView>,
}

/// How things stood at an instant.
#[derive(Debug, Clone)]
struct Standing {
    at: Timestamp,
    old: Used,
    successor: Option<Used>,
}

impl Standing {
    fn used(&self) -> impl Iterator<Item = &Used> {
        [Some(&self.old), self.successor.as_ref()].into_iter().flatten()
    }
}

impl Watch {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let credential = remote.credential(&self.credential, Meant::Watched).await?;
        let quiet = self.quiet_for.unwrap_or(QUIET_FOR);
        // A wait of nothing would ask without a pause.
        let every = self.every.unwrap_or(EVERY).max(Duration::from_secs(1));
        Watcher { remote, credential, quiet, every }.watch(global).await
    }
}

/// Watches a rotation that has just begun.
pub(crate) async fn follow(global: &Global, remote: &Remote, old: CredentialId) -> anyhow::Result<()> {
    if !global.json && Keys::of_terminal().is_some() {
        // The picture takes the place of the key, which nobody is shown again.
        terminal::pause("Copy the new key; Enter then shows who uses which.")?;
    }
    Watcher { remote, credential: old, quiet: QUIET_FOR, every: EVERY }.watch(global).await
}

struct Watcher<'a> {
    remote: &'a Remote,
    credential: CredentialId,
    quiet: Duration,
    every: Duration,
}

impl Watcher<'_> {
    async fn watch(&self, global: &Global) -> anyhow::Result<()> {
        match Keys::of_terminal() {
            Some(keys) if !global.json => self.paint(keys).await,
            _ => {
                if !global.json {
                    terminal::note(
                        "One line for each change, until the old key has ended; the live view needs a terminal.",
                    );
                }
                self.tell(global.json).await
            }
        }
    }

    async fn look(&self) -> anyhow::Result<Standing> {
        let old = self.used(self.credential).await?;
        let successor = match old.credential.successor {
            Some(successor) => Some(self.used(successor).await?),
            None => None,
        };
        Ok(Standing { at: when::now(), old, successor })
    }

    async fn used(&self, id: CredentialId) -> anyhow::Result<Used> {
        let credential = self.remote.get(&format!("credentials/{id}")).await?;
        let path = format!("credentials/{id}/callers");
        let query = CallerQuery { limit: Some(200), ..CallerQuery::default() };
        let callers: List<CallerView> = self.remote.query(&path, &query).await?;
        Ok(Used { credential, callers: callers.items })
    }

    /// One line for each change, until the credential ends.
    async fn tell(&self, json: bool) -> anyhow::Result<()> {
        let mut before: Option<Standing> = None;
        let mut looking = interval(self.every);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looking.tick().await;
            let now = self.look().await?;
            let mut text = String::new();
            for change in changes(before.as_ref(), &now) {
                text.push_str(&if json { object(&change)? } else { change.line(now.at) });
                text.push('\n');
            }
            terminal::print(&text)?;
            if has_ended(before.as_ref(), &now) {
                return Ok(());
            }
            before = Some(now);
        }
    }

    /// A picture that is renewed, until the credential ends or somebody leaves.
    async fn paint(&self, mut keys: Keys) -> anyhow::Result<()> {
        let mut standing = self.look().await?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut looking = interval(self.every);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pressing = interval(PRESS);
        let mut notice = String::new();
        keys.take_over()?;
        keys.show(&self.frame(&standing, &notice))?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = pressing.tick() => match keys.pressed()? {
                    Some(b'q') => return Ok(()),
                    Some(b'f') if view::may_finish(&standing, self.quiet) => notice = self.finish().await,
                    _ => continue,
                },
                _ = looking.tick() => {}
            }
            // A server that is away for a moment is said below the picture, which stays.
            match self.look().await {
                Ok(now) if has_ended(Some(&standing), &now) => {
                    let last = self.frame(&now, "");
                    drop(keys);
                    return Ok(terminal::print(&last)?);
                }
                Ok(now) => standing = now,
                Err(error) => notice = error.to_string(),
            }
            keys.show(&self.frame(&standing, &notice))?;
        }
    }

    fn frame(&self, standing: &Standing, notice: &str) -> String {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let frame = Frame { quiet: self.quiet, width: width.into(), height: height.into(), paint: Paint::stdout() };
        frame.render(standing, notice)
    }

    /// Asks the server to end the old key; what it says if it does not.
    async fn finish(&self) -> String {
        let asked = Finish { force: false, quiet_for_seconds: Some(self.quiet.as_secs()) };
        let path = format!("credentials/{}/finish", self.credential);
        let finished: anyhow::Result<CredentialView> = self.remote.post(&path, &asked).await;
        finished.map_or_else(|error| error.to_string(), |_| String::new())
    }
}

/// Whether the credential ended while it was watched.
fn has_ended(before: Option<&Standing>, now: &Standing) -> bool {
    before.is_some_and(|before| before.old.credential.ended_at.is_none()) && now.old.credential.ended_at.is_some()
}

fn object(change: &Change<'_>) -> anyhow::Result<String> {
    Ok(match change {
        Change::Credential(credential) => serde_json::to_string(credential)?,
        Change::Caller(caller) => serde_json::to_string(caller)?,
    })
}
