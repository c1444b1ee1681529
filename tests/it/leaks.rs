//! Leaked keys: found by whoever looks, reported without an account, ended.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use keyward_model::entropy::Entropy;
use keyward_model::id::CredentialId;
use keyward_model::key::Key;
use keyward_server::config::OnReport;
use keyward_tests::keyward::Process;
use keyward_tests::person::{Person, said, text};
use keyward_tests::receiver::Receiver;
use keyward_tests::server::{Answer, Api, Db, START, Secrets, TestServer};
use keyward_tests::{on_both_databases, run};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::scanners::{any_key, near_miss, write};
use crate::webhooks::{arrived, new_webhook};

async fn report(server: &TestServer, body: &Value) -> Answer {
    Answer::of(server.http.post(format!("{}/leaks", server.url())).json(body)).await
}

/// The newest event about the credential of a key.
async fn last_event(admin: &Api<'_>, key: &Secrets) -> Value {
    let events = admin.get(&format!("/api/v1/events?subject={}", key.credential())).await.ok();
    events["items"].as_array().unwrap().last().unwrap().clone()
}

fn received() -> Value {
    json!({ "status": "received", "detail": "if this is a key that works, its owner is told" })
}

/// A key of the same credential with another secret, and one of a credential that does not exist.
fn guesses(key: &Secrets) -> [String; 2] {
    let entropy = Entropy::system();
    let credential = Key::parse(&key.client_secret).unwrap().credential;
    let other = CredentialId::new(START, &entropy).unwrap();
    [credential, other].map(|id| Key::generate(id, &entropy).unwrap().reveal().to_string())
}

