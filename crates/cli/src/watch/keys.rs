//! A terminal as a picture with keys: it shows what it is given, and tells which key was pressed.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::terminal;

/// The other screen, so that what was there before comes back; no cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// A terminal for standard input and output; as it was when the value is dropped.
pub(super) struct Keys {
    before: Termios,
    taken: bool,
}

impl Keys {
    /// The terminal, if people are at both of its ends.
    pub(super) fn of_terminal() -> Option<Self> {
        let capable = io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let before = tcgetattr(io::stdin()).ok().filter(|_| capable)?;
        Some(Self { before, taken: false })
    }

    /// From here on keys are not shown and do not wait for Enter. Ctrl-C still interrupts.
    pub(super) fn take_over(&mut self) -> io::Result<()> {
        let mut modes = self.before.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        // A read gives what there is and does not wait.
        for (index, value) in [(SpecialCodeIndex::VMIN, 0), (SpecialCodeIndex::VTIME, 0)] {
            modes.special_codes[index] = value;
        }
        tcsetattr(io::stdin(), OptionalActions::Flush, &modes)?;
        self.taken = true;
        terminal::print(ENTER)
    }

    /// The key that was pressed since the last look; of several the last.
    pub(super) fn pressed(&self) -> io::Result<Option<u8>> {
        let mut keys = [0; 64];
        let read = io::stdin().lock().read(&mut keys)?;
        Ok(keys.get(..read).and_then(|keys| keys.last()).copied())
    }

    /// Shows this instead of what is there, without a flicker.
    pub(super) fn show(&self, picture: &str) -> io::Result<()> {
        let lines = picture.lines().collect::<Vec<_>>().join("\u{1b}[K\r\n");
        terminal::print(&format!("\u{1b}[H{lines}\u{1b}[K\u{1b}[J"))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if self.taken {
            // Whatever fails here, there is nobody to tell: the terminal itself has gone.
            let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
            let mut out = io::stdout().lock();
            drop(out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush()));
        }
    }
}
