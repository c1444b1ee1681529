//! Device grants (RFC 8628): a device asks, somebody in a browser decides, the device fetches what was decided.
//!
//! ```text
//! pending ── code entered ──▶ claimed ── approve ──▶ approved ── poll ──▶ redeemed
//!    │                           │  └─ deny ─▶ denied   └─ undone ─▶ denied
//!    └── expiry, the client gives up, another account enters the code ──▶ expired | denied
//! ```

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::caller::Network;
use crate::entropy::{Entropy, EntropyError};
use crate::id::{ClientId, DeviceGrantId, DeviceSessionId, LoginId, UserId};
use crate::login::Method;
use crate::rights::{Rights, ScopeSet};
use crate::time::Timestamp;
use crate::words::words;

/// How long a device waits to be signed in.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// How long a grant that came to its end stays known: so long a device that asks again is told which end it was.
pub const KEPT_AFTER_END: Duration = Duration::from_secs(24 * 3600);
/// The longest label of a device, in bytes.
pub const MOST_LABEL: usize = 100;
/// How often the digits shown at the approval may be given wrong before nothing comes of it any more.
pub const MOST_WRONG_CONFIRMATIONS: i64 = 3;
/// For how long whoever lost the answer to a redemption gets the same again.
pub const REPLAYABLE: Duration = Duration::from_secs(60);

/// What a client may do by this grant; a client without one may not use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePolicy {
    /// The most that a device may be given, within what the client may have.
    pub scope: ScopeSet,
    /// Whether the device must give digits that the browser shows at the approval: whoever talks somebody into approving
    /// a foreign device must then talk them out of these digits too.
    pub confirmation: bool,
}

/// A device that asks to be signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceGrant {
    /// `grant_…`
    pub id: DeviceGrantId,
    /// Through which client.
    pub client: ClientId,
    /// What it asks for.
    pub rights: Rights,
    /// What it calls itself; may be empty.
    pub label: String,
    /// From where it asks.
    pub network: Network,
    /// What it says it runs; may be empty.
    pub user_agent: String,
    /// Whether the digits shown at the approval must be given.
    pub confirmation: bool,
    /// How long it is to wait between two questions (`interval`).
    pub interval: Duration,
    /// What was last written of its state; time may have moved on, see [`DeviceGrant::state_at`].
    pub state: GrantState,
    /// When it asked.
    pub created_at: Timestamp,
    /// Until when it can be decided and fetched.
    pub expires_at: Timestamp,
    /// Grows by one with each change.
    pub version: i64,
}

/// Where a device grant stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantState {
    /// Nobody has entered its code.
    Pending,
    /// Somebody has entered its code and not decided.
    Claimed(Claim),
    /// Somebody has let the device in, which has not heard of it.
    Approved(Approval),
    /// The device has got its session.
    Redeemed {
        /// Who let it in.
        by: UserId,
        /// Which session.
        session: DeviceSessionId,
        /// When.
        redeemed_at: Timestamp,
    },
    /// Nothing comes of it.
    Denied {
        /// Who had entered its code, if anybody had.
        of: Option<UserId>,
        /// When it was decided.
        denied_at: Timestamp,
        /// Why.
        reason: Denial,
    },
    /// Its time was over before.
    Expired {
        /// Who had entered its code, if anybody had.
        of: Option<UserId>,
        /// When.
        expired_at: Timestamp,
    },
}

/// Who has entered the code, and in which browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub user: UserId,
    /// In which login: no other browser decides.
    pub login: LoginId,
    /// When.
    pub claimed_at: Timestamp,
    /// Whether they typed it; else they followed a link.
    pub typed: bool,
}

/// Who has let the device in, and how they had signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who, in which browser.
    pub claim: Claim,
    /// When.
    pub approved_at: Timestamp,
    /// When they had proved who they are.
    pub authenticated_at: Timestamp,
    /// And how.
    pub method: Method,
    /// From which network.
    pub network: Network,
    /// What the device must say before it gets anything.
    pub digits: Option<Digits>,
    /// How often it said something else.
    pub wrong: i64,
}

words! {
    /// Why nothing comes of a device grant.
    Denial {
        /// The user said no.
        Refused = "refused",
        /// The user said yes, and then no.
        Undone = "undone",
        /// A second account entered the code: it is in more hands than it should be.
        Contested = "contested",
        /// The digits shown at the approval were given wrong too often.
        Unconfirmed = "unconfirmed",
        /// The device gave up.
        Cancelled = "cancelled",
    }
}

words! {
    /// The states of a device grant without what belongs to them.
    GrantStateName {
        /// Nobody has entered its code.
        Pending = "pending",
        /// Somebody has entered its code.
        Claimed = "claimed",
        /// Somebody has let the device in.
        Approved = "approved",
        /// The device has got its session.
        Redeemed = "redeemed",
        /// Nothing comes of it.
        Denied = "denied",
        /// Its time was over before.
        Expired = "expired",
    }
}

