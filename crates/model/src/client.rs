//! Clients: applications, each owned by exactly one user.

use crate::device_grant::DevicePolicy;
use crate::id::{ApiId, ClientId, UserId};
use crate::redirect_uri::RedirectUri;
use crate::rights::Rights;
use crate::time::Timestamp;
use crate::words::words;
use uuid::Uuid;

/// The client that every server has for command lines. The same everywhere, so that it is made once whoever makes it: a
/// UUID of version 8 (RFC 9562 §5.8) that spells what it is.
pub const COMMAND_LINE: ClientId = ClientId::from_uuid(Uuid::from_u128(0x6b65_7977_6172_8064_8063_6c69_0000_0000));

/// An application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// `client_…`: the OAuth `client_id` (RFC 6749 §2.2).
    pub id: ClientId,
    /// What people call it.
    pub name: String,
    /// Whether it can keep a secret.
    pub kind: ClientKind,
    /// The user whose rights bound it and as whom it acts.
    pub owner: UserId,
    /// Its own ceiling.
    pub rights: Rights,
    /// Who its tokens name as `sub`.
    pub subject: Subject,
    /// The APIs it may ask tokens for.
    pub apis: Vec<ApiId>,
    /// Where browsers may be led back to after a user has let it in; none if users cannot.
    pub redirect_uris: Vec<RedirectUri>,
    /// How devices are signed in through it; `None` if they are not.
    pub device: Option<DevicePolicy>,
    /// Since when it is disabled, with all its credentials.
    pub disabled_at: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Grows by one with each change; the `ETag` (RFC 9110 §8.8.3).
    pub version: i64,
}

words! {
    /// Client types of RFC 6749 §2.1.
    ClientKind {
        /// Has credentials.
        Confidential = "confidential",
        /// Has none: a TV, a command line.
        Public = "public",
    }
}

words! {
    /// Who the `sub` of a client's tokens is.
    Subject {
        /// The owner, with the client in `act`: code that reads `sub` as "modified by" keeps working.
        Owner = "owner",
        /// The client itself (RFC 9068 §2.2).
        Client = "client",
    }
}
