//! What operators see of a guard: counted by one atomic addition, written when somebody asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::fetch::Fault;
use crate::{ErrorCode, Refusal};

#[derive(Default)]
pub(super) struct Meter {
    accepted: AtomicU64,
    on_trust: AtomicU64,
    refused: [AtomicU64; Kind::ALL.len()],
    fetches: AtomicU64,
    fetches_failed: AtomicU64,
    last_fault: ArcSwapOption<Fault>,
}

/// As what refusals are counted.
#[derive(Clone, Copy)]
enum Kind {
    Missing,
    InvalidRequest,
    InvalidToken,
    InsufficientScope,
    Unknowable,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Missing, Self::InvalidRequest, Self::InvalidToken, Self::InsufficientScope, Self::Unknowable];

    fn of(refusal: &Refusal) -> Self {
        match refusal.code() {
            Some(ErrorCode::InvalidRequest) => Self::InvalidRequest,
            Some(ErrorCode::InvalidToken) => Self::InvalidToken,
            Some(ErrorCode::InsufficientScope) => Self::InsufficientScope,
            None if refusal.status() == 503 => Self::Unknowable,
            None => Self::Missing,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::InvalidRequest => ErrorCode::InvalidRequest.as_str(),
            Self::InvalidToken => ErrorCode::InvalidToken.as_str(),
            Self::InsufficientScope => ErrorCode::InsufficientScope.as_str(),
            Self::Unknowable => "unknowable",
        }
    }
}

