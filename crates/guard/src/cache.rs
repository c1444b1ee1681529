//! Tokens that were verified: the same token comes again and again, and its signature stays as good as it was.
//!
//! Found by a keyed hash that nobody outside knows, and then compared whole. Only good tokens are here, so nobody fills
//! it who cannot get tokens. What may change while a token stays the same is asked at every use: times, and revocation.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use keyward_model::time::Timestamp;

use crate::Identity;

/// How many places a token may be in: one that is looked for is compared with no more than these.
const WAYS: usize = 8;
/// A token is looked for by so many bytes of its end. They are of its signature, and tell tokens apart as well as all do.
const TELLING: usize = 64;

pub(crate) struct Cache {
    sets: Box<[[ArcSwapOption<Entry>; WAYS]]>,
    hasher: RandomState,
}

struct Entry {
    hash: u64,
    token: Box<str>,
    identity: Identity,
    /// Which key set it was verified with.
    epoch: u64,
    exp: Timestamp,
    used_at: AtomicI64,
}

/// A token with what it is looked for by.
#[derive(Clone, Copy)]
pub(crate) struct Looked<'a> {
    pub(crate) token: &'a str,
    /// Which key set counts.
    pub(crate) epoch: u64,
    pub(crate) now: Timestamp,
}

impl Cache {
    /// For about so many tokens.
    pub(crate) fn new(tokens: usize) -> Self {
        let set = || std::array::from_fn(|_| ArcSwapOption::empty());
        Self { sets: std::iter::repeat_with(set).take(tokens.div_ceil(WAYS)).collect(), hasher: RandomState::new() }
    }

    pub(crate) fn find(&self, looked: Looked<'_>) -> Option<Identity> {
        let hash = self.hash(looked.token);
        self.set(hash)?.iter().find_map(|way| {
            let entry = way.load();
            let entry = entry.as_ref().filter(|entry| entry.is(hash, looked) && entry.epoch == looked.epoch)?;
            // To the second, so that a token used by all threads is not written to by all of them.
            let second = looked.now.as_seconds();
            if entry.used_at.load(Relaxed) != second {
                entry.used_at.store(second, Relaxed);
            }
            Some(entry.identity.clone())
        })
    }

    pub(crate) fn insert(&self, looked: Looked<'_>, identity: Identity, exp: Timestamp) {
        let hash = self.hash(looked.token);
        let Some(set) = self.set(hash) else { return };
        // The same token first, then one of no more use, then the one that was not used for longest.
        let worth = |way: &&ArcSwapOption<Entry>| match way.load().as_deref() {
            Some(entry) if entry.is(hash, looked) => (0, 0),
            Some(entry) if entry.epoch == looked.epoch && entry.exp > looked.now => (2, entry.used_at.load(Relaxed)),
            Some(_) | None => (1, 0),
        };
        let Some(way) = set.iter().min_by_key(worth) else { return };
        let used_at = AtomicI64::new(looked.now.as_seconds());
        let token = looked.token.into();
        way.store(Some(Arc::new(Entry { hash, token, identity, epoch: looked.epoch, exp, used_at })));
    }

    /// Forgets all tokens.
    pub(crate) fn clear(&self) {
        for way in self.sets.iter().flatten() {
            way.store(None);
        }
    }

    pub(crate) fn entries(&self) -> usize {
        self.sets.iter().flatten().filter(|way| way.load().is_some()).count()
    }

    fn hash(&self, token: &str) -> u64 {
        let token = token.as_bytes();
        self.hasher.hash_one(token.last_chunk::<TELLING>().map_or(token, <[u8; TELLING]>::as_slice))
    }

    fn set(&self, hash: u64) -> Option<&[ArcSwapOption<Entry>; WAYS]> {
        // One above the other 64 bits: no division, and all sets are met alike.
        let at = (u128::from(hash) * self.sets.len() as u128) >> 64;
        self.sets.get(usize::try_from(at).ok()?)
    }
}

impl Entry {
    fn is(&self, hash: u64, looked: Looked<'_>) -> bool {
        self.hash == hash && *self.token == *looked.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{NOW, claims};

    fn good() -> Identity {
        Identity::Keyward(Arc::new(claims()))
    }

    fn looked(token: &str) -> Looked<'_> {
        Looked { token, epoch: 1, now: NOW }
    }

    #[test]
    fn a_token_is_found_whole_or_not_at_all() {
        let cache = Cache::new(100);
        cache.insert(looked("a.b.c"), good(), claims().exp);
        assert!(cache.find(looked("a.b.c")).is_some());
        for other in ["", "a.b", "a.b.d", "a.b.c "] {
            assert!(cache.find(looked(other)).is_none(), "{other:?}");
        }
        assert!(cache.find(Looked { epoch: 2, ..looked("a.b.c") }).is_none(), "verified with other keys");
        cache.clear();
        assert_eq!((cache.find(looked("a.b.c")).is_none(), cache.entries()), (true, 0));
    }

    #[test]
    fn it_stays_within_its_size_and_keeps_what_is_used() {
        let cache = Cache::new(64);
        cache.insert(looked("used"), good(), claims().exp);
        for at in 0..2_500 {
            let (token, now) = (at.to_string(), NOW.plus(std::time::Duration::from_secs(at / 5)));
            assert!(cache.find(Looked { now, ..looked("used") }).is_some(), "at {at}");
            cache.insert(Looked { now, ..looked(&token) }, good(), claims().exp);
        }
        assert_eq!(cache.entries(), 64);
        let none = Cache::new(0);
        none.insert(looked("a"), good(), claims().exp);
        assert!(none.find(looked("a")).is_none());
    }

    #[test]
    fn a_token_that_is_verified_again_takes_no_second_place() {
        let cache = Cache::new(64);
        for epoch in 0..100 {
            cache.insert(Looked { epoch, ..looked("a") }, good(), claims().exp);
        }
        assert_eq!(cache.entries(), 1);
    }
}
