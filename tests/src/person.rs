//! Somebody at a terminal: the command line, as the real program against a real server.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::keyward::{self, Process};
use crate::run;

/// Somebody with a home directory of their own, and the server they talk to.
pub struct Person {
    /// Where their profile is, and where their commands run.
    pub home: PathBuf,
    /// `http://127.0.0.1:PORT`
    pub url: String,
}

/// What a command said.
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Person {
    /// Somebody without a profile.
    pub fn new(server: &Process) -> Self {
        Self { home: run::subdirectory("home"), url: server.url() }
    }

    /// Somebody who has used the first key.
    pub fn administrator(server: &Process) -> Self {
        let person = Self::new(server);
        person.does(&["bootstrap", "--url", &person.url, &server.bootstrap().client_secret]);
        person
    }

    /// `keyward` with these arguments, at home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = keyward::command(arguments);
        command.env("HOME", &self.home).env_remove("XDG_CONFIG_HOME").current_dir(&self.home);
        command
    }

    /// Runs a command that may fail.
    pub fn tries(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }

    /// Runs a command that must succeed; gives its output.
    pub fn does(&self, arguments: &[&str]) -> String {
        let said = self.tries(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.out, said.err);
        said.out
    }

    /// Runs a command that must succeed with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let out = self.does(&[arguments, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    /// Where `keyward bootstrap` keeps the key.
    pub fn profile(&self) -> PathBuf {
        self.home.join(".config/keyward/profile.json")
    }

    /// Registers the API `plant` and a client that may use it; gives the client's id.
    pub fn registers(&self, client: &str) -> String {
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
        text(made.get("id").expect("a client has an id"))
    }
}

/// Runs it to its end.
pub fn said(command: &mut Command) -> Said {
    let output = command.output().expect("the program can be started");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    let code = output.status.code().expect("it ends by itself");
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

/// The command at a terminal, which `script` makes; what it shows comes out of it.
pub fn at_a_terminal(command: &Command) -> Command {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line = words.map(|word| format!("'{}'", word.to_str().expect("text"))).collect::<Vec<_>>().join(" ");
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    terminal.current_dir(command.get_current_dir().expect("a directory"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    terminal
}

/// Reads until this is shown; gives all that was.
pub fn shown_until(out: &mut impl Read, part: &str) -> String {
    let mut shown = Vec::new();
    let mut byte = [0];
    tokio::task::block_in_place(|| {
        while !String::from_utf8_lossy(&shown).contains(part) && out.read(&mut byte).expect("it can be read") > 0 {
            shown.push(byte[0]);
        }
    });
    let shown = String::from_utf8(shown).expect("it writes text");
    assert!(shown.contains(part), "{part:?} is not in {shown}");
    shown
}

/// A JSON string's text.
pub fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// The permission bits of a file or directory.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}
