//! What a guard knows of ended credentials and revoked tokens, and since when it has known nothing newer.
//!
//! Written by one task, the follower; read by every request, without a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use keyward_model::api::MAX_TOKEN_LIFETIME;
use keyward_model::id::TokenId;
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;

use super::event::{Places, Revoked};
use super::status_list::{MAX_PLACES, StatusList};
use crate::{DEFAULT_LEEWAY, MAX_LEEWAY, Unreachable};

/// Single tokens that are remembered at most; each is revoked by a request of its client and dead within a day.
const MAX_TOKENS: usize = 250_000;
/// Adding a token copies one of these.
const SHARDS: usize = 64;

pub(crate) struct Revocations {
    list: ArcSwapOption<List>,
    tokens: [ArcSwap<Shard>; SHARDS],
    remembered: AtomicUsize,
    /// When this was last known to be everything, in Unix milliseconds.
    certain_at: AtomicI64,
    /// Until when that need not be asked again.
    certain_until: AtomicI64,
    live: AtomicBool,
}

struct List {
    uri: Box<str>,
    bytes: Box<[AtomicU8]>,
}

type Shard = HashMap<TokenId, Remembered>;

/// Until when it is remembered that a token was revoked.
#[derive(Debug, Clone, Copy, Default)]
struct Remembered {
    /// Because the feed told of it.
    told_until: Option<Timestamp>,
    /// Because it is in the list, or was a moment ago.
    listed_until: Option<Timestamp>,
}

