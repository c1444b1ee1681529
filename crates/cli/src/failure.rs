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

/// What the server calls a member of a request, and what `--help` calls the option or the argument that says it.
const OPTIONS: &[(&str, &str)] = &[
    ("apis", "--api"),
    ("audience", "--audience"),
    ("client", "--client"),
    ("email", "--email"),
    ("expires_at", "--expires"),
    ("implies", "--implies"),
    ("kinds", "--kind"),
    ("label", "--label"),
    ("name", "NAME"),
    ("overlap_seconds", "--overlap"),
    ("owner", "--owner"),
    ("quiet_for_seconds", "--quiet-for"),
    ("res", "--res"),
    ("retire_at", "--until"),
    ("scope", "--scope"),
    ("scopes", "--scope"),
    ("to", "--to"),
    ("token_lifetime_seconds", "--lifetime"),
    ("url", "URL"),
];

/// What the server says of a member of a request, in the words of the command line.
pub(crate) fn in_options(field: Option<&str>, detail: &str) -> String {
    let option = |field: &str| OPTIONS.iter().find(|(name, _)| *name == field).map(|(_, option)| *option);
    let told = detail.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map(|word| {
        let name = word.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        // A word of plain English may be the name of a member too.
        match option(name).filter(|_| name.contains('_')) {
            Some(option) => word.replacen(name, option, 1),
            None => word.to_owned(),
        }
    });
    let of = field.map(|field| format!("{}: ", option(field).unwrap_or(field)));
    of.into_iter().chain(told).collect()
}

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn what_the_server_says_of_a_member_is_said_of_the_option() {
        for (field, detail, said) in [
            (Some("quiet_for_seconds"), "from 60 seconds on", "--quiet-for: from 60 seconds on"),
            (Some("retire_at"), "say either retire_at or overlap_seconds", "--until: say either --until or --overlap"),
            (Some("network"), "is none", "network: is none"),
            (None, "the label (expires_at) is past.", "the label (--expires) is past."),
            (None, "", ""),
        ] {
            assert_eq!(in_options(field, detail), said);
        }
    }

    #[test]
    fn every_option_that_is_spoken_of_is_one() {
        fn collect(command: &clap::Command, known: &mut Vec<String>) {
            for argument in command.get_arguments() {
                known.extend(argument.get_long().map(|long| format!("--{long}")));
                known.extend(argument.get_value_names().into_iter().flatten().map(ToString::to_string));
            }
            command.get_subcommands().for_each(|below| collect(below, known));
        }
        let mut options = Vec::new();
        collect(&crate::Arguments::command(), &mut options);
        for (member, option) in OPTIONS {
            assert!(options.iter().any(|known| known == option), "{member}: {option}");
        }
    }
}
