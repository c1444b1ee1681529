//! What hyper times request heads by: a deadline that is looked at whenever the connection is, in place of an alarm.
//!
//! An alarm would be set and taken back with each request. Nobody needs it: `connection::drive` looks at each connection twice
//! in its patience, so that a deadline is noticed half of that later at most.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// Gives hyper deadlines.
pub(super) struct Deadlines;

struct Deadline {
    at: Instant,
    is_new: bool,
}

impl Timer for Deadlines {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline { at: deadline, is_new: true })
    }

    fn now(&self) -> Instant {
        now()
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // hyper asks at once when it has set one: the clock was read for that a moment ago.
        let is_new = std::mem::take(&mut self.is_new);
        if !is_new && now() >= self.at { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Sleep for Deadline {}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
