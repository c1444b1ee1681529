//! The event log, read and proved on the command line.

use std::fs;
use std::process::Stdio;

use keyward_tests::keyward::Process;
use keyward_tests::person::{Person, mode, said, text};
use rusqlite::Connection;
use serde_json::Value;

/// Changes the log in the file behind the server's back.
fn tamper(server: &Process, sql: &str) {
    let database = Connection::open(server.data().join("keyward.db")).unwrap();
    assert_eq!(database.execute(sql, []).unwrap(), 1, "{sql}");
}

#[tokio::test]
async fn a_log_that_was_not_touched_is_whole_wherever_it_is_read() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let export = person.home.join("audit.jsonl");
    person.does(&["audit", "export", "-o", export.to_str().unwrap()]);
    assert_eq!(mode(&export), 0o600);
    let lines = fs::read_to_string(&export).unwrap().lines().count();
    for place in [vec![], vec!["--data", server.data().to_str().unwrap()], vec![export.to_str().unwrap()]] {
        let report = person.json(&[&["audit", "verify"][..], &place].concat());
        assert_eq!((&report["whole"], &report["events"]), (&true.into(), &lines.into()), "{place:?}");
    }
    let piped = said(person.command(&["audit", "verify", "-"]).stdin(fs::File::open(&export).unwrap()));
    assert!(piped.out.starts_with(&format!("whole: {lines} events")), "{}{}", piped.out, piped.err);

    let part = person.home.join("part.jsonl");
    fs::write(&part, person.does(&["audit", "export", "--from", "5"])).unwrap();
    let report = person.json(&["audit", "verify", part.to_str().unwrap()]);
    assert_eq!((&report["first"], &report["whole"]), (&5.into(), &true.into()));
}

#[tokio::test]
async fn a_flipped_byte_in_the_database_is_found_and_named() {
    for (change, event) in [
        ("UPDATE events SET data = replace(data, 'Supervisor', 'Supervisos') WHERE seq = 6", 6),
        ("UPDATE events SET at = at + 1 WHERE seq = 9", 9),
        ("UPDATE events SET hash = replace(hash, substr(hash, 1, 1), 'z') WHERE seq = 11", 11),
        ("UPDATE events SET data = '{' || substr(data, 1) WHERE seq = 7", 7),
        ("UPDATE events SET actor = '\"start' WHERE seq = 12", 12),
    ] {
        let server = Process::serve(&[]).await;
        let person = Person::administrator(&server);
        tamper(&server, change);
        let found = person.tries(&["audit", "verify", "--data", server.data().to_str().unwrap()]);
        assert_eq!(found.code, 1, "{change}");
        assert!(found.err.starts_with(&format!("error: event {event} was changed")), "{change}: {}", found.err);
        let head = format!("{} events before the break are whole", event - 1);
        assert!(found.out.contains(&head), "{change}: {}", found.out);
    }
}

#[tokio::test]
async fn a_missing_row_is_found_and_named_also_through_the_server() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let export = person.home.join("audit.jsonl");
    person.does(&["audit", "export", "-o", export.to_str().unwrap()]);
    let head = person.json(&["audit", "verify"]);

    tamper(&server, "DELETE FROM events WHERE seq = 8");
    for place in [vec![], vec!["--data", server.data().to_str().unwrap()]] {
        let found = person.tries(&[&["audit", "verify"][..], &place].concat());
        assert_eq!(found.code, 1);
        assert!(found.err.starts_with("error: event 8 is missing"), "{place:?}: {}", found.err);
    }
    let exported = fs::read_to_string(&export).unwrap();
    let without: Vec<_> = exported.lines().enumerate().filter(|(at, _)| *at != 7).map(|(_, line)| line).collect();
    fs::write(&export, without.join("\n")).unwrap();
    let found = person.tries(&["audit", "verify", export.to_str().unwrap()]);
    assert_eq!((found.code, found.err.starts_with("error: event 8 is missing")), (1, true), "{}", found.err);

    // The end cut off leaves a log that is whole in itself: a head kept elsewhere tells.
    fs::write(&export, exported.lines().take(10).collect::<Vec<_>>().join("\n")).unwrap();
    person.does(&["audit", "verify", export.to_str().unwrap()]);
    let expected = ["audit", "verify", export.to_str().unwrap(), "--expect", head["head"].as_str().unwrap()];
    let found = person.tries(&expected);
    assert_eq!((found.code, found.err.starts_with("error: event 11 is missing")), (1, true), "{}", found.err);
}

#[tokio::test]
async fn newest_rows_cut_from_the_database_are_noticed() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let last = person.json(&["audit", "verify"])["events"].as_i64().unwrap();
    tamper(&server, &format!("DELETE FROM events WHERE seq = {last}"));
    let found = person.tries(&["audit", "verify", "--data", server.data().to_str().unwrap()]);
    assert_eq!(found.code, 1);
    assert!(found.err.starts_with(&format!("error: event {last} is missing")), "{}", found.err);
}

#[tokio::test]
async fn the_tail_of_the_log_outlives_a_restart_of_the_server_and_says_so_once() {
    let mut server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let mut tail = person.command(&["audit", "tail", "-f", "-n", "1", "--json"]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut events = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
    let mut notes = std::io::BufRead::lines(std::io::BufReader::new(tail.stderr.take().unwrap()));
    events.next().unwrap().unwrap();
    assert!(server.terminate().await.success());
    let note = notes.next().unwrap().unwrap();
    assert!(note.contains("does not answer") && note.ends_with("it is asked again until it answers"), "{note}");
    server.start_again().await;
    person.does(&["user", "create", "alice"]);
    let event: Value = serde_json::from_str(&events.next().unwrap().unwrap()).unwrap();
    assert_eq!((&event["kind"], &event["data"]["name"]), (&"user.created".into(), &"alice".into()));
    // What cannot pass ends it.
    let credential = text(&person.json(&["audit", "tail", "-n", "1"])["actor"]["credential"]);
    person.does(&["credential", "revoke", &credential]);
    let rest: Vec<_> = notes.map(Result::unwrap).collect();
    assert!(rest[0].starts_with("error: ") && !rest.concat().contains("asked again"), "{rest:?}");
    assert_eq!(tail.wait().unwrap().code(), Some(1));
}

#[tokio::test]
async fn the_tail_of_the_log_names_what_happened_and_follows_it() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let mut tail =
        person.command(&["audit", "tail", "-f", "-n", "1", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    person.does(&["user", "create", "alice"]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    // Which of the two comes first depends on when the tail began.
    let kinds: Vec<_> = std::iter::repeat_with(|| text(&next()["kind"])).take_while(|k| k != "user.created").collect();
    assert!(kinds.len() <= 1, "{kinds:?}");
    tail.kill().unwrap();
    tail.wait().unwrap();
    let only = person.does(&["audit", "tail", "--kind", "user.created", "-n", "1"]);
    assert!(
        only.contains("user.created") && only.contains("name=alice") && only.contains("by admin with cred_"),
        "{only}"
    );
    assert_eq!(only.lines().count(), 1);
}
