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

struct Deadline(Instant);

impl Timer for Deadlines {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline(deadline))
    }

    fn now(&self) -> Instant {
        now()
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if now() >= self.0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Sleep for Deadline {}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
