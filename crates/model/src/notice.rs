//! Notices: what people are told of their keys and logins, when, and how often it is tried to tell them.

use std::time::Duration;

use crate::entropy::{Entropy, EntropyError};
use crate::id::{CredentialId, DeliveryId, NoticeId};
use crate::time::Timestamp;
use crate::words::words;

/// A key that nobody used for so long ends without a notice.
pub const QUIET_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
/// A key is getting to know its networks for so long; from then on a new one is worth a notice.
pub const ESTABLISHED_AFTER: Duration = DAY;
/// The most new networks of one key, or of one user who signs in, that are told in one day: who roams does not flood.
pub const MOST_NEW_NETWORKS: u16 = 3;
/// For how long notices and their deliveries are kept.
pub const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long one attempt may take in all, whatever the receiver does.
pub const ATTEMPT: Duration = Duration::from_secs(60);
/// How long a sender may take before another may take its delivery over: an attempt, and the time to note how it ended.
pub const LEASE: Duration = Duration::from_secs(120);

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long it waits after each failed attempt; with the last one used up, the delivery is dead. The schedule of
/// Standard Webhooks.
const WAITS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];

words! {
    /// What a notice is about; on the wire the `type` of Standard Webhooks.
    NoticeKind {
        /// A key that is in use is about to end.
        Ending = "credential.ending",
        /// A revoked key is still tried with the right secret.
        RevokedInUse = "credential.revoked_in_use",
        /// A key with a history is used from a network it was never used from.
        NewNetwork = "credential.new_network",
        /// Whoever found a key reported it.
        LeakReported = "credential.leak_reported",
        /// Somebody found a device that acts for them and is not theirs.
        Disowned = "device_session.disowned",
        /// Somebody signed in from a network they never signed in from, with a browser that was not known.
        NewSignIn = "login.new_network",
        /// Somebody tries out whether notices arrive.
        Test = "webhook.test",
    }
}

/// A part of the time before a deadline, and the rung of the ladder that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// So many days before.
    pub days: u16,
    /// Deadlines after this instant stand on this rung …
    pub after: Timestamp,
    /// … up to and with this one.
    pub until: Timestamp,
}

impl Rung {
    /// How long before the deadline the rung begins.
    pub fn lead(&self) -> Duration {
        DAY * u32::from(self.days)
    }
}

/// Which deadlines stand on which rung now. Each deadline stands on one at most: whoever slept past several is told the
/// most urgent one only.
pub fn ladder(days: &[u16], now: Timestamp) -> Vec<Rung> {
    let mut days = days.to_vec();
    days.sort_unstable();
    days.dedup();
    let mut after = now;
    let mut rungs = Vec::with_capacity(days.len());
    for days in days {
        let until = now.plus(DAY * u32::from(days));
        rungs.push(Rung { days, after, until });
        after = until;
    }
    rungs
}

/// Something people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `notice_…`
    pub id: NoticeId,
    /// What it is about.
    pub kind: NoticeKind,
    /// Which key it is about; none for a login and a test.
    pub credential: Option<CredentialId>,
    /// Together with kind and credential: what is told once only.
    pub occasion: Occasion,
    /// What receivers get: JSON, the same at each attempt.
    pub body: String,
    /// When it became due.
    pub created_at: Timestamp,
}

/// What makes a notice the one it is. A deadline that moves is another occasion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occasion {
    /// The instant it is about, as Unix milliseconds; 0 if it is about none.
    pub deadline: i64,
    /// The rung before a deadline, the day after an end, the network.
    pub rung: String,
}

words! {
    /// By which way a notice goes.
    Channel {
        /// HTTP, to a webhook.
        Webhook = "webhook",
        /// SMTP, to an address.
        Mail = "mail",
    }
}

words! {
    /// Where a delivery stands.
    DeliveryState {
        /// It is to be sent, for the first time or again.
        Waiting = "waiting",
        /// Its receiver has taken it.
        Sent = "sent",
        /// It was given up.
        Dead = "dead",
    }
}

