//! Somebody signs in at a terminal of a real server, which lets them in by a browser; and the client that all terminals
//! share.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use keyward_model::client::COMMAND_LINE;
use keyward_server::device_grants::{approve, claim};
use keyward_tests::on_both_databases;
use keyward_tests::person::Person;
use keyward_tests::run;
use keyward_tests::server::{Answer, Api, Db, TestServer};
use keyward_tests::visitor::{PASSWORD, PageSeen, Visitor, invitation};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use crate::authority::person;

/// Somebody at a terminal who signs in, with these options.
fn signs_in(server: &TestServer, options: &[&str]) -> (Person, Child) {
    let terminal = Person { home: run::subdirectory("home"), url: server.url() };
    let mut command = terminal.command(&[&["login", "--url", &terminal.url][..], options].concat());
    command.env_remove("SSH_CONNECTION").env_remove("SSH_TTY").env_remove("SSH_CLIENT").env("BROWSER", "true");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    (terminal, piped)
}

fn is_done(mut child: Child) {
    let status = tokio::task::block_in_place(|| child.wait()).unwrap();
    let mut err = String::new();
    tokio::task::block_in_place(|| child.stderr.take().map(|mut said| said.read_to_string(&mut err)));
    assert!(status.success(), "{err}");
}

/// Olga, who manages her own clients, and her browser, in which she has signed in.
async fn olga<'a>(server: &'a TestServer, admin: &Api<'a>) -> (String, Visitor<'a>) {
    let (olga, _) = person(admin, server, "olga", "keyward:self").await;
    let id = olga["id"].as_str().unwrap().to_owned();
    let browser = Visitor::new(server);
    browser.accept(&invitation(admin, &id).await, PASSWORD).await.leads_to("/account?done=invited");
    (id, browser)
}

async fn metadata(server: &TestServer) -> Value {
    let url = format!("{}/.well-known/oauth-authorization-server", server.url());
    Answer::of(server.http.get(url)).await.ok()
}

fn hidden(page: &PageSeen, name: &str) -> String {
    let value = page.html.split(&format!("name=\"{name}\" value=\"")).nth(1).and_then(|rest| rest.split('"').next());
    value.unwrap_or_else(|| panic!("{name} is not on {}", page.html)).to_owned()
}