on_both_databases! {
    async fn a_reported_key_ends_at_once_with_one_event(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let place = "https://git.example/orders/blob/main/settings.py#L7";
        let answer = report(&server, &json!({ "key": key.client_secret, "where": place })).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::ACCEPTED, &received()));
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::UNAUTHORIZED);
        let witness = admin.issue(&key.client_id, &json!({})).await;
        assert_eq!(server.introspect(&witness, &token).await, json!({ "active": false }));
        let event = last_event(&admin, &key).await;
        assert_eq!((&event["kind"], &event["source"]), (&json!("credential.revoked"), &json!("127.0.0.1")));
        assert_eq!(event["actor"], json!({ "system": "leaks" }));
        let told = json!({
            "client": key.client_id, "was": "active", "because": "leak_reported", "where": place, "retire_at": null,
        });
        assert_eq!(event["data"], told);
        report(&server, &json!({ "key": key.client_secret })).await;
        assert_eq!(last_event(&admin, &key).await["seq"], event["seq"], "a second report tells nothing new");
    }

    async fn whoever_answers_for_a_reported_key_is_told(server: TestServer) {
        let (admin, receiver) = (server.admin().await, Receiver::start().await);
        new_webhook(&admin, &receiver, &["credential.leak_reported"]).await;
        let key = admin.orders_key().await;
        for _ in 0..2 {
            report(&server, &json!({ "key": key.client_secret, "where": "paste bin" })).await;
        }
        let received = arrived(&server, &receiver, 1).await;
        let told: Value = serde_json::from_str(&received[0].body).unwrap();
        assert_eq!(told["type"], "credential.leak_reported");
        let data = &told["data"];
        assert_eq!((&data["credential"]["id"], &data["where"]), (&json!(key.credential()), &json!("paste bin")));
        assert_eq!((&data["network"], &data["on_report"]), (&json!("127.0.0.1"), &json!("revoke")));
        assert_eq!((&data["revoked_at"], &data["ends_at"]), (&json!("2026-11-23T12:00:00Z"), &Value::Null));
        assert_eq!((&data["client"]["name"], &data["owner"]["name"]), (&json!("orders-sync"), &json!("admin")));
        assert!(!received[0].body.contains(&key.client_secret), "the secret is told");
    }

    async fn whatever_is_reported_the_answer_is_the_same(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let ended = admin.issue(&key.client_id, &json!({})).await;
        admin.revoke(&ended).await;
        let [wrong, unknown] = guesses(&key);
        for guess in [&wrong, &unknown, &ended.client_secret, "kw_", "", &"kw_".repeat(1000)] {
            let answer = report(&server, &json!({ "key": guess })).await;
            assert_eq!((answer.status, answer.body), (StatusCode::ACCEPTED, received()));
        }
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::OK, "a guess ends nobody's key");
        let form = [("key", key.client_secret.as_str()), ("where", "paste bin")];
        let answer = Answer::of(server.http.post(format!("{}/leaks", server.url())).form(&form)).await;
        assert_eq!((answer.status, answer.body), (StatusCode::ACCEPTED, received()));
        assert_eq!(last_event(&admin, &key).await["data"]["where"], "paste bin");
    }

    async fn a_key_of_a_disabled_owner_ends_too(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        admin.act(&format!("/api/v1/clients/{}/disable", key.client_id)).await.ok();
        report(&server, &json!({ "key": key.client_secret })).await;
        assert_eq!(last_event(&admin, &key).await["kind"], "credential.revoked", "enabled again, it would work");
    }

    async fn where_it_was_found_holds_no_secret_and_nothing_unseen(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let place = format!("\u{202e}x.py\n{} {}", key.client_secret, "y ".repeat(300));
        report(&server, &json!({ "key": key.client_secret, "where": place })).await;
        let event = last_event(&admin, &key).await;
        let kept = event["data"]["where"].as_str().unwrap();
        assert!(kept.starts_with("x.pykw_") && kept.len() <= 200, "{kept}");
        assert!(!event.to_string().contains(&key.client_secret[16..]), "{event}");
    }

    async fn what_is_no_report_is_refused(server: TestServer) {
        let url = format!("{}/leaks", server.url());
        let post = || server.http.post(&url);
        for (request, status) in [
            (post().json(&json!({ "where": "x" })), StatusCode::BAD_REQUEST),
            (post().json(&json!({ "key": "x", "why": "y" })), StatusCode::BAD_REQUEST),
            (post().json(&json!({ "key": 7 })), StatusCode::BAD_REQUEST),
            (post().json(&json!(["kw_x", "w"])), StatusCode::BAD_REQUEST),
            (post().form(&[("key", "x"), ("key", "y")]), StatusCode::BAD_REQUEST),
            (post().query(&[("key", "x")]).json(&json!({ "key": "x" })), StatusCode::BAD_REQUEST),
            (post().body("kw_x"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (post().json(&json!({ "key": "x".repeat(5000) })), StatusCode::PAYLOAD_TOO_LARGE),
            (server.http.get(&url), StatusCode::METHOD_NOT_ALLOWED),
        ] {
            let answer = Answer::of(request).await;
            assert_eq!(answer.status, status, "{}", answer.body);
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert!(answer.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{}", answer.body);
        }
    }

    async fn who_guesses_is_told_to_wait_and_who_holds_a_key_is_heard(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let [_, unknown] = guesses(&key);
        for _ in 0..30 {
            assert_eq!(report(&server, &json!({ "key": unknown })).await.status, StatusCode::ACCEPTED);
        }
        let refused = report(&server, &json!({ "key": unknown })).await;
        assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "6"));
        assert_eq!(refused.header("content-type"), "application/problem+json");
        let heard = report(&server, &json!({ "key": key.client_secret })).await;
        assert_eq!((heard.status, heard.header("retry-after")), (refused.status, "6"));
        assert_eq!(heard.body, refused.body, "nobody learns by it whether it was a key");
        assert_eq!(last_event(&admin, &key).await["kind"], "credential.revoked");
    }

    async fn what_a_report_costs_does_not_tell_whether_it_was_a_key(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let [_, unknown] = guesses(&key);
        for _ in 0..29 {
            report(&server, &json!({ "key": unknown })).await;
        }
        assert_eq!(report(&server, &json!({ "key": key.client_secret })).await.status, StatusCode::ACCEPTED);
        let next = report(&server, &json!({ "key": unknown })).await;
        assert_eq!(next.status, StatusCode::TOO_MANY_REQUESTS, "a key that works was the thirtieth report");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_set_a_reported_key_is_retired_or_only_noted() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = TestServer::start_with(db, |config| config.leaks.on_report = OnReport::Retire).await;
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        report(&server, &json!({ "key": key.client_secret })).await;
        let event = last_event(&admin, &key).await;
        assert_eq!((&event["kind"], &event["data"]["was"]), (&json!("credential.leak_reported"), &json!("active")));
        assert_eq!(event["data"]["retire_at"], START.plus(Duration::from_secs(3600)).as_millis());
        server.clock.advance(Duration::from_secs(600));
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::OK, "callers have an hour");
        report(&server, &json!({ "key": key.client_secret })).await;
        server.clock.advance(Duration::from_secs(3000));
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::UNAUTHORIZED, "nobody prolongs it");

        let server = TestServer::start_with(db, |config| config.leaks.on_report = OnReport::Note).await;
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let mut answers = Vec::new();
        for _ in 0..32 {
            answers.push(report(&server, &json!({ "key": key.client_secret })).await.status);
        }
        assert_eq!(
            answers.iter().filter(|status| **status == StatusCode::ACCEPTED).count(),
            30,
            "the log does not grow at will"
        );
        assert_eq!(last_event(&admin, &key).await["kind"], "credential.leak_reported");
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_prolongs_a_key_that_retires_because_it_leaked_or_brings_it_back() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = TestServer::start_with(db, |config| config.leaks.on_report = OnReport::Retire).await;
        let admin = server.admin().await;
        let until = async |key: &Secrets| {
            let seen = admin.get(&format!("/api/v1/credentials/{}", key.credential())).await.ok();
            (text(&seen["state"]), seen["retire_at"].clone(), seen["leaked_at"].clone())
        };
        let act = async |key: &Secrets, action: &str, body: &Value| {
            let answer = admin.post(&format!("/api/v1/credentials/{}/{action}", key.credential()), body).await;
            (answer.status, answer.body["detail"].as_str().unwrap_or_default().to_owned())
        };
        let later = json!({ "retire_at": "2026-11-30T12:00:00Z" });
        let (now, in_an_hour) = (json!("2026-11-23T12:00:00Z"), json!("2026-11-23T13:00:00Z"));

        let alone = admin.orders_key().await;
        let rotated = admin.issue(&alone.client_id, &json!({})).await;
        act(&rotated, "rotate", &json!({})).await;
        for key in [&alone, &rotated] {
            report(&server, &json!({ "key": key.client_secret })).await;
            for (action, body) in [("extend", &later), ("cancel", &json!({})), ("rotate", &json!({}))] {
                let (status, detail) = act(key, action, body).await;
                assert_eq!(status, StatusCode::CONFLICT, "{action}: {detail}");
                assert!(detail.contains("leaked") && detail.contains("issue another"), "{action}: {detail}");
            }
            assert_eq!(until(key).await, ("retiring".to_owned(), in_an_hour.clone(), now.clone()));
        }
        let (status, _) = act(&alone, "extend", &json!({ "retire_at": "2026-11-23T12:30:00Z" })).await;
        assert_eq!(status, StatusCode::OK, "earlier is always possible");
        assert_eq!(act(&alone, "extend", &json!({ "retire_at": in_an_hour })).await.0, StatusCode::CONFLICT);

        // What was to end within the hour anyway could be given more time afterwards.
        let members = json!({ "expires_at": "2026-11-23T12:20:00Z" });
        let expiring = admin.issue(&alone.client_id, &members).await;
        let retiring = admin.issue(&alone.client_id, &json!({})).await;
        act(&retiring, "rotate", &json!({ "overlap_seconds": 1200 })).await;
        for key in [&expiring, &retiring] {
            report(&server, &json!({ "key": key.client_secret })).await;
            assert_eq!(last_event(&admin, key).await["kind"], "credential.leak_reported");
            act(key, "extend", &later).await;
            let path = format!("/api/v1/credentials/{}", key.credential());
            admin.patch(&path, &json!({ "expires_at": null })).await.ok();
            assert_eq!(until(key).await, ("retiring".to_owned(), json!("2026-11-23T12:20:00Z"), now.clone()));
        }
        server.clock.advance(Duration::from_secs(1200));
        for key in [&expiring, &retiring] {
            assert_eq!(server.token_answer(key, &[]).await.status, StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_a_leaked_key_does_not_prolong_it_with_its_own_token() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = TestServer::start_with(db, |config| config.leaks.on_report = OnReport::Retire).await;
        let admin = server.admin().await;
        let found = admin.issue(&admin.secrets.client_id, &json!({})).await;
        report(&server, &json!({ "key": found.client_secret })).await;
        let thief = server.api(&found).await;
        let path = format!("/api/v1/credentials/{}/extend", found.credential());
        let refused = thief.post(&path, &json!({ "retire_at": "2026-11-24T12:00:00Z" })).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
    }
}

