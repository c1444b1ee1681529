//! The failure budget: how many failed authentications a network may have.
//!
//! Only failures are charged and only failures are refused: whoever presents the right secret is let in however empty
//! the budget is, so no attacker can lock anybody out, and a guesser of 256-bit secrets gains nothing by it. What is
//! charged is the network alone: client ids in failures are whatever an attacker writes, and counting those would be
//! remembering what they please.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use keyward_model::time::Timestamp;

use crate::budget::Budget;
use crate::config::LimitsConfig;
use crate::network::network;

/// Counts failures per network.
pub(crate) struct Failures(Budget<IpAddr>);

impl Failures {
    /// With the budget of the settings.
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        Self(Budget::new(config.failures_burst, config.failures_per_minute))
    }

    /// Charges one failure; the time to wait if the budget is used up.
    pub(crate) fn charge(&self, address: Option<IpAddr>, now: Timestamp) -> Option<Duration> {
        self.0.charge(network(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn addresses_of_one_network_share_a_budget_and_others_have_their_own() {
        let limits = Config::defaults().unwrap().limits;
        let failures = Failures::new(&LimitsConfig { failures_burst: 3, failures_per_minute: 6, ..limits });
        let now = Timestamp::from_seconds(1_000);
        for n in 0..3 {
            assert_eq!(failures.charge(Some(format!("2001:db8::{n}").parse().unwrap()), now), None);
        }
        assert!(failures.charge(Some("2001:db8::ffff".parse().unwrap()), now).is_some());
        assert_eq!(failures.charge(Some("2001:db8:0:1::1".parse().unwrap()), now), None);
        assert_eq!(failures.charge(Some("192.0.2.1".parse().unwrap()), now), None);
    }
}
