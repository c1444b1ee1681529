//! The failure budget: how many failed authentications a network, and a client, may have.
//!
//! Only failures are charged and only failures are refused: whoever presents the right secret is let in however empty
//! the budget is, so no attacker can lock anybody out, and a guesser of 256-bit secrets gains nothing by it. A client is
//! charged whether it exists or not, or the answers would tell; the two memories are apart, so made-up clients push no
//! network out.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use keyward_model::caller::Network;
use keyward_model::id::ClientId;
use keyward_model::time::Timestamp;
use moka::sync::Cache;

use crate::budget::Budget;
use crate::config::LimitsConfig;

/// Of a network that goes on beyond its budget the log tells once in so long, and how often it was refused since.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// The most networks of which it is remembered what was told.
const MOST_TOLD: u64 = 10_000;

/// Counts failures per network and per client.
pub(crate) struct Failures {
    networks: Budget<Network>,
    clients: Budget<ClientId>,
    told: Cache<Network, Told>,
}

/// When the log last told of a network, and how often it was refused since.
#[derive(Debug, Clone, Copy)]
struct Told {
    at: Timestamp,
    since: u64,
}

impl Failures {
    /// With the budget of the settings.
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        let budget = (config.failures_burst, config.failures_per_minute);
        Self {
            networks: Budget::new(budget.0, budget.1),
            clients: Budget::new(budget.0, budget.1),
            told: Cache::new(MOST_TOLD),
        }
    }

    /// Charges one failure from an address and, if nothing proved that it was the client's own, to the client; the time
    /// to wait if either budget is used up.
    pub(crate) fn charge(&self, address: Option<IpAddr>, client: Option<ClientId>, now: Timestamp) -> Option<Duration> {
        self.networks.charge(network(address), now).max(client.and_then(|client| self.clients.charge(client, now)))
    }

    /// Takes the charge of an address back that was made before it was known whether it is one.
    pub(crate) fn refund(&self, address: Option<IpAddr>) {
        self.networks.refund(network(address));
    }

    /// Counts a refusal beyond the budget. Whoever hammers must not fill the disk: most are only counted, and when the log
    /// is to tell of this network again, it is given how many there were since it last did.
    pub(crate) fn tell(&self, address: Option<IpAddr>, now: Timestamp) -> Option<u64> {
        let mut due = None;
        self.told.entry(network(address)).and_upsert_with(|entry| {
            let told = entry.map(|entry| entry.into_value());
            let since = told.map_or(0, |told| told.since) + 1;
            match told.filter(|told| now.since(told.at) < TELL_EVERY) {
                Some(told) => Told { since, ..told },
                None => {
                    due = Some(since);
                    Told { at: now, since: 0 }
                }
            }
        });
        due
    }

    /// The time to wait if the network of an address has failed too often, for what must not be tried at all then.
    pub(crate) fn wait(&self, address: Option<IpAddr>, now: Timestamp) -> Option<Duration> {
        self.networks.wait(&network(address), now)
    }
}

fn network(address: Option<IpAddr>) -> Network {
    Network::from(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use keyward_model::entropy::Entropy;

    #[test]
    fn addresses_of_one_network_share_a_budget_and_others_have_their_own() {
        let limits = Config::defaults().unwrap().limits;
        let failures = Failures::new(&LimitsConfig { failures_burst: 3, failures_per_minute: 6, ..limits });
        let now = Timestamp::from_seconds(1_000);
        for n in 0..3 {
            assert_eq!(failures.charge(Some(format!("2001:db8::{n}").parse().unwrap()), None, now), None);
        }
        assert!(failures.charge(Some("2001:db8::ffff".parse().unwrap()), None, now).is_some());
        assert_eq!(failures.charge(Some("2001:db8:0:1::1".parse().unwrap()), None, now), None);
        assert_eq!(failures.charge(Some("192.0.2.1".parse().unwrap()), None, now), None);
    }

    #[test]
    fn of_a_network_that_hammers_the_log_tells_once_a_minute_and_how_often() {
        let failures = Failures::new(&Config::defaults().unwrap().limits);
        let tell = |n: u8, second| failures.tell(Some([192, 0, 2, n].into()), Timestamp::from_seconds(second));
        assert_eq!((tell(1, 0), tell(2, 0)), (Some(1), Some(1)));
        assert!((0..60).all(|second| tell(1, second).is_none()));
        assert_eq!((tell(1, 60), tell(2, 61)), (Some(61), Some(1)));
        assert_eq!((tell(1, 119), tell(1, 500)), (None, Some(2)));
    }

    #[test]
    fn many_networks_share_the_budget_of_the_client_they_try() {
        let limits = Config::defaults().unwrap().limits;
        let failures = Failures::new(&LimitsConfig { failures_burst: 3, failures_per_minute: 6, ..limits });
        let (now, entropy) = (Timestamp::from_seconds(1_000), Entropy::seeded(1));
        let [tried, other] = [(); 2].map(|()| ClientId::new(now, &entropy).ok());
        let charge = |n: u8, client| failures.charge(Some([192, 0, 2, n].into()), client, now);
        assert!((0..3).all(|n| charge(n, tried).is_none()));
        assert_eq!(charge(4, tried), Some(Duration::from_secs(10)));
        assert_eq!((charge(5, other), charge(6, None)), (None, None));
    }
}