impl Meter {
    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(super) fn on_trust(&self) {
        self.on_trust.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        if let Some(count) = self.refused.get(Kind::of(refusal) as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn fetched(&self, fault: Option<&Fault>) {
        self.fetches.fetch_add(1, Relaxed);
        if let Some(fault) = fault {
            self.fetches_failed.fetch_add(1, Relaxed);
            self.last_fault.store(Some(Arc::new(fault.clone())));
        }
    }

    pub(super) fn measures(&self, now: Now) -> Measures {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        Measures {
            feed_connected: now.feed_connected,
            uncertain_for: now.uncertain_for,
            accepted: count(&self.accepted),
            accepted_on_trust: count(&self.on_trust),
            refused: Kind::ALL.map(|kind| (kind.as_str(), self.refused.get(kind as usize).map_or(0, count))),
            cache_hits: now.cache_hits,
            cache_misses: now.cache_misses,
            cache_entries: now.cache_entries,
            revoked_tokens: now.revoked_tokens,
            fetches: count(&self.fetches),
            fetches_failed: count(&self.fetches_failed),
            last_fault: self.last_fault.load().as_deref().map(ToString::to_string),
        }
    }
}

/// What is not counted but looked at.
#[derive(Clone)]
pub(super) struct Now {
    pub(super) feed_connected: bool,
    pub(super) uncertain_for: Option<Duration>,
    pub(super) cache_hits: u64,
    pub(super) cache_misses: u64,
    pub(super) cache_entries: usize,
    pub(super) revoked_tokens: usize,
}

/// What a guard has done since it began, and how it stands. `Display` writes it as OpenMetrics text, less the `# EOF`:
/// so it can stand beside the API's own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measures {
    /// Whether revocations arrive at once.
    pub feed_connected: bool,
    /// How long ago it was known for certain what is revoked; `None` if it never was.
    pub uncertain_for: Option<Duration>,
    /// Requests that were let through.
    pub accepted: u64,
    /// Tokens among theirs of which it could not be learned in time whether they still count.
    pub accepted_on_trust: u64,
    /// Requests refused: `missing`, the codes of RFC 6750, and `unknowable`.
    pub refused: [(&'static str, u64); 5],
    /// Tokens that had been verified before.
    pub cache_hits: u64,
    /// Tokens that had to be verified.
    pub cache_misses: u64,
    /// Verified tokens remembered.
    pub cache_entries: usize,
    /// Single revoked tokens remembered.
    pub revoked_tokens: usize,
    /// Fetches of keys and lists, and connections to the feed.
    pub fetches: u64,
    /// Those that failed.
    pub fetches_failed: u64,
    /// What was wrong with the last that failed.
    pub last_fault: Option<String>,
}

impl fmt::Display for Measures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut one = |name: &str, kind: &str, help: &str, samples: &[(&str, String)]| {
            write!(f, "# HELP keyward_guard_{name} {help}\n# TYPE keyward_guard_{name} {kind}\n")?;
            let total = if kind == "counter" { "_total" } else { "" };
            samples.iter().try_for_each(|(labels, value)| writeln!(f, "keyward_guard_{name}{total}{labels} {value}"))
        };
        let connected = u8::from(self.feed_connected).to_string();
        one("feed_connected", "gauge", "Whether revocations arrive at once.", &[("", connected)])?;
        let uncertain = self.uncertain_for.map_or("+Inf".to_owned(), |time| time.as_secs_f64().to_string());
        one("uncertain_seconds", "gauge", "Since it was known what is revoked.", &[("", uncertain)])?;
        let count = |count: u64| [("", count.to_string())];
        one("accepted", "counter", "Requests let through.", &count(self.accepted))?;
        let on_trust = count(self.accepted_on_trust);
        one("accepted_on_trust", "counter", "Tokens accepted though revocations are late.", &on_trust)?;
        let labels = self.refused.map(|(code, count)| (format!("{{code=\"{code}\"}}"), count.to_string()));
        let refused: Vec<_> = labels.iter().map(|(labels, count)| (labels.as_str(), count.clone())).collect();
        one("refused", "counter", "Requests refused.", &refused)?;
        one("cache_hits", "counter", "Tokens verified before.", &count(self.cache_hits))?;
        one("cache_misses", "counter", "Tokens verified.", &count(self.cache_misses))?;
        one("cache_entries", "gauge", "Verified tokens remembered.", &[("", self.cache_entries.to_string())])?;
        one("revoked_tokens", "gauge", "Revoked tokens remembered.", &[("", self.revoked_tokens.to_string())])?;
        one("fetches", "counter", "Fetches of keys, lists and events.", &count(self.fetches))?;
        one("fetches_failed", "counter", "Fetches that failed.", &count(self.fetches_failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_seen_as_open_metrics() {
        let meter = Meter::default();
        meter.accepted();
        meter.refused(&Refusal::Missing);
        meter.refused(&Refusal::Identity(Box::new(Refusal::Unknowable("x"))));
        meter.fetched(Some(&Fault("away".into())));
        let uncertain_for = Some(Duration::from_millis(1500));
        let now = Now {
            feed_connected: true,
            uncertain_for,
            cache_hits: 1,
            cache_misses: 4,
            cache_entries: 2,
            revoked_tokens: 3,
        };
        let measures = meter.measures(now.clone());
        assert_eq!(measures.last_fault.as_deref(), Some("away"));
        let text = measures.to_string();
        for line in [
            "keyward_guard_feed_connected 1",
            "keyward_guard_uncertain_seconds 1.5",
            "keyward_guard_accepted_total 1",
            "keyward_guard_refused_total{code=\"missing\"} 1",
            "keyward_guard_refused_total{code=\"insufficient_scope\"} 0",
            "keyward_guard_refused_total{code=\"unknowable\"} 1",
            "keyward_guard_cache_hits_total 1",
            "keyward_guard_cache_entries 2",
            "keyward_guard_fetches_failed_total 1",
            "# TYPE keyward_guard_refused counter",
        ] {
            assert!(text.lines().any(|had| had == line), "{line} in\n{text}");
        }
        let unknown = Now { feed_connected: false, uncertain_for: None, ..now };
        assert!(meter.measures(unknown).to_string().contains("keyward_guard_uncertain_seconds +Inf\n"));
    }
}
