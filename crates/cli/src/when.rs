//! Instants for people.

use keyward_model::time::Timestamp;
use keyward_server::clock::Clock;

/// This instant, by the system's clock.
pub(crate) fn now() -> Timestamp {
    Clock::system().now()
}

/// To the minute, in UTC: `2026-11-23 15:04 UTC`.
pub(crate) fn minute(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
