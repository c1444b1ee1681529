//! Signing in at the command line, as the real program: what somebody sees, what the server is asked, what is kept.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_tests::authority::{Authority, CLIENT, USER, refusal, tokens};
use keyward_tests::keyward::Process;
use keyward_tests::person::{Person, Said, at_a_terminal, mode, said, shown_until};
use keyward_tests::run;
use serde_json::{Value, json};

/// Where a machine says that nobody sits in front of it, and that somebody does.
const PLACES: [&str; 6] = ["SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY"];

fn person(authority: &Authority) -> Person {
    Person { home: run::subdirectory("home"), url: authority.url() }
}

fn login(person: &Person, arguments: &[&str]) -> Command {
    let mut command = person.command(&[&["login", "--url", &person.url][..], arguments].concat());
    for name in PLACES {
        command.env_remove(name);
    }
    command
}

/// Somebody who has signed in by a code; the access token lives so many seconds.
async fn signed_in(expires_in: i64) -> (Authority, Person) {
    let authority = Authority::start(600, [tokens(1, expires_in)]).await;
    let person = person(&authority);
    let login = said(&mut login(&person, &["--device"]));
    assert_eq!(login.code, 0, "{}", login.err);
    (authority, person)
}

fn ended(child: Child) -> Said {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Waits until the server was asked there so often.
async fn until_asked(authority: &Authority, path: &str, times: usize) {
    let waiting = async {
        while authority.asked(path, "client_id").len() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_shown_and_whoever_enters_it_is_who_all_commands_are() {
    let authority = Authority::start(600, [refusal("authorization_pending"), tokens(1, 300)]).await;
    let person = person(&authority);
    let shown = said(&mut login(&person, &["--device"]));
    assert_eq!((shown.code, shown.out.as_str()), (0, ""), "{}", shown.err);
    let told = [
        format!("  Open   {}/device", person.url),
        "  Enter  WDJB-MJHT".to_owned(),
        format!("  Or open {}/D/WDJB-MJHT", person.url),
        "waiting for your answer in the browser".to_owned(),
        "signed in as olga".to_owned(),
    ];
    let places: Vec<_> =
        told.iter().map(|line| shown.err.find(line.as_str()).unwrap_or_else(|| panic!("{}", shown.err))).collect();
    assert!(places.is_sorted(), "{}", shown.err);
    assert!(!["the-device-code", "access-1", "refresh-1", "\u{1b}"].iter().any(|secret| shown.err.contains(secret)));
    assert!(authority.asked("/auth/device", "device_label")[0].starts_with("keyward on "));
    assert_eq!(authority.asked("/auth/device", "client_id"), [CLIENT]);
    assert_eq!((mode(&person.profile()), mode(person.profile().parent().unwrap())), (0o600, 0o700));

    let me = person.json(&["whoami"]);
    assert_eq!((&me["user"], &me["by"], &me["scope"]), (&USER.into(), &"login".into(), &"keyward:self".into()));
    assert_eq!(person.does(&["token"]), "access-1\n");
    let listed = person.json(&["profile", "list"]);
    assert_eq!((&listed[0]["kind"], &listed[0]["user"]), (&"login".into(), &"olga".into()));
    assert!(person.does(&["profile", "list"]).contains("login of olga"));
    assert_eq!(authority.asked("/token", "grant_type").len(), 2, "the first access token is good for a while");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_slow_down_nor_a_server_that_is_away_for_a_moment_ends_a_wait() {
    let away = (503, Value::Null);
    let authority = Authority::start(600, [away, refusal("slow_down"), tokens(1, 300)]).await;
    let shown = said(&mut login(&person(&authority), &["--device"]));
    assert_eq!(shown.code, 0, "{}", shown.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_and_an_end_say_what_to_do_next_and_leave_no_profile() {
    for (answer, said_so) in [
        ("access_denied", "the answer in the browser was no"),
        ("expired_token", "the code expired before anybody decided"),
    ] {
        let authority = Authority::start(600, [refusal(answer)]).await;
        let person = person(&authority);
        let shown = said(&mut login(&person, &["--device"]));
        assert_eq!(shown.code, 1);
        assert!(shown.err.contains(&format!("error: {said_so}")) && shown.err.contains("hint: "), "{}", shown.err);
        assert!(!person.profile().exists());
    }
    // The server may be gone for good: the code ends by this machine's clock too.
    let authority = Authority::start(1, []).await;
    let shown = said(&mut login(&person(&authority), &["--device"]));
    assert!(shown.code == 1 && shown.err.contains("the code expired"), "{}", shown.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_takes_the_code_back_from_the_server() {
    let authority = Authority::start(600, []).await;
    let person = person(&authority);
    let waiting = login(&person, &["--device"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until_asked(&authority, "/token", 1).await;
    let interrupt = format!("kill -INT {}", waiting.id());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
    let shown = ended(waiting);
    assert_eq!(shown.code, 1, "{}", shown.err);
    assert!(shown.err.contains("cancelled; nobody is signed in"), "{}", shown.err);
    assert_eq!(authority.asked("/revoke", "token"), ["the-device-code"]);
    assert!(!person.profile().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_while_another_command_holds_the_profile_ends_the_new_session() {
    let authority = Authority::start(600, []).await;
    let person = person(&authority);
    let waiting = login(&person, &["--device"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until_asked(&authority, "/token", 1).await;
    let lock = fs::File::open(person.profile().with_extension("json.lock")).unwrap();
    lock.try_lock().unwrap();
    authority.will_answer([tokens(1, 300)]);
    until_asked(&authority, "/api/v1/users/me", 1).await;
    let interrupt = format!("kill -INT {}", waiting.id());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
    let shown = ended(waiting);
    assert!(shown.code == 1 && shown.err.contains("cancelled; nobody is signed in"), "{}", shown.err);
    assert_eq!(authority.asked("/revoke", "token"), ["refresh-1"]);
    assert!(!person.profile().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_that_the_browser_shows_are_asked_for_until_they_are_right() {
    let wanted = |left: u32| (400, json!({ "error": "authorization_pending", "confirmation_tries_left": left }));
    let authority = Authority::start(600, [wanted(3), wanted(2), tokens(1, 300)]).await;
    let mut waiting = login(&person(&authority), &["--device"]);
    let mut waiting = waiting.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    waiting.stdin.take().unwrap().write_all(b"123\n4 2-7\n").unwrap();
    let shown = ended(waiting);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(
        shown.err.contains("The digits that the browser shows: ") && shown.err.contains("other digits"),
        "{}",
        shown.err
    );
    assert_eq!(authority.asked("/token", "confirmation"), ["", "123", "427"]);

    let authority = Authority::start(600, [wanted(3)]).await;
    let shown = said(&mut login(&person(&authority), &["--device"]));
    assert!(shown.code == 1 && shown.err.contains("standard input is closed"), "{}", shown.err);
    assert_eq!(authority.asked("/revoke", "token"), ["the-device-code"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_reads_the_code_then_who_is_signed_in_and_no_secret() {
    let authority = Authority::start(600, [tokens(1, 300)]).await;
    let shown = said(&mut login(&person(&authority), &["--device", "--json"]));
    let lines: Vec<Value> = shown.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{}", shown.out);
    assert_eq!((&lines[0]["user_code"], &lines[0]["expires_in"]), (&"WDJB-MJHT".into(), &600.into()));
    assert_eq!(lines[0]["verification_uri_complete"], format!("{}/D/WDJB-MJHT", authority.url()));
    assert_eq!((&lines[1]["user"], &lines[1]["name"]), (&USER.into(), &"olga".into()));
    assert!(
        !["the-device-code", "access-1", "refresh-1"].iter().any(|secret| shown.out.contains(secret)),
        "{}",
        shown.out
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_there_is_a_code_to_scan_and_an_expired_one_is_renewed_with_one_key() {
    let authority = Authority::start(600, [refusal("expired_token"), tokens(1, 300)]).await;
    let person = person(&authority);
    let mut terminal = at_a_terminal(&login(&person, &["--device", "--qr"]));
    let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut out) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let shown = shown_until(&mut out, "Press Enter for a new one");
    let device = format!("{}/device", person.url);
    assert!(shown.contains(&format!("\u{1b}]8;;{device}\u{1b}\\{device}")), "{shown}");
    assert!(shown.contains('▀') && shown.contains("left; Ctrl-C cancels"), "{shown}");
    writeln!(keys).unwrap();
    shown_until(&mut out, "signed in as olga");
    assert!(terminal.wait().unwrap().success());
    assert_eq!(authority.asked("/auth/device", "client_id").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_at_hand_brings_the_code_back_to_this_machine() {
    let authority = Authority::start(600, [tokens(1, 300)]).await;
    let person = person(&authority);
    let page = person.home.join("page");
    let browser = format!("/nonexistent/browser:curl --silent --location --output {}", page.display());
    let shown = said(login(&person, &[]).env("BROWSER", browser));
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.err.ends_with("signed in as olga\n"), "{}", shown.err);
    let asked = |path: &str, name: &str| authority.asked(path, name).remove(0);
    assert_eq!(asked("/token", "grant_type"), "authorization_code");
    assert_eq!(asked("/token", "code"), "the-code");
    let back = asked("/authorize", "redirect_uri");
    assert_eq!(back, asked("/token", "redirect_uri"));
    assert!(back.starts_with("http://127.0.0.1:") && back.ends_with("/callback"), "{back}");
    let verifier = asked("/token", "code_verifier");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    assert_eq!(asked("/authorize", "code_challenge"), URL_SAFE_NO_PAD.encode(hash));
    assert_eq!(asked("/authorize", "code_challenge_method"), "S256");
    assert!(fs::read_to_string(page).unwrap().contains("You are signed in."));
    assert_eq!(person.json(&["whoami"])["name"], "olga");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_ssh_no_browser_is_opened_and_how_to_sign_in_is_remembered() {
    let authority = Authority::start(600, [tokens(1, 300), tokens(2, 300)]).await;
    let person = person(&authority);
    let over_ssh = said(login(&person, &[]).env("BROWSER", "curl").env("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22"));
    assert!(over_ssh.code == 0 && over_ssh.err.contains("WDJB-MJHT"), "{}", over_ssh.err);
    person.does(&["logout"]);
    let said_so = said(login(&person, &["--device"]).env("BROWSER", "curl"));
    assert_eq!(said_so.code, 0, "{}", said_so.err);
    person.does(&["logout"]);
    authority.will_answer([tokens(3, 300)]);
    let remembered = said(login(&person, &[]).env("BROWSER", "curl"));
    assert!(remembered.code == 0 && remembered.err.contains("WDJB-MJHT"), "{}", remembered.err);
    assert_eq!(
        (authority.asked("/authorize", "state").len(), authority.asked("/auth/device", "client_id").len()),
        (0, 3)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_at_once_use_a_refresh_token_once() {
    // Too short to begin with: every command would like to refresh it.
    let (authority, person) = signed_in(1).await;
    authority.will_answer([tokens(2, 300)]);
    let commands: Vec<Child> = (0..4)
        .map(|_| person.command(&["token"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for command in commands {
        let shown = ended(command);
        assert_eq!((shown.code, shown.out.as_str()), (0, "access-2\n"), "{}", shown.err);
    }
    let given: Vec<_> =
        authority.asked("/token", "refresh_token").into_iter().filter(|token| !token.is_empty()).collect();
    assert_eq!(given, ["refresh-1"]);
    assert_eq!(mode(&person.profile()), 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrower_token_leaves_the_one_at_hand_and_a_login_that_ended_says_so() {
    let (authority, person) = signed_in(300).await;
    authority.will_answer([tokens(2, 300), refusal("invalid_grant")]);
    assert_eq!(person.does(&["token", "--scope", "keyward:self"]), "access-2\n");
    assert_eq!(authority.asked("/token", "scope").last().unwrap(), "keyward:self");
    assert_eq!(person.does(&["token"]), "access-1\n");
    let over = person.tries(&["token", "--res", "plant/7"]);
    assert_eq!(authority.asked("/token", "refresh_token").last().unwrap(), "refresh-2");
    assert_eq!(over.code, 1);
    assert!(over.err.contains("hint: sign in again with `keyward login`"), "{}", over.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_out_ends_the_session_and_forgets_the_tokens() {
    let (authority, person) = signed_in(300).await;
    assert_eq!(person.does(&["logout"]), "olga is signed out.\n");
    assert_eq!(authority.asked("/revoke", "token"), ["refresh-1"]);
    assert!(!fs::read_to_string(person.profile()).unwrap().contains("-1\""));
    let refused = person.tries(&["client", "list"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("nobody is signed in") && refused.err.contains("keyward login"), "{}", refused.err);
    assert_eq!(person.does(&["logout"]), "Nobody was signed in.\n");

    let (authority, person) = signed_in(300).await;
    drop(authority);
    let unheard = person.tries(&["logout"]);
    assert!(unheard.code == 1 && unheard.err.contains("--force"), "{}", unheard.err);
    assert_eq!(person.json(&["profile", "list"])[0]["kind"], "login");
    person.does(&["logout", "--force"]);
    assert_eq!(person.json(&["profile", "list"])[0]["kind"], "signed out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_anew_ends_the_login_before_and_never_costs_a_key() {
    let (authority, person) = signed_in(300).await;
    authority.will_answer([tokens(2, 300)]);
    assert_eq!(said(&mut login(&person, &[])).code, 0);
    assert_eq!(authority.asked("/revoke", "token"), ["refresh-1"]);
    assert_eq!(person.does(&["token"]), "access-2\n");

    let server = Process::serve(&[]).await;
    let administrator = Person::administrator(&server);
    assert_eq!(administrator.json(&["whoami"])["by"], "key");
    let refused = administrator.tries(&["login"]);
    assert!(
        refused.code == 1 && refused.err.contains("holds a key") && refused.err.contains("--profile"),
        "{}",
        refused.err
    );
    administrator.does(&["client", "list"]);
}
