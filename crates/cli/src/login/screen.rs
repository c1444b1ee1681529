//! What somebody sees who is to sign in with a browser elsewhere: where to go, what to enter, and how long there is.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use qrcode::{Color, EcLevel, QrCode};

use super::authority::Grant;
use crate::terminal::{self, Paint, visible};

/// The fewest columns in which a QR code is shown unasked.
pub(super) const ROOM: u16 = 45;
/// Light modules around the code: half of what ISO 18004 asks for, which phones do with, so that it fits more windows.
const QUIET: usize = 2;

/// How to show it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) paint: Paint,
    /// Whether addresses can be links.
    pub(super) links: bool,
    /// Whether to draw a QR code.
    pub(super) qr: bool,
}

impl Look {
    /// For standard error, as it is and as somebody wants it.
    pub(super) fn of_stderr(qr: Option<bool>) -> Self {
        let live = terminal::is_live();
        let room = terminal::stderr_width().is_some_and(|width| width >= ROOM);
        Self { paint: Paint::stderr(), links: live, qr: qr.unwrap_or(live && room) }
    }
}

/// Where to go and what to enter, then the code to scan.
pub(super) fn invitation(grant: &Grant, look: Look) -> String {
    let Look { paint, links, qr } = look;
    let uri = link(&grant.verification_uri, links);
    let mut shown = format!("\n  Open   {}\n", paint.cyan(&uri));
    let _ = writeln!(shown, "  Enter  {}", paint.bold(&visible(&grant.user_code)));
    if let Some(complete) = &grant.verification_uri_complete {
        let code = if qr { drawn(complete, paint) } else { None };
        match code {
            Some(code) => {
                let _ = write!(shown, "\n  Or scan this, and compare the code that the page shows:\n\n{code}");
            }
            None => {
                let _ = writeln!(shown, "\n  Or open {}", link(complete, links));
                shown.push_str("  and compare the code that the page shows.\n");
            }
        }
    }
    shown + "\n"
}

/// A link where the terminal knows them (OSC 8); where it does not, the text of it.
fn link(uri: &str, links: bool) -> String {
    let text = visible(uri);
    let leads = uri.starts_with("https://") || uri.starts_with("http://");
    if links && leads { format!("\u{1b}]8;;{text}\u{1b}\\{text}\u{1b}]8;;\u{1b}\\") } else { text }
}

/// A QR code, two modules a character, dark on light whatever the terminal's colours are; `None` if it does not fit one.
fn drawn(text: &str, paint: Paint) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let (width, modules) = (code.width(), code.to_colors());
    let dark = |row: usize, column: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < width);
        let place = inside(row).zip(inside(column)).map(|(row, column)| row * width + column);
        place.and_then(|place| modules.get(place)) == Some(&Color::Dark)
    };
    let all = width + 2 * QUIET;
    let mut shown = String::new();
    for row in (0..all).step_by(2) {
        let line: String = (0..all)
            .map(|column| match (dark(row, column), row + 1 < all && dark(row + 1, column)) {
                (false, false) => '█',
                (false, true) => '▀',
                (true, false) => '▄',
                (true, true) => ' ',
            })
            .collect();
        let _ = writeln!(shown, "  {}", paint.white_on_black(&line));
    }
    Some(shown)
}

/// How long there is, as `9:05`.
pub(super) fn left(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// One line that says how it stands: at a terminal it changes, elsewhere each new word is a line of its own.
pub(super) struct Status {
    live: bool,
    shown: String,
}

impl Status {
    pub(super) fn new() -> Self {
        Self { live: terminal::is_live(), shown: String::new() }
    }

    /// Says how it stands; `more` changes all the time and is for those who see the line change.
    pub(super) fn say(&mut self, what: &str, more: &str) {
        if self.live {
            // What does not fit would make a second line, and then one more with each change.
            let room = usize::from(terminal::stderr_width().unwrap_or(80)).saturating_sub(3);
            let more = if what.len() + more.len() <= room { more } else { "" };
            self.draw(&format!("\r\u{1b}[2K  {}{}", visible(what), Paint::stderr().dim(more)));
        } else if self.shown != what {
            terminal::note(what);
        }
        what.clone_into(&mut self.shown);
    }

    /// Says how it ended.
    pub(super) fn settle(&mut self, what: &str) {
        if self.live {
            self.draw(&format!("\r\u{1b}[2K  {}\n", visible(what)));
        } else {
            terminal::note(what);
        }
        self.shown.clear();
    }

    /// Makes room for something else.
    pub(super) fn clear(&mut self) {
        if self.live {
            self.draw("\r\u{1b}[2K");
        }
        self.shown.clear();
    }

    fn draw(&self, text: &str) {
        let mut err = io::stderr().lock();
        // Nobody is left to see it when standard error is closed.
        drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
    }
}

/// Whether somebody can be asked: they see what is said, and can type.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && terminal::is_live()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn grant(complete: Option<&str>) -> Grant {
        serde_json::from_value(serde_json::json!({
            "device_code": "secret", "user_code": "WDJB-MJHT", "verification_uri": "https://keyward.example/device",
            "verification_uri_complete": complete, "expires_in": 600,
        }))
        .unwrap()
    }

    const COMPLETE: &str = "https://keyward.example/D/WDJB-MJHT";

    fn look(qr: bool) -> Look {
        Look { paint: Paint::never(), links: false, qr }
    }

    #[test]
    fn where_to_go_and_what_to_enter_come_first_and_the_device_code_never() {
        for qr in [true, false] {
            let shown = invitation(&grant(Some(COMPLETE)), look(qr));
            let lines: Vec<_> = shown.lines().collect();
            assert_eq!(lines[1..3], ["  Open   https://keyward.example/device", "  Enter  WDJB-MJHT"]);
            assert!(!shown.contains("secret") && !shown.contains('\u{1b}'), "{shown}");
        }
        assert_eq!(invitation(&grant(None), look(true)).lines().count(), 4, "nothing to scan");
    }

    #[test]
    fn a_qr_code_fits_the_room_it_is_shown_in_and_is_light_around_its_edge() {
        let code = drawn(COMPLETE, Paint::never()).unwrap();
        let lines: Vec<_> = code.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= ROOM.into()), "{code}");
        assert_eq!(lines.len(), (lines[0].chars().count() - 2).div_ceil(2));
        assert!(lines[0].trim().chars().all(|c| c == '█'), "{code}");
        assert!(lines.iter().all(|line| line.starts_with("  ██") && line.ends_with("██")), "{code}");
        assert!(drawn(&"x".repeat(5_000), Paint::never()).is_none(), "no code is so large");
    }

    #[test]
    fn addresses_are_links_where_terminals_know_them_and_never_steer_one() {
        let shown = invitation(&grant(Some(COMPLETE)), Look { links: true, ..look(false) });
        assert!(shown.contains(
            "\u{1b}]8;;https://keyward.example/device\u{1b}\\https://keyward.example/device\u{1b}]8;;\u{1b}\\"
        ));
        assert_eq!(link("javascript:alert(1)", true), "javascript:alert(1)");
        assert_eq!(link("https://a\u{1b}]8;;x", false), "https://a\\u{1b}]8;;x");
    }

    #[test]
    fn what_is_left_is_told_in_minutes_and_seconds() {
        assert_eq!([left(600), left(65), left(9), left(0)], ["10:00", "1:05", "0:09", "0:00"]);
    }
}