/// One notice on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `delivery_…`
    pub id: DeliveryId,
    /// What is delivered.
    pub notice: NoticeId,
    /// By which way.
    pub channel: Channel,
    /// To whom: the id of a webhook or of a user, or the address of the team.
    pub target: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried since it last began to wait.
    pub attempts: u16,
    /// When it is tried next, while it waits.
    pub due_at: Timestamp,
    /// Why the last attempt failed; empty if none did.
    pub problem: String,
    /// When it was sent or given up.
    pub ended_at: Option<Timestamp>,
}

impl Delivery {
    /// What it shares with others on their way to the same machine: webhooks have a way each, all mail goes through the
    /// one mail server.
    pub fn way(&self) -> &str {
        match self.channel {
            Channel::Webhook => &self.target,
            Channel::Mail => Channel::Mail.as_str(),
        }
    }
}

/// When to try again after so many attempts; `None` when it is time to give up. Up to a fifth later than the schedule
/// says, so that what failed together does not come back together.
pub fn retry_at(attempts: u16, now: Timestamp, entropy: &Entropy) -> Result<Option<Timestamp>, EntropyError> {
    let Some(wait) = usize::from(attempts).checked_sub(1).and_then(|at| WAITS.get(at)) else { return Ok(None) };
    let share = u32::from(u16::from_be_bytes(entropy.bytes()?));
    Ok(Some(now.plus(*wait + *wait / 5 * share / u32::from(u16::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAYS: [u16; 5] = [30, 14, 7, 3, 1];

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn rungs_at(deadline: Timestamp, now: Timestamp) -> Vec<u16> {
        let on = |rung: &Rung| rung.after < deadline && deadline <= rung.until;
        ladder(&DAYS, now).iter().filter(|rung| on(rung)).map(|rung| rung.days).collect()
    }

    #[test]
    fn a_rung_begins_to_the_millisecond() {
        let deadline = at(100 * 86400);
        for (seconds, rungs) in
            [(70 * 86400, vec![30]), (86 * 86400, vec![14]), (93 * 86400, vec![7]), (99 * 86400, vec![1])]
        {
            assert_eq!(rungs_at(deadline, at(seconds)), rungs);
        }
        assert_eq!(rungs_at(deadline, Timestamp::from_millis(70 * 86_400_000 - 1)), [0; 0]);
        assert_eq!(rungs_at(deadline, deadline), [0; 0], "what has ended is not about to end");
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_is_given_up_in_the_end() {
        let entropy = Entropy::seeded(1);
        let waits: Vec<_> = (1..=9).map(|n| retry_at(n, at(0), &entropy).unwrap().unwrap().as_seconds()).collect();
        for (wait, base) in waits.iter().zip(WAITS.map(|wait| i64::try_from(wait.as_secs()).unwrap())) {
            assert!((base..=base + base / 5 + 1).contains(wait), "{waits:?}");
        }
        assert_eq!(retry_at(10, at(0), &entropy).unwrap(), None);
        assert_eq!(retry_at(0, at(0), &entropy).unwrap(), None);
    }

    proptest! {
        #[test]
        fn however_the_time_is_cut_the_ladder_goes_down_and_no_rung_comes_back(
            mut looks in prop::collection::vec(0_i64..100 * 86400, 1..60),
        ) {
            looks.sort_unstable();
            let deadline = at(90 * 86400);
            let seen: Vec<Vec<u16>> = looks.iter().map(|look| rungs_at(deadline, at(*look))).collect();
            prop_assert!(seen.iter().all(|rungs| rungs.len() <= 1));
            let mut seen: Vec<u16> = seen.concat();
            prop_assert!(seen.is_sorted_by(|a, b| a >= b));
            seen.dedup();
            let expected: Vec<u16> = DAYS.into_iter().filter(|days| looks.iter().any(|look| {
                let left = 90 * 86400 - look;
                let below = DAYS.into_iter().filter(|below| below < days).max().unwrap_or(0);
                left <= i64::from(*days) * 86400 && left > i64::from(below) * 86400
            })).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
