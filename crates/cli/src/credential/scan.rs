//! `keyward credential scan`: finds API keys where they do not belong.
//!
//! Everything below the paths is read, whatever `.gitignore` says: that is where keys lie. A file is read in pieces, so
//! none is too large, and as bytes, so none is too strange, UTF-16 neither. Only what Git has packed is left out, where no key can be
//! seen: `git log -p --all | keyward credential scan -` reads the history.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use keyward_model::credential::StateName;
use keyward_model::id::{ClientId, CredentialId};
use keyward_model::key::{self, Key};
use keyward_server::api::credentials::CredentialView;
use serde::Serialize;

use crate::failure::Failure;
use crate::options::Global;
use crate::remote::{self, Remote};
use crate::table::{self, text, whole};
use crate::terminal::{self, Paint, visible};

/// Read at once, in bytes.
const PIECE: usize = 256 * 1024;
/// Keys told of at most: whoever has more of them in one place has understood.
const MOST: usize = 10_000;
/// How often one key is reported to a server that takes no more for now, and how long it is waited for each time.
const TRIES: usize = 10;
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// What is shown of a key: less than its public half.
const SHOWN: usize = 12;

/// Find API keys in files; those that work make it fail
///
/// Prints where they are and whose, never the keys. Exit code 1 if one is found that works, or of which that is not known.
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward credential scan .
  git log -p --all | keyward credential scan -
  keyward credential scan --report /srv/www")]
pub(crate) struct Scan {
    /// Files and directories; - for standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Report what works to the server's /leaks: the keys end as its settings say. Only keys that the server shows to
    /// this profile: another one's are no business of it.
    #[arg(long)]
    report: bool,
    /// Report also keys of which this profile does not see whether they are the server's; it is sent each in full.
    #[arg(long, requires = "report")]
    report_unknown: bool,
}

/// What the server says of the credentials that it shows.
type Known = BTreeMap<CredentialId, CredentialView>;

/// A key, and where it is.
struct Found {
    place: PathBuf,
    line: u64,
    key: Key,
}

/// What is told of it.
#[derive(Serialize)]
struct Told {
    place: String,
    line: u64,
    key: String,
    credential: CredentialId,
    /// As the server says; `null` if it knows no such credential or cannot be asked.
    state: Option<StateName>,
    client: Option<ClientId>,
}

impl Scan {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for path in &self.paths {
            search(path, &mut found)?;
        }
        let known = ask(global, &found).await;
        let told: Vec<Told> = found.iter().map(|found| tell(found, &known)).collect();
        global.answer(&told, |told| rows(told))?;
        // What is not known to have ended is taken for live.
        let live = |told: &Told| told.state.is_none_or(|s| matches!(s, StateName::Active | StateName::Retiring));
        let lives: Vec<&Found> =
            found.iter().zip(&told).filter(|(_, told)| live(told)).map(|(found, _)| found).collect();
        if lives.is_empty() {
            return Ok(());
        }
        let message = format!("{} of {} keys found may work", lives.len(), found.len());
        if !self.report {
            let hint = "end them: `keyward credential scan --report`, or `keyward credential revoke`";
            return Err(Failure::new(message).hint(hint).into());
        }
        Err(self.end(global, &lives, &known, &message).await.into())
    }

    /// Reports what works; tells of what could not be reported, and what to do next.
    async fn end(&self, global: &Global, lives: &[&Found], known: &Known, message: &str) -> Failure {
        let (mut keys, mut unknown): (VecDeque<_>, VecDeque<_>) =
            distinct(lives).into_iter().partition(|found| known.contains_key(&found.key.credential));
        if self.report_unknown {
            // Those that the server calls live come first.
            keys.append(&mut unknown);
        }
        let count = keys.len();
        let outcome = report(global, &mut keys).await;
        for found in keys.iter().chain(&unknown) {
            terminal::note(&format!("not reported: {} {}", place(found), shown(&found.key)));
        }
        let (reported, left) = (count - keys.len(), keys.len() + unknown.len());
        let message = format!("{message}; reported: {reported}, not reported: {left}");
        match outcome {
            Err(error) => Failure::new(format!("{message}: {error:#}"))
                .hint("run this again: keys that have ended by now are left out"),
            Ok(()) if left > 0 => Failure::new(message).hint(
                "those are not known to be keys of this server; if they are, --report-unknown sends it them in full",
            ),
            Ok(()) => Failure::new(message)
                .hint("issue new ones where they are needed, and remove these from where they were found"),
        }
    }
}

