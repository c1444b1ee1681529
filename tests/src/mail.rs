//! A mail server, as a process of its own.

use std::fs::{self, File};
use std::path::PathBuf;
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

impl MailServer {
    /// A new one, on a port of its own.
    pub async fn start() -> Self {
        let output = run::subdirectory("mail").join("output");
        let mut command = clients::python_script("mail_server.py");
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

    /// `smtp://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
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
