//! `keyward audit verify`: every event holds the hash of the one before, so a change anywhere shows.
//!
//! What hashes cannot show is a log that was cut at its end or rewritten from some place on: for that, the head that an
//! earlier run printed is kept elsewhere and given with `--expect`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use keyward_model::event::{Event, Verifier};
use keyward_store::{EventFilter, StoreError};
use serde::Serialize;

use super::log::Log;
use super::{PAGE, Place};
use crate::failure::Failure;
use crate::options::Global;
use crate::progress::Progress;
use crate::terminal::Paint;

/// Prove that the log is whole
///
/// Checks an export, or the log as the server tells it, or with --offline, --data or --config the database itself: who
/// does not trust the server need not ask it. Names the first event that is not what was written, and exits 1.
#[derive(Args)]
pub(crate) struct Verify {
    /// An export to check; - for standard input.
    #[arg(conflicts_with_all = ["offline", "config", "data"])]
    file: Option<PathBuf>,
    /// A head printed by an earlier run: the log must still hold it.
    #[arg(long, value_name = "SEQ:HASH")]
    expect: Option<Head>,
    #[command(flatten)]
    place: Place,
}

/// A place in the log and the hash it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    seq: i64,
    hash: String,
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be SEQ:HASH, as an earlier run printed it";
        let (seq, hash) = text.split_once(':').ok_or(FORM)?;
        let seq = seq.parse().map_err(|_| FORM)?;
        let legal = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if hash.len() == 64 && hash.bytes().all(legal) { Ok(Self { seq, hash: hash.to_owned() }) } else { Err(FORM) }
    }
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    whole: bool,
    /// How many events were found whole, one after the other.
    events: i64,
    /// The first of them.
    first: i64,
    /// The last of them, `SEQ:HASH`.
    head: String,
    /// What is wrong with the event that follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

/// Why a walk through the log ends early.
enum End {
    /// The log is not what was written.
    Broken(String),
    /// It cannot be told.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Verify {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let mut walk = Walk::new(self.expect);
        let outcome = match &self.file {
            Some(path) => walk.through_file(path),
            None => walk.through_log(&self.place.open(global).await?).await,
        };
        let broken = match outcome.and_then(|()| walk.end()) {
            Ok(()) => None,
            Err(End::Broken(broken)) => Some(broken),
            Err(End::Failed(error)) => return Err(error),
        };
        let report = walk.report(broken);
        global.answer(&report, text)?;
        match report.broken {
            None => Ok(()),
            Some(broken) => Err(Failure::new(broken)
                .hint("keep the file or the database as it is, and compare it with an older export or backup")
                .into()),
        }
    }
}

fn text(report: &Report) -> String {
    let paint = Paint::stdout();
    let Report { events, first, head, .. } = report;
    if !report.whole {
        return format!("{} {events} events before the break are whole, head {head}\n", paint.red("broken:"));
    }
    let beginning = match first {
        1 => String::new(),
        first => format!(", if event {} is as it was (this is a part of the log, from event {first} on)", first - 1),
    };
    format!(
        "{} {events} events{beginning}\nhead   {head}\n\nKeep the head elsewhere: `keyward audit verify --expect HEAD` then notices \
         if the log is cut or rewritten.\n",
        paint.green("whole:"),
    )
}

/// The way through the log.
struct Walk {
    verifier: Verifier,
    first: i64,
    expect: Option<Head>,
    met: bool,
}

impl Walk {
    fn new(expect: Option<Head>) -> Self {
        Self { verifier: Verifier::default(), first: 1, expect, met: false }
    }

