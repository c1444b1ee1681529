//! Passkeys: key pairs in the hands of users (WebAuthn); here is what the server keeps of them.

use crate::id::{PasskeyId, UserId};
use crate::time::Timestamp;

/// The most passkeys of one user.
pub const MOST_PASSKEYS: usize = 20;
/// The longest name of one, in bytes.
pub const MOST_NAME: usize = 60;

/// A passkey of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkey {
    /// `passkey_…`.
    pub id: PasskeyId,
    /// Whose.
    pub user: UserId,
    /// What they call it.
    pub name: String,
    /// What their authenticator calls it: WebAuthn's credential id.
    pub credential_id: Vec<u8>,
    /// Public key, counter and flags, as the library that verifies it writes them.
    pub verifier: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// When they last signed in with it.
    pub used_at: Option<Timestamp>,
}
