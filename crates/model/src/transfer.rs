//! Transfers: a client offered to another owner, who may accept it.

use std::time::Duration;

use crate::id::{ClientId, UserId};
use crate::time::Timestamp;

/// How long an offer stands.
pub const OFFER_STANDS: Duration = Duration::from_secs(14 * 24 * 3600);

/// The open offer of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What is offered.
    pub client: ClientId,
    /// Who owns it.
    pub owner: UserId,
    /// Who offers it: the owner, or an administrator.
    pub offered_by: UserId,
    /// Who may accept it.
    pub offered_to: UserId,
    /// The version of the client when it was offered: whoever accepts gets what was offered, not what it became since.
    pub client_version: i64,
    /// Which of all offers it is: no other has the same; the `ETag`.
    pub version: i64,
    /// Since when it is offered.
    pub offered_at: Timestamp,
    /// From when on it cannot be accepted any more.
    pub expires_at: Timestamp,
}
