//! The turns of signing keys.
//!
//! Of each algorithm in use one key signs, and one waits, published long before its turn, so that every verifier has
//! seen it. A rotation gives the waiting key its turn and publishes the next; the old key stays published until the
//! last token it can have signed is dead. Which key signs follows from these times alone, so all nodes agree.

use std::time::Duration;

use keyward_model::api::MAX_TOKEN_LIFETIME;
use keyward_model::entropy::Entropy;
use keyward_model::event::Draft;
use keyward_model::id::KeyId;
use keyward_model::jws::{PrivateKey, SigningAlgorithm};
use keyward_model::sealing::MasterKey;
use keyward_model::time::Timestamp;
use keyward_store::{KeyRow, NewKey, Store, Tx};
use serde_json::json;
use zeroize::Zeroizing;

use crate::app::StartError;
use crate::key_ring::sealed_name;

/// Clocks of verifiers may be off by this much.
const LEEWAY: Duration = Duration::from_secs(300);

/// A key that nobody has seen yet. It is made before the transaction that publishes it, for looking for RSA primes
/// would hold up every other change; it is sealed inside, under the master key that is in force then.
pub(crate) struct Fresh {
    id: KeyId,
    algorithm: SigningAlgorithm,
    public_key: String,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// The first two keys of an algorithm: the one that signs, and the one that waits.
pub(crate) type FirstKeys = [Fresh; 2];

/// The first two keys of an algorithm if it has none yet.
pub(crate) async fn make_first(
    store: &Store,
    algorithm: SigningAlgorithm,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<Option<FirstKeys>, StartError> {
    if has_keys(&store.list_signing_keys().await?, algorithm) {
        return Ok(None);
    }
    Ok(Some([Fresh::make(algorithm, now, entropy).await?, Fresh::make(algorithm, now, entropy).await?]))
}

/// Publishes the first keys of an algorithm, unless somebody else was faster.
///
/// The very first key of an algorithm signs as soon as it is published: no verifier has looked for it before.
pub(crate) async fn publish_first(
    tx: &mut Tx,
    [first, next]: &FirstKeys,
    master: &MasterKey,
    now: Timestamp,
) -> Result<(), StartError> {
    if has_keys(&tx.list_signing_keys().await?, first.algorithm) {
        return Ok(());
    }
    publish(tx, &first.seal(master)?, now, Some(now)).await?;
    publish(tx, &next.seal(master)?, now, None).await
}

fn has_keys(rows: &[KeyRow], algorithm: SigningAlgorithm) -> bool {
    rows.iter().any(|row| row.key.algorithm == algorithm)
}

/// Gives the waiting key its turn and publishes `next`; `None` if another rotation was faster.
///
/// The turn begins at once if the key has been published for `publish_ahead`, else as soon as it has; `immediately`
/// begins it now in any case and withdraws the old key with all its tokens, for a key that leaked.
pub(crate) async fn rotate(
    tx: &mut Tx,
    next: &Fresh,
    master: &MasterKey,
    when: &Turn,
) -> Result<Option<Timestamp>, StartError> {
    let algorithm = next.algorithm;
    let rows = tx.list_signing_keys().await?;
    let waiting = rows.iter().find(|row| row.key.algorithm == algorithm && row.activate_at.is_none());
    let Some(KeyRow { key, published_at, .. }) = waiting else { return Ok(None) };
    let seen_by_all = published_at.plus(when.publish_ahead);
    let activate_at = if when.immediately { when.now } else { seen_by_all.max(when.now) };
    if !tx.activate_signing_key(key.id, activate_at).await? {
        return Ok(None);
    }
    let last_token_dead = activate_at.plus(MAX_TOKEN_LIFETIME).plus(LEEWAY);
    let remove_at = if when.immediately { when.now } else { last_token_dead };
    tx.retire_signing_keys(algorithm, key.id, activate_at, remove_at).await?;
    if when.immediately {
        remove_dead(tx, when.now).await?;
    }
    let data = json!({ "algorithm": algorithm, "activate_at": activate_at });
    tx.record(Draft { kind: "signing_key.activated", subject: key.id.to_string(), data });
    publish(tx, &next.seal(master)?, when.now, None).await?;
    Ok(Some(activate_at))
}

/// Takes the keys whose last token is dead out of the key set.
pub(crate) async fn remove_dead(tx: &mut Tx, now: Timestamp) -> Result<(), StartError> {
    for id in tx.remove_dead_signing_keys(now).await? {
        tx.record(Draft { kind: "signing_key.removed", subject: id.to_string(), data: json!({}) });
    }
    Ok(())
}

/// When a turn may begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// This instant.
    pub(crate) now: Timestamp,
    /// How long a key must have been published before.
    pub(crate) publish_ahead: Duration,
    /// Whether to begin at once all the same.
    pub(crate) immediately: bool,
}

/// Since when the signing key of an algorithm has its turn, if it has begun and no other is to follow yet.
pub(crate) fn signing_since(rows: &[KeyRow], algorithm: SigningAlgorithm) -> Option<Timestamp> {
    rows.iter()
        .filter(|row| row.key.algorithm == algorithm && row.retire_at.is_none())
        .filter_map(|row| row.activate_at)
        .max()
}

async fn publish(tx: &mut Tx, key: &NewKey, now: Timestamp, activate_at: Option<Timestamp>) -> Result<(), StartError> {
    tx.insert_signing_key(key, now, activate_at).await?;
    let data = json!({ "algorithm": key.algorithm, "activate_at": activate_at });
    tx.record(Draft { kind: "signing_key.published", subject: key.id.to_string(), data });
    Ok(())
}

impl Fresh {
    /// Makes one.
    pub(crate) async fn make(
        algorithm: SigningAlgorithm,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<Self, StartError> {
        let id = KeyId::new(now, entropy)?;
        let make = move || PrivateKey::generate(algorithm);
        // Looking for RSA primes takes long enough to hold up everyone else on the thread.
        let private = match algorithm {
            SigningAlgorithm::Rs256 => tokio::task::spawn_blocking(make).await.map_err(|_| StartError::NewKey)?,
            SigningAlgorithm::Es256 | SigningAlgorithm::EdDsa => make(),
        }
        .map_err(|_| StartError::NewKey)?;
        let public = private.public().map_err(|_| StartError::NewKey)?;
        let public_key = serde_json::to_string(&public.to_jwk(&id.to_string())).map_err(|_| StartError::NewKey)?;
        let pkcs8 = private.to_pkcs8().map_err(|_| StartError::NewKey)?;
        Ok(Self { id, algorithm, public_key, pkcs8 })
    }

    fn seal(&self, master: &MasterKey) -> Result<NewKey, StartError> {
        let Self { id, algorithm, .. } = *self;
        let sealed = master.seal(&sealed_name(id), &self.pkcs8).map_err(|e| StartError::Sealed(id.to_string(), e))?;
        Ok(NewKey { id, algorithm, public_key: self.public_key.clone(), sealed })
    }
}
