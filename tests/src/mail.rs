//! A mail server, as a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{clients, run};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running mail server. Stops with the value.
#[derive(Debug)]
pub struct MailServer {
    child: Child,
    output: PathBuf,
    port: u16,
}

/// How what is sent to a mail server is kept secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// By a command of SMTP (RFC 3207); before it, no mail is taken.
    StartTls,
    /// From the first byte (RFC 8314 §3.3).
    Implicit,
}

/// What a mail server refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// To take mail for somebody, before it has seen it.
    Recipient,
    /// A mail that it has read.
    Mail,
}

impl MailServer {
    /// A new one without encryption, on a port of its own.
    pub async fn start() -> Self {
        Self::launch(&[]).await
    }

    /// A new one with encryption, as `certificate` and `key` in these PEM files.
    pub async fn start_encrypted(encryption: Encryption, certificate: &Path, key: &Path) -> Self {
        let word = match encryption {
            Encryption::StartTls => "starttls",
            Encryption::Implicit => "smtps",
        };
        Self::launch(&[Path::new(word), certificate, key]).await
    }

    /// A new one that refuses each mail the first time it sees it, by this code.
    pub async fn start_refusing(at: Refused, code: u16) -> Self {
        let word = match at {
            Refused::Recipient => "rcpt",
            Refused::Mail => "data",
        };
        Self::launch(&[word, &code.to_string()].map(Path::new)).await
    }

    async fn launch(arguments: &[&Path]) -> Self {
        let output = run::subdirectory("mail").join("output");
        let mut command = clients::python_script("mail_server.py");
        command.args(arguments);
        let file = File::create(&output).expect("the run's directory is writable");
        let child = command.stdout(Stdio::from(file)).stderr(Stdio::null()).spawn().expect("python was just installed");
        let mut server = Self { child, output, port: 0 };
        let waiting = async {
            while server.lines().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the mail server does not listen");
        server.port = server.lines()[0].parse().expect("it prints its port");
        server
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `smtp://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// How many mails have arrived so far.
    pub fn count(&self) -> usize {
        self.lines().len().saturating_sub(1)
    }

    /// Waits until so many mails have arrived; gives all.
    pub async fn mails(&self, count: usize) -> Vec<Value> {
        let waiting = async {
            while self.lines().len() <= count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waiting).await;
        let lines = self.lines();
        assert!(in_time.is_ok(), "{} of {count} mails arrived", lines.len().saturating_sub(1));
        lines[1..].iter().map(|line| serde_json::from_str(line).expect("it prints JSON")).collect()
    }

    /// The whole lines it has printed.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
