//! Budgets: how much of something one of many may do at once, and then per minute.

use std::hash::Hash;
use std::time::Duration;

use keyward_model::time::Timestamp;
use moka::sync::Cache;

/// The most whose spending is remembered at once. Beyond that, those seldom seen are forgotten and have their whole
/// budget again; who is charged often stays (moka keeps by frequency, so a flood of newcomers pushes out newcomers).
const MOST: u64 = 100_000;

/// A budget for everyone who is charged.
///
/// The generic cell rate algorithm: of each it is remembered at which instant all that was charged is forgotten.
pub(crate) struct Budget<K> {
    forgotten_at: Cache<K, Timestamp>,
    /// How long one charge weighs.
    weight: Duration,
    /// How much may weigh at once.
    burst: Duration,
}

impl<K: Hash + Eq + Send + Sync + 'static> Budget<K> {
    /// So many at once, and then so many per minute.
    pub(crate) fn new(burst: u32, per_minute: u32) -> Self {
        Self::remembering(MOST, burst, per_minute)
    }

    fn remembering(most: u64, burst: u32, per_minute: u32) -> Self {
        let weight = Duration::from_secs(60) / per_minute.max(1);
        Self { forgotten_at: Cache::new(most), weight, burst: weight * burst }
    }

    /// The time to wait if the budget is used up; charges nothing.
    pub(crate) fn wait(&self, who: &K, now: Timestamp) -> Option<Duration> {
        let weight = self.forgotten_at.get(who)?.plus(self.weight).since(now);
        weight.checked_sub(self.burst).filter(|wait| !wait.is_zero())
    }

    /// Charges one; the time to wait if the budget is used up.
    pub(crate) fn charge(&self, who: K, now: Timestamp) -> Option<Duration> {
        let mut wait = None;
        self.forgotten_at.entry(who).and_upsert_with(|entry| {
            let forgotten_at = entry.map_or(now, |entry| entry.into_value().max(now));
            let charged = forgotten_at.plus(self.weight);
            let weight = charged.since(now);
            if weight > self.burst {
                wait = Some(weight - self.burst);
                // What is refused is not charged, so waiting as told is enough.
                forgotten_at
            } else {
                charged
            }
        });
        wait
    }

    /// Takes one charge back. More than one's own charge nobody gets back, so this resets nothing for others.
    pub(crate) fn refund(&self, who: K, now: Timestamp) {
        self.forgotten_at.entry(who).and_upsert_with(|entry| {
            let forgotten_at = entry.map_or(now, |entry| entry.into_value());
            forgotten_at.minus(self.weight).max(now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000 + seconds)
    }

    #[test]
    fn a_budget_is_used_up_refills_and_names_the_wait() {
        let budget = Budget::new(3, 6);
        for _ in 0..3 {
            assert_eq!(budget.charge("one", at(0)), None);
        }
        assert_eq!(budget.charge("one", at(0)), Some(Duration::from_secs(10)));
        assert_eq!((budget.wait(&"one", at(0)), budget.wait(&"one", at(10))), (Some(Duration::from_secs(10)), None));
        assert_eq!(budget.wait(&"another", at(0)), None);
        assert_eq!(budget.charge("another", at(0)), None);
        assert_eq!(budget.charge("one", at(4)), Some(Duration::from_secs(6)));
        assert_eq!(budget.charge("one", at(10)), None);
        assert!(budget.charge("one", at(10)).is_some());
    }

    #[test]
    fn what_is_taken_back_is_one_charge_and_never_more_than_was_charged() {
        let budget = Budget::new(3, 6);
        for _ in 0..3 {
            assert_eq!(budget.charge("one", at(0)), None);
        }
        budget.refund("one", at(0));
        assert_eq!(budget.charge("one", at(0)), None);
        assert!(budget.charge("one", at(0)).is_some());
        for _ in 0..9 {
            budget.refund("one", at(0));
            budget.refund("other", at(0));
        }
        for who in ["one", "other"] {
            let charged = (0..9).filter(|_| budget.charge(who, at(0)).is_none()).count();
            assert_eq!(charged, 3, "{who}");
        }
    }

    #[test]
    fn whoever_is_charged_often_is_not_pushed_out_by_a_flood_of_others() {
        let budget = Budget::remembering(1_000, 30, 10);
        for _ in 0..30 {
            assert_eq!(budget.charge(0, at(0)), None);
        }
        for other in 1..=20_000 {
            budget.charge(other, at(0));
            if other % 100 == 0 {
                budget.forgotten_at.run_pending_tasks();
                assert!(budget.charge(0, at(0)).is_some(), "forgotten after {other} others");
            }
        }
        assert!(budget.forgotten_at.entry_count() <= 1_000);
    }
}
