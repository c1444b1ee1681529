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

    /// Charges a code, with so many open, to everybody together; the time to wait if nobody may enter any.
    pub(crate) fn charge_everybody(
        &self,
        (user, network): (UserId, Network),
        open: u64,
        now: Timestamp,
    ) -> Option<Duration> {
        self.breaker.charge(open, now).inspect(|_| {
            self.wrong_of_user.refund(user);
            self.wrong_of_network.refund(network);
        })
    }

    /// The code was right: its own charge is taken back, and no other.
    pub(crate) fn was_right(&self, user: UserId, network: Network) {
        self.wrong_of_user.refund(user);
        self.wrong_of_network.refund(network);
        self.breaker.refund();
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

    fn charge(&self, open: u64, now: Timestamp) -> Option<Duration> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ends_at = match window.ends_at.filter(|end| *end > now) {
            Some(ends_at) => ends_at,
            None => {
                let ends_at = now.plus(BREAKER_WINDOW);
                *window = Window { ends_at: Some(ends_at), ..Window::default() };
                ends_at
            }
        };
        let most = (CODES / RISK / open.max(1)).clamp(1, MOST_WRONG);
        if window.wrong >= most && !window.is_shut {
            window.is_shut = true;
            tracing::error!(open, "too many wrong codes for those that are open: for a while nobody may enter any");
        }
        if window.is_shut {
            return Some(ends_at.since(now));
        }
        window.wrong += 1;
        None
    }

    fn refund(&self) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.wrong = window.wrong.saturating_sub(1);
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
    fn a_day_of_guessing_is_as_long_as_the_book_says() {
        let (account, hall) = (Budgets::default(), Budgets::default());
        let (mut by_account, mut by_network) = (0, 0);
        for seconds in (0..=86_400).step_by(30) {
            // The account from networks that it never uses up, the network with accounts that are always new.
            let passed = |n: u8| account.charge_code(user(1), network(n), at(seconds)).is_none();
            by_account += (0..6).filter(|_| passed((seconds / 30 % 250) as u8)).count();
            let passed = |n: i64| hall.charge_code(user((seconds * 30 + n) as u128), network(1), at(seconds)).is_none();
            by_network += (0..21).filter(|n| passed(*n)).count();
        }
        assert_eq!((by_account, by_network), (725, 2_900), "docs/device-flow.md");
    }

    #[test]
    fn many_accounts_of_one_network_share_its_budget() {
        let budgets = Budgets::default();
        let passed = (0..100).filter(|n| budgets.charge_code(user(*n), network(1), at(0)).is_none()).count();
        assert_eq!(passed, 20);
        assert!((0..5).all(|_| budgets.charge_code(user(99), network(2), at(0)).is_none()), "refused is not charged");
    }

    #[test]
    fn codes_that_are_entered_at_once_are_charged_before_any_is_known_to_be_wrong() {
        let (budgets, open) = (Budgets::default(), 25_600_000);
        let enters = |n: u8| {
            let who = (user(n.into()), network(n));
            assert_eq!(budgets.charge_code(who.0, who.1, at(0)), None);
            budgets.charge_everybody(who, open, at(0))
        };
        assert_eq!(enters(1), None);
        assert_eq!(enters(2), Some(Duration::from_mins(10)), "one is under way, and no more than one may be wrong");
        let right = Budgets::default();
        for _ in 0..9 {
            assert_eq!(right.charge_everybody((user(1), network(1)), open, at(0)), None);
            right.was_right(user(1), network(1));
        }
    }

    #[test]
    fn all_wrong_codes_together_are_bounded_by_how_many_are_open() {
        for (open, most) in [(0, 10_000), (10_000, 2_560), (100_000_000, 1)] {
            let breaker = Breaker::default();
            let refused = (0..most).filter(|_| breaker.charge(open, at(0)).is_some()).count();
            assert_eq!((refused, breaker.wait(at(0))), (0, None), "{open}");
            assert_eq!(breaker.charge(open, at(0)), Some(Duration::from_mins(10)), "{open}");
            assert_eq!(breaker.wait(at(60)), Some(Duration::from_mins(9)));
            assert_eq!(breaker.charge(0, at(60)), Some(Duration::from_mins(9)), "although fewer are open by now");
            assert_eq!((breaker.wait(at(600)), breaker.charge(open, at(600))), (None, None));
        }
    }
}
