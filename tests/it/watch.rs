//! Who uses a key, at the command line: tables, and a rotation that is watched.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use keyward_model::key::LEN;
use keyward_tests::keyward::Process;
use keyward_tests::person::{Person, at_a_terminal, shown_until, text};
use reqwest::StatusCode;
use serde_json::Value;

/// A client and its key.
pub(crate) struct Key {
    client: String,
    pub(crate) credential: String,
    secret: String,
}

pub(crate) fn issue(person: &Person, label: &str) -> Key {
    let issued = person.json(&["credential", "issue", "press", "--label", label]);
    let member = |name: &str| text(&issued[name]);
    Key { client: member("client_id"), credential: member("id"), secret: member("client_secret") }
}

pub(crate) async fn uses(server: &Process, key: &Key, instance: &str) -> StatusCode {
    let request = keyward_tests::http().post(format!("{}/token", server.url()));
    let request = request.basic_auth(&key.client, Some(&key.secret)).header("keyward-instance", instance);
    request.form(&[("grant_type", "client_credentials")]).send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_shown_for_a_credential_a_client_and_a_user() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("press");
    let key = issue(&person, "PLC");
    assert_eq!(uses(&server, &key, "press 7").await, StatusCode::OK);
    assert_eq!(uses(&server, &key, "press 8").await, StatusCode::OK);
    person.does(&["credential", "revoke", &key.credential]);
    assert_eq!(uses(&server, &key, "press 8").await, StatusCode::UNAUTHORIZED);

    for asked in [["credential", "callers", &key.credential], ["client", "callers", "press"]] {
        let shown = person.does(&asked);
        assert!(shown.starts_with("2 callers, the last seen just now\n\nINSTANCE "), "{shown}");
        let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("press 7").contains("127.0.0.1") && line("press 7").contains(&key.credential), "{shown}");
        assert!(line("press 8").contains("PLC") && line("press 8").contains("revoked"), "{shown}");
    }
    let mine = person.json(&["user", "callers"]);
    let clients = mine["items"].as_array().unwrap().iter().filter(|caller| caller["client"] == key.client.as_str());
    assert_eq!(clients.count(), 2, "{mine}");
    let refused = person.json(&["credential", "callers", &key.credential, "--outcome", "refused", "--within", "1h"]);
    assert_eq!(refused["items"].as_array().unwrap().len(), 1);
    assert_eq!(refused["items"][0]["instance"], "press 8");
    let unused = issue(&person, "spare");
    assert_eq!(person.does(&["credential", "callers", &unused.credential]), "none\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_pipe_a_watched_rotation_is_told_line_by_line_to_its_end() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("press");
    let (old, new) = (issue(&person, "old"), issue(&person, "new"));
    uses(&server, &old, "press 7").await;
    uses(&server, &new, "press 8").await;
    rotate(&server, &old, &new);
    let mut command = person.command(&["credential", "watch", &old.credential, "--every", "1s"]);
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || tokio::task::block_in_place(|| lines.next().unwrap());
    let said = [next(), next(), next(), next()];
    assert!(said[0].contains(&format!("{}  old  is retiring, ends in ", old.credential)), "{said:?}");
    assert!(said[0].ends_with(&format!(", successor {}", new.credential)), "{said:?}");
    assert!(said[1].ends_with(&format!("{}  press 7  127.0.0.1  1 uses", old.credential)), "{said:?}");
    assert!(said[2].ends_with(&format!("{}  new  is active", new.credential)), "{said:?}");
    assert!(said[3].ends_with(&format!("{}  press 8  127.0.0.1  1 uses", new.credential)), "{said:?}");

    uses(&server, &new, "press 7").await;
    let moved = next();
    assert!(moved.ends_with(&format!("{}  press 7  127.0.0.1  1 uses", new.credential)), "{moved}");
    person.does(&["credential", "revoke", &old.credential]);
    let ended = next();
    assert!(ended.contains(&format!("{}  old  is revoked, ended just now", old.credential)), "{ended}");
    assert!(tokio::task::block_in_place(|| watching.wait()).unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_pipe_a_rotation_that_is_watched_shows_the_new_key_then_a_line_for_each_change() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("press");
    let old = issue(&person, "old");
    uses(&server, &old, "press 7").await;
    let mut command = person.command(&["credential", "rotate", "press", "--watch"]);
    let mut rotating = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(rotating.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |part: &str| {
        tokio::task::block_in_place(|| lines.by_ref().take_while(|line| !line.contains(part)).collect::<Vec<_>>())
    };
    let shown = until("  press 7  127.0.0.1  1 uses");
    assert_eq!(shown.iter().filter(|line| line.trim().starts_with("kw_")).count(), 1, "{shown:#?}");
    assert!(shown.last().unwrap().contains(&format!("{}  old  is retiring", old.credential)), "{shown:#?}");
    person.does(&["credential", "finish", "press", "--force"]);
    until(&format!("{}  old  is expired", old.credential));
    let output = tokio::task::block_in_place(|| rotating.wait_with_output()).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && err.ends_with("the live view needs a terminal.\n"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_a_rotation_is_watched_and_finished_with_one_key_once_nobody_uses_the_old_one() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("press");
    let old = issue(&person, "old");
    let command = person.command(&["credential", "rotate", "press", "--watch"]);
    let mut terminal = at_a_terminal(&command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut out) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    // The picture does not take the key away before it is copied.
    let shown = shown_until(&mut out, "Enter then shows who uses which.");
    assert!(shown.contains("kw_") && !shown.contains("\u{1b}[?1049h"), "{shown}");
    let secret = shown.split("kw_").nth(1).map(|rest| format!("kw_{}", &rest[..LEN - 3])).unwrap();
    let successor = keyward_model::key::Key::parse(&secret).unwrap().credential.to_string();
    let new = Key { client: old.client.clone(), credential: successor, secret };
    keys.write_all(b"\n").unwrap();
    let picture = shown_until(&mut out, "f finishes the rotation, q leaves");
    assert!(picture.contains("\u{1b}[?1049h") && picture.contains("OLD KEY") && !picture.contains("kw_"), "{picture}");
    uses(&server, &old, "press 7").await;
    let picture = shown_until(&mut out, "1 still to be moved (seen within 24 h); q leaves");
    assert!(picture.contains("* press 7  127.0.0.1") && !picture.contains("press 8"), "{picture}");

    keys.write_all(b"f").unwrap();
    uses(&server, &new, "press 8").await;
    let picture = shown_until(&mut out, "press 8  127.0.0.1");
    let successor = picture.rfind("SUCCESSOR").unwrap();
    assert!(picture[successor..].contains(&new.credential), "{picture}");
    assert_eq!(uses(&server, &old, "press 7").await, StatusCode::OK, "the key lives while somebody uses it");
    // Whatever is shown has been written down.
    shown_until(&mut out, "2 uses");
    assert_eq!(person.json(&["credential", "show", &old.credential])["state"], "retiring");

    a_day_passes(&server, &old);
    shown_until(&mut out, "f finishes the rotation, q leaves");
    keys.write_all(b"f").unwrap();
    let end = shown_until(&mut out, "expired, ended");
    assert!(end.contains("\u{1b}[?1049l"), "the screen before comes back: {end:?}");
    assert!(tokio::task::block_in_place(|| terminal.wait()).unwrap().success());
    assert_eq!(person.json(&["credential", "show", &old.credential])["end_reason"], "finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_json_a_watched_key_is_told_as_objects() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("press");
    let key = issue(&person, "");
    uses(&server, &key, "press 7").await;
    let mut command = person.command(&["credential", "watch", &key.credential, "--json", "--every", "1s"]);
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || -> Value {
        let line = tokio::task::block_in_place(|| lines.next().unwrap());
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    assert_eq!(next()["id"], key.credential.as_str());
    assert_eq!(next()["instance"], "press 7");
    person.does(&["credential", "revoke", &key.credential]);
    assert_eq!(next()["state"], "revoked");
    assert!(tokio::task::block_in_place(|| watching.wait()).unwrap().success());
}

/// As a rotation leaves both behind, in the database itself.
fn rotate(server: &Process, old: &Key, new: &Key) {
    let sql = "UPDATE credentials SET state = 'retiring', retire_at = 4102444800000, successor = ?1 WHERE id = ?2";
    assert_eq!(database(server).execute(sql, [&new.credential, &old.credential]).unwrap(), 1);
}

/// As if whoever used the key had last done so a day before, in the database itself.
fn a_day_passes(server: &Process, key: &Key) {
    let sql = "UPDATE callers SET last_seen_at = last_seen_at - 86400000 WHERE credential = ?1";
    assert_eq!(database(server).execute(sql, [&key.credential]).unwrap(), 1);
}

fn database(server: &Process) -> rusqlite::Connection {
    let file = rusqlite::Connection::open(server.data().join("keyward.db")).unwrap();
    file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    file
}
