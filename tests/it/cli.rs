//! The command line, as the real program against a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use keyward_tests::keyward::{self, Process};
use keyward_tests::run;
use rusqlite::Connection;
use serde_json::Value;

/// Somebody at a terminal: a home directory of their own, and the server they talk to.
struct Person {
    home: PathBuf,
    url: String,
}

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Person {
    fn new(server: &Process) -> Self {
        Self { home: run::subdirectory("home"), url: server.url() }
    }

    /// Somebody who has used the first key.
    async fn administrator(server: &Process) -> Self {
        let person = Self::new(server);
        person.does(&["bootstrap", "--url", &person.url, &server.bootstrap().client_secret]);
        person
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = keyward::command(arguments);
        command.env("HOME", &self.home).env_remove("XDG_CONFIG_HOME").current_dir(&self.home);
        command
    }

    fn tries(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }

    /// Runs a command that must succeed; gives its output.
    fn does(&self, arguments: &[&str]) -> String {
        let said = self.tries(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.out, said.err);
        said.out
    }

    /// Runs a command that must succeed with `--json`.
    fn json(&self, arguments: &[&str]) -> Value {
        let out = self.does(&[arguments, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    fn profile(&self) -> PathBuf {
        self.home.join(".config/keyward/profile.json")
    }

    /// Registers an API and a client that may use it; gives the client's id.
    fn registers(&self, client: &str) -> String {
        self.does(&[
            "api",
            "create",
            "plant",
            "--audience",
            "https://plant.example/api",
            "--scope",
            "Supervisor Worker",
        ]);
        let made =
            self.json(&["client", "create", client, "--scope", "Supervisor", "--res", "plant/7", "--api", "plant"]);
        text(&made["id"])
    }
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

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
    let person = Person::administrator(&server).await;
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
    let person = Person::administrator(&server).await;
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
    let person = Person::administrator(&server).await;
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
    assert!(person.json(&["user", "disable", "alice"])["disabled_at"].is_string());
    let api = person.json(&["api", "change", "plant", "--lifetime", "5m", "--client", "press"]);
    assert_eq!(api["token_lifetime_seconds"], 300);
    let credential = text(&person.json(&["credential", "issue", "press", "--expires", "2099-01-31"])["id"]);
    let shown = person.json(&["credential", "show", &credential]);
    assert_eq!(shown["expires_at"], "2099-01-31T00:00:00Z");
    let changed = person.json(&["credential", "change", &credential, "--no-expiry", "--label", "new"]);
    assert!(changed["expires_at"].is_null() && changed["label"] == "new");

    let unasked = person.tries(&["client", "delete", "his"]);
    assert_eq!(unasked.code, 2);
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    person.does(&["client", "delete", "his", "--yes"]);
    person.does(&["scope", "delete", "Foreman", "--yes"]);
    assert_eq!(person.tries(&["client", "show", "his"]).code, 1);
    let table = person.does(&["client", "list"]);
    assert!(table.contains("press") && !table.contains('\u{1b}'), "{table}");
}

#[tokio::test]
async fn a_name_that_two_clients_have_is_not_guessed() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server).await;
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
    let person = Person::administrator(&server).await;
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
    let person = Person::administrator(&server).await;
    let refused = person.tries(&["client", "list", "--url", &other.url()]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("the profile's key is for"), "{}", refused.err);
}

/// Changes the log in the file behind the server's back.
fn tamper(server: &Process, sql: &str) {
    let database = Connection::open(server.data().join("keyward.db")).unwrap();
    assert_eq!(database.execute(sql, []).unwrap(), 1, "{sql}");
}

#[tokio::test]
async fn a_log_that_was_not_touched_is_whole_wherever_it_is_read() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server).await;
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
        let person = Person::administrator(&server).await;
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
    let person = Person::administrator(&server).await;
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
    let person = Person::administrator(&server).await;
    let last = person.json(&["audit", "verify"])["events"].as_i64().unwrap();
    tamper(&server, &format!("DELETE FROM events WHERE seq = {last}"));
    let found = person.tries(&["audit", "verify", "--data", server.data().to_str().unwrap()]);
    assert_eq!(found.code, 1);
    assert!(found.err.starts_with(&format!("error: event {last} is missing")), "{}", found.err);
}

#[tokio::test]
async fn the_tail_of_the_log_names_what_happened_and_follows_it() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server).await;
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

