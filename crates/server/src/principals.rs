//! Who is behind a key: credential, client and owner, from a bounded memory that the event log keeps true.
//!
//! The token path finds all three here without touching the database. A change anywhere drops the entry it concerns;
//! the next request reads it anew. An entry that was read before a change but arrives after it is not kept: it is
//! stored under the shared side of a lock whose exclusive side counts the changes.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwapOption;
use keyward_model::client::Client;
use keyward_model::credential::Credential;
use keyward_model::id::{ClientId, CredentialId, UserId};
use keyward_model::rights::Rights;
use keyward_model::user::User;
use keyward_store::{Store, StoreError};
use moka::sync::Cache;

use crate::meter::Counter;
use crate::registry::Registry;

/// Credential, client and owner as they are now.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    /// The credential, with its ceiling remembered beside it.
    pub(crate) entry: Arc<CredentialEntry>,
    /// Its client.
    pub(crate) client: Arc<Client>,
    /// The client's owner.
    pub(crate) owner: Arc<User>,
}

/// A credential and the ceiling last computed for it.
#[derive(Debug)]
pub(crate) struct CredentialEntry {
    /// The credential.
    pub(crate) credential: Credential,
    ceiling: ArcSwapOption<Ceiling>,
}

/// The most this credential may be granted, and what it was computed from.
#[derive(Debug)]
pub(crate) struct Ceiling {
    /// credential ∩ client ∩ owner.
    pub(crate) rights: Rights,
    client: Arc<Client>,
    owner: Arc<User>,
    registry: Arc<Registry>,
}

impl Principal {
    /// credential ∩ client ∩ owner's rights now. Computed once and used until one of the four changes.
    pub(crate) fn ceiling(&self, registry: &Arc<Registry>) -> Arc<Ceiling> {
        if let Some(known) = self.entry.ceiling.load_full()
            && Arc::ptr_eq(&known.client, &self.client)
            && Arc::ptr_eq(&known.owner, &self.owner)
            && Arc::ptr_eq(&known.registry, registry)
        {
            return known;
        }
        let catalogue = &registry.catalogue;
        let credential = &self.entry.credential;
        let own = Rights {
            scope: credential.scope.clone().unwrap_or_else(|| self.client.rights.scope.clone()),
            res: credential.res.clone().unwrap_or_else(|| self.client.rights.res.clone()),
        };
        let rights = own.intersect(&self.client.rights, catalogue).intersect(&self.owner.rights, catalogue);
        let ceiling = Arc::new(Ceiling {
            rights,
            client: Arc::clone(&self.client),
            owner: Arc::clone(&self.owner),
            registry: Arc::clone(registry),
        });
        self.entry.ceiling.store(Some(Arc::clone(&ceiling)));
        ceiling
    }
}

/// The bounded memory.
pub(crate) struct Principals {
    credentials: Memory<CredentialId, CredentialEntry>,
    clients: Memory<ClientId, Client>,
    users: Memory<UserId, User>,
    /// How many changes have been applied; see the head of this file.
    changes: RwLock<u64>,
    /// Set while the log cannot be read: what is remembered may be out of date and must not be trusted.
    doubtful: AtomicBool,
}

/// One kind of thing remembered, and how often it was asked for.
struct Memory<K, T> {
    cache: Cache<K, Arc<T>>,
    hits: Counter,
    misses: Counter,
}

impl<K: Hash + Eq + Send + Sync + 'static, T: Send + Sync + 'static> Memory<K, T> {
    fn new(entries: u64) -> Self {
        Self { cache: Cache::new(entries), hits: Counter::new(), misses: Counter::new() }
    }

    fn get(&self, id: &K) -> Option<Arc<T>> {
        self.cache.get(id).inspect(|_| self.hits.increment())
    }

    fn measures(&self) -> [u64; 3] {
        [self.cache.entry_count(), self.hits.get(), self.misses.get()]
    }
}

impl Principals {
    /// A memory for so many of each.
    pub(crate) fn new(entries: u64) -> Self {
        Self {
            credentials: Memory::new(entries),
            clients: Memory::new(entries),
            users: Memory::new(entries),
            changes: RwLock::new(0),
            doubtful: AtomicBool::new(false),
        }
    }

    /// Everyone behind a credential; `None` if there is no such credential.
    pub(crate) async fn find(&self, store: &Store, id: CredentialId) -> Result<Option<Principal>, StoreError> {
        let read = async || {
            let credential = store.find_credential(id).await?;
            Ok(credential.map(|credential| CredentialEntry { credential, ceiling: ArcSwapOption::empty() }))
        };
        let Some(entry) = self.remembered(&self.credentials, id, read).await? else { return Ok(None) };
        let Some(client) = self.client(store, entry.credential.client).await? else { return Ok(None) };
        let Some(owner) = self.user(store, client.owner).await? else { return Ok(None) };
        Ok(Some(Principal { entry, client, owner }))
    }

    /// The client with this id.
    pub(crate) async fn client(&self, store: &Store, id: ClientId) -> Result<Option<Arc<Client>>, StoreError> {
        self.remembered(&self.clients, id, async || store.find_client(id).await).await
    }

    /// The user with this id.
    pub(crate) async fn user(&self, store: &Store, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        self.remembered(&self.users, id, async || store.find_user(id).await).await
    }

    async fn remembered<K: Hash + Eq + Copy + Send + Sync + 'static, T: Send + Sync + 'static>(
        &self,
        memory: &Memory<K, T>,
        id: K,
        read: impl AsyncFnOnce() -> Result<Option<T>, StoreError>,
    ) -> Result<Option<Arc<T>>, StoreError> {
        let doubtful = self.doubtful.load(Ordering::Acquire);
        if !doubtful && let Some(known) = memory.get(&id) {
            return Ok(Some(known));
        }
        memory.misses.increment();
        let before = *self.changes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = read().await?.map(Arc::new) else { return Ok(None) };
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        if *changes == before && !doubtful {
            memory.cache.insert(id, Arc::clone(&found));
        }
        Ok(Some(found))
    }

    /// Entries, hits and misses of each kind.
    pub(crate) fn measures(&self) -> [(&'static str, [u64; 3]); 3] {
        [
            ("credentials", self.credentials.measures()),
            ("clients", self.clients.measures()),
            ("users", self.users.measures()),
        ]
    }

    /// Forgets what an event's subject names. Identifiers of other kinds are none of our business.
    pub(crate) fn forget(&self, subject: &str) {
        *self.changes.write().unwrap_or_else(PoisonError::into_inner) += 1;
        if let Ok(id) = subject.parse::<CredentialId>() {
            self.credentials.cache.invalidate(&id);
        } else if let Ok(id) = subject.parse::<ClientId>() {
            self.clients.cache.invalidate(&id);
        } else if let Ok(id) = subject.parse::<UserId>() {
            self.users.cache.invalidate(&id);
        }
    }

    /// Stops (or resumes) trusting what is remembered; on resuming, everything is read anew.
    pub(crate) fn doubt(&self, doubtful: bool) {
        if self.doubtful.swap(doubtful, Ordering::AcqRel) && !doubtful {
            *self.changes.write().unwrap_or_else(PoisonError::into_inner) += 1;
            self.credentials.cache.invalidate_all();
            self.clients.cache.invalidate_all();
            self.users.cache.invalidate_all();
        }
    }
}
