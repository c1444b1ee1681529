//! The signing keys in memory: who signs now, and what verifiers see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyward_guard::KeySet;
use keyward_model::id::KeyId;
use keyward_model::jws::{Jwk, Jwks, PrivateKey, SigningAlgorithm, SigningKey};
use keyward_model::sealing::MasterKey;
use keyward_model::time::Timestamp;
use keyward_store::{KeyRow, Store};

use crate::app::StartError;

/// All keys of one reading of the database, unsealed.
pub(crate) struct KeyRing {
    /// Newest turn first.
    signers: Vec<Signer>,
    /// The public halves (RFC 7517 §5), as served.
    pub jwks: Arc<str>,
    /// Names this very set of keys (RFC 9110 §8.8.3).
    pub etag: String,
    /// The same keys for verifying.
    pub key_set: Arc<KeySet>,
    /// Tells one reading from another: what was verified with another is verified anew.
    pub(crate) epoch: u64,
}

static READINGS: AtomicU64 = AtomicU64::new(0);

struct Signer {
    key: Arc<SigningKey>,
    activate_at: Timestamp,
    retire_at: Option<Timestamp>,
}

impl KeyRing {
    /// Reads all keys and unseals those that `known` has not unsealed already.
    pub(crate) async fn load(store: &Store, master: &MasterKey, known: Option<&Self>) -> Result<Self, StartError> {
        Self::unseal(&store.list_signing_keys().await?, master, known)
    }

    fn unseal(rows: &[KeyRow], master: &MasterKey, known: Option<&Self>) -> Result<Self, StartError> {
        let mut signers = Vec::new();
        let mut keys = Vec::new();
        for row in rows {
            let id = row.key.id;
            keys.push(serde_json::from_str::<Jwk>(&row.key.public_key).map_err(|_| StartError::SigningKey(id))?);
            let Some(activate_at) = row.activate_at else { continue };
            let known = known.and_then(|ring| ring.signers.iter().find(|s| s.key.kid() == id));
            let key = match known {
                Some(known) => Arc::clone(&known.key),
                None => Arc::new(unseal(row, master)?),
            };
            signers.push(Signer { key, activate_at, retire_at: row.retire_at });
        }
        signers.sort_by_key(|signer| std::cmp::Reverse(signer.activate_at));
        let etag = format!("\"{}\"", keys.iter().filter_map(|k| k.kid.as_deref()).collect::<Vec<_>>().join("."));
        let jwks = Jwks { keys };
        let key_set = Arc::new(KeySet::from_jwks(&jwks));
        let jwks = serde_json::to_string(&jwks).map_err(|_| StartError::KeySet)?.into();
        Ok(Self { signers, jwks, etag, key_set, epoch: READINGS.fetch_add(1, Ordering::Relaxed) })
    }

    /// The key that signs with this algorithm at this instant.
    pub(crate) fn signer(&self, algorithm: SigningAlgorithm, now: Timestamp) -> Option<&Arc<SigningKey>> {
        self.turn(algorithm, now).map(|signer| &signer.key)
    }

    /// Since when that key has had its turn.
    pub(crate) fn signing_since(&self, algorithm: SigningAlgorithm, now: Timestamp) -> Option<Timestamp> {
        self.turn(algorithm, now).map(|signer| signer.activate_at)
    }

    fn turn(&self, algorithm: SigningAlgorithm, now: Timestamp) -> Option<&Signer> {
        let has_its_turn = |s: &&Signer| s.activate_at <= now && s.retire_at.is_none_or(|end| end > now);
        self.signers.iter().find(|s| s.key.algorithm() == algorithm && has_its_turn(s))
    }
}

fn unseal(row: &KeyRow, master: &MasterKey) -> Result<SigningKey, StartError> {
    let id = row.key.id;
    let pkcs8 = master.open(&sealed_name(id), &row.key.sealed).map_err(|e| StartError::Sealed(id.to_string(), e))?;
    let private = PrivateKey::from_pkcs8(row.key.algorithm, &pkcs8).map_err(|_| StartError::SigningKey(id))?;
    SigningKey::new(id, private).map_err(|_| StartError::SigningKey(id))
}

/// Under which name a key's private half is sealed: nothing sealed can be put in its place.
pub(crate) fn sealed_name(id: KeyId) -> String {
    format!("signing key {id}")
}
