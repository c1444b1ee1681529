//! `keyward audit`: the log of everything that changed.

mod log;
mod verify;

use std::collections::{HashMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use keyward_model::event::{Actor, Event};
use keyward_model::id::UserId;
use keyward_model::time::Timestamp;
use keyward_server::api::instant::Instant;
use keyward_server::api::users::UserView;
use keyward_store::EventFilter;
use serde_json::Value;

use crate::failure::Failure;
use crate::options::Global;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::terminal::{self, Paint};
use crate::when;
use log::Log;

/// How often `tail -f` looks for more.
const POLL: Duration = Duration::from_secs(1);
/// How long `tail -f` pauses at most while the server is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many events are asked for at once.
const PAGE: u16 = 1000;

/// Read the event log, and prove that it is whole
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  keyward audit tail -f
  keyward audit export -o audit.jsonl
  keyward audit verify --data /var/lib/keyward")]
pub(crate) enum Audit {
    Tail(Tail),
    Export(Export),
    Verify(verify::Verify),
}

/// Where the log is read.
#[derive(Args)]
pub(crate) struct Place {
    /// Straight from the database, without the server.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Show the newest events
#[derive(Args)]
pub(crate) struct Tail {
    /// Go on showing new events as they come.
    #[arg(long, short)]
    follow: bool,
    /// How many to begin with.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20)]
    lines: usize,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
}

/// Write the log as one JSON object a line
#[derive(Args)]
pub(crate) struct Export {
    /// Begin with this event.
    #[arg(long, value_name = "SEQ", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    from: i64,
    /// To this file (mode 0600) instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
}

/// Which events.
#[derive(Args)]
struct Filter {
    /// Only those of this kind, such as credential.revoked.
    #[arg(long)]
    kind: Option<String>,
    /// Only those about this id or scope.
    #[arg(long)]
    subject: Option<String>,
}

impl From<Filter> for EventFilter {
    fn from(filter: Filter) -> Self {
        Self { kind: filter.kind, subject: filter.subject }
    }
}

impl Audit {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Tail(tail) => tail.run(global).await,
            Self::Export(export) => export.run(global).await,
            Self::Verify(verify) => verify.run(global).await,
        }
    }
}

impl Place {
    async fn open(&self, global: &Global) -> anyhow::Result<Log> {
        if self.is_offline() {
            Log::of_database(&self.settings.load(None)?).await
        } else {
            Log::of_server(global).await
        }
    }

    fn is_offline(&self) -> bool {
        self.offline || self.settings.are_named()
    }
}

impl Tail {
    async fn run(self, global: &Global) -> anyhow::Result<()> {
        let log = self.place.open(global).await?;
        let filter = EventFilter::from(self.filter);
        let (mut at, newest) = newest(&log, &filter, self.lines).await?;
        let (json, narrow) = (global.json, terminal::width().is_some());
        let mut lines = Lines { log: &log, json, narrow, paint: Paint::stdout(), names: HashMap::new() };
        lines.print(newest).await?;
        if !self.follow {
            return Ok(());
        }
        loop {
            let events = patiently(|| log.after(at, &filter, PAGE)).await?;
            at = events.last().map_or(at, |event| event.seq);
            if events.is_empty() {
                tokio::time::sleep(POLL).await;
            }
            lines.print(events).await?;
        }
    }
}

