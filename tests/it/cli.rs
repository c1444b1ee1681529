//! The command line, as the real program against a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use keyward_tests::keyward::{self, Process};
use keyward_tests::person::{Person, mode, said, text};
use keyward_tests::run;
use serde_json::{Value, json};

#[tokio::test]
async fn from_the_printed_command_to_a_key_that_is_revoked() {
    let server = Process::serve(&[]).await;
    let person = Person::new(&server);
    let log = server.log();
    let printed = log.lines().find_map(|line| line.trim().strip_prefix("keyward bootstrap ")).unwrap();
    person.does(&[&["bootstrap"][..], &printed.split(' ').collect::<Vec<_>>()].concat());
    assert_eq!((mode(&person.profile()), mode(person.profile().parent().unwrap())), (0o600, 0o700));

    let client = person.registers("press 7");
    let issued =
        person.json(&["credential", "issue", "press 7", "--label", "PLC", "--expires", "90d", "--scope", "Worker"]);
    let (credential, secret) = (text(&issued["id"]), text(&issued["client_secret"]));
    assert_eq!(text(&issued["client_id"]), client);

    let as_client = |arguments: &[&str]| {
        let mut command = person.command(arguments);
        said(command.env("KEYWARD_CLIENT_ID", &client).env("KEYWARD_CLIENT_SECRET", &secret))
    };
    let token: Value = serde_json::from_str(&as_client(&["token", "--json"]).out).unwrap();
    assert_eq!((text(&token["scope"]).as_str(), &token["token_type"]), ("Worker", &Value::from("Bearer")));
    assert!(as_client(&["token", "--header"]).out.starts_with("Authorization: Bearer eyJ"));
    let beyond = as_client(&["token", "--scope", "Supervisor"]);
    assert_eq!(beyond.code, 1);
    assert!(beyond.err.contains("Supervisor"), "{}", beyond.err);

    person.does(&["credential", "revoke", &credential]);
    let refused = as_client(&["token"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("revoked") && refused.out.is_empty(), "{}", refused.err);
    assert!(!refused.err.contains(&secret) && !server.log().contains(&secret));
    let listed = person.json(&["credential", "list", "press 7"]);
    assert_eq!(listed["items"][0]["state"], "revoked");
    assert!(listed["next_cursor"].is_null());
}

#[tokio::test]
async fn the_lines_printed_with_a_key_get_a_token_with_it() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("press-7");
    let printed = person.does(&["credential", "issue", "press-7"]);
    let begin = printed.find("    TOKEN=$(").unwrap();
    let script = printed[begin..].lines().take(4).collect::<Vec<_>>().join("\n") + "\necho $TOKEN";
    let shell = said(Command::new("sh").args(["-c", &script]));
    assert!(shell.out.starts_with("eyJ"), "{script}: {}{}", shell.out, shell.err);
}

#[tokio::test]
async fn a_bootstrap_key_is_used_once_and_never_at_the_cost_of_a_profile() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let key = server.bootstrap().client_secret;
    let profile = fs::read(person.profile()).unwrap();
    let again = person.tries(&["bootstrap", "--url", &person.url, &key]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("--force"), "{}", again.err);
    let forced = person.tries(&["bootstrap", "--force", "--url", &person.url, &key]);
    assert_eq!(forced.code, 1);
    assert!(forced.err.contains("expired"), "{}", forced.err);
    assert_eq!(fs::read(person.profile()).unwrap(), profile);
    person.does(&["client", "list"]);
}

#[tokio::test]
async fn a_bootstrap_key_can_be_read_from_standard_input() {
    let server = Process::serve(&[]).await;
    let person = Person::new(&server);
    let key = person.home.join("key");
    fs::write(&key, server.bootstrap().client_secret + "\n").unwrap();
    let mut command = person.command(&["bootstrap", "--url", &person.url, "-"]);
    assert_eq!(said(command.stdin(fs::File::open(key).unwrap())).code, 0);
}

