//! What stands and falls with an owner: what stops when one is disabled, and whose clients nobody answers for.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use keyward_model::credential::Credential;
use keyward_model::event::Actor;
use keyward_model::id::CredentialId;
use keyward_store::Origin;
use keyward_tests::keyward::Process;
use keyward_tests::on_both_databases;
use keyward_tests::person::{Person, at_a_terminal, said, shown_until, text};
use keyward_tests::server::{Api, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::authority::person;
use crate::callers::uses;
use crate::transfers::key_of;
use crate::watch::{self, issue};

async fn report(api: &Api<'_>, query: &str) -> Vec<Value> {
    api.get(&format!("/api/v1/reports/owners{query}")).await.ok()["items"].as_array().unwrap().clone()
}

on_both_databases! {
    async fn before_a_user_is_disabled_it_can_be_seen_what_stops(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        let ended = admin.issue(&key.client_id, &json!({ "label": "old" })).await;
        uses(&server, &ended, "press 1").await;
        admin.revoke(&ended).await;
        uses(&server, &key, "press 2").await;
        let client = admin.get(&format!("/api/v1/clients/{}", key.client_id)).await.ok();
        let api = client["apis"][0].as_str().unwrap();
        admin.patch(&format!("/api/v1/apis/{api}"), &json!({ "client": key.client_id })).await.ok();

        let path = format!("/api/v1/users/{}/impact", olga["id"].as_str().unwrap());
        let impact = admin.get(&path).await.ok();
        assert_eq!((&impact["name"], &impact["disabled_at"]), (&json!("olga"), &Value::Null));
        assert_eq!(impact["since"], "2026-10-24T12:00:00Z");
        for (part, total) in [("clients", 2), ("credentials", 2), ("callers", 2), ("apis", 1)] {
            assert_eq!(impact[part]["total"], total, "{part}: {impact}");
            assert_eq!(impact[part]["items"].as_array().unwrap().len(), total, "{part}");
        }
        let instances: Vec<_> = impact["callers"]["items"].as_array().unwrap().iter().map(|c| &c["instance"]).collect();
        assert!(instances.contains(&&json!("press 2")) && !instances.contains(&&json!("press 1")), "{instances:?}");
        assert_eq!(impact["apis"]["items"][0]["id"], api);
        assert_eq!(hers.get("/api/v1/users/me/impact").await.ok()["clients"]["total"], 2);

        server.clock.advance(Duration::from_secs(2 * 24 * 3600));
        let admin = server.api(&admin.secrets).await;
        assert_eq!(admin.get(&format!("{path}?days=1")).await.ok()["callers"]["total"], 0, "nobody came lately");
        assert_eq!(admin.get(&format!("{path}?days=91")).await.status, StatusCode::BAD_REQUEST);
    }

    async fn the_impact_on_others_is_not_everybody_s_business(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let (_, his) = person(&admin, &server, "sam", "keyward:self").await;
        let path = format!("/api/v1/users/{}/impact", olga["id"].as_str().unwrap());
        assert_eq!(his.get(&path).await.status, StatusCode::NOT_FOUND);
    }

    async fn the_impact_shows_fifty_and_counts_all(server: TestServer) {
        let admin = server.admin().await;
        let olga = admin.post("/api/v1/users", &json!({ "name": "olga" })).await.created();
        for n in 0..52 {
            admin.new_client(json!({ "name": format!("press {n}"), "owner": olga["id"] })).await;
        }
        let impact = admin.get(&format!("/api/v1/users/{}/impact", olga["id"].as_str().unwrap())).await.ok();
        assert_eq!(impact["clients"]["total"], 52);
        assert_eq!(impact["clients"]["items"].as_array().unwrap().len(), 50);
    }

    async fn clients_are_reported_whose_owner_is_disabled_or_has_less_than_they_ask_for(server: TestServer) {
        let admin = server.admin().await;
        let (olga, _) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let good = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        let his_key = key_of(&admin, &sam, "Worker", &["plant/7"]).await;
        let stock = async |query: &str| {
            let found = report(&admin, query).await;
            found.into_iter().filter(|orphan| orphan["name"] == "stock").collect::<Vec<_>>()
        };
        assert!(stock("").await.is_empty());

        let narrow = admin.issue(&his_key.client_id, &json!({ "scope": "Worker", "res": ["plant/7"] })).await;
        let change = json!({ "scope": "keyward:self Worker", "res": ["office"] });
        admin.patch(&format!("/api/v1/users/{}", sam["id"].as_str().unwrap()), &change).await.ok();
        assert_eq!(stock("").await, [json!({
            "client": his_key.client_id, "name": "stock", "disabled_at": null, "owner": sam["id"], "owner_name": "sam",
            "owner_disabled_at": null,
            "beyond": [
                { "credential": null, "scope": "", "res": ["plant/7"] },
                { "credential": narrow.credential(), "scope": "", "res": ["plant/7"] },
            ],
        })]);
        admin.revoke(&narrow).await;
        let of_sam = stock(&format!("?owner={}", sam["id"].as_str().unwrap())).await;
        assert_eq!(of_sam[0]["beyond"].as_array().unwrap().len(), 1, "what has ended asks for nothing");

        admin.act(&format!("/api/v1/users/{}/disable", olga["id"].as_str().unwrap())).await.ok();
        let of_olga = stock(&format!("?owner={}", olga["id"].as_str().unwrap())).await;
        assert_eq!((&of_olga[0]["client"], &of_olga[0]["beyond"]), (&json!(good.client_id), &json!([])));
        assert_eq!(of_olga[0]["owner_disabled_at"], "2026-11-23T12:00:00Z");
        let his = server.api(&his.secrets).await;
        assert!(report(&his, "").await.iter().all(|orphan| orphan["owner"] == sam["id"]));
        assert!(report(&his, &format!("?owner={}", olga["id"].as_str().unwrap())).await.is_empty());
    }

    async fn the_report_goes_on_page_by_page_until_every_client_was_looked_at(server: TestServer) {
        let admin = server.admin().await;
        let gone = admin.post("/api/v1/users", &json!({ "name": "gone" })).await.created();
        for n in 0..3 {
            admin.new_client(json!({ "name": format!("orphan {n}"), "owner": gone["id"] })).await;
        }
        admin.new_client(json!({ "name": "fine" })).await;
        admin.act(&format!("/api/v1/users/{}/disable", gone["id"].as_str().unwrap())).await.ok();
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/api/v1/reports/owners?limit=2{cursor}")).await.ok();
            seen.extend(page["items"].as_array().unwrap().iter().map(|orphan| orphan["name"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        // Identifiers of one instant are in no order.
        seen.sort_unstable();
        assert_eq!(seen, ["orphan 0", "orphan 1", "orphan 2"]);
    }

    async fn the_report_of_one_s_own_reads_no_credentials_of_others_and_a_page_is_bounded(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let sam = admin.post("/api/v1/users", &json!({ "name": "sam" })).await.created();
        let client = async |owner: &Value| {
            // Identifiers of one instant are in no order.
            server.clock.advance(Duration::from_millis(1));
            let members = json!({ "name": "press", "owner": owner["id"], "scope": "Worker", "res": ["office"] });
            let client = admin.new_client(members).await;
            (client.clone(), admin.issue(&client, &json!({ "res": ["office"] })).await)
        };
        // Between two clients of olga's lie twelve of sam's, with a hundred narrowed credentials each.
        let first = client(&olga).await.0;
        for _ in 0..12 {
            let like = client(&sam).await.1.credential().parse().unwrap();
            let like = server.app.store.find_credential(like).await.unwrap().unwrap();
            let mut tx = server.app.store.begin().await.unwrap();
            for _ in 1..100 {
                let id = CredentialId::new(server.clock.now(), &server.app.entropy).unwrap();
                let status_index = tx.next_status_index().await.unwrap();
                tx.insert_credential(&Credential { id, status_index, ..like.clone() }).await.unwrap();
            }
            tx.commit(&Origin { actor: Actor::system("test"), source: None, now: server.clock.now() }).await.unwrap();
        }
        let last = client(&olga).await.0;

        let page = hers.get("/api/v1/reports/owners?limit=200").await.ok();
        let presses = page["items"].as_array().unwrap().iter().filter(|orphan| orphan["name"] == "press");
        let found: Vec<_> = presses.map(|orphan| &orphan["client"]).collect();
        assert_eq!((found, &page["next_cursor"]), (vec![&json!(first), &json!(last)], &Value::Null));

        let (mut pages, mut seen, mut cursor) = (0, Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/api/v1/reports/owners?limit=200{cursor}")).await.ok();
            let read = |orphan: &Value| orphan["beyond"].as_array().unwrap().len();
            let entries: Vec<_> = page["items"].as_array().unwrap().iter().map(read).collect();
            assert!(entries.iter().sum::<usize>() <= 1000 + entries.len(), "{entries:?}");
            (pages, seen) = (pages + 1, [seen, entries].concat());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        seen.retain(|beyond| *beyond == 101);
        assert_eq!((pages, seen.len()), (2, 12), "each client once and whole");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_a_no_leaves_the_user_enabled_and_a_yes_disables_them() {
    let server = Process::serve(&[]).await;
    let admin = Person::administrator(&server);
    let id = text(&admin.json(&["user", "create", "olga", "--scope", "keyward:self"])["id"]);
    let answers = |answer: &str| {
        let command = admin.command(&["user", "disable", "olga"]);
        let mut terminal = at_a_terminal(&command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut keys, mut out) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
        let asked = shown_until(&mut out, "[y/N] ");
        assert!(asked.contains(&format!("Disable the user \"olga\" ({id})?")), "{asked}");
        writeln!(keys, "{answer}").unwrap();
        let (mut said, status) = (String::new(), tokio::task::block_in_place(|| terminal.wait()).unwrap());
        tokio::task::block_in_place(|| out.read_to_string(&mut said)).unwrap();
        (status.code(), said)
    };
    for no in ["n", ""] {
        let (code, said) = answers(no);
        assert!(code == Some(1) && said.contains("nothing was changed"), "{code:?}: {said}");
        assert_eq!(admin.json(&["user", "show", "olga"])["disabled_at"], Value::Null);
    }
    let (code, said) = answers("y");
    assert_eq!(code, Some(0), "{said}");
    assert!(admin.json(&["user", "show", "olga"])["disabled_at"].is_string());
}

#[tokio::test]
async fn the_command_shows_what_stops_asks_and_offers_it_to_somebody_else() {
    let server = Process::serve(&[]).await;
    let admin = Person::administrator(&server);
    admin.does(&["api", "create", "plant", "--audience", "https://plant.example/api", "--scope", "Worker"]);
    for (name, scope) in [("olga", "Worker"), ("sam", "Worker keyward:self")] {
        admin.does(&["user", "create", name, "--scope", scope, "--res", "plant"]);
    }
    let rights = ["--scope", "Worker", "--res", "plant/7", "--api", "plant", "--owner", "olga"];
    let press = text(&admin.json(&[&["client", "create", "press"][..], &rights].concat())["id"]);
    let key = issue(&admin, "");
    for _ in 0..2 {
        assert_eq!(watch::uses(&server, &key, "hall 3").await, StatusCode::OK);
    }

    let refused = admin.tries(&["user", "disable", "olga"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("credentials  1 that work"), "{}", refused.err);
    assert!(refused.err.contains("callers      1 since "), "{}", refused.err);
    let column = |line: &str| line.find("LAST CALLER").map(|at| at..line.find("LAST SEEN").unwrap());
    let place = refused.err.lines().find_map(column).unwrap();
    let row = refused.err.lines().find(|line| line.starts_with("press ")).unwrap();
    assert!(row.contains(&press) && row[place].trim() == "hall 3", "{}", refused.err);
    assert!(refused.err.contains(&format!("keyward client transfer {press} --to USER")), "{}", refused.err);
    assert!(refused.err.contains("not done without being asked") && refused.err.contains("--yes"), "{}", refused.err);
    assert_eq!(admin.json(&["user", "show", "olga"])["disabled_at"], Value::Null);
    assert!(!admin.does(&["report", "owners"]).contains("press"));

    let disabled = admin.json(&["user", "disable", "olga", "--transfer-to", "sam", "--yes"]);
    assert!(disabled["disabled_at"].is_string(), "{disabled}");
    let offers = admin.does(&["client", "transfers"]);
    assert!(offers.contains(&press) && offers.contains("olga") && offers.contains("sam"), "{offers}");
    let orphans = admin.does(&["report", "owners"]);
    assert!(orphans.contains(&press) && orphans.contains("disabled"), "{orphans}");

    let rights = ["--scope", "keyward:self", "--api", "urn:keyward:api", "--owner", "sam"];
    admin.does(&[&["client", "create", "sam's"][..], &rights].concat());
    let his = admin.json(&["credential", "issue", "sam's"]);
    let as_sam = |arguments: &[&str]| {
        let mut command = admin.command(arguments);
        command.env("KEYWARD_CLIENT_ID", text(&his["client_id"]));
        said(command.env("KEYWARD_CLIENT_SECRET", text(&his["client_secret"])))
    };
    let asked = as_sam(&["client", "accept", "press"]);
    assert_eq!(asked.code, 2, "{}", asked.err);
    assert!(asked.err.contains("gained  Worker plant/7") && asked.err.contains("--yes"), "{}", asked.err);
    assert!(asked.err.contains(&text(&admin.json(&["user", "show", "olga"])["id"])), "{}", asked.err);
    assert!(admin.does(&["client", "transfers"]).contains(&press), "nothing was accepted");
    let accepted = as_sam(&["client", "accept", "press", "--yes"]);
    assert_eq!(accepted.code, 0, "{}", accepted.err);
    assert!(accepted.err.contains("may know its keys"), "{}", accepted.err);
    assert_eq!(as_sam(&["client", "accept", "press", "--yes"]).code, 1, "nothing is on offer any more");
    let credential = as_sam(&["credential", "show", &key.credential]);
    assert!(credential.out.contains("active"), "{}{}", credential.out, credential.err);

    let olga = admin.json(&["user", "show", "olga"]);
    admin.does(&["user", "enable", "olga"]);
    let back = as_sam(&["client", "transfer", "press", "--to", olga["id"].as_str().unwrap()]);
    assert_eq!(back.code, 0, "{}", back.err);
    assert_eq!(as_sam(&["client", "transfer", "press", "--withdraw"]).code, 0);
    assert_eq!(admin.does(&["client", "transfers"]), "none\n");
}
