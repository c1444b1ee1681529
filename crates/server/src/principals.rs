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
use keyward_store::{FoundPrincipal, StoreError};
use moka::sync::Cache;

use crate::app::App;
use crate::meter::Counter;
use crate::oauth::grants::client_credentials::LastGrant;
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
    /// The versions of client and owner beside which it was read. A change of those may have given it a new place in the
    /// status list without an event of its own, so beside others it is read anew.
    read_beside: [i64; 2],
    ceiling: ArcSwapOption<Ceiling>,
}

impl CredentialEntry {
    fn new(credential: Credential, client: &Client, owner: &User) -> Self {
        Self { credential, read_beside: [client.version, owner.version], ceiling: ArcSwapOption::empty() }
    }
}

/// The most this credential may be granted, and what it was computed from.
#[derive(Debug)]
pub(crate) struct Ceiling {
    /// credential ∩ client ∩ owner.
    pub(crate) rights: Rights,
    /// What was last granted within it, to be granted again when the same is asked.
    pub(crate) last_grant: ArcSwapOption<LastGrant>,
    client: Arc<Client>,
    owner: Arc<User>,
    pub(crate) registry: Arc<Registry>,
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
            last_grant: ArcSwapOption::empty(),
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
    /// `None` for a credential that does not exist: who asks for it again costs no more than who knows one that does.
    credentials: Memory<CredentialId, Option<Arc<CredentialEntry>>>,
    clients: Memory<ClientId, Arc<Client>>,
    users: Memory<UserId, Arc<User>>,
    /// How many changes have been applied; see the head of this file.
    changes: RwLock<u64>,
    /// Set while the log cannot be read: what is remembered may be out of date and must not be trusted.
    doubtful: AtomicBool,
}

/// One kind of thing remembered, and how often it was asked for.
struct Memory<K, T> {
    cache: Cache<K, T>,
    hits: Counter,
    misses: Counter,
}

impl<K: Hash + Eq + Send + Sync + 'static, T: Clone + Send + Sync + 'static> Memory<K, T> {
    fn new(entries: u64) -> Self {
        Self { cache: Cache::new(entries), hits: Counter::new(), misses: Counter::new() }
    }

    fn get(&self, id: &K) -> Option<T> {
        let known = self.cache.get(id);
        if known.is_some() {
            self.hits.increment()
        } else {
            self.misses.increment()
        }
        known
    }

    /// What is known by this id, unless this is newer: then this, from now on. Beside a credential that got its place by
    /// a change, what was true before that change must not be used any more.
    fn newest(&self, id: K, read: T, version: impl Fn(&T) -> i64) -> T {
        self.cache.get(&id).filter(|known| version(known) >= version(&read)).unwrap_or_else(|| {
            self.cache.insert(id, read.clone());
            read
        })
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
    pub(crate) async fn find(&self, app: &App, id: CredentialId) -> Result<Option<Principal>, StoreError> {
        let doubtful = self.is_doubtful();
        if !doubtful && let Some(known) = self.known(id) {
            return Ok(known);
        }
        // Boxed: requests that find everything in memory do not carry the room for it.
        Box::pin(self.read(app, id, doubtful)).await
    }

    async fn read(&self, app: &App, id: CredentialId, doubtful: bool) -> Result<Option<Principal>, StoreError> {
        let before = *self.changes.read().unwrap_or_else(PoisonError::into_inner);
        let found = app.store.find_principal(id).await?;
        if let Some(found) = &found
            && !doubtful
        {
            app.wait_until_catalogue(found.true_from).await?;
        }
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        let found = found.map(|FoundPrincipal { credential, client, owner, .. }| Principal {
            entry: Arc::new(CredentialEntry::new(credential, &client, &owner)),
            client: Arc::new(client),
            owner: Arc::new(owner),
        });
        if *changes == before && !doubtful {
            return Ok(self.remember(id, found));
        }
        Ok(found)
    }

    /// What is remembered of a credential: perhaps that it does not exist.
    fn known(&self, id: CredentialId) -> Option<Option<Principal>> {
        let Some(entry) = self.credentials.get(&id)? else { return Some(None) };
        let client = self.clients.get(&entry.credential.client)?;
        let owner = self.users.get(&client.owner)?;
        (entry.read_beside == [client.version, owner.version]).then_some(Some(Principal { entry, client, owner }))
    }

    /// Remembers what was read. Client and owner may be known by another credential: that reading stays the common one.
    fn remember(&self, id: CredentialId, found: Option<Principal>) -> Option<Principal> {
        let Some(Principal { entry, client, owner }) = found else {
            self.credentials.cache.insert(id, None);
            return None;
        };
        let owner = self.users.newest(owner.id, owner, |owner| owner.version);
        let client = self.clients.newest(client.id, client, |client| client.version);
        self.credentials.cache.insert(id, Some(Arc::clone(&entry)));
        Some(Principal { entry, client, owner })
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

    /// Forgets all credentials: a change of scopes or of an API has moved some, and says only how many.
    pub(crate) fn forget_credentials(&self) {
        *self.changes.write().unwrap_or_else(PoisonError::into_inner) += 1;
        self.credentials.cache.invalidate_all();
    }

    /// Whether what is remembered is not trusted.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Acquire)
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