/// Each key once, where it was found first.
fn distinct<'a>(found: &[&'a Found]) -> Vec<&'a Found> {
    let mut seen = BTreeMap::new();
    for &found in found {
        seen.entry((found.key.credential, found.key.secret.expose())).or_insert(found);
    }
    seen.into_values().collect()
}

/// Looks through a file, everything below a directory, or standard input.
fn search(path: &Path, found: &mut Vec<Found>) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return Ok(read(io::stdin().lock(), Path::new("-"), found)?);
    }
    let kind = fs::metadata(path).map_err(|e| Failure::usage(format!("{}: {e}", visible(&path.to_string_lossy()))))?;
    let mut waiting = vec![path.to_owned()];
    if !kind.is_dir() {
        return Ok(File::open(path).and_then(|file| read(file, path, found))?);
    }
    while let Some(directory) = waiting.pop() {
        let entries = fs::read_dir(&directory).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                passed_over(&directory, &error);
                continue;
            }
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            // Neither links, which lead elsewhere or in circles, nor devices, which have no end.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_packed(&path) => waiting.push(path),
                Ok(kind) if kind.is_file() => {
                    if let Err(error) = File::open(&path).and_then(|file| read(file, &path, found)) {
                        passed_over(&path, &error);
                    }
                }
                Ok(_) => {}
                Err(error) => passed_over(&path, &error),
            }
        }
    }
    Ok(())
}

/// What was not looked at is told: silence would mean that nothing is there.
fn passed_over(path: &Path, error: &io::Error) {
    terminal::note(&format!("not looked at: {}: {error}", visible(&path.to_string_lossy())));
}

fn is_packed(directory: &Path) -> bool {
    directory.ends_with(".git/objects")
}

/// Looks through bytes, piece by piece; a key may lie across two.
fn read(mut from: impl Read, place: &Path, found: &mut Vec<Found>) -> io::Result<()> {
    let (mut piece, mut line) = (Vec::with_capacity(PIECE + key::LEN), 1);
    loop {
        let read = from.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        // UTF-16 has a NUL beside each character of a key, and no key has one: without them it reads like any text.
        piece.retain(|byte| *byte != 0);
        let mut counted = 0;
        for (at, key) in key::find_all(&piece) {
            line += lines(piece.get(counted..at));
            counted = at;
            if found.len() < MOST {
                found.push(Found { place: place.to_owned(), line, key });
            }
        }
        if read == 0 {
            return Ok(());
        }
        // The beginning of a key may stand at the end; one that was found begins before.
        let keep = (piece.len() + 1).saturating_sub(key::LEN);
        line += lines(piece.get(counted..keep));
        piece.drain(..keep);
    }
}

fn lines(bytes: Option<&[u8]>) -> u64 {
    bytes.unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() as u64
}

/// What the server knows of the credentials, if there is one to ask.
async fn ask(global: &Global, found: &[Found]) -> Known {
    let mut known = BTreeMap::new();
    if found.is_empty() {
        return known;
    }
    let remote = match global.remote().await {
        Ok(remote) => remote,
        Err(error) => {
            terminal::note(&format!("whose they are is not known: {error:#}"));
            return known;
        }
    };
    for found in found {
        let id = found.key.credential;
        if !known.contains_key(&id)
            && let Ok(view) = remote.get::<CredentialView>(&format!("credentials/{id}")).await
        {
            known.insert(id, view);
        }
    }
    known
}

fn tell(found: &Found, known: &Known) -> Told {
    let view = known.get(&found.key.credential);
    Told {
        place: found.place.display().to_string(),
        line: found.line,
        key: shown(&found.key),
        credential: found.key.credential,
        state: view.map(|view| view.state),
        client: view.map(|view| view.client),
    }
}

fn shown(key: &Key) -> String {
    key.reveal().get(..SHOWN).unwrap_or_default().to_owned() + "..."
}

