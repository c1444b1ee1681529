//! `keyward serve` as its operator meets it, and what works on its files.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use keyward_tests::keyward::{self, Process};
use keyward_tests::person::{Person, mode, said};
use keyward_tests::run;
use serde_json::Value;

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
async fn what_works_on_the_files_works_on_postgresql_too() {
    let database = keyward_tests::postgres::database().await;
    let setting = ("KEYWARD_DATABASE_URL", database.url());
    let server = Process::serve(&[setting]).await;
    let person = Person::new(&server);
    let data = server.data();
    let offline = |arguments: &[&str]| {
        let mut command = person.command(&[arguments, &["--data", data.to_str().unwrap()]].concat());
        said(command.env(setting.0, setting.1))
    };
    let recovered = offline(&["recover"]);
    let key = recovered.out.split_whitespace().find(|word| word.starts_with("kw_")).unwrap();
    person.does(&["bootstrap", "--url", &person.url, key]);
    let rotated = offline(&["master-key", "rotate"]);
    assert_eq!(rotated.code, 0, "{}", rotated.err);
    person.does(&["key", "rotate", "--immediately"]);
    let verified = offline(&["audit", "verify"]);
    assert!(verified.code == 0 && verified.out.starts_with("whole: "), "{}{}", verified.out, verified.err);
    let healthy = offline(&["doctor", "--listen", person.url.strip_prefix("http://").unwrap()]);
    assert!(healthy.code == 0 && healthy.out.contains("postgres://"), "{}{}", healthy.out, healthy.err);
    let password = database.url().split_once("://").and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':'));
    assert!(password.is_none_or(|(_, password)| !healthy.out.contains(password)));
}

#[tokio::test]
async fn a_master_key_is_rotated_beside_the_running_server_and_holds_after_a_restart() {
    let mut server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
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
async fn without_a_bootstrap_file_the_key_is_printed_once() {
    use std::io::BufRead as _;
    let data = run::subdirectory("serve").join("data");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let mut server = keyward::command(serve).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = std::io::BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (mut said, mut printed) = (String::new(), None);
    for line in lines {
        said.push_str(&line);
        printed = printed.or_else(|| line.trim().strip_prefix("keyward bootstrap ").map(str::to_owned));
        if line.starts_with("The key in it") {
            break;
        }
    }
    let printed = printed.unwrap();
    let person = Person { home: run::subdirectory("home"), url: String::new() };
    person.does(&[&["bootstrap"][..], &printed.split(' ').collect::<Vec<_>>()].concat());
    let key = printed.split(' ').find(|word| word.starts_with("kw_")).unwrap();
    assert_eq!(said.matches(key).count(), 1, "{said}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[tokio::test]
async fn with_a_bootstrap_file_the_output_says_where_the_key_is_and_bootstrap_reads_it() {
    let server = Process::serve(&[]).await;
    let person = Person::new(&server);
    let path = server.data().parent().unwrap().join("bootstrap.json");
    let key = server.bootstrap().client_secret;
    let log = server.log();
    assert!(!log.contains(&key) && log.contains(path.to_str().unwrap()), "{log}");
    let said = person.does(&["bootstrap", "--file", path.to_str().unwrap()]);
    assert!(!said.contains(&key), "{said}");
    person.does(&["client", "list"]);
    let both = person.tries(&["bootstrap", "--file", path.to_str().unwrap(), &key]);
    assert_eq!(both.code, 2, "{}", both.err);
    fs::write(&path, format!("{{\"client_secret\": \"{key}")).unwrap();
    let damaged = person.tries(&["bootstrap", "--force", "--file", path.to_str().unwrap()]);
    assert!(damaged.code == 1 && !damaged.err.contains(&key) && damaged.err.contains("recover"), "{}", damaged.err);
}

#[tokio::test]
async fn health_tells_by_its_exit_code_whether_the_server_is_ready() {
    let mut server = Process::serve(&[]).await;
    let person = Person::new(&server);
    assert_eq!(person.does(&["health", "--url", &person.url]), "ready\n");
    // As in the image: the settings alone say where the server is, and 0.0.0.0 means this machine.
    let listen = server.url().replace("http://127.0.0.1", "0.0.0.0");
    let said = said(person.command(&["health"]).env("KEYWARD_SERVER_LISTEN", &listen));
    assert_eq!((said.code, said.out.as_str()), (0, "ready\n"), "{}", said.err);
    assert!(server.terminate().await.success());
    let away = person.tries(&["health", "--url", &person.url]);
    assert!(away.code == 1 && away.err.contains("does not answer"), "{}", away.err);
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
