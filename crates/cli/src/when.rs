//! Instants and durations, as people write and read them.

use std::str::FromStr;
use std::time::Duration;

use keyward_model::time::Timestamp;
use keyward_server::api::instant::Instant;
use keyward_server::clock::Clock;

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// This instant, by the system's clock.
pub(crate) fn now() -> Timestamp {
    Clock::system().now()
}

/// To the minute, in UTC: `2026-11-23 15:04 UTC`.
pub(crate) fn minute(at: Timestamp) -> String {
    Instant(at).minute()
}

/// To the second, in UTC: `2026-11-23 15:04:05`.
pub(crate) fn second(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// As seen from `now`: `3 min ago`, `in 89 days`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    // Just before the hour is up, "in 89 days" would sound like a day lost.
    let nearly = Duration::from_secs(60);
    if at > now { format!("in {}", span(at.since(now).saturating_add(nearly))) } else { past(now.since(at)) }
}

fn past(since: Duration) -> String {
    if since < Duration::from_secs(5) { "just now".to_owned() } else { format!("{} ago", span(since)) }
}

/// In the largest unit of which there are at least two.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (unit, word) = match seconds {
        s if s >= 2 * 365 * DAY => (365 * DAY, "years"),
        s if s >= 2 * DAY => (DAY, "days"),
        s if s >= 2 * HOUR => (HOUR, "h"),
        s if s >= 2 * MINUTE => (MINUTE, "min"),
        _ => (SECOND, "s"),
    };
    format!("{} {word}", seconds / unit)
}

/// `90d`, `12h`, `30m`, `45s`, `2w` or `1y`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write a number and a unit, such as 90d, 12h, 30m, 45s, 2w or 1y");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => SECOND,
        "m" | "min" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        "w" => 7 * DAY,
        "y" => 365 * DAY,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(wrong)
}

/// When something is to end: after a duration, or at a date or an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    After(Duration),
    At(Timestamp),
}

impl End {
    /// The instant, counted from `now`.
    pub(crate) fn from(self, now: Timestamp) -> Instant {
        Instant(match self {
            Self::After(duration) => now.plus(duration),
            Self::At(at) => at,
        })
    }
}

impl FromStr for End {
    type Err = String;

    /// `90d`; `2027-01-31`, which is that day's beginning in UTC; or `2027-01-31T18:00:00Z`.
    fn from_str(text: &str) -> Result<Self, String> {
        let instant = text.parse::<jiff::Timestamp>();
        let at = instant.or_else(|_| format!("{text}T00:00:00Z").parse::<jiff::Timestamp>());
        if let Ok(at) = at {
            return Ok(Self::At(Timestamp::from_millis(at.as_millisecond())));
        }
        parse_duration(text).map(Self::After).map_err(|_| {
            format!("{text:?} is neither a duration such as 90d nor a date such as 2027-01-31 or 2027-01-31T18:00:00Z")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let End::At(at) = text.parse().unwrap() else { panic!("{text} is no instant") };
        at
    }

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, seconds) in [("90d", 90 * DAY), ("12h", 12 * HOUR), ("30m", 1800), ("45s", 45), ("2w", 14 * DAY)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "d", "90", "-1d", "1.5h", "90 d", "5 fortnights", "99999999999999999999d", "999999999999999999y", "9ä"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_end_is_a_duration_a_date_or_an_instant() {
        assert_eq!("90d".parse(), Ok(End::After(Duration::from_secs(90 * DAY))));
        assert_eq!(second(at("2027-01-31")), "2027-01-31 00:00:00");
        assert_eq!(second(at("2027-01-31T18:00:00Z")), "2027-01-31 18:00:00");
        assert_eq!(second(at("2027-01-31T18:00:00+02:00")), "2027-01-31 16:00:00");
        for text in ["", "tomorrow", "2027-02-30", "2027-01", "never"] {
            assert!(text.parse::<End>().is_err(), "{text}");
        }
    }

    #[test]
    fn instants_are_told_as_seen_from_now() {
        let now = Timestamp::from_seconds(1_000_000_000);
        for (seconds, told) in [
            (0, "just now"),
            (-4, "just now"),
            (-59, "59 s ago"),
            (-190, "3 min ago"),
            (-7199, "119 min ago"),
            (-7200, "2 h ago"),
            (-3 * 86400, "3 days ago"),
            (90 * 86400, "in 90 days"),
            (3 * 365 * 86400, "in 3 years"),
        ] {
            let at = Timestamp::from_seconds(1_000_000_000 + seconds);
            assert_eq!(relative(at, now), told, "{seconds}");
        }
    }

    #[test]
    fn the_end_of_time_can_be_printed() {
        assert_eq!(minute(Timestamp::from_millis(i64::MAX)), "9999-12-30 22:00 UTC");
    }
}
