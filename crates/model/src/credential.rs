//! Credentials: the secrets of a client, and the states they pass through.
//!
//! ```text
//!             rotate                     retire_at passes, or finish
//!  active ─────────────▶ retiring ─────────────────────────────▶ expired ─┐ kept, then
//!    ▲ ◀── cancel ───────┘  │                                             ├─▶ purged
//!    └ expires_at passes ───┼───────────────────────────────▶ expired ────┤
//!                           └── revoke (any state, at once) ─▶ revoked ───┘
//! ```

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

    /// When its secret hash is to be erased, if it has ended.
    pub fn purge_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.state_at(now).ended_at().map(|at| at.plus(KEPT_AFTER_END))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn credential(state: State, expires_at: Option<Timestamp>) -> Credential {
        let entropy = Entropy::seeded(1);
        Credential {
            id: CredentialId::new(at(0), &entropy).unwrap(),
            client: ClientId::new(at(0), &entropy).unwrap(),
            label: String::new(),
            purpose: Purpose::General,
            secret_hash: None,
            scope: None,
            res: None,
            state,
            expires_at,
            successor: None,
            status_index: 0,
            created_by: UserId::new(at(0), &entropy).unwrap(),
            created_at: at(0),
            updated_at: at(0),
            version: 1,
        }
    }

    #[test]
    fn a_passed_deadline_counts_before_anyone_wrote_it_down() {
        let expiring = credential(State::Active, Some(at(10)));
        assert_eq!(expiring.state_at(at(9)), State::Active);
        let ended = State::Expired { ended_at: at(10), reason: EndReason::ExpiresAt };
        assert_eq!(expiring.state_at(at(10)), ended);

        let retiring = credential(State::Retiring { retire_at: at(5) }, Some(at(10)));
        assert!(retiring.state_at(at(4)).authenticates());
        assert_eq!(retiring.state_at(at(20)), State::Expired { ended_at: at(5), reason: EndReason::RetireAt });
    }

    #[test]
    fn an_ended_credential_stays_ended() {
        let revoked = State::Revoked { ended_at: at(3) };
        assert_eq!(credential(revoked, Some(at(10))).state_at(at(20)), revoked);
        assert_eq!(credential(revoked, None).purge_at(at(20)), Some(at(3).plus(KEPT_AFTER_END)));
    }

    proptest! {
        #[test]
        fn time_never_revives_a_credential(
            retire in prop::option::of(0i64..100), expires in prop::option::of(0i64..100), t in 0i64..100, later in 0i64..100
        ) {
            let state = retire.map_or(State::Active, |r| State::Retiring { retire_at: at(r) });
            let credential = credential(state, expires.map(at));
            let (t, later) = (at(t.min(later)), at(t.max(later)));
            if !credential.state_at(t).authenticates() {
                prop_assert_eq!(credential.state_at(t), credential.state_at(later));
            }
        }
    }
}
