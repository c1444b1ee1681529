//! The keys of issuers beside Keyward whose users an API knows.
//!
//! 1. Each issuer that some API trusts has a task, which finds its keys      OpenID Connect Discovery §4
//! 2. and fetches them again now and then, sooner after a failure, or when a request brings a key unknown by then
//! 3. Requests find the keys in memory; they wait, and not for long, only where an issuer has never been asked
//!
//! Whoever sends tokens cannot make the server ask an issuer more than once in [`PAUSE`].

mod fetch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use keyward_guard::{KeySet, Keys, Policy};
use keyward_model::time::Timestamp;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::app::App;
use crate::outbound::{self, Outbound};

/// How old keys become before they are fetched again.
const REFRESH: Duration = Duration::from_secs(600);
/// Keys that could not be fetched again for so long are not trusted any more: one of them may have been withdrawn.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long it is waited after a failure, twice as long after each further one, up to [`REFRESH`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How often requests may cause a fetch.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a request waits for an issuer that has never been asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// Issuers that are asked at once.
const AT_ONCE: usize = 8;

/// What is known of all issuers.
pub(crate) struct ForeignKeys {
    outbound: Outbound,
    places: Semaphore,
    issuers: RwLock<HashMap<String, Arc<Issuer>>>,
}

/// What is known of one.
struct Issuer {
    known: ArcSwapOption<Known>,
    /// Whether it has been asked, whatever came of it.
    asked: watch::Sender<bool>,
    /// When a request last caused a fetch.
    wanted_at: Mutex<Option<Timestamp>>,
    wanted: Notify,
}

struct Known {
    keys: Arc<KeySet>,
    fetched_at: Timestamp,
}

/// Keeps the keys of all trusted issuers fresh until the server stops.
pub(crate) async fn keep_fetching(app: Arc<App>) {
    let mut applied = app.applied.subscribe();
    let mut tasks = JoinSet::new();
    let mut fetching: HashMap<String, AbortHandle> = HashMap::new();
    let mut seen = None;
    loop {
        let registry = app.registry.load_full();
        if !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &registry)) {
            let trusted = registry.trusted_issuers();
            fetching.retain(|name, task| {
                let stays = trusted.contains(name.as_str());
                if !stays {
                    task.abort();
                    app.foreign_keys.forget(name);
                }
                stays
            });
            for name in trusted {
                let start = || tasks.spawn(keep_fresh(Arc::clone(&app), name.to_owned()));
                fetching.entry(name.to_owned()).or_insert_with(start);
            }
            seen = Some(registry);
        }
        while tasks.try_join_next().is_some() {}
        if applied.changed().await.is_err() {
            return;
        }
    }
}

async fn keep_fresh(app: Arc<App>, name: String) {
    let issuer = app.foreign_keys.issuer(&name);
    let mut wait = FIRST_WAIT;
    loop {
        let fetched = match app.foreign_keys.places.acquire().await {
            Ok(_place) => fetch::keys(&app.foreign_keys.outbound, &name).await,
            Err(_) => return,
        };
        let pause = match fetched {
            Ok(keys) => {
                tracing::debug!(issuer = %name, keys = keys.len(), "the keys of an issuer were fetched");
                let known = Known { keys: Arc::new(keys), fetched_at: app.clock.now() };
                issuer.known.store(Some(Arc::new(known)));
                wait = FIRST_WAIT;
                REFRESH
            }
            Err(problem) => {
                tracing::warn!(issuer = %name, %problem, "the keys of an issuer could not be fetched; it is tried again");
                let pause = wait;
                wait = (wait * 2).min(REFRESH);
                pause
            }
        };
        issuer.asked.send_replace(true);
        let _wanted = timeout(pause, issuer.wanted.notified()).await;
    }
}

impl ForeignKeys {
    /// Knows none yet; issuers in these networks may be asked too.
    pub(crate) fn new(allowed: Vec<IpNet>) -> Self {
        Self {
            outbound: Outbound::new(allowed, outbound::PATIENCE),
            places: Semaphore::new(AT_ONCE),
            issuers: RwLock::default(),
        }
    }

    /// Keyward's keys, and those that are known of the issuers that this API trusts.
    pub(crate) fn beside(&self, own: &Arc<KeySet>, policy: &Policy, now: Timestamp) -> Keys {
        let keys = Keys::new(Arc::clone(own));
        policy.trusted().iter().fold(keys, |keys, trusted| match self.issuer(&trusted.issuer).known(now) {
            Some(known) => keys.with(trusted.issuer.as_str(), known),
            None => keys,
        })
    }

    /// Waits for those of these issuers that have never been asked.
    pub(crate) async fn until_asked(&self, policy: &Policy) {
        let all = async {
            for trusted in policy.trusted() {
                let mut asked = self.issuer(&trusted.issuer).asked.subscribe();
                let _ended = asked.wait_for(|asked| *asked).await;
            }
        };
        let _in_time = timeout(PATIENCE, all).await;
    }

    /// Has these issuers asked anew because of a key that is not known; whether the keys of all of them are known.
    pub(crate) fn miss(&self, policy: &Policy, now: Timestamp) -> bool {
        policy.trusted().iter().fold(true, |all, trusted| {
            let issuer = self.issuer(&trusted.issuer);
            issuer.want(now);
            all && issuer.known(now).is_some()
        })
    }

    /// One of the trusted issuers: there are no more of them than APIs name.
    fn issuer(&self, name: &str) -> Arc<Issuer> {
        if let Some(known) = self.issuers.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut issuers = self.issuers.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(issuers.entry(name.to_owned()).or_insert_with(|| Arc::new(Issuer::unknown())))
    }

    fn forget(&self, name: &str) {
        self.issuers.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Issuer {
    fn unknown() -> Self {
        Self {
            known: ArcSwapOption::empty(),
            asked: watch::Sender::new(false),
            wanted_at: Mutex::default(),
            wanted: Notify::new(),
        }
    }

    fn known(&self, now: Timestamp) -> Option<Arc<KeySet>> {
        let known = self.known.load();
        known.as_ref().filter(|known| now.since(known.fetched_at) < MAX_AGE).map(|known| Arc::clone(&known.keys))
    }

    fn want(&self, now: Timestamp) {
        let mut wanted_at = self.wanted_at.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted_at.is_none_or(|at| now.since(at) >= PAUSE) {
            *wanted_at = Some(now);
            self.wanted.notify_one();
        }
    }
}
