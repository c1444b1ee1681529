//! How people sign in: passwords, passkeys, recovery codes, and the logins that come of them. What the pages show is not
//! here, nor anything of HTTP.

pub(crate) mod passkeys;
pub(crate) mod passwords;
pub(crate) mod sealed;
pub(crate) mod session;
pub(crate) mod throttle;

use std::time::Duration;

use keyward_model::entropy::{Entropy, EntropyError};
use keyward_model::secret::HashingKey;
use keyward_model::time::Timestamp;
use keyward_store::Standing;

use crate::config::{Config, LoginConfig};
use passkeys::Passkeys;
use passwords::Passwords;
use sealed::Seal;
use throttle::Throttle;

/// Whether browsers offer passkeys to a server at this public URL.
pub fn offers_passkeys(issuer: &str) -> bool {
    Passkeys::new(issuer).is_some()
}

/// All that signing in needs beside the database.
pub struct SignIn {
    /// Hashes passwords, a few at once.
    pub passwords: Passwords,
    /// Verifies passkeys; `None` where browsers would offer none: see [`Passkeys::new`].
    pub(crate) passkeys: Option<Passkeys>,
    /// How often it may be tried.
    pub(crate) throttle: Throttle,
    /// Vouches for what a browser keeps for us.
    pub(crate) seal: Seal,
    config: LoginConfig,
}

impl SignIn {
    /// For the server at this public URL.
    pub(crate) fn new(
        config: &Config,
        issuer: &str,
        key: &HashingKey,
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        Ok(Self {
            passwords: Passwords::new(key.derive("peppering passwords"), entropy.clone())?,
            passkeys: Passkeys::new(issuer),
            throttle: Throttle::new(&config.login, &config.limits),
            seal: Seal::new(&key.derive("what browsers keep for the server")),
            config: config.login.clone(),
        })
    }

    /// As of now, which logins still count.
    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        Standing { now, idle: Duration::from_hours(self.config.idle_hours.into()) }
    }

    /// How long a login lasts, however much it is used.
    pub(crate) fn lasts(&self) -> Duration {
        Duration::from_hours(u64::from(self.config.max_days) * 24)
    }

    /// For how long after signing in somebody may change how they sign in.
    pub(crate) fn fresh(&self) -> Duration {
        Duration::from_mins(self.config.fresh_minutes.into())
    }

    /// How long an invitation stands.
    pub(crate) fn invitation_stands(&self) -> Duration {
        Duration::from_hours(self.config.invitation_hours.into())
    }
}
