//! `keyward demo`, read and repeated as its reader would.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use keyward_tests::keyward;

/// The titles of the walk.
const STEPS: [&str; 9] = [
    "1  The first key",
    "2  A key for a machine",
    "3  A token",
    "4  Asking the server about it",
    "5  Calling an API",
    "6  Another key in its place",
    "7  Who still uses the old key",
    "8  What is left",
    "9  A key that leaked",
];

/// What is to be pasted: assignments, the function, and each `curl` with the lines it goes on.
fn commands(shown: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let (mut goes_on, mut function) = (false, false);
    for line in shown.lines().filter_map(|line| line.strip_prefix("    ")) {
        let is_assignment = line.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        });
        if goes_on || function {
            let command = commands.last_mut().unwrap();
            command.push('\n');
            command.push_str(line);
        } else if is_assignment || line.starts_with("curl ") || line.starts_with("token() {") {
            commands.push(line.to_owned());
        } else {
            continue;
        }
        function = (function || line == "token() {") && line != "}";
        goes_on = line.ends_with('\\');
    }
    commands
}

/// A demo that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_demo_walks_the_whole_road_and_leaves_nothing_behind() {
    let output = keyward::command(["demo", "--exit"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let at: Vec<_> = STEPS.iter().map(|step| shown.find(step).unwrap_or_else(|| panic!("{step}: {shown}"))).collect();
    assert!(at.is_sorted());
    let step = |n: usize| &shown[at[n - 1]..at.get(n).copied().unwrap_or(shown.len())];
    assert!(step(6).contains("\"key_state\": \"retiring\""), "{}", step(6));
    assert!(step(7).contains("409 Conflict") && step(7).contains("\"instance\": \"hall 3\""), "{}", step(7));
    assert!(step(7).contains("\"end_reason\": \"finished\""), "{}", step(7));
    assert!(step(8).contains("401 Unauthorized") && step(8).contains("\"active\": false"), "{}", step(8));
    assert!(step(8).contains("200 OK") && step(9).contains("\"key_state\": \"revoked\""), "{}{}", step(8), step(9));
    assert!(!shown.contains('\u{1b}'), "colours in a pipe");
    let directory = shown.split_once("runs in ").unwrap().1.split(';').next().unwrap();
    assert!(directory.contains("keyward-demo-") && !Path::new(directory).exists());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_command_of_the_demo_can_be_pasted_and_repeated() {
    let mut demo = Running(keyward::command(["demo"]).stdout(Stdio::piped()).spawn().unwrap());
    let mut shown = String::new();
    for line in BufReader::new(demo.0.stdout.as_mut().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("Ctrl-C ends") {
            break;
        }
        shown = shown + &line + "\n";
    }
    let commands = commands(&shown);
    assert!(commands.iter().filter(|command| command.starts_with("curl ")).count() >= 14, "{commands:#?}");
    // Each in its turn, its answer behind a line that names it.
    let script: Vec<_> = commands.iter().enumerate().map(|(at, c)| format!("echo; echo \"== {at}\"\n{c}")).collect();
    let pasted = Command::new("bash").args(["-euc", &script.join("\n")]).output().unwrap();
    let answers = String::from_utf8(pasted.stdout).unwrap();
    assert!(pasted.status.success(), "{answers}{}", String::from_utf8_lossy(&pasted.stderr));
    let answers: Vec<_> = answers.split("\n== ").skip(1).collect();
    let answer_to = |command: &str| {
        let at =
            commands.iter().rposition(|c| c.starts_with(command)).unwrap_or_else(|| panic!("{command}: {commands:#?}"));
        answers[at]
    };
    assert!(answer_to("curl -si $PLANT/plant/7/line/3 -H").contains("200 OK"));
    // The key that this token was got with has ended since, and the plant has heard of it.
    assert!(answer_to("curl -si $PLANT/plant/8").contains("the token has been revoked"));
    assert!(answer_to("curl -s $KEYWARD/introspect -u $KEY_2").contains("{\"active\":false}"));
    assert!(answer_to("curl -s $KEYWARD/token -u $KEY_1").contains("invalid_client"));
    assert!(answer_to("curl -s $KEYWARD/token -u $KEY_2").contains("access_token"));
    assert!(answer_to("curl -s $KEYWARD/token -u $KEY_3").contains("\"key_state\":\"revoked\""));
    // Another administrator may be made with the key that the reader now holds.
    assert!(answer_to("curl -s $KEYWARD/api/v1/clients -H").contains("\"name\":\"press 7\""));

    let directory = shown.split_once("runs in ").unwrap().1.split(';').next().unwrap().to_owned();
    assert!(Path::new(&directory).exists());
    assert!(Command::new("kill").args(["-s", "INT", &demo.0.id().to_string()]).status().unwrap().success());
    assert!(demo.0.wait().unwrap().success());
    assert!(!Path::new(&directory).exists());
}
