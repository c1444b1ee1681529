//! When to ask again: RFC 8628 §3.5.

use std::time::Duration;

/// "the interval MUST be increased by 5 seconds for this and all subsequent requests"
const SLOWER: Duration = Duration::from_secs(5);
/// The longest between two questions, so that nobody who has decided waits for minutes.
const LONGEST: Duration = Duration::from_secs(60);

/// What was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nobody has decided.
    Pending,
    /// That was too soon; perhaps with the interval that the server wants.
    SlowDown(Option<Duration>),
    /// Nothing, or that the server cannot answer now; perhaps with when it can.
    Nothing(Option<Duration>),
}

/// How long to wait before each question.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// How many questions in a row had no answer.
    unheard: u32,
}

impl Pace {
    /// With the interval that the server named.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval: interval.clamp(Duration::from_secs(1), LONGEST), unheard: 0 }
    }

    /// How long to wait before the first question: nobody can have decided already.
    pub(super) fn first(&self) -> Duration {
        self.interval
    }

    /// How long to wait after this. "On encountering a connection timeout, clients MUST unilaterally reduce their polling
    /// frequency": it doubles until there is an answer.
    pub(super) fn after(&mut self, told: Told) -> Duration {
        match told {
            Told::Pending => self.unheard = 0,
            Told::SlowDown(wanted) => {
                self.unheard = 0;
                self.interval = (self.interval + SLOWER).max(wanted.unwrap_or_default()).min(LONGEST);
            }
            Told::Nothing(wait) => {
                self.unheard = (self.unheard + 1).min(6);
                let doubled = self.interval * 2u32.pow(self.unheard);
                return doubled.max(wait.unwrap_or_default()).min(LONGEST);
            }
        }
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn slow_down_is_never_forgotten_and_never_faster_than_five_more_seconds() {
        let mut pace = Pace::new(seconds(2));
        assert_eq!((pace.first(), pace.after(Told::Pending)), (seconds(2), seconds(2)));
        assert_eq!(pace.after(Told::SlowDown(None)), seconds(7));
        assert_eq!(pace.after(Told::Pending), seconds(7));
        assert_eq!(pace.after(Told::SlowDown(Some(seconds(2)))), seconds(12));
        assert_eq!(pace.after(Told::SlowDown(Some(seconds(30)))), seconds(30));
        for _ in 0..100 {
            assert!(pace.after(Told::SlowDown(Some(Duration::MAX))) <= LONGEST);
        }
    }

    #[test]
    fn silence_doubles_the_wait_until_there_is_an_answer() {
        let mut pace = Pace::new(seconds(5));
        let heard = [Told::Nothing(None), Told::Nothing(None), Told::Nothing(None)].map(|told| pace.after(told));
        assert_eq!(heard, [seconds(10), seconds(20), seconds(40)]);
        assert_eq!(pace.after(Told::Pending), seconds(5));
        assert_eq!(pace.after(Told::Nothing(Some(seconds(30)))), seconds(30));
        for _ in 0..100 {
            assert!(pace.after(Told::Nothing(Some(Duration::MAX))) <= LONGEST);
        }
    }

    #[test]
    fn an_interval_of_nothing_is_none() {
        assert_eq!((Pace::new(Duration::ZERO).first(), Pace::new(Duration::MAX).first()), (seconds(1), LONGEST));
    }
}
