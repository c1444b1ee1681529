//! Notices by mail, to a real mail server; over TLS from the real program, which trusts whom its system trusts.

use std::time::Duration;

use keyward_server::app::Patience;
use keyward_server::config::{Config, OnReport};
use keyward_tests::keyward::Process;
use keyward_tests::mail::{Encryption, MailServer, Refused};
use keyward_tests::person::{Person, said, text};
use keyward_tests::receiver::Receiver;
use keyward_tests::server::{Answer, Api, Db, Secrets, TestServer};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::callers::ask;
use crate::webhooks::new_webhook;

fn settings(url: String) -> impl FnOnce(&mut Config) {
    move |config| {
        *config.mail.smtp_url = url;
        config.mail.from = "Keyward <keyward@plant.example>".to_owned();
        config.mail.team = "team@plant.example".to_owned();
    }
}

/// Something to tell: somebody tries a revoked key.
async fn something_happens(server: &TestServer, label: &str) -> (String, Secrets) {
    let admin = server.admin().await;
    let me = admin.get("/api/v1/users/me").await.ok();
    let user = format!("/api/v1/users/{}", me["id"].as_str().unwrap());
    admin.patch(&user, &json!({ "email": "olga@plant.example" })).await.ok();
    let first = admin.orders_key().await;
    let name = json!({ "name": "Förderband \"Nord\", <x@y.example>" });
    admin.patch(&format!("/api/v1/clients/{}", first.client_id), &name).await.ok();
    let key = admin.issue(&first.client_id, &json!({ "label": label })).await;
    admin.revoke(&key).await;
    ask(server, &key, "press 7").await;
    server.app.callers.flush().await.unwrap();
    server.app.find_notices().await.unwrap();
    (key.credential(), admin.secrets.clone())
}

