//! Logins: a user signed in with a browser, and how they proved who they are.

use crate::id::{LoginId, UserId};
use crate::time::Timestamp;
use crate::words::words;

/// The most logins one user has at once; a further one ends the one that was unused for longest, and the log says so.
pub const MOST_LOGINS: u16 = 50;

words! {
    /// How a user proved who they are.
    Method {
        /// By a password.
        Password = "password",
        /// By a passkey, which asked for a finger, a face or a PIN.
        Passkey = "passkey",
        /// By a recovery code.
        RecoveryCode = "recovery_code",
    }
}

impl Method {
    /// The same in the words of RFC 8176 §2. A passkey is a key (`pop`) that its owner unlocked (`mfa`).
    pub const fn amr(self) -> &'static [&'static str] {
        match self {
            Self::Password => &["pwd"],
            Self::Passkey => &["pop", "mfa"],
            Self::RecoveryCode => &["otp"],
        }
    }
}

/// A user signed in with a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// `login_…`.
    pub id: LoginId,
    /// Who.
    pub user: UserId,
    /// How.
    pub method: Method,
    /// From which network; may be empty.
    pub network: String,
    /// With which browser, as it calls itself; may be empty.
    pub user_agent: String,
    /// Since when. Whoever proves again who they are gets a new login, so this is the `auth_time` too.
    pub created_at: Timestamp,
    /// When it was last used, to within a few minutes.
    pub seen_at: Timestamp,
    /// When it ends, however much it is used.
    pub ends_at: Timestamp,
}
