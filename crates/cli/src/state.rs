//! Whether users and clients are in use, as filters and tables say it.

use std::str::FromStr;

use keyward_model::time::Timestamp;
use keyward_model::user::Activity;
use keyward_server::api::instant::Instant;

use crate::failure::Failure;
use crate::when;

/// The value of `--state` for users and clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing(Activity);

impl Standing {
    /// What it may be.
    pub(crate) const WORDS: &[&str] = &["active", "disabled"];
}

impl FromStr for Standing {
    type Err = Failure;

    fn from_str(word: &str) -> Result<Self, Failure> {
        match word {
            "active" => Ok(Self(Activity::Active)),
            "disabled" => Ok(Self(Activity::Disabled)),
            _ => Err(Failure::usage("active or disabled")),
        }
    }
}

impl From<Standing> for Activity {
    fn from(standing: Standing) -> Self {
        standing.0
    }
}

/// For people: in use, or since when not.
pub(crate) fn activity(disabled_at: Option<Instant>, now: Timestamp) -> String {
    disabled_at.map_or_else(|| "active".to_owned(), |at| format!("disabled {}", when::relative(at.0, now)))
}