#[tokio::test]
async fn things_are_made_changed_stopped_and_deleted_by_name() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.does(&["scope", "create", "Foreman", "--implies", "Worker", "--description", "Run a line"]);
    person.does(&["user", "create", "alice", "--scope", "Foreman keyward:self", "--res", "plant/7 plant/8"]);
    let alice = person.json(&["user", "change", "alice", "--email", "alice@plant.example", "--res", "plant/7"]);
    assert_eq!((&alice["email"], &alice["res"]), (&"alice@plant.example".into(), &serde_json::json!(["plant/7"])));
    person.registers("press");
    let mine = person.json(&["client", "create", "hers", "--owner", "alice", "--scope", "Foreman"]);
    assert_eq!(mine["owner"], alice["id"]);
    assert_eq!(person.json(&["client", "list", "--owner", "alice"])["items"].as_array().unwrap().len(), 1);
    assert_eq!(person.json(&["client", "change", "hers", "--name", "his", "--subject", "client"])["subject"], "client");
    assert!(person.json(&["client", "disable", "his"])["disabled_at"].is_string());
    assert!(person.json(&["client", "enable", "his"])["disabled_at"].is_null());
    assert!(person.json(&["user", "disable", "alice", "--yes"])["disabled_at"].is_string());
    let api = person.json(&["api", "change", "plant", "--lifetime", "5m", "--client", "press"]);
    assert_eq!(api["token_lifetime_seconds"], 300);
    let trusted = "issuer=https://login.example,audience=plant,scope=Worker,res=plant/7 plant/8";
    let api = person.json(&["api", "change", "plant", "--identity-client", "press", "--trust", trusted]);
    assert_eq!(api["identity_clients"].as_array().unwrap().len(), 1);
    assert_eq!(api["identity_issuers"][0]["res"], json!(["plant/7", "plant/8"]));
    assert!(person.does(&["api", "show", "plant"]).contains(trusted));
    let api = person.json(&["api", "change", "plant", "--identity-client", "", "--trust", ""]);
    assert_eq!((&api["identity_clients"], &api["identity_issuers"]), (&json!([]), &json!([])));
    let credential = text(&person.json(&["credential", "issue", "press", "--expires", "2099-01-31"])["id"]);
    let shown = person.json(&["credential", "show", &credential]);
    assert_eq!(shown["expires_at"], "2099-01-31T00:00:00Z");
    let changed = person.json(&["credential", "change", &credential, "--no-expiry", "--label", "new"]);
    assert!(changed["expires_at"].is_null() && changed["label"] == "new");

    let unasked = person.tries(&["client", "delete", "his"]);
    assert_eq!(unasked.code, 2);
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    person.does(&["client", "delete", "his", "--yes"]);
    person.does(&["user", "change", "alice", "--scope", "keyward:self"]);
    person.does(&["scope", "delete", "Foreman", "--yes"]);
    assert_eq!(person.tries(&["client", "show", "his"]).code, 1);
    let table = person.does(&["client", "list"]);
    assert!(table.contains("press") && !table.contains('\u{1b}'), "{table}");
}

#[tokio::test]
async fn a_name_that_two_clients_have_is_not_guessed() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let ids = ["one", "two"].map(|_| text(&person.json(&["client", "create", "press"])["id"]));
    let refused = person.tries(&["client", "show", "press"]);
    assert_eq!(refused.code, 2);
    assert!(ids.iter().all(|id| refused.err.contains(id.as_str())), "{}", refused.err);
    let wrong_kind = person.tries(&["user", "show", &ids[0]]);
    assert_eq!(wrong_kind.code, 2);
    assert!(wrong_kind.err.contains("another kind"), "{}", wrong_kind.err);
}

#[tokio::test]
async fn a_long_list_is_whole() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let client = person.registers("press");
    let http = keyward_tests::http();
    let token = person.does(&["token"]);
    for _ in 0..205 {
        let url = format!("{}/api/v1/clients/{client}/credentials", server.url());
        let made = http.post(url).bearer_auth(token.trim()).json(&serde_json::json!({})).send().await.unwrap();
        assert_eq!(made.status(), 201);
    }
    let ids = |arguments: &[&str]| -> Vec<String> {
        let listed = person.json(&[&["credential", "list", "press"], arguments].concat());
        listed["items"].as_array().unwrap().iter().map(|item| text(&item["id"])).collect()
    };
    let mut all = ids(&[]);
    assert_eq!(all.len(), 205);
    assert_eq!(ids(&["--limit", "203"]), all[..203]);
    all.dedup();
    assert_eq!(all.len(), 205);
}

