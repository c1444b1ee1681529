//! Callers: the places a credential is used from.
//!
//! A caller is told by its network, its user agent and the instance name it may declare. All three come from outside:
//! they are cut to a bearable length, and hold nothing unseen and no secret.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::id::ClientId;
use crate::legible::kept;
use crate::time::Timestamp;
use crate::words::words;

/// The most callers of one credential that the server itself tells apart, and again each client that reports some; of all
/// further ones of each only the first of a network is. Whoever reports takes no place from what the server saw.
pub const MOST_CALLERS: usize = 64;
/// How many of those further ones are told apart, so that no number of names hides from where a credential is used.
pub const MOST_NETWORKS: usize = 64;
/// A caller is forgotten when it has not been seen for so long.
pub const KEPT_UNSEEN: Duration = Duration::from_secs(90 * 24 * 3600);
/// With all places taken, callers not seen for so long lose theirs to new ones.
pub const PLACE_KEPT: Duration = Duration::from_secs(24 * 3600);
/// The user agent of the row in which the callers that are not told apart are counted together.
pub const OTHER: &str = "other";

/// The longest user agent that is kept, in bytes.
const MOST_USER_AGENT: usize = 200;
/// The longest instance name that is kept, in bytes.
const MOST_INSTANCE: usize = 100;

/// One place a credential is used from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Who saw it: the client that reported it, or nobody but the server itself.
    pub reporter: Option<ClientId>,
    /// From where on the network.
    pub network: Network,
    /// What it says it runs; may be empty.
    pub user_agent: Cow<'a, str>,
    /// What it says it is called; may be empty.
    pub instance: Cow<'a, str>,
}

/// A caller as it shows itself with one request: nothing is looked through or cut yet.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// From where on the network.
    pub network: Network,
    /// The `User-Agent`, as it was sent.
    pub user_agent: &'a [u8],
    /// The name it gives itself.
    pub instance: &'a str,
}

impl<'a> Shown<'a> {
    /// What may be kept of it.
    pub fn caller(self) -> Caller<'a> {
        Caller::new(self.network, self.user_agent, self.instance)
    }

    /// Whether this caller shows itself letter by letter as it is kept. What is kept is kept as it is again, so whoever
    /// is known by it need not be looked through at every request.
    pub fn is(self, known: &Caller<'_>) -> bool {
        self.network == known.network
            && self.user_agent == known.user_agent.as_bytes()
            && self.instance == known.instance
            && known.reporter.is_none()
    }
}

words! {
    /// What became of the use of a credential.
    Outcome {
        /// It was let in.
        Accepted = "accepted",
        /// The secret was right, but the credential had ended.
        Refused = "refused",
    }
}

impl<'a> Caller<'a> {
    /// A caller as it shows itself. Whatever cannot be kept is left out: nobody is refused for their user agent.
    pub fn new(network: Network, user_agent: &'a [u8], instance: &'a str) -> Self {
        Self {
            reporter: None,
            network,
            user_agent: kept(String::from_utf8_lossy(user_agent), MOST_USER_AGENT),
            instance: kept(Cow::Borrowed(instance), MOST_INSTANCE),
        }
    }

    /// The same for longer than the request it was read from.
    pub fn into_owned(self) -> Caller<'static> {
        Caller {
            reporter: self.reporter,
            network: self.network,
            user_agent: Cow::Owned(self.user_agent.into_owned()),
            instance: Cow::Owned(self.instance.into_owned()),
        }
    }

    /// 128 bits that no other caller has, as text: what rows and cursors know it by.
    pub fn fingerprint(&self) -> String {
        let mut context = Context::new(&SHA256);
        let reporter = self.reporter.map(|reporter| reporter.to_string()).unwrap_or_default();
        for part in [&reporter, &self.network.to_string(), &*self.user_agent, &*self.instance] {
            // No part holds a NUL: the parts cannot be divided in another way.
            context.update(part.as_bytes());
            context.update(b"\0");
        }
        let digest = context.finish();
        URL_SAFE_NO_PAD.encode(digest.as_ref().first_chunk::<16>().map_or(&[][..], |half| half))
    }
}

/// The network a caller is in: one customer's line is one IPv4 address or one IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        if self.0.is_ipv6() { f.write_str("/64") } else { Ok(()) }
    }
}

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an address such as 192.0.2.1 or 2001:db8::1 nor an IPv6 network such as 2001:db8::/64")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let address = match text.strip_suffix("/64") {
            Some(network) => network.parse().map(IpAddr::V6),
            None => text.parse(),
        };
        address.map(Self::from).map_err(|_| NetworkError)
    }
}

/// What was seen of a caller. Adding only ever moves it forward, and in any order comes to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sightings {
    /// When it was first seen.
    pub first_seen_at: Timestamp,
    /// When it was last seen.
    pub last_seen_at: Timestamp,
    /// How often it was let in.
    pub accepted: i64,
    /// How often it came after the credential's end.
    pub refused: i64,
}

impl Sightings {
    /// Seen once, at this instant.
    pub fn one(outcome: Outcome, at: Timestamp) -> Self {
        let accepted = i64::from(outcome == Outcome::Accepted);
        Self { first_seen_at: at, last_seen_at: at, accepted, refused: 1 - accepted }
    }