#[tokio::test]
async fn whoever_holds_the_files_recovers_an_administrator_beside_the_running_server() {
    let server = Process::serve(&[]).await;
    let person = Person::new(&server);
    let said = person.does(&["recover", "--data", server.data().to_str().unwrap()]);
    let key = said.split_whitespace().find(|word| word.starts_with("kw_")).unwrap();
    person.does(&["bootstrap", "--url", &person.url, key]);
    let log = person.does(&["audit", "tail"]);
    assert!(log.contains("by console"), "{log}");
    let nowhere = person.tries(&["recover", "--data", "nowhere"]);
    assert_eq!((nowhere.code, person.home.join("nowhere").exists()), (1, false), "{}", nowhere.err);
}

#[tokio::test]
async fn a_master_key_is_rotated_beside_the_running_server_and_holds_after_a_restart() {
    let mut server = Process::serve(&[]).await;
    let person = Person::administrator(&server).await;
    let file = server.data().join("master.key");
    let old = fs::read_to_string(&file).unwrap();
    person.does(&["master-key", "rotate", "--data", server.data().to_str().unwrap()]);
    let new = fs::read_to_string(&file).unwrap();
    assert!(new != old && new.lines().count() == 1 && mode(&file) == 0o600);
    // The running server needs the master key to make a signing key.
    person.does(&["key", "rotate", "--immediately"]);
    assert!(server.terminate().await.success());
    fs::write(&file, old).unwrap();
    let locked = said(&mut serve(&server));
    assert_eq!(locked.code, 1);
    assert!(locked.err.contains("sealed under a master key"), "{}", locked.err);
    fs::write(&file, new).unwrap();
    server.start_again().await;
    person.does(&["token"]);
}

/// A server on the same data that ends by itself, for one that cannot start.
fn serve(server: &Process) -> Command {
    keyward::command(["serve", "--listen", "127.0.0.1:0", "--data", server.data().to_str().unwrap()])
}

#[tokio::test]
async fn a_handed_over_master_key_is_replaced_by_another() {
    let directory = run::subdirectory("handed");
    let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let make = || said(&mut keyward::command(["master-key", "new"])).out;
    let (old, data) = (make(), file("data"));
    let serve = |key: &str| {
        let mut command = keyward::command(["serve", "--listen", "127.0.0.1:0", "--data", &data]);
        command.env("KEYWARD_MASTER_KEY_VALUE", key.trim());
        command
    };
    let mut first = serve(&old).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::io::BufRead::lines(std::io::BufReader::new(first.stdout.take().unwrap()))
        .find(|line| line.as_ref().unwrap().starts_with("listening on "))
        .unwrap()
        .unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let rotate = |arguments: &[&str]| {
        let mut command = keyward::command([&["master-key", "rotate", "--data", &data], arguments].concat());
        said(command.env("KEYWARD_MASTER_KEY_VALUE", old.trim()))
    };
    let fixed = rotate(&[]);
    assert_eq!(fixed.code, 1);
    assert!(fixed.err.contains("--new-key-file"), "{}", fixed.err);
    let rotated = rotate(&["--new-key-file", &file("new.key")]);
    assert_eq!((rotated.code, mode(Path::new(&file("new.key")))), (0, 0o600), "{}", rotated.err);
    let refused = said(&mut serve(&old));
    assert!(refused.code == 1 && refused.err.contains("sealed under a master key"), "{}", refused.err);
    assert!(!Path::new(&file("data/master.key")).exists());
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

#[tokio::test]
async fn a_supervisor_is_told_when_the_server_is_ready_and_when_it_stops() {
    let directory = run::subdirectory("notify");
    let path = directory.join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let receive = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut server = Process::serve(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).await;
    assert_eq!(receive(), "READY=1");
    assert!(server.terminate().await.success());
    assert_eq!(receive(), "STOPPING=1");
}

#[tokio::test]
async fn the_bootstrap_file_is_private_and_tells_the_key_only_once() {
    let mut server = Process::serve(&[]).await;
    let path = server.data().parent().unwrap().join("bootstrap.json");
    assert_eq!((mode(&path), mode(&server.data())), (0o600, 0o700));
    let first: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(first["url"], server.url());
    assert!(server.terminate().await.success());
    server.start_again().await;
    let second: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(second, serde_json::json!({ "url": server.url() }));
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
    let person = Person::administrator(&server).await;
    server.kill_9();
    let said = person.tries(&["client", "list"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("does not answer") && said.err.contains("keyward serve"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server).await;
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
