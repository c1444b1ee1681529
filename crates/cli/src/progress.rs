//! How far long work has come: on standard error, for people at a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Quick work shows nothing.
const TICK: Duration = Duration::from_millis(200);

/// A count that grows; it leaves the screen when dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Counts things of this name, of an unknown number.
    pub(crate) fn counting(what: &str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        Self::styled(bar, "{spinner} {human_pos} {msg}")
    }

    /// Counts things of this name up to a known number.
    pub(crate) fn up_to(what: &str, number: u64) -> Self {
        let bar = ProgressBar::new(number).with_message(what.to_owned());
        Self::styled(bar, "{spinner} {human_pos} of {human_len} {msg} [{bar:30}] {eta}")
    }

    fn styled(bar: ProgressBar, template: &str) -> Self {
        // The bar draws nothing where standard error is no terminal.
        let bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// So many there are now.
    pub(crate) fn at(&self, count: usize) {
        self.0.set_position(count as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
