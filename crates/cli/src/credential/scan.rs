//! `keyward credential scan`: finds API keys where they do not belong.
//!
//! Everything below the paths is read, whatever `.gitignore` says: that is where keys lie. A file is read in pieces, so
//! none is too large, and as bytes, so none is too strange. Only what Git has packed is left out, where no key can be
//! seen: `git log -p --all | keyward credential scan -` reads the history.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
use crate::terminal::{self, Paint};

/// Read at once, in bytes.
const PIECE: usize = 256 * 1024;
/// Keys told of at most: whoever has more of them in one place has understood.
const MOST: usize = 10_000;
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
    /// Report what is found to the server's /leaks: the keys end as its settings say.
    #[arg(long)]
    report: bool,
}

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
        if self.report {
            report(global, &lives).await?;
            return Err(Failure::new(format!("{message}; all were reported"))
                .hint("issue new ones where they are needed, and remove these from where they were found")
                .into());
        }
        Err(Failure::new(message)
            .hint("end them: `keyward credential scan --report`, or `keyward credential revoke`")
            .into())
    }
}

/// Looks through a file, everything below a directory, or standard input.
fn search(path: &Path, found: &mut Vec<Found>) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return Ok(read(io::stdin().lock(), Path::new("-"), found)?);
    }
    let kind = fs::metadata(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
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
    terminal::note(&format!("not looked at: {}: {error}", path.display()));
}

fn is_packed(directory: &Path) -> bool {
    directory.ends_with(".git/objects")
}

/// Looks through bytes, piece by piece; a key may lie across two.
fn read(mut from: impl Read, place: &Path, found: &mut Vec<Found>) -> io::Result<()> {
    let (mut piece, mut line) = (Vec::with_capacity(PIECE + key::LEN), 1);
    loop {
        let read = from.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
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
async fn ask(global: &Global, found: &[Found]) -> BTreeMap<CredentialId, CredentialView> {
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

fn tell(found: &Found, known: &BTreeMap<CredentialId, CredentialView>) -> Told {
    let view = known.get(&found.key.credential);
    Told {
        place: found.place.display().to_string(),
        line: found.line,
        key: found.key.reveal().get(..SHOWN).unwrap_or_default().to_owned() + "...",
        credential: found.key.credential,
        state: view.map(|view| view.state),
        client: view.map(|view| view.client),
    }
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

/// Tells the server of the keys, which end by it.
async fn report(global: &Global, lives: &[&Found]) -> anyhow::Result<()> {
    let url = match global.server() {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => global.profile()?.url,
    };
    let http = remote::http(&url)?;
    for found in lives {
        let place = format!("{}:{}", found.place.display(), found.line);
        Remote::report_leak(&http, &url, &found.key.reveal(), &place).await?;
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
}