async fn owner_and_team_get_a_mail(db: Db) {
    let mail = MailServer::start().await;
    let server = TestServer::start_with(db, settings(mail.url())).await;
    let (key, _) = something_happens(&server, "hall 3").await;
    let mails = mail.mails(2).await;
    let mut to: Vec<_> = mails.iter().map(|mail| mail["to"][0].as_str().unwrap()).collect();
    to.sort_unstable();
    assert_eq!(to, ["olga@plant.example", "team@plant.example"]);
    let headers = &mails[0]["headers"];
    assert_eq!(headers["from"], "Keyward <keyward@plant.example>");
    assert_eq!(headers["subject"], "A revoked key of Förderband \"Nord\", <x@y.example> is still tried");
    let mut names: Vec<_> = headers.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected =
        ["content-transfer-encoding", "content-type", "date", "from", "message-id", "mime-version", "subject", "to"];
    assert_eq!(names, expected, "no name becomes a header");
    let text = mails[0]["text"].as_str().unwrap().replace("\r\n", "\n");
    for line in [
        format!("key       hall 3 ({key})"),
        "revoked   2026-11-23 12:00 UTC".to_owned(),
        "  press 7, press/2, 127.0.0.1, last seen 2026-11-23 12:00 UTC".to_owned(),
        format!("  keyward credential callers {key} --outcome refused"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owner_and_team_get_a_mail_on_sqlite() {
    owner_and_team_get_a_mail(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owner_and_team_get_a_mail_on_postgresql() {
    owner_and_team_get_a_mail(Db::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_tells_what_became_of_a_reported_key() {
    let mail = MailServer::start().await;
    let leaks = |config: &mut Config| config.leaks.on_report = OnReport::Retire;
    let team = settings(mail.url());
    let server = TestServer::start_with(Db::Sqlite, |config| {
        team(config);
        leaks(config);
    })
    .await;
    let admin = server.admin().await;
    let first = admin.orders_key().await;
    // Sooner than the hour that retirement gives.
    let key = admin.issue(&first.client_id, &json!({ "expires_at": "2026-11-23T12:30:00Z" })).await;
    let report = json!({ "key": key.client_secret, "where": "paste bin" });
    Answer::of(server.http.post(format!("{}/leaks", server.url())).json(&report)).await;
    let mails = mail.mails(1).await;
    let subject = "A key of orders-sync was reported as leaked, and ends on 2026-11-23 12:30 UTC";
    assert_eq!(mails[0]["headers"]["subject"], subject);
    let text = mails[0]["text"].as_str().unwrap().replace("\r\n", "\n");
    for line in
        ["found     paste bin", "reporter  127.0.0.1", &format!("  keyward credential callers {}", key.credential())]
    {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_that_is_away_loses_nothing() {
    let down = MailServer::start().await;
    let url = down.url();
    drop(down);
    let server = TestServer::start_with(Db::Sqlite, settings(url)).await;
    let (_, secrets) = something_happens(&server, "").await;
    let waiting = both_wait(&server, &server.api(&secrets).await).await;
    let problem = "the mail server cannot be reached, or does not speak SMTP";
    assert!(waiting.iter().all(|delivery| delivery["problem"] == problem), "{waiting:?}");

    // The same server with another mail server sends what waits.
    let mail = MailServer::start().await;
    let server = server.restart_with(settings(mail.url())).await;
    server.clock.advance(Duration::from_secs(10));
    server.app.send_notices().await.unwrap();
    mail.mails(2).await;
    both_are_sent(&server.api(&secrets).await).await;
}

/// The mails of an occasion, once both were tried in vain and wait for the next attempt.
async fn both_wait(server: &TestServer, admin: &Api<'_>) -> Vec<Value> {
    let both = async {
        loop {
            let found = admin.get("/api/v1/deliveries?state=waiting").await.ok()["items"].as_array().unwrap().clone();
            if found.len() == 2 && found.iter().all(|delivery| delivery["problem"] != "") {
                return found;
            }
            server.app.send_notices().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("both are tried")
}

async fn both_are_sent(admin: &Api<'_>) {
    let both = async {
        while admin.get("/api/v1/deliveries?state=sent").await.ok()["items"].as_array().map(Vec::len) != Some(2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("both are noted as sent");
}

/// For a while (451) or for good (550): a mail server that is set up wrongly says the latter too, until somebody mends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_the_mail_server_refuses_waits_with_its_code_and_is_sent_later() {
    for (db, at, code) in [
        (Db::Sqlite, Refused::Recipient, 451),
        (Db::Sqlite, Refused::Mail, 550),
        (Db::Postgres, Refused::Recipient, 550),
        (Db::Postgres, Refused::Mail, 451),
    ] {
        let mail = MailServer::start_refusing(at, code).await;
        let server = TestServer::start_with(db, settings(mail.url())).await;
        let (_, secrets) = something_happens(&server, "").await;
        let admin = server.api(&secrets).await;
        let waiting = both_wait(&server, &admin).await;
        // Its words may hold what is nobody's business; its code does not.
        let problem = format!("the mail server refuses this mail ({code})");
        for delivery in &waiting {
            assert_eq!((&delivery["problem"], &delivery["attempts"]), (&json!(problem), &json!(1)), "{at:?}");
        }
        assert_eq!(mail.count(), 0);
        // Five seconds after the first attempt, up to a fifth later.
        server.clock.advance(Duration::from_secs(7));
        server.app.send_notices().await.unwrap();
        both_are_sent(&admin).await;
        let mails = mail.mails(2).await;
        let mut to: Vec<_> = mails.iter().map(|mail| mail["to"][0].as_str().unwrap()).collect();
        to.sort_unstable();
        assert_eq!(to, ["olga@plant.example", "team@plant.example"]);
    }
}

/// A server that sends mail to this URL and trusts this certificate alone, and something to tell: somebody tries a
/// revoked key.
async fn sends_to(url: &str, trusted: &str) -> (Process, Person) {
    let settings = [
        ("KEYWARD_MAIL_SMTP_URL", url),
        ("KEYWARD_MAIL_FROM", "keyward@plant.example"),
        ("KEYWARD_MAIL_TEAM", "team@plant.example"),
        ("KEYWARD_CALLERS_FLUSH_S", "1"),
        ("SSL_CERT_FILE", trusted),
    ];
    let server = Process::serve(&settings).await;
    let person = Person::administrator(&server);
    person.registers("press");
    let key = person.json(&["credential", "issue", "press"]);
    let (client, secret) = (text(&key["client_id"]), text(&key["client_secret"]));
    person.does(&["credential", "revoke", &text(&key["id"])]);
    let tried = said(person.command(&["token"]).env("KEYWARD_CLIENT_ID", client).env("KEYWARD_CLIENT_SECRET", &secret));
    assert_eq!(tried.code, 1, "{}", tried.err);
    (server, person)
}

/// Why the only delivery did not arrive.
async fn problem(person: &Person) -> String {
    let tried = async {
        loop {
            let found = person.json(&["webhook", "deliveries"]);
            if let Some(problem) = found["items"][0]["problem"].as_str().filter(|problem| !problem.is_empty()) {
                return problem.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), tried).await.expect("it is tried")
}

/// A certificate for 127.0.0.1 and its key, as PEM files.
fn certificate() -> (std::path::PathBuf, std::path::PathBuf) {
    let directory = keyward_tests::run::subdirectory("mail-tls");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

async fn mail_goes_to_whoever_has_the_right_certificate_alone(encryption: Encryption, url: impl Fn(u16) -> String) {
    let ((right, key), (wrong, _)) = (certificate(), certificate());
    let mail = MailServer::start_encrypted(encryption, &right, &key).await;
    let url = url(mail.port());
    let (server, person) = sends_to(&url, wrong.to_str().unwrap()).await;
    assert_eq!(problem(&person).await, "the mail server's certificate is not good, or it speaks no TLS");
    assert!(mail.count() == 0 && !server.log().contains("hunter2"));

    let (_server, _) = sends_to(&url, right.to_str().unwrap()).await;
    let mails = mail.mails(1).await;
    assert_eq!((&mails[0]["to"], &mails[0]["encrypted"]), (&json!(["team@plant.example"]), &json!(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_over_starttls_goes_to_whoever_has_the_right_certificate_alone() {
    let url = |port| format!("smtp://127.0.0.1:{port}?tls=required");
    mail_goes_to_whoever_has_the_right_certificate_alone(Encryption::StartTls, url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_over_implicit_tls_goes_to_whoever_has_the_right_certificate_alone() {
    let url = |port| format!("smtps://127.0.0.1:{port}");
    mail_goes_to_whoever_has_the_right_certificate_alone(Encryption::Implicit, url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_without_starttls_gets_neither_mail_nor_password_where_it_is_required() {
    let (mail, (trusted, _)) = (MailServer::start().await, certificate());
    let url = format!("smtp://keyward:hunter2@127.0.0.1:{}?tls=required", mail.port());
    let (server, person) = sends_to(&url, trusted.to_str().unwrap()).await;
    assert_eq!(problem(&person).await, "the mail server offers no STARTTLS, which tls=required asks for");
    assert!(mail.count() == 0 && !server.log().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_to_the_address_that_its_receiver_has_when_it_is_sent() {
    let down = MailServer::start().await;
    let url = down.url();
    drop(down);
    let server = TestServer::start_with(Db::Sqlite, settings(url)).await;
    let (_, secrets) = something_happens(&server, "").await;
    let admin = server.api(&secrets).await;
    let me = admin.get("/api/v1/users/me").await.ok()["id"].as_str().unwrap().to_owned();
    let user = format!("/api/v1/users/{me}");
    assert_eq!(admin.get(&format!("/api/v1/deliveries?target={me}")).await.ok()["items"].as_array().unwrap().len(), 1);
    admin.patch(&user, &json!({ "email": "new@plant.example" })).await.ok();
    let mail = MailServer::start().await;
    let server = server.restart_with(settings(mail.url())).await;
    server.clock.advance(Duration::from_secs(121));
    let to = async |count: usize| {
        let mails = mail.mails(count).await;
        let mut to: Vec<_> = mails.iter().map(|mail| mail["to"][0].as_str().unwrap().to_owned()).collect();
        to.sort_unstable();
        to
    };
    assert_eq!(to(2).await, ["new@plant.example", "team@plant.example"]);

    // Without an address nothing goes out, however long it waited.
    let admin = server.api(&secrets).await;
    admin.patch(&user, &json!({ "email": null })).await.ok();
    let sent = admin.get(&format!("/api/v1/deliveries?target={me}")).await.ok()["items"][0]["id"].clone();
    let again = format!("/api/v1/deliveries/{}", sent.as_str().unwrap());
    let dead = async {
        while admin.get("/api/v1/deliveries?state=dead").await.ok()["items"][0]["id"] != sent {
            admin.act(&format!("{again}/resend")).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), dead).await.expect("it is given up");
    assert_eq!(mail.mails(2).await.len(), 2);
}

/// A mail server that takes every connection, says a byte now and then, and never comes to the end of a line.
async fn mumbling_mail_server() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let mumbling = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while stream.write_all(b"2").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
    });
    (url, mumbling)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_that_never_comes_to_the_point_is_let_go() {
    let (url, mumbling) = mumbling_mail_server().await;
    let patience = Patience { attempt: Duration::from_secs(1), ..Patience::default() };
    let server = TestServer::start_impatient(Db::Sqlite, patience, settings(url)).await;
    let (_, secrets) = something_happens(&server, "").await;
    let waiting = both_wait(&server, &server.api(&secrets).await).await;
    assert!(waiting.iter().all(|mail| mail["problem"] == "it did not answer in time"), "{waiting:?}");
    mumbling.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_that_never_comes_to_the_point_keeps_no_webhook_waiting() {
    let (url, mumbling) = mumbling_mail_server().await;
    let server = TestServer::start_with(Db::Sqlite, settings(url)).await;
    let receiver = Receiver::start().await;
    let (_, secrets) = something_happens(&server, "").await;
    let admin = server.api(&secrets).await;
    let webhook = new_webhook(&admin, &receiver, &[]).await;
    for told in 1..=3 {
        admin.act(&format!("/api/v1/webhooks/{}/test", webhook["id"].as_str().unwrap())).await.ok();
        let arrives = async {
            while receiver.received().len() < told {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), arrives).await.expect("the webhook is told while the mails hang");
    }
    mumbling.abort();
}

#[tokio::test]
async fn no_password_of_a_mail_server_gets_into_the_log_or_an_error() {
    let set = |url: &str| [("KEYWARD_MAIL_SMTP_URL".to_owned(), url.to_owned())];
    let refused = Config::load(None, set("smtp://u:hunter2@mail.example")).unwrap_err().to_string();
    assert!(refused.contains("unencrypted") && !refused.contains("hunter2"), "{refused}");
    let config = Config::load(None, set("smtps://u:hunter2@mail.example")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