impl GrantState {
    /// Its name.
    pub const fn name(&self) -> GrantStateName {
        match self {
            Self::Pending => GrantStateName::Pending,
            Self::Claimed(_) => GrantStateName::Claimed,
            Self::Approved(_) => GrantStateName::Approved,
            Self::Redeemed { .. } => GrantStateName::Redeemed,
            Self::Denied { .. } => GrantStateName::Denied,
            Self::Expired { .. } => GrantStateName::Expired,
        }
    }

    /// Whether nothing changes any more.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Redeemed { .. } | Self::Denied { .. } | Self::Expired { .. })
    }

    /// Who has entered its code.
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::Claimed(claim) | Self::Approved(Approval { claim, .. }) => Some(claim.user),
            Self::Redeemed { by, .. } => Some(*by),
            Self::Denied { of, .. } | Self::Expired { of, .. } => *of,
            Self::Pending => None,
        }
    }
}

/// Why an arrow is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoArrow {
    /// It has come to its end.
    #[error("this has ended")]
    Ended,
    /// It is somebody else's, or another browser's.
    #[error("another account or another browser has entered this code")]
    Foreign,
    /// Another account holds it.
    #[error("two accounts have entered this code")]
    Contested,
    /// It was let in already.
    #[error("this device was let in already")]
    Approved,
    /// Nobody has let it in.
    #[error("nobody has let this device in")]
    Undecided,
}

impl DeviceGrant {
    /// The state at this instant: an expiry that has passed counts before anything has written it down.
    pub fn state_at(&self, now: Timestamp) -> GrantState {
        if self.state.is_final() || self.expires_at > now {
            return self.state.clone();
        }
        GrantState::Expired { of: self.state.user(), expired_at: self.expires_at }
    }

    /// Whether this user may enter the code: whoever is first, and then only the same user. In another browser of theirs
    /// it moves there.
    pub fn may_claim(&self, user: UserId, now: Timestamp) -> Result<(), NoArrow> {
        match self.state_at(now) {
            GrantState::Pending => Ok(()),
            GrantState::Claimed(claim) if claim.user == user => Ok(()),
            GrantState::Approved(approval) if approval.claim.user == user => Err(NoArrow::Approved),
            GrantState::Claimed(_) | GrantState::Approved(_) => Err(NoArrow::Contested),
            _ => Err(NoArrow::Ended),
        }
    }

    /// What this browser has entered and may decide now.
    pub fn may_decide(&self, user: UserId, login: LoginId, now: Timestamp) -> Result<Claim, NoArrow> {
        match self.state_at(now) {
            GrantState::Claimed(claim) if claim.user == user && claim.login == login => Ok(claim),
            GrantState::Approved(approval) if approval.claim.user == user => Err(NoArrow::Approved),
            GrantState::Pending | GrantState::Claimed(_) | GrantState::Approved(_) => Err(NoArrow::Foreign),
            _ => Err(NoArrow::Ended),
        }
    }

    /// Whether this user may still take their approval back before the device has heard of it.
    pub fn may_undo(&self, user: UserId, now: Timestamp) -> Result<(), NoArrow> {
        match self.state_at(now) {
            GrantState::Approved(approval) if approval.claim.user == user => Ok(()),
            GrantState::Approved(_) => Err(NoArrow::Foreign),
            GrantState::Pending | GrantState::Claimed(_) => Err(NoArrow::Undecided),
            _ => Err(NoArrow::Ended),
        }
    }

    /// The approval that the device may redeem now.
    pub fn may_redeem(&self, now: Timestamp) -> Result<Approval, NoArrow> {
        match self.state_at(now) {
            GrantState::Approved(approval) => Ok(approval),
            GrantState::Pending | GrantState::Claimed(_) => Err(NoArrow::Undecided),
            _ => Err(NoArrow::Ended),
        }
    }

    /// Whether a question that comes so long after the one before comes too early. A quarter is forgiven: clocks of
    /// devices run fast, and requests overtake each other on the way.
    pub fn is_early(&self, gap: Duration) -> bool {
        gap < self.interval * 3 / 4
    }
}

/// Three digits that the browser shows and the device must give. `Debug` prints `[redacted]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digits(u16);

impl Digits {
    /// New ones.
    pub fn generate(entropy: &Entropy) -> Result<Self, EntropyError> {
        // 64 bits: that 1000 does not divide them is nothing anybody could use.
        Ok(Self(u16::try_from(u64::from_be_bytes(entropy.bytes()?) % 1000).unwrap_or(0)))
    }

    /// Reads what somebody typed: three digits, with any spaces.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
        let is_whole = digits.len() == 3 && digits.iter().all(u8::is_ascii_digit);
        is_whole.then(|| Self(digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))))
    }

    /// As they are shown.
    pub fn reveal(self) -> String {
        format!("{:03}", self.0)
    }
}

impl std::fmt::Debug for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