    fn check(&mut self, event: &Event) -> Result<(), End> {
        self.verifier.check(event).map_err(|broken| End::Broken(broken.to_string()))?;
        match &self.expect {
            Some(expect) if expect.seq == event.seq && expect.hash != event.hash => Err(End::Broken(format!(
                "event {} does not have the expected hash: the log was rewritten since",
                event.seq
            ))),
            Some(expect) if expect.seq == event.seq => {
                self.met = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The end of the log is reached: nothing that was expected may be left.
    fn end(&self) -> Result<(), End> {
        match &self.expect {
            Some(expect) if expect.seq < self.first => {
                let problem =
                    format!("this part of the log begins with event {}, behind the expected head", self.first);
                Err(End::Failed(Failure::usage(problem).into()))
            }
            Some(expect) if !self.met => {
                let last = self.verifier.checked();
                Err(End::Broken(format!(
                    "event {} is missing: the log ends before the expected event {}",
                    last + 1,
                    expect.seq
                )))
            }
            _ => Ok(()),
        }
    }

    fn report(&self, broken: Option<String>) -> Report {
        let last = self.verifier.checked();
        let head = format!("{last}:{}", self.verifier.head());
        Report { whole: broken.is_none(), events: last - self.first + 1, first: self.first, head, broken }
    }

    fn through_file(&mut self, path: &Path) -> Result<(), End> {
        let progress = Progress::counting("events");
        let reader: Box<dyn BufRead> = if path.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(path).with_context(|| path.display().to_string())?))
        };
        let mut begun = false;
        for (line, number) in reader.lines().zip(1..) {
            let unreadable =
                |next: i64, why: String| End::Broken(format!("event {next} cannot be read (line {number}: {why})"));
            let line = line.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => unreadable(self.verifier.checked() + 1, "not UTF-8".to_owned()),
                _ => error.into(),
            })?;
            let event: Event =
                serde_json::from_str(&line).map_err(|e| unreadable(self.verifier.checked() + 1, e.to_string()))?;
            if !begun && event.seq > 1 {
                // A part of the log proves itself from its first event on.
                self.verifier = Verifier::starting_after(event.seq - 1, event.prev.clone());
                self.first = event.seq;
            }
            begun = true;
            self.check(&event)?;
            progress.at(number);
        }
        if begun { Ok(()) } else { Err(Failure::new(format!("{} holds no event", path.display())).into()) }
    }

    async fn through_log(&mut self, log: &Log) -> Result<(), End> {
        // Read first: what is appended meanwhile is not missed.
        let last = log.last().await?;
        let progress = Progress::up_to("events", u64::try_from(last).unwrap_or(0));
        let everything = EventFilter::default();
        let mut limit = PAGE;
        loop {
            let at = self.verifier.checked();
            let events = match log.after(at, &everything, limit).await {
                Ok(events) => events,
                // One event that cannot be read fails its whole page: go on in the smallest steps, up to it.
                Err(_) if limit > 0 && matches!(log, Log::Database(_)) => {
                    limit = 0;
                    continue;
                }
                Err(error) => return Err(unreadable(at + 1, error)),
            };
            if events.is_empty() {
                break;
            }
            for event in &events {
                self.check(event)?;
            }
            progress.at(usize::try_from(self.verifier.checked()).unwrap_or(0));
        }
        let checked = self.verifier.checked();
        if checked < last {
            Err(End::Broken(format!("event {} is missing: the log was cut", checked + 1)))
        } else {
            Ok(())
        }
    }
}

fn unreadable(next: i64, error: anyhow::Error) -> End {
    match error.downcast_ref() {
        Some(StoreError::Corrupt(why)) => End::Broken(format!("event {next} was changed: it cannot be read ({why})")),
        Some(_) => End::Failed(error),
        None => End::Failed(
            error.context(format!("the server does not give the events from {next} on; --offline reads its database")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_model::event::Actor;

    fn log(entries: i64) -> Vec<Event> {
        let mut prev = keyward_model::event::genesis();
        let event = |seq| {
            let mut event = Event {
                seq,
                at: seq,
                kind: "user.created".to_owned(),
                subject: "alice".to_owned(),
                actor: Actor::system("start"),
                source: None,
                data: serde_json::json!({}),
                prev: prev.clone(),
                hash: String::new(),
            };
            event.hash = event.expected_hash();
            prev.clone_from(&event.hash);
            event
        };
        (1..=entries).map(event).collect()
    }

    fn head(event: &Event) -> Head {
        format!("{}:{}", event.seq, event.hash).parse().unwrap()
    }

    fn walk(log: &[Event], expect: Option<Head>) -> Option<String> {
        let mut walk = Walk::new(expect);
        match log.iter().try_for_each(|event| walk.check(event)).and_then(|()| walk.end()) {
            Ok(()) => None,
            Err(End::Broken(broken)) => Some(broken),
            Err(End::Failed(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn a_log_that_still_holds_the_noted_head_is_whole() {
        let log = log(5);
        assert_eq!(walk(&log, Some(head(&log[2]))), None);
    }

    #[test]
    fn a_log_cut_before_the_noted_head_is_noticed() {
        let log = log(5);
        let broken = walk(&log[..3], Some(head(&log[4])));
        assert_eq!(broken.as_deref(), Some("event 4 is missing: the log ends before the expected event 5"));
    }

    #[test]
    fn a_log_rewritten_with_right_hashes_is_noticed() {
        let (old, mut new) = (log(5), log(5));
        for at in 2..5 {
            new[at].subject = "mallory".to_owned();
            new[at].prev = new[at - 1].hash.clone();
            new[at].hash = new[at].expected_hash();
        }
        assert_eq!(walk(&new, None), None);
        assert!(walk(&new, Some(head(&old[4]))).is_some_and(|broken| broken.contains("rewritten")));
    }

    #[test]
    fn only_a_printed_head_is_one() {
        for text in ["", "5", "5:", ":0", "x:00", &format!("5:{}", "g".repeat(64)), &format!("5:{}", "A".repeat(64))] {
            assert!(text.parse::<Head>().is_err(), "{text}");
        }
    }
}