/// Asks until there is an answer: a server that restarts is back in a while. Says so once.
async fn patiently<T>(ask: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut pause = POLL;
    loop {
        let error = match ask().await {
            Err(error) if error.downcast_ref().is_some_and(Failure::may_pass) => error,
            answer => return answer,
        };
        if pause == POLL {
            terminal::note(&format!("{error}; it is asked again until it answers"));
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// The newest events that match, oldest first, and the place up to which the log was looked through.
async fn newest(log: &Log, filter: &EventFilter, lines: usize) -> anyhow::Result<(i64, Vec<Event>)> {
    let everything = filter.kind.is_none() && filter.subject.is_none();
    let last = if everything { log.last().await? } else { 0 };
    let mut at = last.saturating_sub(i64::try_from(lines)?).max(0);
    let mut newest = VecDeque::new();
    let progress = Progress::counting("events");
    loop {
        let events = log.after(at, filter, PAGE).await?;
        let Some(end) = events.last() else { return Ok((at.max(last), newest.into())) };
        at = end.seq;
        newest.extend(events);
        let surplus = newest.len().saturating_sub(lines);
        drop(newest.drain(..surplus));
        progress.at(usize::try_from(at)?);
    }
}

/// Events for people, one a line.
struct Lines<'a> {
    log: &'a Log,
    json: bool,
    narrow: bool,
    paint: Paint,
    names: HashMap<UserId, String>,
}

impl Lines<'_> {
    async fn print(&mut self, events: Vec<Event>) -> anyhow::Result<()> {
        let mut text = String::new();
        for event in events {
            text.push_str(&if self.json { serde_json::to_string(&event)? } else { self.line(&event).await });
            text.push('\n');
        }
        Ok(terminal::print(&text)?)
    }

    async fn line(&mut self, event: &Event) -> String {
        let actor = self.actor(&event.actor).await;
        let source = event.source.as_deref().map(|source| format!(" from {source}")).unwrap_or_default();
        // One line for `grep`; at a terminal that would be wrapped anywhere.
        let (gap, kind_width) = if self.narrow { ("\n        ", 0) } else { ("  ", 29) };
        format!(
            "{:>6}  {}  {}  {}{gap}{}  {}",
            event.seq,
            self.paint.dim(&when::second(Timestamp::from_millis(event.at))),
            self.paint.bold(&format!("{:<kind_width$}", terminal::visible(&event.kind))),
            terminal::visible(&event.subject),
            self.paint.dim(&terminal::visible(&format!("by {actor}{source}"))),
            terminal::visible(&members(&event.data)),
        )
    }

    async fn actor(&mut self, actor: &Actor) -> String {
        match actor {
            Actor::Token { user, credential, .. } => format!("{} with {credential}", self.name(*user).await),
            Actor::DeviceSession { user, session, .. } => format!("{} in {session}", self.name(*user).await),
            Actor::Client { client, credential } => format!("{client} with {credential}"),
            Actor::PublicClient { client } => client.to_string(),
            Actor::Login { user, login } => format!("{} in {login}", self.name(*user).await),
            Actor::System { system } => system.clone(),
        }
    }

    async fn name(&mut self, user: UserId) -> String {
        if let Some(name) = self.names.get(&user) {
            return name.clone();
        }
        let name = match self.log {
            Log::Server(remote) => remote.get(&format!("users/{user}")).await.map(|view: UserView| view.name).ok(),
            Log::Database(store) => store.find_user(user).await.ok().flatten().map(|user| user.name),
        };
        let name = name.unwrap_or_else(|| user.to_string());
        self.names.insert(user, name.clone());
        name
    }
}

/// What changed, briefly: `name=press-7 scope="Supervisor Worker"`, without members that hold nothing, and
/// `name=press-7->press-8` where old and new are told.
fn members(data: &Value) -> String {
    let Value::Object(members) = data else { return data.to_string() };
    let held = members.iter().filter(|(_, value)| !value.is_null());
    let written = held.map(|(name, value)| match (value.get("old"), value.get("new")) {
        (Some(old), Some(new)) => format!("{name}={}->{}", written(name, old), written(name, new)),
        _ => format!("{name}={}", written(name, value)),
    });
    written.collect::<Vec<_>>().join(" ")
}

/// A member's value, as bare as it can be read.
fn written(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) if is_word(text) => text.clone(),
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| item.as_str().is_some_and(is_word)) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        Value::Number(at) if name.ends_with("_at") => {
            Instant(Timestamp::from_millis(at.as_i64().unwrap_or_default())).to_string()
        }
        value => value.to_string(),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b','))
}

impl Export {
    async fn run(self, global: &Global) -> anyhow::Result<()> {
        let log = self.place.open(global).await?;
        let filter = EventFilter::from(self.filter);
        let Some(path) = &self.output else {
            return write(&log, &filter, self.from, BufWriter::new(io::stdout().lock())).await.map(drop);
        };
        // Under another name until it is whole: a part of the log must not pass for all of it.
        let part = path.with_extension("part");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let file = file.with_context(|| part.display().to_string())?;
        let written = write(&log, &filter, self.from, BufWriter::new(&file)).await?;
        file.sync_all()?;
        fs::rename(&part, path).with_context(|| path.display().to_string())?;
        terminal::note(&written_note(written, path));
        Ok(())
    }
}

fn written_note(written: usize, path: &Path) -> String {
    let path = path.display();
    format!("{written} events are in {path}; `keyward audit verify {path}` proves them whole")
}

async fn write(log: &Log, filter: &EventFilter, from: i64, mut out: impl Write) -> anyhow::Result<usize> {
    let progress = Progress::counting("events");
    let (mut at, mut written) = (from - 1, 0);
    loop {
        let events = log.after(at, filter, PAGE).await?;
        let Some(end) = events.last() else { break };
        at = end.seq;
        for event in &events {
            serde_json::to_writer(&mut out, event)?;
            out.write_all(b"\n")?;
        }
        written += events.len();
        progress.at(written);
    }
    out.flush()?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_changed_is_written_briefly() {
        let data = json!({
            "name": "press 7", "scope": "Worker", "email": null, "res": ["plant/7", "plant/8"], "n": 3, "label": "",
            "ends_at": 0,
        });
        assert_eq!(
            members(&data),
            r#"ends_at=1970-01-01T00:00:00Z label="" n=3 name="press 7" res=plant/7,plant/8 scope=Worker"#
        );
        let change = json!({
            "disabled_at": { "old": null, "new": 0 }, "name": { "old": "press", "new": "press 7" },
            "res": { "old": [], "new": ["plant/7"] },
        });
        assert_eq!(members(&change), r#"disabled_at=null->1970-01-01T00:00:00Z name=press->"press 7" res=[]->plant/7"#);
    }
}
