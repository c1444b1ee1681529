//! Writing to people and to pipes: what is coloured, how wide it may be, and what is asked.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use keyward_model::legible::is_unseen;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, oneshot};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Writes to standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A text from elsewhere as it may be shown: what would steer the terminal or turn the text around is written out.
pub(crate) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if is_unseen(c) {
            shown.extend(c.escape_unicode())
        } else {
            shown.push(c)
        }
        shown
    })
}

/// The same for a text of several lines.
pub(crate) fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

/// Writes to standard output as JSON for scripts.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}

/// Tells people something beside the output, on standard error.
pub(crate) fn note(text: &str) {
    // Advice nobody can read is no reason to stop.
    drop(writeln!(io::stderr().lock(), "{}", visible_lines(text)));
}

/// Shows people something that is made for a terminal, on standard error: what came from elsewhere is visible in it.
pub(crate) fn show(text: &str) {
    let mut err = io::stderr().lock();
    // Nobody is left to see it when standard error is closed.
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}

/// Whether standard error is a terminal on which a line can be drawn anew.
pub(crate) fn is_live() -> bool {
    io::stderr().is_terminal() && is_able()
}

fn is_able() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How many columns standard error has, if it is a terminal.
pub(crate) fn stderr_width() -> Option<u16> {
    terminal_size::terminal_size_of(io::stderr()).map(|(terminal_size::Width(width), _)| width)
}

/// How many columns and lines standard output has, if it is a terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(io::stdout())
        .map(|(terminal_size::Width(width), terminal_size::Height(height))| (width, height))
}

/// How many columns standard output has, if it is a terminal.
pub(crate) fn width() -> Option<u16> {
    size().map(|(width, _)| width)
}

/// Asks before something that cannot be undone. Scripts, which cannot be asked, say `--yes`.
pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("not done without being asked: {question}")).hint("add --yes").into());
    }
    let mut err = io::stderr().lock();
    write!(err, "{} [y/N] ", visible(question))?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::new("nothing was changed").into()) }
}

/// A line of standard input that is waited for.
type Line = oneshot::Receiver<io::Result<Option<String>>>;

/// The line that a question was given up before it came: the next question gets it, for nobody else can read it any more.
static AWAITED: Mutex<Option<Line>> = Mutex::const_new(None);

/// Asks for a line on standard error and waits for it without holding up anything else; `None` if standard input is closed.
pub(crate) async fn ask(question: &str) -> io::Result<Option<String>> {
    show(question);
    let mut awaited = AWAITED.lock().await;
    let line = awaited.get_or_insert_with(next_line).await;
    *awaited = None;
    line.unwrap_or(Ok(None))
}

/// Reads it on a thread of its own: the program may end while that waits, as it may not for one of the runtime's.
fn next_line() -> Line {
    let (give, given) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        drop(give.send(read.map(|bytes| (bytes > 0).then_some(line))));
    });
    given
}

/// Ctrl-C, or being asked to end in another way, from the moment this is made.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for it.
    pub(crate) async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits until people at a terminal have read something.
pub(crate) fn pause(what_next: &str) -> io::Result<()> {
    let mut err = io::stderr().lock();
    write!(err, "\n{what_next} ")?;
    err.flush()?;
    io::stdin().lock().read_line(&mut String::new()).map(drop)
}

/// One secret from standard input, so that it stands in no list of processes and in no history.
pub(crate) fn read_secret(what: &str) -> anyhow::Result<Zeroizing<String>> {
    if io::stdin().is_terminal() {
        note(&format!("Paste {what}, then Enter:"));
    }
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line)?;
    let text = Zeroizing::new(line.trim().to_owned());
    if text.is_empty() { Err(Failure::usage(format!("standard input holds no {what}")).into()) } else { Ok(text) }
}

/// Colours, if whoever reads can see and wants them (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self(io::stdout().is_terminal() && is_wanted() && is_able())
    }

    /// For standard error.
    pub(crate) fn stderr() -> Self {
        Self(io::stderr().is_terminal() && is_wanted() && is_able())
    }

    /// For what may go anywhere.
    pub(crate) const fn never() -> Self {
        Self(false)
    }

    /// For what draws a terminal.
    #[cfg(test)]
    pub(crate) const fn always() -> Self {
        Self(true)
    }

    /// Important.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Secondary.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Good.
    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Bad.
    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// To look at twice.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// To copy.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// Light on dark, whatever the terminal's own colours are: of its 256 colours, the two that no theme changes.
    pub(crate) fn white_on_black(self, text: &str) -> String {
        self.wrap("38;5;231;48;5;16", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn is_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_the_terminal_is_written_out_and_lines_stay() {
        assert_eq!(visible_lines("a\u{1b}[2J\nb\u{202e}c\r"), "a\\u{1b}[2J\nb\\u{202e}c\\u{d}");
        assert_eq!(visible("a\nb"), "a\\u{a}b", "a name has no lines");
    }
}