/// Whether a token still counts, where it is not known to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As far as anybody knows.
    Counts,
    /// As of a while ago.
    OnTrust,
    /// It was revoked, or what it stands on has ended.
    Ended(&'static str),
    /// This API wants to know, and the guard does not.
    Unknowable(&'static str),
}

/// More than a guard may hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

impl Default for Revocations {
    fn default() -> Self {
        Self {
            list: ArcSwapOption::empty(),
            tokens: std::array::from_fn(|_| ArcSwap::default()),
            remembered: AtomicUsize::new(0),
            certain_at: AtomicI64::new(i64::MIN),
            certain_until: AtomicI64::new(i64::MIN),
            live: AtomicBool::new(false),
        }
    }
}

impl Revocations {
    /// Whether this token of Keyward's still counts.
    pub(crate) fn ask(&self, claims: &AccessTokenClaims, unreachable: Unreachable, now: Timestamp) -> Standing {
        if self.remembered.load(Ordering::Acquire) > 0 && self.shard(claims.jti).load().contains_key(&claims.jti) {
            return Standing::Ended("the token itself was revoked");
        }
        // A token without a place stands on nothing that could end before it.
        let mut known = true;
        if let Some(status) = &claims.status {
            match self.list.load().as_ref().filter(|list| *list.uri == *status.status_list.uri) {
                Some(list) => match list.get(status.status_list.idx) {
                    Some(true) => return Standing::Ended("its credential or device session has ended"),
                    Some(false) => {}
                    // Younger than the copy of the list: of its end the feed would have told.
                    None => known = self.is_live(),
                },
                None => known = false,
            }
        }
        let certain =
            now.as_millis() <= self.certain_until.load(Ordering::Acquire) && self.uncertain_for(now).is_some();
        match unreachable {
            _ if known && certain => Standing::Counts,
            Unreachable::AcceptUntilExpiry => Standing::OnTrust,
            Unreachable::RefuseAfter(_) if !known => {
                Standing::Unknowable("its place is in no status list that is here")
            }
            Unreachable::RefuseAfter(longest) => match self.uncertain_for(now) {
                Some(since) if since < longest => Standing::OnTrust,
                _ => Standing::Unknowable("what was revoked could not be learned for too long"),
            },
        }
    }

    /// For how long nothing was learned; `None` if nothing ever was. A clock that was set back must not make it less.
    pub(crate) fn uncertain_for(&self, now: Timestamp) -> Option<Duration> {
        let at = self.certain_at.load(Ordering::Acquire);
        let from_the_future = at > now.plus(DEFAULT_LEEWAY).as_millis();
        (at != i64::MIN && !from_the_future).then(|| now.since(Timestamp::from_millis(at)))
    }

    /// Whether a feed tells of every change at once.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Single tokens remembered.
    pub(crate) fn tokens(&self) -> usize {
        self.remembered.load(Ordering::Relaxed)
    }

    /// What is known was everything at one instant, and may be taken for that until another.
    pub(crate) fn certain(&self, at: Timestamp, until: Timestamp) {
        self.certain_at.store(at.as_millis(), Ordering::Release);
        self.certain_until.store(until.as_millis(), Ordering::Release);
    }

    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::Release);
    }

    /// Everything as this list says it. Tokens that the feed told of stay revoked, and those that only a former list
    /// named do for a moment: one that is dead at the issuer is dead here when the clocks agree, and this list may be
    /// from a node that is behind.
    pub(crate) fn replace(&self, uri: &str, list: &StatusList, now: Timestamp) -> Result<(), TooMuch> {
        // The list does not say until when; no token lives longer.
        let until = now.plus(MAX_TOKEN_LIFETIME).plus(MAX_LEEWAY);
        let unlisted_until = now.plus(MAX_LEEWAY);
        let mut shards: Vec<Shard> = self.tokens.iter().map(|shard| living(&shard.load(), now)).collect();
        for known in shards.iter_mut().flat_map(HashMap::values_mut) {
            known.listed_until = known.listed_until.map(|until| until.min(unlisted_until));
        }
        for jti in &list.revoked {
            if let Some(shard) = shards.get_mut(shard(*jti)) {
                shard.entry(*jti).or_default().listed_until = Some(until);
            }
        }
        let remembered = shards.iter().map(HashMap::len).sum();
        if remembered > MAX_TOKENS {
            return Err(TooMuch);
        }
        for (at, after) in self.tokens.iter().zip(shards) {
            at.store(Arc::new(after));
        }
        self.remembered.store(remembered, Ordering::Release);
        let bytes = list.bits.iter().map(|byte| AtomicU8::new(*byte)).collect();
        self.list.store(Some(Arc::new(List { uri: uri.into(), bytes })));
        Ok(())
    }

    /// The latest state of some places.
    pub(crate) fn apply(&self, places: &Places) -> Result<(), TooMuch> {
        let Some(list) = self.list.load_full() else { return Ok(()) };
        let highest = places.ended.iter().max().copied().unwrap_or(0);
        if highest >= MAX_PLACES {
            return Err(TooMuch);
        }
        let list = if places.ended.is_empty() { list } else { self.grown(list, highest) };
        for (places, ended) in [(&places.ended, true), (&places.restored, false)] {
            places.iter().for_each(|place| list.set(*place, ended));
        }
        Ok(())
    }

    /// Single tokens that were revoked.
    pub(crate) fn revoke(&self, tokens: &[Revoked], now: Timestamp) -> Result<(), TooMuch> {
        let tokens = tokens.iter().map(|token| (token.jti, token.until().plus(MAX_LEEWAY)));
        self.remember(tokens, now)
    }

    /// With the place, and as much again beyond it.
    fn grown(&self, list: Arc<List>, place: u64) -> Arc<List> {
        let len = usize::try_from(place / 8 + 1).unwrap_or(usize::MAX);
        if len <= list.bytes.len() {
            return list;
        }
        let known = list.bytes.iter().map(|byte| byte.load(Ordering::Relaxed));
        let bytes = known.chain(std::iter::repeat(0)).take(len.next_multiple_of(8192)).map(AtomicU8::new).collect();
        let grown = Arc::new(List { uri: list.uri.clone(), bytes });
        self.list.store(Some(Arc::clone(&grown)));
        grown
    }

    fn remember(&self, tokens: impl Iterator<Item = (TokenId, Timestamp)>, now: Timestamp) -> Result<(), TooMuch> {
        let mut new: HashMap<usize, Vec<(TokenId, Timestamp)>> = HashMap::new();
        for token in tokens {
            new.entry(shard(token.0)).or_default().push(token);
        }
        for (shard, tokens) in new {
            let Some(shard) = self.tokens.get(shard) else { continue };
            let before = shard.load_full();
            // Whoever adds takes the dead away.
            let mut after = living(&before, now);
            for (jti, until) in tokens {
                let known = after.entry(jti).or_default();
                known.told_until = known.told_until.max(Some(until));
            }
            let remembered = self.tokens() + after.len() - before.len();
            if remembered > MAX_TOKENS {
                return Err(TooMuch);
            }
            shard.store(Arc::new(after));
            self.remembered.store(remembered, Ordering::Release);
        }
        Ok(())
    }

    fn shard(&self, jti: TokenId) -> &ArcSwap<Shard> {
        // There is one for every remainder.
        self.tokens.get(shard(jti)).unwrap_or(&self.tokens[0])
    }
}

fn shard(jti: TokenId) -> usize {
    usize::from(jti.as_uuid().as_bytes()[15]) % SHARDS
}

/// Those that are not dead.
fn living(shard: &Shard, now: Timestamp) -> Shard {
    shard
        .iter()
        .filter(|(_, known)| known.told_until.max(known.listed_until) > Some(now))
        .map(|(k, v)| (*k, *v))
        .collect()
}

impl List {
    fn get(&self, place: u64) -> Option<bool> {
        let byte = self.bytes.get(usize::try_from(place / 8).ok()?)?;
        Some(byte.load(Ordering::Acquire) >> (place % 8) & 1 == 1)
    }

    /// A place beyond the end has not ended, which is what it says anyway.
    fn set(&self, place: u64, ended: bool) {
        let Some(byte) = usize::try_from(place / 8).ok().and_then(|at| self.bytes.get(at)) else { return };
        let bit = 1 << (place % 8);
        if ended {
            byte.fetch_or(bit, Ordering::Release)
        } else {
            byte.fetch_and(!bit, Ordering::Release)
        };
    }
}

#[cfg(test)]
mod tests;
