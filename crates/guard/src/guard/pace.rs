//! How often things are tried: never all guards at once, and less often the longer nothing comes of it.

use std::time::Duration;

use keyward_model::entropy::Entropy;

/// The times that the work behind a guard keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// After so long keys are read anew although nothing asks for it: the server lets them be cached for as long.
    pub(super) keys: Duration,
    /// Keys of another issuer that could not be read anew for so long are not trusted any more: one of them may have
    /// been withdrawn. Of Keyward's the feed and the list say more.
    pub(super) foreign_keys: Duration,
    /// Between two readings of the keys that unknown names asked for: whoever invents names does not reach the issuer.
    pub(super) unknown_keys: Duration,
    /// Between two readings of the list that tokens asked for.
    pub(super) list: Duration,
    /// A feed that says nothing for so long is lost.
    pub(super) silence: Duration,
    /// Until an answer has begun, connecting and TLS among it, and again until it is whole.
    pub(super) answer: Duration,
    /// How long a long poll waits at the server.
    pub(super) poll: Duration,
    /// A stream that breaks before this broke early.
    pub(super) early: Duration,
    /// After so long a guard that took to polling tries the stream again.
    pub(super) stream_again: Duration,
    /// The first pause after a failure, and the longest.
    pub(super) pause: (Duration, Duration),
    /// For how long a request may wait for newer keys or a newer list.
    pub(super) patience: Duration,
}

impl Pace {
    pub(super) const USUAL: Self = Self {
        keys: Duration::from_secs(300),
        foreign_keys: Duration::from_secs(24 * 3600),
        unknown_keys: Duration::from_secs(10),
        list: Duration::from_secs(5),
        silence: Duration::from_secs(3),
        answer: Duration::from_secs(5),
        poll: Duration::from_secs(10),
        early: Duration::from_secs(30),
        stream_again: Duration::from_secs(600),
        pause: (Duration::from_millis(500), Duration::from_secs(30)),
        patience: Duration::from_secs(2),
    };
}

/// Doubles the pause at each failure.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new((first, most): (Duration, Duration)) -> Self {
        Self { first, most, failures: 0 }
    }

    /// Something came of it.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait now: between half of this failure's pause and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        spread(pause)
    }
}

/// A random part of this time, at least half of it.
pub(super) fn spread(time: Duration) -> Duration {
    // Without random bytes guards are merely less spread out.
    let random = Entropy::system().bytes::<4>().map_or(u32::MAX, u32::from_be_bytes);
    time.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_a_success() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new((first, most));
        for millis in [100, 200, 400, 800, 1000, 1000] {
            let (pause, full) = (backoff.next(), Duration::from_millis(millis));
            assert!((full / 2..=full).contains(&pause), "{pause:?} of {full:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= most);
        }
        backoff.reset();
        assert!(backoff.next() <= first);
    }
}
