//! A key as the model has it: the diagram in `keyward_model::credential`, written once more.

use super::{KEPT, QUIET};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    Active,
    Retiring(i64),
    Ended { name: &'static str, reason: Option<&'static str>, at: i64 },
}

/// A key as the model has it.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) stage: Stage,
    pub(super) issued_at: i64,
    pub(super) expires_at: Option<i64>,
    pub(super) successor: Option<usize>,
    pub(super) leaked: bool,
    pub(super) last_seen: Option<i64>,
    /// Whether the schedule has written its end down, and whether it has purged it.
    written: bool,
    pub(super) purged: bool,
    pub(super) events: Vec<&'static str>,
}

impl Key {
    pub(super) fn new(now: i64, expires_at: Option<i64>) -> Self {
        let (stage, events) = (Stage::Active, vec!["credential.issued"]);
        Self {
            stage,
            issued_at: now,
            expires_at,
            successor: None,
            leaked: false,
            last_seen: None,
            written: false,
            purged: false,
            events,
        }
    }

    /// Time takes its own arrows.
    pub(super) fn pass(&mut self, now: i64) {
        let retire_at = match self.stage {
            Stage::Active => i64::MAX,
            Stage::Retiring(at) => at,
            Stage::Ended { .. } => return,
        };
        let expires_at = self.expires_at.unwrap_or(i64::MAX);
        let at = retire_at.min(expires_at);
        if at <= now {
            let reason = if retire_at < expires_at { "retire_at" } else { "expires_at" };
            self.stage = Stage::Ended { name: "expired", reason: Some(reason), at };
        }
    }

    pub(super) fn end(&mut self, name: &'static str, reason: Option<&'static str>, at: i64, event: &'static str) {
        self.stage = Stage::Ended { name, reason, at };
        self.written = true;
        self.events.push(event);
    }

    pub(super) fn works(&self) -> bool {
        !matches!(self.stage, Stage::Ended { .. })
    }

    pub(super) fn is_active(&self) -> bool {
        self.stage == Stage::Active
    }

    pub(super) fn is_retiring(&self) -> bool {
        matches!(self.stage, Stage::Retiring(_))
    }

    pub(super) fn is_in_use(&self, now: i64) -> bool {
        self.last_seen.is_some_and(|seen| seen >= now - QUIET)
    }

    /// Whether the next schedule purges it. The server has one of its own, every ten seconds of real time, which may have
    /// been there before the walk's.
    pub(super) fn is_due(&self, now: i64) -> bool {
        matches!(self.stage, Stage::Ended { at, .. } if at < now - KEPT) && !self.purged
    }

    /// The schedule has been there.
    pub(super) fn write_down(&mut self, now: i64) {
        if !self.works() && !self.written {
            self.written = true;
            self.events.push("credential.expired");
        }
        if self.is_due(now) {
            self.purged = true;
            self.events.push("credential.purged");
        }
    }

    pub(super) fn capped(&self, at: i64) -> i64 {
        self.expires_at.map_or(at, |expires_at| at.min(expires_at))
    }
}