#[tokio::test]
async fn a_scan_finds_keys_and_tells_whose_they_are_but_never_the_keys() {
    let server = Process::serve(&[]).await;
    let admin = Person::administrator(&server);
    admin.registers("press");
    let issue = || admin.json(&["credential", "issue", "press"]);
    let (live, ended, strange) = (issue(), issue(), any_key());
    let secret = |issued: &Value| text(&issued["client_secret"]);
    admin.does(&["credential", "revoke", ended["id"].as_str().unwrap()]);
    let tree = admin.home.join("tree");
    write(
        &tree,
        &[
            (".gitignore", b".env\n"),
            (".env", format!("A=1\nKEY={}\n", secret(&live)).as_bytes()),
            (".git/config", format!("url = https://x:{strange}@iam.example\n").as_bytes()),
            (".git/objects/aa/bb", secret(&live).as_bytes()),
            ("old.bin", &[&b"\0\xff\n\n"[..], secret(&ended).as_bytes(), b"\xff"].concat()),
            ("misses.txt", format!("{} kw_\n", near_miss(&secret(&live))).as_bytes()),
        ],
    );
    std::os::unix::fs::symlink(&tree, tree.join("circle")).unwrap();

    let scan = admin.tries(&["credential", "scan", "tree", "--json"]);
    assert_eq!(scan.code, 1, "{}", scan.err);
    let found: Value = serde_json::from_str(&scan.out).unwrap();
    let told: BTreeSet<String> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|f| {
            format!(
                "{}:{} {} {}",
                text(&f["place"]),
                f["line"],
                text(&f["credential"]),
                f["state"].as_str().unwrap_or("-")
            )
        })
        .collect();
    let id = Key::parse(&strange).unwrap().credential;
    assert_eq!(
        told,
        BTreeSet::from([
            format!("tree/.env:2 {} active", text(&live["id"])),
            format!("tree/.git/config:1 {id} -"),
            format!("tree/old.bin:3 {} revoked", text(&ended["id"])),
        ])
    );
    let table = admin.tries(&["credential", "scan", "tree"]);
    assert!(table.err.contains("2 of 3 keys found may work"), "{}", table.err);
    for key in [secret(&live), secret(&ended), strange.clone()] {
        assert!(table.out.contains(&key[..12]), "{}", table.out);
        assert!(![&scan.out, &scan.err, &table.out, &table.err].iter().any(|said| said.contains(&key[..14])));
    }

    let reported = admin.tries(&["credential", "scan", "--report", "tree/.env"]);
    assert_eq!(reported.code, 1, "{}", reported.err);
    assert_eq!(admin.json(&["credential", "show", live["id"].as_str().unwrap()])["state"], "revoked");
    let events = admin.does(&["audit", "tail", "-n", "1", "--subject", live["id"].as_str().unwrap(), "--json"]);
    assert!(events.contains("tree/.env:2") && events.contains("leak_reported"), "{events}");
    assert_eq!(admin.tries(&["credential", "scan", "tree/.env", "tree/old.bin"]).code, 0, "ended keys are no alarm");
    assert!(!server.log().contains(&secret(&live)[..20]), "{}", server.log());

    // Without a profile nobody knows whether they work, and a pipe is read like a file.
    let mut alone = admin.command(&["credential", "scan", "-"]);
    alone.env("HOME", run::subdirectory("home")).stdin(Stdio::from(fs::File::open(tree.join("old.bin")).unwrap()));
    let alone = said(&mut alone);
    assert_eq!(alone.code, 1, "{}", alone.err);
    assert!(alone.out.contains("-:3") && alone.out.contains("unknown"), "{}", alone.out);
    let nowhere = admin.tries(&["credential", "scan", "no\u{1b}[2Jwhere\nhint: x"]);
    assert_eq!(nowhere.code, 2);
    assert!(nowhere.err.contains("no\\u{1b}[2Jwhere\\u{a}hint: x"), "a name steers no terminal: {:?}", nowhere.err);
}

