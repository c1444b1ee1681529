//! Verifies Keyward's access tokens in front of an API: a pure function of the token, the published keys, what the API
//! expects and the time. Nothing here does I/O, waits or reads a clock.
//!
//! ```
//! use keyward_guard::{Expect, KeySet, Refusal, bearer, require_res, require_scope, verify};
//! use keyward_model::time::Timestamp;
//!
//! fn may_start_line(authorization: &[u8], keys: &KeySet, now: Timestamp) -> Result<String, Refusal> {
//!     let expect = Expect::new("https://keyward.example", "https://plant.example/api");
//!     let claims = verify(bearer(authorization)?, keys, &expect, now)?;
//!     require_scope(&claims, "Supervisor")?;
//!     require_res(&claims, "plant/7/line/3")?;
//!     Ok(claims.sub.to_string())
//! }
//!
//! let refusal = may_start_line(b"Bearer a.b", &KeySet::default(), Timestamp::from_millis(0)).unwrap_err();
//! assert_eq!(refusal.status(), 401);
//! let challenge = refusal.challenge("plant").unwrap();
//! assert!(challenge.starts_with("Bearer realm=\"plant\", error=\"invalid_token\""));
//! ```

mod answer;
#[cfg(feature = "axum")]
mod axum;
mod bearer;
mod caller;
#[cfg(test)]
mod fixture;
mod foreign;
#[cfg(all(fuzzing, feature = "discover"))]
pub mod fuzzing;
#[cfg(feature = "discover")]
mod guard;
mod keys;
#[cfg(feature = "tower")]
mod layer;
mod presented;
mod refusal;
mod two_token;
mod verify;

pub use answer::DEFAULT_REALM;
#[cfg(feature = "axum")]
pub use axum::Rejection;
pub use bearer::bearer;
pub use caller::{Caller, Identity, User};
pub use foreign::{ForeignIdentity, TrustedIssuer};
#[cfg(feature = "discover")]
pub use guard::{Builder, Guard, Measures, StartError, Unreachable};
pub use keys::KeySet;
#[cfg(feature = "tower")]
pub use layer::{GuardLayer, Guarded};
pub use presented::{IDENTITY_TOKEN, Presented};
pub use refusal::{ErrorCode, Refusal};
pub use two_token::{Keys, Policy};
pub use verify::{DEFAULT_LEEWAY, Expect, MAX_LEEWAY, require_res, require_scope, verify};
