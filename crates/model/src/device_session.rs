//! Device sessions: what a user's login leaves behind on a device or in a terminal, until it ends.

use std::time::Duration;

use crate::id::{ClientId, DeviceSessionId, UserId};
use crate::rights::Rights;
use crate::time::Timestamp;
use crate::words::words;

/// How long an ended session stays known before its row is deleted.
pub const KEPT_AFTER_END: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most sessions one user has at once; a further one ends the one that was unused for longest.
pub const MOST_SESSIONS: u16 = 200;

/// A user's login through a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSession {
    /// `session_…`; the `sid` of its identity tokens.
    pub id: DeviceSessionId,
    /// Who logged in.
    pub user: UserId,
    /// Through which client.
    pub client: ClientId,
    /// What people call it; may be empty.
    pub label: String,
    /// What the user let the client have.
    pub rights: Rights,
    /// What was last written of its state; time may have moved on, see [`DeviceSession::state_at`].
    pub state: SessionState,
    /// Its place in the status list, from the same counter as those of credentials.
    pub status_index: i64,
    /// When the user proved who they are.
    pub authenticated_at: Timestamp,
    /// How they proved it, in the words of RFC 8176 §2 with spaces between; empty if it is not known.
    pub amr: String,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// The network address it was begun from, if it came from a network.
    pub created_from: Option<String>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Grows by one with each change; the `ETag` (RFC 9110 §8.8.3).
    pub version: i64,
}

/// Where a device session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Gets tokens, unless its user or its client is disabled.
    Active,
    /// Over for good.
    Ended {
        /// When it ended.
        ended_at: Timestamp,
        /// Why.
        reason: SessionEnd,
    },
}

words! {
    /// Why a device session ended.
    SessionEnd {
        /// Somebody ended it.
        Revoked = "revoked",
        /// `expires_at` passed.
        Expired = "expired",
    }
}

impl DeviceSession {
    /// The state at this instant: an expiry that has passed counts before anything has written it down.
    pub fn state_at(&self, now: Timestamp) -> SessionState {
        match self.state {
            SessionState::Active if self.expires_at <= now => {
                SessionState::Ended { ended_at: self.expires_at, reason: SessionEnd::Expired }
            }
            state => state,
        }
    }

    /// Whether it has not ended.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.state_at(now) == SessionState::Active
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_expiry_counts_from_its_instant_on_and_does_not_replace_an_earlier_end() {
        let at = Timestamp::from_seconds;
        let mut session = DeviceSession {
            id: DeviceSessionId::from_uuid(Uuid::from_u128(1)),
            user: UserId::from_uuid(Uuid::from_u128(2)),
            client: ClientId::from_uuid(Uuid::from_u128(3)),
            label: String::new(),
            rights: Rights::default(),
            state: SessionState::Active,
            status_index: 1,
            authenticated_at: at(1),
            amr: String::new(),
            expires_at: at(10),
            created_from: None,
            created_at: at(1),
            updated_at: at(1),
            version: 1,
        };
        assert!(session.is_active(at(9)));
        let expired = SessionState::Ended { ended_at: at(10), reason: SessionEnd::Expired };
        assert_eq!((session.state_at(at(10)), session.state_at(at(99))), (expired, expired));
        session.state = SessionState::Ended { ended_at: at(5), reason: SessionEnd::Revoked };
        assert_eq!(session.state_at(at(99)), session.state);
    }
}
