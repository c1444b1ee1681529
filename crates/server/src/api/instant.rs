//! Instants in the REST API: RFC 3339 in UTC.

use std::fmt;
use std::str::FromStr;

use keyward_model::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant such as `2026-11-23T15:04:05.678Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub Timestamp);

impl Instant {
    /// For people, to the minute: `2026-11-23 15:04 UTC`.
    pub fn minute(self) -> String {
        self.civil().strftime("%Y-%m-%d %H:%M UTC").to_string()
    }

    /// For HTTP headers (RFC 9110 §5.6.7), to the second: `Mon, 23 Nov 2026 15:04:05 GMT`.
    pub(crate) fn http_date(self) -> String {
        self.civil().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    fn civil(self) -> jiff::Timestamp {
        // Beyond the year 9999 there is no RFC 3339; the last instant it knows stands for all later ones.
        jiff::Timestamp::from_millisecond(self.0.as_millis()).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.civil().fmt(f)
    }
}

impl FromStr for Instant {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let at: jiff::Timestamp = text.parse()?;
        Ok(Self(Timestamp::from_millis(at.as_millisecond())))
    }
}

impl From<Timestamp> for Instant {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom("an instant must look like 2026-11-23T15:04:05Z (RFC 3339)"))
    }
}