#[tokio::test]
async fn a_scan_reports_each_key_once_waits_as_it_is_told_and_keeps_what_is_another_server_s() {
    let server =
        Process::serve(&[("KEYWARD_LIMITS_FAILURES_BURST", "2"), ("KEYWARD_LIMITS_FAILURES_PER_MINUTE", "60")]).await;
    let admin = Person::administrator(&server);
    admin.registers("press");
    let live: Vec<Value> = (0..3).map(|_| admin.json(&["credential", "issue", "press"])).collect();
    let secret = |issued: &Value| text(&issued["client_secret"]);
    let (tree, strange) = (admin.home.join("tree"), any_key());
    let utf_16: Vec<u8> = secret(&live[2]).encode_utf16().flat_map(u16::to_le_bytes).collect();
    write(
        &tree,
        &[
            ("a.log", (strange.clone() + "\n" + &format!("{}\n", secret(&live[0])).repeat(40)).as_bytes()),
            ("b.env", secret(&live[1]).as_bytes()),
            ("c.txt", &utf_16),
        ],
    );
    let reported = admin.tries(&["credential", "scan", "--report", "tree"]);
    assert_eq!(reported.code, 1, "{}", reported.err);
    for said in ["reported: 3, not reported: 1", "waiting 1 s", "not reported: tree/a.log:1 ", "--report-unknown"] {
        assert!(reported.err.contains(said), "{said}: {}", reported.err);
    }
    for issued in &live {
        assert_eq!(admin.json(&["credential", "show", issued["id"].as_str().unwrap()])["state"], "revoked");
    }
    let sent = admin.tries(&["credential", "scan", "--report", "--report-unknown", "tree"]);
    assert!(sent.err.contains("1 of 43 keys found may work; reported: 1, not reported: 0"), "{}", sent.err);
}
