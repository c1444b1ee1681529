//! What a command says when it cannot do what it was asked: a line for the cause, lines for what is in the way if that
//! is a list, a line for what to do next.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::Value;

use crate::terminal::visible_lines;

/// A cause with advice. Never holds a secret.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    details: Option<String>,
    problem: Option<Box<Value>>,
    usage: bool,
    passing: bool,
}

impl Failure {
    /// Something failed: exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, details: None, problem: None, usage: false, passing: false }
    }

    /// The command was called in a way that cannot work: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(message) }
    }

    /// One that may be over in a while: a server that starts anew, a limit.
    #[must_use]
    pub(crate) fn passing(self) -> Self {
        Self { passing: true, ..self }
    }

    /// Whether trying again later may help.
    pub(crate) fn may_pass(&self) -> bool {
        self.passing
    }

    /// With what to do next.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With lines for people about what is in the way, and the server's own words for programs.
    #[must_use]
    pub(crate) fn details(self, details: String, problem: Value) -> Self {
        Self { details: Some(details), problem: Some(Box::new(problem)), ..self }
    }

    /// The server's own words, where they say more than the message.
    pub(crate) fn problem(&self) -> Option<&Value> {
        self.problem.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Reports the outcome of a command: 0 done, 1 failed, 2 called in a way that cannot work.
pub(crate) fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // Whoever reads our output has seen enough (`keyward client list | head`).
    let closed = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.chain().filter_map(|cause| cause.downcast_ref()).any(closed) {
        return ExitCode::SUCCESS;
    }
    let failure = error.downcast_ref::<Failure>();
    // Nobody is left to be told when standard error is closed too.
    let mut out = io::stderr().lock();
    drop(writeln!(out, "error: {}", visible_lines(&format!("{error:#}"))));
    if let Some(details) = failure.and_then(|f| f.details.as_deref()) {
        drop(write!(out, "{details}"));
    }
    if let Some(hint) = failure.and_then(|f| f.hint.as_deref()) {
        drop(writeln!(out, "hint: {}", visible_lines(hint)));
    }
    ExitCode::from(if failure.is_some_and(|f| f.usage) { 2 } else { 1 })
}
