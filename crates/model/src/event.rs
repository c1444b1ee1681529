//! The event log: one entry for everything that changed, each holding the hash of the one before.

use aws_lc_rs::digest::{self, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{ClientId, CredentialId, DeviceSessionId, LoginId, UserId};

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Actor {
    /// Somebody through a token.
    Token {
        /// On whose behalf.
        user: UserId,
        /// Through which client.
        client: ClientId,
        /// With which credential.
        credential: CredentialId,
    },
    /// Somebody through a token of their own, which stands alone.
    DeviceSession {
        /// Who.
        user: UserId,
        /// Through which client.
        client: ClientId,
        /// In which device session.
        session: DeviceSessionId,
    },
    /// A client about itself, at an OAuth endpoint.
    Client {
        /// Which one.
        client: ClientId,
        /// With which credential.
        credential: CredentialId,
    },
    /// A person, signed in with a browser.
    Login {
        /// Who.
        user: UserId,
        /// In which login.
        login: LoginId,
    },
    /// A public client, which has no credential to prove that it is the one.
    PublicClient {
        /// Which one it says it is.
        client: ClientId,
    },
    /// The server itself (`"start"`, `"schedule"`) or whoever holds its files (`"console"`).
    System {
        /// Which part.
        system: String,
    },
}

impl Actor {
    /// The server itself, or its console.
    pub fn system(part: &str) -> Self {
        Self::System { system: part.to_owned() }
    }
}

/// What is known of an event before it has its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What happened, e.g. `credential.revoked`.
    pub kind: &'static str,
    /// What it happened to: an identifier or a scope's name.
    pub subject: String,
    /// What changed. Never a secret. Members are strings, whole numbers, booleans, lists and objects of these.
    pub data: Value,
}

/// One entry of the log. This is also its form in the REST API and in exports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place: 1, 2, 3, … without gaps.
    pub seq: i64,
    /// When, in Unix milliseconds.
    pub at: i64,
    /// What happened, e.g. `credential.revoked`.
    pub kind: String,
    /// What it happened to: an identifier or a scope's name.
    pub subject: String,
    /// Who did it.
    pub actor: Actor,
    /// The network address it came from, if it came from a network.
    #[serde(default)]
    pub source: Option<String>,
    /// What changed.
    pub data: Value,
    /// The `hash` of the entry before; 64 zeros for the first. Lower-case hexadecimal.
    pub prev: String,
    /// SHA-256 over `prev` and everything else of this entry; see [`Event::expected_hash`].
    pub hash: String,
}

/// The `prev` of the first entry.
pub fn genesis() -> String {
    "0".repeat(64)
}

impl Event {
    /// The hash this entry must have: SHA-256 over the compact JSON, members in alphabetical order, of everything but `hash`.
    pub fn expected_hash(&self) -> String {
        // serde_json's map sorts its members, so the same content always gives the same text.
        let hashed = serde_json::json!({
            "actor": self.actor, "at": self.at, "data": self.data, "kind": self.kind, "prev": self.prev,
            "seq": self.seq, "source": self.source, "subject": self.subject,
        });
        hex(digest::digest(&SHA256, hashed.to_string().as_bytes()).as_ref())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The first place where the log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An entry is not there.
    #[error("event {0} is missing")]
    Missing(i64),
    /// An entry was changed after it was written.
    #[error("event {0} was changed: its content does not give its hash")]
    Changed(i64),
    /// An entry does not hold the hash of the one before: one of the two was replaced.
    #[error("event {0} does not follow from event {previous}: one of the two was replaced", previous = .0 - 1)]
    Unlinked(i64),
}

/// Checks the log entry by entry, from the first on or from any place whose hash is known.
#[derive(Debug, Clone)]
pub struct Verifier {
    next_seq: i64,
    prev: String,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { next_seq: 1, prev: genesis() }
    }
}

