//! How often devices may ask and poll, and how often people may mistype a code.
//!
//! With N codes open, each guess hits one of them with a chance of N in 20^8, so guesses are bounded per account, per
//! network and, in proportion to N, altogether. An attempt is charged before it is made, so that many at once are not
//! more, and taken back if the code was right; nothing else is forgiven by a right one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keyward_model::caller::Network;
use keyward_model::id::{ClientId, DeviceGrantId, UserId};
use keyward_model::time::Timestamp;
use keyward_model::user_code::CODES;

use crate::budget::Budget;

/// The chance that all wrong codes of ten minutes together may have to hit one that is open: one in so many.
const RISK: u64 = 1000;
const BREAKER_WINDOW: Duration = Duration::from_mins(10);
/// However few codes are open.
const MOST_WRONG: u64 = 10_000;

/// All budgets of device grants, on this node.
pub(crate) struct Budgets {
    asked_by_network: Budget<Network>,
    asked_through_client: Budget<ClientId>,
    asked: Budget<()>,
    polls_of_device: Budget<DeviceGrantId>,
    polls_of_network: Budget<Network>,
    wrong_of_user: Budget<UserId>,
    wrong_of_network: Budget<Network>,
    breaker: Breaker,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            // A hall full of devices behind one address, and a client of which there are many.
            asked_by_network: Budget::new(60, 30),
            asked_through_client: Budget::new(600, 300),
            asked: Budget::new(3000, 1500),
            // Beyond `slow_down`, which is no refusal, this is abuse.
            polls_of_device: Budget::new(20, 60),
            polls_of_network: Budget::new(600, 1200),
            // Five in ten minutes, and twenty.
            wrong_of_user: Budget::one_each(5, Duration::from_mins(2)),
            wrong_of_network: Budget::one_each(20, Duration::from_secs(30)),
            breaker: Breaker::default(),
        }
    }
}

impl Budgets {
    /// Charges a device that asks; the time to wait if it may not.
    pub(crate) fn charge_asking(&self, network: Network, client: ClientId, now: Timestamp) -> Option<Duration> {
        // The narrowest first: who is refused there uses up nothing of anybody else's.
        let refused = self.asked_by_network.charge(network, now);
        let refused = refused.or_else(|| self.asked_through_client.charge(client, now));
        refused.or_else(|| self.asked.charge((), now))
    }

    /// Charges a device that polls; the time to wait if it did so too often.
    pub(crate) fn charge_poll(&self, grant: DeviceGrantId, now: Timestamp) -> Option<Duration> {
        self.polls_of_device.charge(grant, now)
    }

    /// Charges the network that a poll comes from; the time to wait if there were too many from there.
    pub(crate) fn charge_polls_of(&self, network: Network, now: Timestamp) -> Option<Duration> {
        self.polls_of_network.charge(network, now)
    }

    /// Charges a code in advance; the time to wait if none may be entered.
    pub(crate) fn charge_code(&self, user: UserId, network: Network, now: Timestamp) -> Option<Duration> {
        if let Some(wait) = self.breaker.wait(now) {
            return Some(wait);
        }
        let refused = self.wrong_of_user.charge(user, now);
        refused.or_else(|| self.wrong_of_network.charge(network, now).inspect(|_| self.wrong_of_user.refund(user)))
    }

    /// The code was right: its own charge is taken back, and no other.
    pub(crate) fn was_right(&self, user: UserId, network: Network) {
        self.wrong_of_user.refund(user);
        self.wrong_of_network.refund(network);
    }

    /// The code was wrong, with so many open: true if from now on nobody may enter any for a while.
    pub(crate) fn was_wrong(&self, open: u64, now: Timestamp) -> bool {
        self.breaker.count(open, now)
    }
}

/// Counts the wrong codes of everybody, and stops everybody when there are too many for those that are open.
#[derive(Default)]
struct Breaker(Mutex<Window>);

#[derive(Default)]
struct Window {
    ends_at: Option<Timestamp>,
    wrong: u64,
    is_shut: bool,
}

impl Breaker {
    fn wait(&self, now: Timestamp) -> Option<Duration> {
        let window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ends_at = window.ends_at.filter(|end| window.is_shut && *end > now)?;
        Some(ends_at.since(now))
    }

    fn count(&self, open: u64, now: Timestamp) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.ends_at.is_none_or(|end| end <= now) {
            *window = Window { ends_at: Some(now.plus(BREAKER_WINDOW)), wrong: 0, is_shut: false };
        }
        window.wrong += 1;
        let most = (CODES / RISK / open.max(1)).clamp(1, MOST_WRONG);
        let shuts = window.wrong >= most && !window.is_shut;
        window.is_shut |= shuts;
        shuts
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000 + seconds)
    }

    fn user(n: u128) -> UserId {
        UserId::from_uuid(Uuid::from_u128(n))
    }

    fn network(n: u8) -> Network {
        Network::from(std::net::IpAddr::from([192, 0, 2, n]))
    }

    #[test]
    fn five_wrong_codes_in_ten_minutes_and_a_right_one_forgives_none() {
        let budgets = Budgets::default();
        for wrong in 0..5 {
            assert_eq!(budgets.charge_code(user(1), network(1), at(0)), None, "{wrong}");
            if wrong == 2 {
                assert_eq!(budgets.charge_code(user(1), network(1), at(0)), None);
                budgets.was_right(user(1), network(1));
            }
        }
        assert_eq!(
            budgets.charge_code(user(1), network(2), at(0)),
            Some(Duration::from_mins(2)),
            "whatever the network"
        );
        assert_eq!(budgets.charge_code(user(2), network(1), at(0)), None);
        let passed = (0..600).filter(|s| budgets.charge_code(user(1), network(3), at(*s)).is_none()).count();
        assert_eq!(passed, 4, "one each two minutes");
    }

    #[test]
    fn many_accounts_of_one_network_share_its_budget() {
        let budgets = Budgets::default();
        let passed = (0..100).filter(|n| budgets.charge_code(user(*n), network(1), at(0)).is_none()).count();
        assert_eq!(passed, 20);
        assert!((0..5).all(|_| budgets.charge_code(user(99), network(2), at(0)).is_none()), "refused is not charged");
    }

    #[test]
    fn all_wrong_codes_together_are_bounded_by_how_many_are_open() {
        for (open, most) in [(0, 10_000), (10_000, 2_560), (100_000_000, 1)] {
            let breaker = Breaker::default();
            let before = (1..most).filter(|_| breaker.count(open, at(0))).count();
            assert_eq!((before, breaker.wait(at(0))), (0, None), "{open}");
            assert!(breaker.count(open, at(0)), "{open}");
            assert_eq!(breaker.wait(at(60)), Some(Duration::from_mins(9)));
            assert_eq!(breaker.wait(at(600)), None);
        }
    }
}