    /// Counts these too.
    pub fn add(&mut self, more: &Self) {
        self.first_seen_at = self.first_seen_at.min(more.first_seen_at);
        self.last_seen_at = self.last_seen_at.max(more.last_seen_at);
        self.accepted = self.accepted.saturating_add(more.accepted);
        self.refused = self.refused.saturating_add(more.refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::id::CredentialId;
    use crate::key::Key;
    use crate::legible::is_unseen;
    use proptest::prelude::*;

    fn caller<'a>(user_agent: &'a str, instance: &'a str) -> Caller<'a> {
        Caller::new("192.0.2.1".parse().unwrap(), user_agent.as_bytes(), instance)
    }

    fn key() -> String {
        let entropy = Entropy::seeded(1);
        let id = CredentialId::new(Timestamp::from_millis(0), &entropy).unwrap();
        Key::generate(id, &entropy).unwrap().reveal().to_string()
    }

    #[test]
    fn what_shows_itself_well_is_kept_without_a_copy() {
        let caller = caller("curl/8.5.0", "press 7, hall 3");
        assert!(matches!(caller.user_agent, Cow::Borrowed("curl/8.5.0")));
        assert!(matches!(caller.instance, Cow::Borrowed("press 7, hall 3")));
    }

    #[test]
    fn whoever_is_kept_as_shown_is_known_at_sight() {
        let network = "192.0.2.1".parse().unwrap();
        let shown = |user_agent: &'static str, instance| Shown { network, user_agent: user_agent.as_bytes(), instance };
        let press = shown("curl/8.5.0", "press 7");
        assert!(press.is(&press.caller()));
        for other in [shown("curl/8.5.1", "press 7"), shown("curl/8.5.0", "press 8"), shown(" curl/8.5.0", "press 7")] {
            assert!(!other.is(&press.caller()), "{other:?}");
        }
        assert!(!press.is(&Caller { network: "192.0.2.2".parse().unwrap(), ..press.caller() }));
        let reporter = ClientId::new(Timestamp::from_millis(0), &Entropy::seeded(1)).ok();
        assert!(!press.is(&Caller { reporter, ..press.caller() }));
    }

    #[test]
    fn what_cannot_be_seen_is_left_out() {
        assert_eq!(caller(" a\u{1b}[31mb\u{202e}c\0 ", "\u{200b}x\n").user_agent, "a[31mbc");
        assert_eq!(caller("", "\u{200b}x\ny").instance, "xy");
        let latin = Caller::new("192.0.2.1".parse().unwrap(), b"b\xfccher/1", "");
        assert_eq!(latin.user_agent, "b\u{fffd}cher/1");
    }

    #[test]
    fn networks_are_an_ipv4_address_or_an_ipv6_64() {
        for (text, network) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1:2:3:4", "2001:db8::/64"),
            ("2001:db8:0:1::/64", "2001:db8:0:1::/64"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), network);
        }
        for text in ["", "192.0.2.1/64", "2001:db8::/32", "192.0.2", "localhost"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
    }

    #[test]
    fn whatever_tells_callers_apart_is_in_the_fingerprint() {
        let reporter = ClientId::new(Timestamp::from_millis(0), &Entropy::seeded(1)).unwrap();
        let other_network = Caller { network: "192.0.2.2".parse().unwrap(), ..caller("a", "b") };
        let reported = Caller { reporter: Some(reporter), ..caller("a", "b") };
        let all = [caller("a", "b"), caller("ab", ""), caller("", "ab"), other_network, reported];
        let mut fingerprints: Vec<_> = all.iter().map(Caller::fingerprint).collect();
        assert!(fingerprints.iter().all(|fingerprint| fingerprint.len() == 22 && fingerprint != OTHER));
        fingerprints.sort();
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), all.len());
    }

    proptest! {
        #[test]
        fn no_key_is_kept_wherever_it_stands(before in ".{0,250}", after in ".{0,20}") {
            let key = key();
            let text = format!("{before}{key}{after}");
            let caller = caller(&text, &text);
            for kept in [&caller.user_agent, &caller.instance] {
                prop_assert!(!key.as_bytes().windows(16).skip(3).any(|part| kept.contains(std::str::from_utf8(part).unwrap())));
            }
        }

        #[test]
        fn whatever_is_kept_is_bearable(user_agent in prop::collection::vec(any::<u8>(), 0..500), instance in ".{0,300}") {
            let caller = Caller::new("::1".parse().unwrap(), &user_agent, &instance);
            prop_assert!(caller.user_agent.len() <= MOST_USER_AGENT && caller.instance.len() <= MOST_INSTANCE);
            for kept in [&caller.user_agent, &caller.instance] {
                prop_assert!(!kept.chars().any(is_unseen));
                let again = super::kept(Cow::Borrowed(kept), MOST_USER_AGENT);
                prop_assert_eq!(&again, kept, "what was kept once is kept as it is");
            }
        }

        #[test]
        fn sightings_come_to_the_same_in_any_order(seen in prop::collection::vec((any::<bool>(), 0i64..100), 1..20), by in 0usize..20) {
            let outcome = |let_in| if let_in { Outcome::Accepted } else { Outcome::Refused };
            let one = |(let_in, at): &(bool, i64)| Sightings::one(outcome(*let_in), Timestamp::from_millis(*at));
            let sum = |seen: &[(bool, i64)]| {
                let mut sum = one(&seen[0]);
                seen[1..].iter().for_each(|more| sum.add(&one(more)));
                sum
            };
            let mut other = seen.clone();
            other.rotate_left(by % seen.len());
            prop_assert_eq!(sum(&seen), sum(&other));
            prop_assert_eq!(sum(&seen).accepted + sum(&seen).refused, i64::try_from(seen.len()).unwrap());
        }
    }
}