impl Verifier {
    /// Begins behind an entry that is known to be whole and to have this hash.
    pub fn starting_after(seq: i64, hash: impl Into<String>) -> Self {
        Self { next_seq: seq + 1, prev: hash.into() }
    }

    /// Checks the next entry.
    pub fn check(&mut self, event: &Event) -> Result<(), Broken> {
        if event.seq != self.next_seq {
            return Err(Broken::Missing(self.next_seq));
        }
        if event.expected_hash() != event.hash {
            return Err(Broken::Changed(event.seq));
        }
        if event.prev != self.prev {
            return Err(Broken::Unlinked(event.seq));
        }
        self.next_seq += 1;
        self.prev.clone_from(&event.hash);
        Ok(())
    }

    /// The place of the last entry found whole; from the first entry on, also their number.
    pub fn checked(&self) -> i64 {
        self.next_seq - 1
    }

    /// The hash of the last entry checked: note it elsewhere to notice a log cut short.
    pub fn head(&self) -> &str {
        &self.prev
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: i64) -> Vec<Event> {
        let mut prev = genesis();
        (1..=entries)
            .map(|seq| {
                let mut event = Event {
                    seq,
                    at: 1_000 + seq,
                    kind: "user.created".to_owned(),
                    subject: format!("user {seq}"),
                    actor: Actor::system("start"),
                    source: None,
                    data: serde_json::json!({ "name": format!("n{seq}"), "a": 1 }),
                    prev: prev.clone(),
                    hash: String::new(),
                };
                event.hash = event.expected_hash();
                prev.clone_from(&event.hash);
                event
            })
            .collect()
    }

    fn verify(log: &[Event]) -> Result<i64, Broken> {
        let mut verifier = Verifier::default();
        log.iter().try_for_each(|e| verifier.check(e)).map(|()| verifier.checked())
    }

    #[test]
    fn a_whole_log_is_whole_also_after_a_round_trip_through_json() {
        let text = serde_json::to_string(&log(5)).unwrap();
        assert_eq!(verify(&serde_json::from_str::<Vec<Event>>(&text).unwrap()), Ok(5));
    }

    #[test]
    fn a_part_of_the_log_is_checked_against_the_hash_before_it() {
        let log = log(5);
        let verify = |hash: &str| {
            let mut verifier = Verifier::starting_after(2, hash);
            log[2..].iter().try_for_each(|e| verifier.check(e)).map(|()| verifier.checked())
        };
        assert_eq!(verify(&log[1].hash), Ok(5));
        assert_eq!(verify(&log[0].hash), Err(Broken::Unlinked(3)));
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order_of_members() {
        // serde_json sorts them, unless some crate in the build turns on its `preserve_order`.
        let [one, other] = [r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"b":{"d":3,"c":2},"a":1}"#].map(|data| {
            let data = serde_json::from_str(data).unwrap();
            Event { data, ..log(1).remove(0) }.expected_hash()
        });
        assert_eq!(one, other);
    }

    #[test]
    fn a_missing_entry_is_named() {
        let mut log = log(5);
        log.remove(2);
        assert_eq!(verify(&log), Err(Broken::Missing(3)));
    }

    #[test]
    fn a_changed_entry_is_named_whatever_was_changed() {
        for change in [
            |e: &mut Event| e.at += 1,
            |e: &mut Event| e.kind.push('x'),
            |e: &mut Event| e.source = Some("127.0.0.1".to_owned()),
            |e: &mut Event| e.data = serde_json::json!({}),
            |e: &mut Event| e.actor = Actor::system("console"),
        ] {
            let mut log = log(5);
            change(&mut log[3]);
            assert_eq!(verify(&log), Err(Broken::Changed(4)));
        }
    }

    #[test]
    fn an_entry_replaced_with_a_right_hash_of_its_own_is_noticed_by_the_next() {
        let mut log = log(5);
        log[1].data = serde_json::json!({});
        log[1].hash = log[1].expected_hash();
        assert_eq!(verify(&log), Err(Broken::Unlinked(3)));
    }
}