on_both_databases! {
    async fn a_terminal_is_let_in_by_a_code_and_its_digits_and_acts_as_who_let_it_in(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = olga(&server, &admin).await;
        let (terminal, mut login) = signs_in(&server, &["--device", "--json", "--label", "hall 3"]);
        let mut lines = BufReader::new(login.stdout.take().unwrap()).lines().map(Result::unwrap);
        let shown = tokio::task::block_in_place(|| lines.next()).unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let mut browser = server.browser_of(&olga);
        let asked = claim(&server.app, &browser, shown["user_code"].as_str().unwrap(), true).await.unwrap();
        // However much friction there is, the longest that anybody must look at the page.
        server.clock.advance(Duration::from_secs(10));
        browser.now = server.clock.now();
        let consent = asked.consent(true);
        let digits = approve(&server.app, &browser, asked.id, consent).await.unwrap().expect("digits are always asked for");
        writeln!(login.stdin.take().unwrap(), "{}", digits.reveal()).unwrap();
        is_done(login);

        let me = terminal.json(&["whoami"]);
        assert_eq!((&me["user"], &me["name"], &me["scope"]), (&json!(olga), &json!("olga"), &json!("keyward:self")));
        let sessions = terminal.json(&["session", "list", "--user", "me"]);
        assert_eq!((&sessions["items"][0]["label"], &sessions["items"][1]), (&json!("hall 3"), &Value::Null));
        let made = terminal.json(&["client", "create", "press 7"]);
        assert_eq!(made["owner"], olga);
        let refused = terminal.tries(&["user", "create", "max"]);
        assert!(refused.code == 1 && refused.err.contains("keyward:admin"), "{}", refused.err);
        terminal.does(&["logout"]);
        let session = format!("/api/v1/device-sessions/{}", sessions["items"][0]["id"].as_str().unwrap());
        assert_eq!(admin.get(&session).await.ok()["end_reason"], "revoked");
    }

    async fn a_terminal_is_let_in_by_the_browser_of_its_machine(server: TestServer) {
        let admin = server.admin().await;
        let (olga, browser) = olga(&server, &admin).await;
        let (terminal, mut login) = signs_in(&server, &["--browser", "--scope", "keyward:self"]);
        let mut lines = BufReader::new(login.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = tokio::task::block_in_place(|| lines.find(|line| line.contains("/authorize?"))).unwrap();
        let address = Url::parse(address.trim().trim_start_matches("Sign in at ")).unwrap();
        let page = browser.get(&format!("{}?{}", address.path(), address.query().unwrap())).await;
        assert!(page.html.contains("Keyward command line"), "{}", page.html);
        let (token, offered) = (page.form_token(), hidden(&page, "offered"));
        let request = address.query().unwrap();
        let form = [("form_token", token.as_str()), ("request", request), ("offered", &offered), ("decision", "allow")];
        let back = browser.post("/authorize", &form).await;
        assert_eq!(back.status, StatusCode::SEE_OTHER, "{}", back.html);
        let last = server.http.get(back.header("location")).send().await.unwrap().text().await.unwrap();
        assert!(last.contains("You are signed in."), "{last}");
        is_done(login);
        assert_eq!(terminal.json(&["whoami"])["user"], olga);
        // The first token is good for five minutes; the next is got for the refresh token.
        assert_ne!(terminal.does(&["token", "--scope", "keyward:self"]), terminal.does(&["token"]));
    }

    async fn the_client_of_all_terminals_is_there_from_the_start_and_stays_off_when_it_is_switched_off(server: TestServer) {
        let admin = server.admin().await;
        let client = format!("/api/v1/clients/{COMMAND_LINE}");
        assert_eq!(metadata(&server).await["keyward_cli_client_id"], COMMAND_LINE.to_string());
        let shown = admin.get(&client).await.ok();
        assert_eq!((&shown["kind"], &shown["scope"]), (&json!("public"), &json!("keyward:admin")));
        assert_eq!(shown["device_grant"]["confirmation"], true);
        assert_eq!(shown["redirect_uris"], json!(["http://127.0.0.1/callback"]));

        admin.act(&format!("{client}/disable")).await.ok();
        assert!(metadata(&server).await.get("keyward_cli_client_id").is_none());
        let (_, login) = signs_in(&server, &["--device"]);
        let said = tokio::task::block_in_place(|| login.wait_with_output()).unwrap();
        let err = String::from_utf8(said.stderr).unwrap();
        assert!(!said.status.success() && err.contains("lets nobody sign in from a command line"), "{err}");
        admin.act(&format!("{client}/enable")).await.ok();
        assert_eq!(metadata(&server).await["keyward_cli_client_id"], COMMAND_LINE.to_string());
        assert_eq!(admin.delete(&client).await.status, StatusCode::NO_CONTENT);
        let server = server.restart().await;
        assert!(metadata(&server).await.get("keyward_cli_client_id").is_none(), "who deleted it meant it");
    }

    async fn a_database_from_before_gets_the_client_when_it_is_started(server: TestServer) {
        let owner = server.admin().await.get("/api/v1/users/me").await.ok()["id"].clone();
        server.execute(&forgotten()).await;
        let server = server.restart().await;
        assert_eq!(metadata(&server).await["keyward_cli_client_id"], COMMAND_LINE.to_string());
        let made = format!("SELECT count(*) FROM clients WHERE id = '{COMMAND_LINE}' AND owner = '{}'", owner.as_str().unwrap());
        assert_eq!(server.count(&made).await, 1);
    }
}

/// As if it had never been made.
fn forgotten() -> String {
    format!(
        "DELETE FROM client_apis WHERE client = '{COMMAND_LINE}'; DELETE FROM clients WHERE id = '{COMMAND_LINE}'; \
         UPDATE events SET subject = 'before' WHERE subject = '{COMMAND_LINE}'"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_start_at_once_one_makes_the_client() {
    let server = TestServer::start(Db::Postgres).await;
    server.execute(&forgotten()).await;
    let (one, two) = tokio::join!(server.another_node(), server.another_node());
    for node in [&one, &two] {
        assert_eq!(metadata(node).await["keyward_cli_client_id"], COMMAND_LINE.to_string());
    }
    let made = format!("SELECT count(*) FROM events WHERE subject = '{COMMAND_LINE}' AND kind = 'client.created'");
    assert_eq!(server.count(&made).await, 1);
}