#[tokio::test]
async fn a_profile_s_key_goes_to_no_other_server() {
    let server = Process::serve(&[]).await;
    let other = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let refused = person.tries(&["client", "list", "--url", &other.url()]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("the profile's key is for"), "{}", refused.err);
}

#[tokio::test]
async fn doctor_tells_what_is_safe_and_fails_on_what_is_not() {
    let server = Process::serve(&[]).await;
    let person = Person::new(&server);
    let address = person.url.strip_prefix("http://").unwrap().to_owned();
    let data = server.data();
    let arguments = ["doctor", "--data", data.to_str().unwrap(), "--listen", &address];
    let healthy = person.does(&arguments);
    assert!(healthy.contains("it is ready") && healthy.contains("--listen"), "{healthy}");

    fs::set_permissions(data.join("master.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = person.tries(&arguments);
    assert_eq!(open.code, 1);
    assert!(open.out.contains("master.key is open to others (mode 644)"), "{}", open.out);

    let configuration = person.home.join("keyward.toml");
    let lines = "[server]\nlisten = \"0.0.0.0:8080\"\n[database]\nurl = \"postgres://keyward:hunter2@db/keyward\"\n";
    fs::write(&configuration, lines).unwrap();
    let exposed = person.tries(&["doctor", "--json", "--config", configuration.to_str().unwrap()]);
    assert_eq!(exposed.code, 1);
    assert!(!exposed.out.contains("hunter2") && !exposed.err.contains("hunter2"));
    let report: Value = serde_json::from_str(&exposed.out).unwrap();
    let unsafe_ones = report["findings"].as_array().unwrap().iter().filter(|f| f["level"] == "unsafe").count();
    // No TLS, no issuer, the secret in an open file, the way to the database.
    assert_eq!(unsafe_ones, 4, "{}", exposed.out);

    fs::write(&configuration, "[server]\nlisten_on = 1\n").unwrap();
    let unknown = person.tries(&["doctor", "--config", configuration.to_str().unwrap()]);
    assert!(
        unknown.code == 1 && unknown.out.contains("line 2") && unknown.out.contains("listen_on"),
        "{}",
        unknown.out
    );
    let reference = person.does(&["doctor", "--settings"]);
    fs::write(&configuration, reference).unwrap();
    person.does(&[
        "doctor",
        "--config",
        configuration.to_str().unwrap(),
        "--data",
        "elsewhere",
        "--listen",
        "127.0.0.1:1",
    ]);
}

#[test]
fn exit_codes_tell_a_failure_from_a_wrong_call() {
    for (arguments, code) in [
        (&["--version"][..], 0),
        (&["help", "client"], 0),
        (&[], 2),
        (&["nonsense"], 2),
        (&["serve", "--listen", "nowhere"], 2),
        (&["credential", "issue", "x", "--expires", "soon"], 2),
        (&["client", "list", "--profile", "/nonexistent"], 1),
        (&["bootstrap", "kw_x"], 2),
        (&["bootstrap", "--url", "ftp://x", "kw_x"], 2),
        (&["audit", "verify", "/nonexistent"], 1),
        (&["audit", "verify", "x", "--offline"], 2),
        (&["serve", "--config", "/nonexistent"], 1),
    ] {
        let mut command = keyward::command(arguments);
        let said = said(command.env("HOME", run::subdirectory("home")));
        assert_eq!(said.code, code, "{arguments:?}: {}{}", said.out, said.err);
        if code == 1 {
            assert!(said.err.starts_with("error: ") && said.out.is_empty(), "{arguments:?}: {}{}", said.out, said.err);
        }
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_told_with_what_to_do() {
    let mut server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    server.kill_9();
    let said = person.tries(&["client", "list"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("does not answer") && said.err.contains("keyward serve"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = person.command(&["client", "list"]).stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn shells_load_the_completions() {
    for (shell, known) in
        [("bash", "keyward__subcmd__credential"), ("zsh", "#compdef keyward"), ("fish", "complete -c keyward")]
    {
        let script = said(&mut keyward::command(["completions", shell])).out;
        assert!(script.contains(known) && script.contains("revoke"), "{shell}: {}", &script[..300]);
    }
    let script = run::subdirectory("completions").join("keyward.bash");
    fs::write(&script, said(&mut keyward::command(["completions", "bash"])).out).unwrap();
    let ask = r#"source "$0"; COMP_WORDS=(keyward cred); COMP_CWORD=1; _keyward keyward cred keyward; echo "${COMPREPLY[@]}""#;
    let completed = said(Command::new("bash").args(["-c", ask]).arg(&script));
    assert_eq!(completed.out.trim(), "credential", "{}", completed.err);
}

#[tokio::test]
async fn further_keys_are_kept_under_names_and_chosen_by_them() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let client = person.registers("press-7");
    let issued = person.json(&["credential", "issue", "press-7"]);
    let secret = text(&issued["client_secret"]);
    let key = person.home.join("key");
    fs::write(&key, format!("{secret}\n")).unwrap();
    let add = |arguments: &[&str]| {
        let arguments = [&["profile", "add", "press-7", "--client", &client][..], arguments].concat();
        said(person.command(&arguments).stdin(fs::File::open(&key).unwrap()))
    };
    let added = add(&[]);
    assert!(added.code == 0 && !added.out.contains(&secret), "{}{}", added.out, added.err);
    let file = person.home.join(".config/keyward/profiles/press-7.json");
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!(add(&[]).code, 1, "not replaced by mistake");
    assert_eq!(add(&["--force", "--url", &person.url]).code, 0);

    let scope = |arguments: &[&str]| text(&person.json(&[arguments, &["token"]].concat())["scope"]);
    assert!(scope(&[]).contains("keyward:admin"));
    assert_eq!(scope(&["--profile", "press-7"]), "Supervisor Worker");
    assert!(scope(&["--profile", person.profile().to_str().unwrap()]).contains("keyward:admin"), "a file does too");
    person.does(&["profile", "use", "press-7"]);
    assert_eq!(scope(&[]), "Supervisor Worker");
    let listed = person.json(&["profile", "list"]);
    let shown: Vec<_> = listed.as_array().unwrap().iter().map(|p| (text(&p["name"]), p["current"] == true)).collect();
    assert_eq!(shown, [("default".to_owned(), false), ("press-7".to_owned(), true)]);
    assert!(!listed.to_string().contains("kw_"), "{listed}");

    assert_eq!(person.tries(&["profile", "remove", "press-7"]).code, 2, "scripts say --yes");
    person.does(&["profile", "remove", "press-7", "--yes"]);
    assert!(!file.exists() && scope(&[]).contains("keyward:admin"), "the one of bootstrap is in use again");
    let gone = person.tries(&["profile", "use", "press-7"]);
    assert!(gone.code == 1 && gone.err.contains("there is no profile press-7"), "{}", gone.err);
    fs::write(&key, "kw_mistyped").unwrap();
    assert_eq!(add(&[]).code, 2, "a typing error is found at once");
}

#[tokio::test]
async fn device_sessions_are_listed_shown_and_ended() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let tv = text(&person.json(&["client", "create", "hall display", "--scope", "Worker"])["id"]);
    let user = text(&person.json(&["user", "show", "me"])["id"]);
    let session = "session_01h455vb4pex5vsknk084sn02q";
    let file = rusqlite::Connection::open(server.data().join("keyward.db")).unwrap();
    file.execute(
        "INSERT INTO device_sessions VALUES (?1, ?2, ?3, 'hall 3', 'Worker', 'plant/7', 9, 1, 4000000000000, NULL, NULL, \
         '192.0.2.7', 1, 1, 1, 'pwd')",
        [session, &user, &tv],
    )
    .unwrap();
    let listed = person.json(&["session", "list", "--user", "me", "--client", "hall display"]);
    assert_eq!(listed["items"][0]["id"], session);
    assert!(person.does(&["session", "list"]).contains("hall 3"));
    let shown = person.does(&["session", "show", session]);
    assert!(shown.contains("active") && shown.contains("192.0.2.7") && shown.contains("plant/7"), "{shown}");
    assert_eq!(person.does(&["session", "revoke", session]), format!("{session} is revoked\n"));
    assert_eq!(person.json(&["session", "show", session])["end_reason"], "revoked");
}
