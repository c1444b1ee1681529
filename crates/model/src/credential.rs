//! Credentials: the secrets of a client, and the states they pass through.
//!
//! ```text
//!             rotate                     retire_at passes, or finish
//!  active ─────────────▶ retiring ─────────────────────────────▶ expired ─┐ kept, then
//!    ▲ ◀── cancel ───────┘  │                                             ├─▶ purged
//!    └ expires_at passes ───┼───────────────────────────────▶ expired ────┤
//!                           └── revoke (any state, at once) ─▶ revoked ───┘
//! ```
//!
//! The arrows are methods that say where one leads or why it cannot be taken. The store's statements carry the same
//! conditions, so that of two at once only one is taken; whoever came too late is told by the method what is in the way.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::id::{ClientId, CredentialId, UserId};
use crate::rights::{ResSet, ScopeSet};
use crate::secret::SecretHash;
use crate::time::Timestamp;
use crate::words::words;

/// How long an ended credential stays known before its secret hash is erased.
pub const KEPT_AFTER_END: Duration = Duration::from_secs(30 * 24 * 3600);

/// One secret of a client: what people call an API key.
#[derive(Debug, Clone)]
pub struct Credential {
    /// `cred_…`; part of the key itself.
    pub id: CredentialId,
    /// Whose secret it is.
    pub client: ClientId,
    /// What people call it; may be empty.
    pub label: String,
    /// What it was made for.
    pub purpose: Purpose,
    /// The keyed hash of the secret; erased when purged.
    pub secret_hash: Option<SecretHash>,
    /// Narrower scopes than the client's, if set.
    pub scope: Option<ScopeSet>,
    /// Narrower resources than the client's, if set.
    pub res: Option<ResSet>,
    /// What was last written of its state; time may have moved on, see [`Credential::state_at`].
    pub state: State,
    /// When it ends by itself, if ever.
    pub expires_at: Option<Timestamp>,
    /// Since when it is known to have leaked and retires for that: nothing moves that end away any more.
    pub leaked_at: Option<Timestamp>,
    /// The credential that replaces it, once rotated.
    pub successor: Option<CredentialId>,
    /// Its place in the status list (one per credential, never per token).
    pub status_index: i64,
    /// Who issued it.
    pub created_by: UserId,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Grows by one with each change; the `ETag` (RFC 9110 §8.8.3).
    pub version: i64,
}

words! {
    /// What a credential was made for.
    Purpose {
        /// Everyday use.
        General = "general",
        /// The one handed out at the first start: ends when another has been issued with it.
        Bootstrap = "bootstrap",
    }
}

/// Why an arrow cannot be taken, and what can be done instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No arrow leads away from an end but the purge.
    #[error("this credential has ended ({0}): issue a new one")]
    Ended(StateName),
    /// It was rotated before.
    #[error("it was rotated already{successor}: it retires; rotate the successor, or cancel this rotation first", successor = by(.0))]
    AlreadyRetiring(Option<CredentialId>),
    /// There is no retirement to cancel, extend or finish.
    #[error("it is not retiring: nothing has replaced it; rotate it, or revoke it to end it at once")]
    NotRetiring,
    /// The key of the first start only serves to issue another.
    #[error("the bootstrap key does not rotate: issue a key of your own with it")]
    Bootstrap,
    /// Whoever found it can use it for as long as it works.
    #[error(
        "it was reported as leaked: nothing prolongs it and there is no way back; issue another one, move its callers there"
    )]
    Leaked,
    /// Who replaced it was replaced in its turn.
    #[error("its successor {0} was rotated too: cancel that rotation first; once {0} has ended there is no way back")]
    SuccessorRotated(CredentialId),
}

fn by(successor: &Option<CredentialId>) -> String {
    successor.map_or_else(String::new, |id| format!(" to {id}"))
}

/// Why an instant cannot be the hard end of a retirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoHardEnd {
    /// It has passed.
    #[error("the end of a retirement must lie in the future; to end the credential now, finish or revoke it")]
    Past,
    /// An overlap so long is two keys, not a rotation.
    #[error("the end of a retirement must not be more than {} days away", .0.as_secs() / 86_400)]
    TooFar(Duration),
}

/// The instant as a hard end: ahead of `now`, by `most` at most.
pub fn hard_end(wanted: Timestamp, now: Timestamp, most: Duration) -> Result<Timestamp, NoHardEnd> {
    if wanted <= now {
        return Err(NoHardEnd::Past);
    }
    if wanted.since(now) > most { Err(NoHardEnd::TooFar(most)) } else { Ok(wanted) }
}

/// Where a credential stands; each state holds what only it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Authenticates.
    Active,
    /// Authenticates until its hard end.
    Retiring {
        /// The hard end.
        retire_at: Timestamp,
    },
    /// Its time is over.
    Expired {
        /// When it ended.
        ended_at: Timestamp,
        /// Why.
        reason: EndReason,
    },
    /// Ended at once by somebody.
    Revoked {
        /// When it ended.
        ended_at: Timestamp,
    },
    /// Ended long ago: the secret hash is gone, the events stay.
    Purged {
        /// When it ended.
        ended_at: Timestamp,
    },
}

words! {
    /// The name of a state.
    StateName {
        /// See [`State::Active`].
        Active = "active",
        /// See [`State::Retiring`].
        Retiring = "retiring",
        /// See [`State::Expired`].
        Expired = "expired",
        /// See [`State::Revoked`].
        Revoked = "revoked",
        /// See [`State::Purged`].
        Purged = "purged",
    }
}

