//! What all clones of a guard and the tasks behind it share.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;

use super::asked::Asked;
use super::measures::{Measures, Meter, Now};
use super::pace::Pace;
use super::revocations::{Revocations, Standing};
use crate::two_token::of_identity;
use crate::{Caller, Given, KeySet, Keys, Memory, Policy, Presented, Refusal, Unreachable};

/// Where a guard reads the time.
pub(super) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

pub(crate) struct State {
    pub(super) policy: Policy,
    pub(super) unreachable: Unreachable,
    pub(super) issuer: String,
    pub(super) clock: Clock,
    pub(super) realm: String,
    pub(super) pace: Pace,
    pub(super) keys: ArcSwap<KeyState>,
    /// The keys of Keyward, then those of each trusted issuer.
    pub(super) keys_asked: Vec<Arc<Asked>>,
    pub(super) list_asked: Asked,
    /// The place in Keyward's log from before which no keys are taken.
    pub(super) keys_as_of: Mutex<Option<u64>>,
    pub(super) memory: Memory,
    pub(super) revocations: Revocations,
    pub(super) meter: Meter,
}

/// All keys that count.
#[derive(Default)]
pub(super) struct KeyState {
    keys: Keys,
    /// Grows when a key is withdrawn: what was verified with it before is looked for in vain.
    epoch: u64,
}

impl State {
    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Who calls with these tokens, if they count now.
    pub(super) fn judge(&self, presented: &Presented<'_>) -> Result<Caller, Refusal> {
        let now = self.now();
        let keys = self.keys.load();
        if keys.keys.own().is_empty() {
            return Err(Refusal::Unknowable("the issuer's keys could not be read yet"));
        }
        let given = Given { keys: &keys.keys, epoch: keys.epoch, now };
        let caller = self.memory.check(&self.policy, presented, given).map_err(|refusal| match refusal {
            Refusal::Identity(cause) => of_identity(self.excused(*cause, &keys.keys)),
            refusal => refusal,
        })?;
        for (at, claims) in caller.keyward_tokens().enumerate() {
            let standing = self.check_standing(claims, now);
            standing.map_err(|refusal| if at == 0 { refusal } else { of_identity(refusal) })?;
        }
        Ok(caller)
    }

    /// Whose token it is cannot be told before the keys of all trusted issuers are there.
    fn excused(&self, refusal: Refusal, keys: &Keys) -> Refusal {
        let mut trusted = self.policy.trusted().iter();
        match refusal {
            Refusal::KeyUnknown(_) if trusted.any(|trusted| keys.of(&trusted.issuer).is_none()) => {
                Refusal::Unknowable("the keys of a trusted issuer could not be read yet")
            }
            refusal => refusal,
        }
    }

    fn check_standing(&self, claims: &AccessTokenClaims, now: Timestamp) -> Result<(), Refusal> {
        match self.revocations.ask(claims, self.unreachable, now) {
            Standing::Counts => Ok(()),
            Standing::OnTrust => {
                self.meter.on_trust();
                Ok(())
            }
            Standing::Ended(why) => Err(Refusal::Ended(why)),
            Standing::Unknowable(why) => Err(Refusal::Unknowable(why)),
        }
    }

    /// What might change this verdict if it were fetched now.
    pub(super) fn missing_for(&self, refusal: &Refusal) -> Vec<&Asked> {
        let (cause, keys) = match refusal {
            Refusal::Identity(cause) => (&**cause, self.keys_asked.as_slice()),
            refusal => (refusal, self.keys_asked.get(..1).unwrap_or_default()),
        };
        let keys = keys.iter().map(|keys| &**keys);
        match cause {
            Refusal::KeyUnknown(_) => keys.collect(),
            Refusal::Unknowable(_) => keys.chain([&self.list_asked]).collect(),
            _ => Vec::new(),
        }
    }

    /// These are the keys of an issuer now. What was verified with one that is not among them counts no more.
    pub(super) fn set_keys(&self, issuer: &str, new: KeySet) {
        let new = Arc::new(new);
        let mut withdrawn = false;
        self.keys.rcu(|state| {
            let own = issuer == self.issuer;
            let before = if own { Some(state.keys.own()) } else { state.keys.of(issuer) };
            withdrawn = before.is_some_and(|before| !new.keeps(before));
            let keys = state.keys.clone();
            let keys = if own { keys.with_own(Arc::clone(&new)) } else { keys.with(issuer, Arc::clone(&new)) };
            KeyState { keys, epoch: state.epoch + u64::from(withdrawn) }
        });
        if withdrawn {
            self.memory.clear();
        }
    }

    /// The keys of a trusted issuer are not known any more, and with them nothing that they signed.
    pub(super) fn forget_keys(&self, issuer: &str) {
        self.keys.rcu(|state| KeyState { keys: state.keys.clone().without(issuer), epoch: state.epoch + 1 });
        self.memory.clear();
    }

    pub(super) fn keys_as_of(&self) -> Option<u64> {
        *self.keys_as_of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on Keyward's keys are read as of this place in its log.
    pub(super) fn want_keys_as_of(&self, place: Option<u64>) {
        *self.keys_as_of.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    pub(super) fn own_keys(&self) -> Arc<KeyState> {
        self.keys.load_full()
    }

    pub(super) fn measures(&self) -> Measures {
        let (cache_entries, [cache_hits, cache_misses]) = self.memory.measures();
        self.meter.measures(Now {
            feed_connected: self.revocations.is_live(),
            uncertain_for: self.revocations.uncertain_for(self.now()),
            cache_hits,
            cache_misses,
            cache_entries,
            revoked_tokens: self.revocations.tokens(),
        })
    }
}

impl KeyState {
    pub(super) fn own(&self) -> &KeySet {
        self.keys.own()
    }
}