fn place(found: &Found) -> String {
    format!("{}:{}", visible(&found.place.to_string_lossy()), found.line)
}

fn rows(told: &[Told]) -> String {
    let columns = [text("PLACE"), whole("KEY"), whole("CREDENTIAL"), whole("STATE"), whole("CLIENT")];
    let row = |told: &Told| {
        vec![
            format!("{}:{}", told.place, told.line),
            told.key.clone(),
            told.credential.to_string(),
            told.state.map_or_else(|| "unknown".to_owned(), |state| state.to_string()),
            told.client.map_or_else(String::new, |client| client.to_string()),
        ]
    };
    table::render(&columns, told.iter().map(row).collect(), terminal::width(), Paint::stdout())
}

/// Tells the server of the keys, which end by it, as fast as it takes them; those of which it was told leave the queue.
async fn report(global: &Global, keys: &mut VecDeque<&Found>) -> anyhow::Result<()> {
    let url = match global.server() {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => global.profile()?.url,
    };
    let http = remote::http(&url)?;
    let mut tries = TRIES;
    while let Some(found) = keys.front() {
        let wait = Remote::report_leak(&http, &url, &found.key.reveal(), &place(found)).await?;
        let Some(wait) = wait else {
            tries = TRIES;
            keys.pop_front();
            continue;
        };
        tries -= 1;
        if tries == 0 || wait > LONGEST_WAIT {
            return Err(Failure::new(format!("{url} takes no more reports for {} s", wait.as_secs())).passing().into());
        }
        terminal::note(&format!("{} more to report: waiting {} s, as {url} says", keys.len(), wait.as_secs()));
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_model::entropy::Entropy;
    use keyward_model::time::Timestamp;

    fn key(seed: u64) -> Key {
        let entropy = Entropy::seeded(seed);
        Key::generate(CredentialId::new(Timestamp::from_millis(1), &entropy).unwrap(), &entropy).unwrap()
    }

    fn places(bytes: &[u8]) -> Vec<(u64, CredentialId)> {
        let mut found = Vec::new();
        read(bytes, Path::new("x"), &mut found).unwrap();
        found.iter().map(|found| (found.line, found.key.credential)).collect()
    }

    #[test]
    fn keys_are_found_once_wherever_the_pieces_end() {
        let (one, two) = (key(1), key(2));
        for before in [0, 1, PIECE - 80, PIECE - 74, PIECE - 73, PIECE - 1, PIECE, 2 * PIECE - 40] {
            let mut bytes = vec![b'\n'; before];
            bytes.extend(one.reveal().as_bytes());
            bytes.extend(b"\xff\0\n");
            bytes.extend(two.reveal().as_bytes());
            bytes.extend(two.reveal().as_bytes());
            let line = before as u64 + 1;
            let expected = [(line, one.credential), (line + 1, two.credential), (line + 1, two.credential)];
            assert_eq!(places(&bytes), expected, "{before}");
        }
    }

    #[test]
    fn keys_in_utf_16_are_found_wherever_the_pieces_end() {
        let one = key(1);
        for before in [0, 1, PIECE / 2 - 100, PIECE / 2 - 37, PIECE / 2 - 1, PIECE] {
            let text = "\n".repeat(before) + "\u{feff}KEY=" + &one.reveal() + "\r\n";
            let units = || text.encode_utf16();
            let (little, big) = (units().flat_map(u16::to_le_bytes), units().flat_map(u16::to_be_bytes));
            let expected = [(before as u64 + 1, one.credential)];
            assert_eq!(places(&little.collect::<Vec<_>>()), expected, "little-endian, {before}");
            assert_eq!(places(&big.collect::<Vec<_>>()), expected, "big-endian, {before}");
        }
    }

    #[test]
    fn each_key_is_reported_once_where_it_was_found_first() {
        let found = |seed, line| Found { place: PathBuf::from("x"), line, key: key(seed) };
        let all = [found(1, 1), found(2, 2), found(1, 3), found(2, 4)];
        let mut lines: Vec<_> = distinct(&all.iter().collect::<Vec<_>>()).iter().map(|found| found.line).collect();
        lines.sort_unstable();
        assert_eq!(lines, [1, 2]);
    }
}