words! {
    /// Why a credential expired.
    EndReason {
        /// `expires_at` passed.
        ExpiresAt = "expires_at",
        /// The hard end of its retirement passed.
        RetireAt = "retire_at",
        /// Somebody finished its retirement early.
        Finished = "finished",
        /// A bootstrap credential did what it was for.
        BootstrapUsed = "bootstrap_used",
    }
}

impl State {
    /// The name of this state.
    pub const fn name(self) -> StateName {
        match self {
            Self::Active => StateName::Active,
            Self::Retiring { .. } => StateName::Retiring,
            Self::Expired { .. } => StateName::Expired,
            Self::Revoked { .. } => StateName::Revoked,
            Self::Purged { .. } => StateName::Purged,
        }
    }

    /// Whether a credential in this state authenticates.
    pub const fn authenticates(self) -> bool {
        matches!(self, Self::Active | Self::Retiring { .. })
    }

    /// When it ended, if it has.
    pub const fn ended_at(self) -> Option<Timestamp> {
        match self {
            Self::Active | Self::Retiring { .. } => None,
            Self::Expired { ended_at, .. } | Self::Revoked { ended_at } | Self::Purged { ended_at } => Some(ended_at),
        }
    }
}

impl Credential {
    /// The state at this instant: a deadline that has passed counts before anything has written it down, so an end
    /// never waits for a sweeper.
    pub fn state_at(&self, now: Timestamp) -> State {
        if !self.state.authenticates() {
            return self.state;
        }
        let expiry = self.expires_at.map(|at| (at, EndReason::ExpiresAt));
        let retirement = match self.state {
            State::Retiring { retire_at } => Some((retire_at, EndReason::RetireAt)),
            _ => None,
        };
        match [expiry, retirement].into_iter().flatten().min_by_key(|(at, _)| *at) {
            Some((ended_at, reason)) if ended_at <= now => State::Expired { ended_at, reason },
            _ => self.state,
        }
    }

    /// Rotation: a successor takes over, and this one retires until its hard end, which never comes after its expiry.
    pub fn retire(&self, hard_end: Timestamp, now: Timestamp) -> Result<State, Refused> {
        match self.state_at(now) {
            State::Active if self.purpose == Purpose::Bootstrap => Err(Refused::Bootstrap),
            State::Active => Ok(State::Retiring { retire_at: self.capped(hard_end) }),
            State::Retiring { .. } if self.leaked_at.is_some() => Err(Refused::Leaked),
            State::Retiring { .. } => Err(Refused::AlreadyRetiring(self.successor)),
            ended => Err(Refused::Ended(ended.name())),
        }
    }

    /// Undoes a rotation. The successor is revoked with it, unless it has ended; one that was rotated in its turn is in
    /// the way, for its own successor is in use by now, and so is a leak.
    pub fn cancel(&self, successor: Option<&Self>, now: Timestamp) -> Result<State, Refused> {
        self.retiring(now)?;
        match successor {
            _ if self.leaked_at.is_some() => Err(Refused::Leaked),
            Some(rotated) if rotated.successor.is_some() => Err(Refused::SuccessorRotated(rotated.id)),
            _ => Ok(State::Active),
        }
    }

    /// Moves the hard end of a retirement, later or earlier; after a leak only earlier. It cannot be taken away.
    pub fn extend(&self, hard_end: Timestamp, now: Timestamp) -> Result<State, Refused> {
        let retire_at = self.retiring(now)?;
        if self.leaked_at.is_some() && hard_end > retire_at {
            return Err(Refused::Leaked);
        }
        Ok(State::Retiring { retire_at: self.capped(hard_end) })
    }

    /// It was reported as leaked: it ends at this instant, or earlier if it was to; from then on nothing prolongs it.
    pub fn leak(&self, hard_end: Timestamp, now: Timestamp) -> Result<State, Refused> {
        match self.state_at(now) {
            _ if self.leaked_at.is_some() => Err(Refused::Leaked),
            State::Active => Ok(State::Retiring { retire_at: self.capped(hard_end) }),
            State::Retiring { retire_at } => Ok(State::Retiring { retire_at: self.capped(hard_end.min(retire_at)) }),
            ended => Err(Refused::Ended(ended.name())),
        }
    }

    /// Ends a retirement before its time, because nobody uses the credential any more.
    pub fn finish(&self, now: Timestamp) -> Result<State, Refused> {
        self.retiring(now)?;
        Ok(State::Expired { ended_at: now, reason: EndReason::Finished })
    }

    /// Ends it at once, whatever it is used for.
    pub fn revoke(&self, now: Timestamp) -> Result<State, Refused> {
        match self.state_at(now) {
            State::Active | State::Retiring { .. } => Ok(State::Revoked { ended_at: now }),
            ended => Err(Refused::Ended(ended.name())),
        }
    }

    /// The hard end of its retirement.
    fn retiring(&self, now: Timestamp) -> Result<Timestamp, Refused> {
        match self.state_at(now) {
            State::Retiring { retire_at } => Ok(retire_at),
            State::Active => Err(Refused::NotRetiring),
            ended => Err(Refused::Ended(ended.name())),
        }
    }

    fn capped(&self, hard_end: Timestamp) -> Timestamp {
        self.expires_at.map_or(hard_end, |expires_at| hard_end.min(expires_at))
    }

    /// When its end comes if nobody does anything, if it has not ended: its hard end or its expiry.
    pub fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let retire_at = match self.state_at(now) {
            State::Active => None,
            State::Retiring { retire_at } => Some(retire_at),
            _ => return None,
        };
        [self.expires_at, retire_at].into_iter().flatten().min()
    }

    /// When its secret hash is to be erased, if it has ended.
    pub fn purge_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.state_at(now).ended_at().map(|at| at.plus(KEPT_AFTER_END))
    }
}
