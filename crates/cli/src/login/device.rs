//! Signing in with a browser elsewhere: RFC 8628, as the device.
//!
//! 1. Ask for a code, and show where to enter it                                    §3.1, §3.3
//! 2. Ask what became of it, no faster than wanted, until there is an answer        §3.4, §3.5
//! 3. Where the server wants to know digits that the browser shows, ask for them
//! 4. Whoever leaves takes the code back                                            RFC 7009

use std::time::Duration;

use serde_json::json;
use tokio::time::{self, Instant};

use super::authority::{Answer, Authority, Grant};
use super::cancelled;
use super::pace::Pace;
use super::screen::{self, Look, Status};
use crate::access::Token;
use crate::failure::Failure;
use crate::terminal::{self, Interrupt};

const WAITING: &str = "waiting for your answer in the browser";

/// What is asked for.
pub(super) struct Wish<'a> {
    /// Scopes; all there are if absent.
    pub(super) scope: Option<&'a str>,
    /// What the page and the list of sessions call this terminal.
    pub(super) label: &'a str,
    /// Whether to draw a QR code, if somebody said so.
    pub(super) qr: Option<bool>,
    /// Whether a script reads.
    pub(super) json: bool,
}

/// How a wait ended.
enum End {
    Tokens(Box<Token>),
    Digits,
    Expired,
    Failed(Failure),
    Interrupted,
}

/// Signs in.
pub(super) async fn sign_in(authority: &Authority, wish: &Wish<'_>, status: &mut Status) -> anyhow::Result<Token> {
    // From here on, whoever presses Ctrl-C leaves nothing behind.
    let mut interrupt = Interrupt::new()?;
    loop {
        let grant = authority.begin(wish.scope, wish.label).await?;
        let ends = Instant::now() + Duration::from_secs(grant.expires_in);
        show(&grant, wish)?;
        match decided(authority, &grant, ends, &mut interrupt, status).await? {
            Some(token) => return Ok(token),
            None if screen::can_ask() => {
                status.settle("The code has expired.");
                let asked = async { terminal::ask("  Press Enter for a new one, Ctrl-C to stop.").await };
                tokio::select! {
                    line = asked => drop(line?),
                    () = interrupt.came() => return Err(cancelled().into()),
                }
            }
            None => {
                status.clear();
                return Err(Failure::new("the code expired before anybody decided")
                    .hint("run `keyward login` again; each code has its time, which is shown with it")
                    .into());
            }
        }
    }
}

/// Shows the code: to people on standard error, to scripts as one line on standard output.
fn show(grant: &Grant, wish: &Wish<'_>) -> anyhow::Result<()> {
    terminal::show(&screen::invitation(grant, Look::of_stderr(wish.qr)));
    if wish.json {
        let told = json!({ "user_code": grant.user_code, "verification_uri": grant.verification_uri,
            "verification_uri_complete": grant.verification_uri_complete, "expires_in": grant.expires_in });
        terminal::print(&format!("{told}\n"))?;
    }
    Ok(())
}

/// Waits for the decision; `None` if there was none in time.
async fn decided(
    authority: &Authority,
    grant: &Grant,
    ends: Instant,
    interrupt: &mut Interrupt,
    status: &mut Status,
) -> anyhow::Result<Option<Token>> {
    let mut pace = Pace::new(Duration::from_secs(grant.interval));
    let mut digits: Option<String> = None;
    loop {
        let given = digits.take();
        let mut wait = std::pin::pin!(wait(authority, grant, given.as_deref(), &mut pace));
        let mut second = time::interval(Duration::from_secs(1));
        let end = loop {
            tokio::select! {
                end = &mut wait => break end,
                () = interrupt.came() => break End::Interrupted,
                () = time::sleep_until(ends) => break End::Expired,
                _ = second.tick() => {
                    let left = screen::left(ends.saturating_duration_since(Instant::now()).as_secs());
                    status.say(WAITING, &format!(", {left} left; Ctrl-C cancels"));
                }
            }
        };
        match end {
            End::Tokens(token) => return Ok(Some(*token)),
            End::Expired => return Ok(None),
            End::Failed(failure) => {
                status.clear();
                return Err(failure.into());
            }
            End::Interrupted => {
                status.clear();
                return Err(taken_back(authority, grant, cancelled()).await.into());
            }
            End::Digits => {
                status.settle(if given.is_some() {
                    "Those are other digits than the browser shows."
                } else {
                    "Approved."
                });
                let read = tokio::select! {
                    line = terminal::ask("  The digits that the browser shows: ") => read_digits(line?),
                    () = interrupt.came() => Err(cancelled()),
                    () = time::sleep_until(ends) => return Ok(None),
                };
                match read {
                    Ok(read) => digits = Some(read),
                    Err(failure) => return Err(taken_back(authority, grant, failure).await.into()),
                }
            }
        }
    }
}

/// Takes the code back because of this. Whether or not the server hears of it, the code is of no use without this program.
async fn taken_back(authority: &Authority, grant: &Grant, because: Failure) -> Failure {
    drop(authority.revoke(&grant.device_code).await);
    because
}

/// Asks until there is an answer. With digits at hand it is asked at once: the decision has been made.
async fn wait(authority: &Authority, grant: &Grant, digits: Option<&str>, pace: &mut Pace) -> End {
    let mut pause = if digits.is_some() { Duration::ZERO } else { pace.first() };
    loop {
        time::sleep(pause).await;
        pause = match authority.ask(grant, digits).await {
            Answer::NotYet(told) => pace.after(told),
            Answer::Tokens(token) => return End::Tokens(token),
            Answer::DigitsWanted => return End::Digits,
            Answer::Expired => return End::Expired,
            Answer::Denied => {
                return End::Failed(
                    Failure::new("the answer in the browser was no")
                        .hint("if that was a mistake, run `keyward login` again"),
                );
            }
            Answer::Failed(failure) => return End::Failed(failure),
        };
    }
}

fn read_digits(line: Option<String>) -> Result<String, Failure> {
    let line = line.ok_or_else(|| {
        Failure::new("the browser shows digits that this command must be told, and its standard input is closed")
            .hint("run it where you can type them, or write them to its standard input")
    })?;
    Ok(line.chars().filter(char::is_ascii_digit).collect())
}
