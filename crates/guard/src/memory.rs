//! The two-token rule for tokens that come again and again: what was verified once is not verified anew.
//!
//! What may change while a token stays the same is asked at every use: for whom it is and whether its time has come, here;
//! whether it still counts, by whoever calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;

use crate::cache::{Cache, Looked};
use crate::two_token::of_identity;
use crate::{Caller, Identity, Keys, Policy, Presented, Refusal, verify};

/// Verified tokens, in bounded memory.
pub struct Memory {
    cache: Cache,
    /// Whether one policy decides about all of them: what another issuer's token comes to depends on it.
    is_of_one: bool,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What tokens are judged by besides a policy.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// All keys that count.
    pub keys: &'a Keys,
    /// Another number whenever a key was withdrawn: what was verified with other keys is looked for in vain.
    pub epoch: u64,
    /// The instant of the request.
    pub now: Timestamp,
}

impl<'a> Given<'a> {
    fn looked(self, token: &'a str) -> Looked<'a> {
        Looked { token, epoch: self.epoch, now: self.now }
    }
}

impl Memory {
    /// For about so many tokens, all judged by one policy; 0 remembers none.
    pub fn of_one_policy(tokens: usize) -> Self {
        Self { cache: Cache::new(tokens), is_of_one: true, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// For about so many tokens of Keyward's own, whatever policy they are judged by. Those of other issuers are verified
    /// each time.
    pub fn of_many_policies(tokens: usize) -> Self {
        Self { is_of_one: false, ..Self::of_one_policy(tokens) }
    }

    /// As [`Policy::check`].
    pub fn check(&self, policy: &Policy, presented: &Presented<'_>, given: Given<'_>) -> Result<Caller, Refusal> {
        let client = self.client(policy, presented.authorization, given)?;
        let identity = presented.identity.map(|token| self.identity(policy, token, given)).transpose();
        policy.combine(client, identity.map_err(of_identity)?)
    }

    fn client(&self, policy: &Policy, token: &str, given: Given<'_>) -> Result<Arc<AccessTokenClaims>, Refusal> {
        // A token of another issuer was verified as an identity: here it is none that is known.
        if let Some(Identity::Keyward(claims)) = self.find(token, given) {
            policy.expect().check(&claims, given.now)?;
            return Ok(claims);
        }
        let claims = Arc::new(verify(token, given.keys.own(), policy.expect(), given.now)?);
        self.cache.insert(given.looked(token), Identity::Keyward(Arc::clone(&claims)), claims.exp);
        Ok(claims)
    }

    fn identity(&self, policy: &Policy, token: &str, given: Given<'_>) -> Result<Identity, Refusal> {
        let expect = policy.expect();
        if let Some(identity) = self.find(token, given) {
            match &identity {
                Identity::Keyward(claims) => expect.check(claims, given.now)?,
                Identity::Foreign(foreign) => foreign.check(expect, given.now)?,
            }
            return Ok(identity);
        }
        let identity = policy.verify_identity(token, given.keys, given.now)?;
        let exp = match &identity {
            Identity::Keyward(claims) => claims.exp,
            Identity::Foreign(_) if !self.is_of_one => return Ok(identity),
            Identity::Foreign(foreign) => foreign.expires_at(),
        };
        self.cache.insert(given.looked(token), identity.clone(), exp);
        Ok(identity)
    }

    fn find(&self, token: &str, given: Given<'_>) -> Option<Identity> {
        let found = self.cache.find(given.looked(token));
        if found.is_some() { &self.hits } else { &self.misses }.fetch_add(1, Relaxed);
        found
    }

    /// Forgets all tokens.
    pub fn clear(&self) {
        self.cache.clear();
    }

    /// How many are remembered; how often one was, and was not.
    pub fn measures(&self) -> (usize, [u64; 2]) {
        (self.cache.entries(), [&self.hits, &self.misses].map(|count| count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ISSUER, KEYS, NOW, PLANT, STORE, claims, expect, key_set};
    use crate::{Expect, KeySet};

    #[test]
    fn what_is_remembered_is_judged_by_the_policy_and_the_time_of_each_request() {
        let (keys, memory) = (Keys::new(key_set()), Memory::of_many_policies(10));
        let token = claims().sign(&KEYS[0]).unwrap();
        let presented = Presented { authorization: &token, identity: None };
        let (plant, store) = (Policy::new(expect()), Policy::new(Expect::new(ISSUER, STORE)));
        let given = Given { keys: &keys, epoch: 1, now: NOW };
        for _ in 0..2 {
            assert!(memory.check(&plant, &presented, given).is_ok());
            let elsewhere = memory.check(&store, &presented, given);
            assert_eq!(elsewhere.unwrap_err(), Refusal::Audience(keyward_model::token::Audience::one(PLANT)));
        }
        assert_eq!(memory.measures(), (1, [3, 1]));
        let late = Given { now: claims().exp.plus(std::time::Duration::from_secs(60)), ..given };
        assert_eq!(memory.check(&plant, &presented, late).unwrap_err(), Refusal::Expired(claims().exp));
    }

    #[test]
    fn what_was_verified_with_a_withdrawn_key_is_verified_anew() {
        let (keys, memory) = (Keys::new(key_set()), Memory::of_one_policy(10));
        let token = claims().sign(&KEYS[0]).unwrap();
        let presented = Presented { authorization: &token, identity: None };
        let policy = Policy::new(expect());
        assert!(memory.check(&policy, &presented, Given { keys: &keys, epoch: 1, now: NOW }).is_ok());
        let without = Keys::new(KeySet::default());
        let verdict = memory.check(&policy, &presented, Given { keys: &without, epoch: 2, now: NOW });
        assert!(matches!(verdict, Err(Refusal::KeyUnknown(_))));
    }
}
