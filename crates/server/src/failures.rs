//! The failure budget: how many failed authentications a client, and a network, may have.
//!
//! Only failures are charged and only failures are refused: whoever presents the right secret is let in however empty
//! the budget is, so no attacker can lock anybody out, and a guesser of 256-bit secrets gains nothing by it.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use keyward_model::caller::Network;
use keyward_model::id::ClientId;
use keyward_model::time::Timestamp;
use moka::sync::Cache;

use crate::config::LimitsConfig;

/// The most clients and networks whose failures are remembered at once.
const MOST: u64 = 100_000;

/// Counts failures per client and per network.
pub(crate) struct Failures {
    budgets: Cache<Who, Timestamp>,
    /// How long one failure weighs.
    weight: Duration,
    /// How much may weigh at once.
    burst: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Client(ClientId, Network),
    Network(Network),
}

impl Failures {
    /// With the budget of the settings.
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        let weight = Duration::from_secs(60) / config.failures_per_minute.max(1);
        Self { budgets: Cache::new(MOST), weight, burst: weight * config.failures_burst }
    }

    /// Charges one failure; the time to wait if the budget is used up.
    ///
    /// The generic cell rate algorithm: each key holds the instant at which its failures will have been forgotten.
    pub(crate) fn charge(&self, client: Option<ClientId>, address: Option<IpAddr>, now: Timestamp) -> Option<Duration> {
        let network = Network::from(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        let client = client.map(|client| Who::Client(client, network));
        [Some(Who::Network(network)), client].into_iter().flatten().filter_map(|who| self.charge_one(who, now)).max()
    }

    fn charge_one(&self, who: Who, now: Timestamp) -> Option<Duration> {
        let mut wait = None;
        self.budgets.entry(who).and_upsert_with(|entry| {
            let forgotten_at = entry.map_or(now, |entry| entry.into_value().max(now));
            let charged = forgotten_at.plus(self.weight);
            let weight = charged.since(now);
            if weight > self.burst {
                wait = Some(weight - self.burst);
                // A refused attempt is not charged again, so waiting as told is enough.
                forgotten_at
            } else {
                charged
            }
        });
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_model::entropy::Entropy;

    fn failures() -> Failures {
        Failures::new(&LimitsConfig { failures_burst: 3, failures_per_minute: 6 })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000 + seconds)
    }

    #[test]
    fn a_budget_is_used_up_refills_and_names_the_wait() {
        let failures = failures();
        let address = Some("192.0.2.1".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(failures.charge(None, address, at(0)), None);
        }
        assert_eq!(failures.charge(None, address, at(0)), Some(Duration::from_secs(10)));
        assert_eq!(failures.charge(None, address, at(4)), Some(Duration::from_secs(6)));
        assert_eq!(failures.charge(None, address, at(10)), None);
        assert!(failures.charge(None, address, at(10)).is_some());
    }

    #[test]
    fn another_network_has_a_budget_of_its_own_for_the_same_client() {
        let failures = failures();
        let client = ClientId::new(at(0), &Entropy::seeded(1)).unwrap();
        for _ in 0..10 {
            failures.charge(Some(client), Some("192.0.2.1".parse().unwrap()), at(0));
        }
        assert_eq!(failures.charge(Some(client), Some("192.0.2.2".parse().unwrap()), at(0)), None);
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_budget() {
        let failures = failures();
        for n in 0..3 {
            assert_eq!(failures.charge(None, Some(format!("2001:db8::{n}").parse().unwrap()), at(0)), None);
        }
        assert!(failures.charge(None, Some("2001:db8::ffff".parse().unwrap()), at(0)).is_some());
        assert_eq!(failures.charge(None, Some("2001:db8:0:1::1".parse().unwrap()), at(0)), None);
    }
}
