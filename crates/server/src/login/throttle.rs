//! How often signing in may be tried. A password can be guessed, so beyond the budget it is not even looked at; its owner
//! gets in all the same, with a passkey, a recovery code, or in a browser in which they signed in before.
//!
//! 1. From such a browser: its own budget, which nobody else can use up
//! 2. From anywhere else: that of the network's failures, shared with those of keys (`failures.rs`), and that of the name,
//!    whether anybody has it or not
//!
//! Both are charged before the password is looked at: of many tried at the same time none is beyond the budget. What
//! turns out to be no guess is taken back.

use std::net::IpAddr;
use std::time::Duration;

use keyward_model::id::UserId;
use keyward_model::time::Timestamp;

use crate::budget::Budget;
use crate::config::{LimitsConfig, LoginConfig};
use crate::failures::Failures;

/// Failures of one user that are written into the log of events at once and then per minute: who guesses must not fill it.
const NOTED: (u32, u32) = (5, 1);

/// What names a browser in which somebody signed in before.
pub(crate) type Device = [u8; 16];

/// Counts attempts.
pub(crate) struct Throttle {
    names: Budget<String>,
    devices: Budget<Device>,
    noted: Budget<UserId>,
    changes: Budget<UserId>,
    choices: Budget<UserId>,
}

/// Somebody wants to try a password.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// From where.
    pub(crate) address: Option<IpAddr>,
    /// As whom.
    pub(crate) name: &'a str,
    /// In which browser, if they signed in there before.
    pub(crate) device: Option<Device>,
}

impl Throttle {
    /// With the budgets of the settings.
    pub(crate) fn new(config: &LoginConfig, limits: &LimitsConfig) -> Self {
        let (burst, per_minute) = (config.attempts_burst, config.attempts_per_minute);
        Self {
            names: Budget::new(burst, per_minute),
            devices: Budget::new(burst, per_minute),
            noted: Budget::new(NOTED.0, NOTED.1),
            changes: Budget::new(limits.changes_burst, limits.changes_per_minute),
            choices: Budget::new(burst, per_minute),
        }
    }

    /// Charges an attempt before it is made, so that many at once are not more; the time to wait if it may not be made.
    pub(crate) fn charge(&self, failures: &Failures, attempt: Attempt<'_>, now: Timestamp) -> Option<Duration> {
        if let Some(device) = attempt.device {
            return self.devices.charge(device, now);
        }
        // A network that failed too often is turned away first: it must not use up the names of others.
        failures
            .wait(attempt.address, now)
            .or_else(|| self.names.charge(attempt.name.to_owned(), now))
            .or_else(|| failures.charge(attempt.address, None, now))
    }

    /// Takes back what was charged for an attempt that was no guess: the password was right, or was not looked at.
    pub(crate) fn refund(&self, failures: &Failures, attempt: Attempt<'_>) {
        match attempt.device {
            Some(device) => self.devices.refund(device),
            None => {
                self.names.refund(attempt.name.to_owned());
                failures.refund(attempt.address);
            }
        }
    }

    /// Charges one login or change to the user who makes it: each is kept in the log for ever.
    pub(crate) fn charge_change(&self, user: UserId, now: Timestamp) -> Option<Duration> {
        self.changes.charge(user, now)
    }

    /// Charges a password that a user chooses, before it is hashed.
    pub(crate) fn charge_choice(&self, user: UserId, now: Timestamp) -> Option<Duration> {
        self.choices.charge(user, now)
    }

    /// Whether one more failure of this user is to be an event.
    pub(crate) fn is_noted(&self, user: UserId, now: Timestamp) -> bool {
        self.noted.charge(user, now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn guesses_use_up_the_name_for_strangers_and_not_for_the_browser_that_is_known() {
        let config = Config::defaults().unwrap();
        let (throttle, failures) = (Throttle::new(&config.login, &config.limits), Failures::new(&config.limits));
        let now = Timestamp::from_seconds(1_000);
        let attempt = |n: u8, device| Attempt { address: Some([192, 0, 2, n].into()), name: "olga", device };
        let passed = (0..100).filter(|n| throttle.charge(&failures, attempt(*n, None), now).is_none()).count();
        assert_eq!(passed, config.login.attempts_burst as usize, "however many networks try");
        assert!(throttle.charge(&failures, attempt(1, Some([7; 16])), now).is_none());
        let other = Attempt { name: "sam", ..attempt(1, None) };
        assert!(throttle.charge(&failures, other, now).is_none());
    }

    #[test]
    fn a_network_that_failed_too_often_uses_up_nobodys_name() {
        let config = Config::defaults().unwrap();
        let (throttle, failures) = (Throttle::new(&config.login, &config.limits), Failures::new(&config.limits));
        let (now, address) = (Timestamp::from_seconds(1_000), Some([192, 0, 2, 1].into()));
        while failures.charge(address, None, now).is_none() {}
        let attempt = Attempt { address, name: "olga", device: None };
        assert!((0..100).all(|_| throttle.charge(&failures, attempt, now).is_some()));
        let elsewhere = Attempt { address: Some([192, 0, 2, 2].into()), ..attempt };
        assert!(throttle.charge(&failures, elsewhere, now).is_none());
        let known = Attempt { device: Some([7; 16]), ..attempt };
        assert!(throttle.charge(&failures, known, now).is_none());
    }
}
