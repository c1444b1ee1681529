//! Signing keys. The private half is here only sealed under the master key.

use keyward_model::id::KeyId;
use keyward_model::jws::SigningAlgorithm;
use keyward_model::time::Timestamp;

use crate::engine::{Row, Value};
use crate::{Store, StoreError, Tx, parsed};

const COLUMNS: &str = "id, algorithm, public_key, sealed, published_at, activate_at, retire_at, remove_at, version";

/// A key that does not sign yet.
#[derive(Clone)]
pub struct NewKey {
    /// `key_…`: the `kid`.
    pub id: KeyId,
    /// What it signs with.
    pub algorithm: SigningAlgorithm,
    /// The public half as a JWK (RFC 7517 §4).
    pub public_key: String,
    /// The private half, sealed.
    pub sealed: Vec<u8>,
}

/// A key and its times. Which of them signs follows from the times alone, so all nodes agree without being told.
#[derive(Clone)]
pub struct KeyRow {
    /// The key itself.
    pub key: NewKey,
    /// When the public half appeared in the key set.
    pub published_at: Timestamp,
    /// From when it signs; none while it waits for its turn.
    pub activate_at: Option<Timestamp>,
    /// From when its successor signs.
    pub retire_at: Option<Timestamp>,
    /// From when its last token is dead and it leaves the key set.
    pub remove_at: Option<Timestamp>,
    /// Grows by one with each change.
    pub version: i64,
}

fn read(row: &Row) -> Result<KeyRow, StoreError> {
    let instant = |column| Ok::<_, StoreError>(row.opt_int(column)?.map(Timestamp::from_millis));
    Ok(KeyRow {
        key: NewKey {
            id: parsed(&row.text(0)?, "signing_keys.id")?,
            algorithm: parsed(&row.text(1)?, "signing_keys.algorithm")?,
            public_key: row.text(2)?,
            sealed: row.blob(3)?,
        },
        published_at: Timestamp::from_millis(row.int(4)?),
        activate_at: instant(5)?,
        retire_at: instant(6)?,
        remove_at: instant(7)?,
        version: row.int(8)?,
    })
}

impl Store {
    /// All keys, oldest first.
    pub async fn list_signing_keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM signing_keys ORDER BY id");
        self.query(&sql, &[]).await?.iter().map(read).collect()
    }
}

impl Tx {
    /// All keys as this transaction sees them, oldest first.
    pub async fn list_signing_keys(&mut self) -> Result<Vec<KeyRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM signing_keys ORDER BY id");
        self.tx.query(&sql, &[]).await?.iter().map(read).collect()
    }

    /// Publishes a key; without `activate_at` it waits for its turn. `Conflict` if another of its algorithm already waits.
    pub async fn insert_signing_key(
        &mut self,
        key: &NewKey,
        published_at: Timestamp,
        activate_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let sql = format!("INSERT INTO signing_keys ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, NULL, NULL, 1)");
        let args: [Value; 6] = [
            key.id.to_string().into(),
            key.algorithm.as_str().into(),
            key.public_key.as_str().into(),
            key.sealed.clone().into(),
            published_at.as_millis().into(),
            activate_at.map(Timestamp::as_millis).into(),
        ];
        self.execute(&sql, &args).await.map(|_| ())
    }

    /// Gives the waiting key its turn from `activate_at` on; `false` if another rotation was faster.
    pub async fn activate_signing_key(&mut self, id: KeyId, activate_at: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE signing_keys SET activate_at = $2, version = version + 1 \
                   WHERE id = $1 AND activate_at IS NULL";
        Ok(self.execute(sql, &[id.to_string().into(), activate_at.as_millis().into()]).await? == 1)
    }

    /// Ends the turn of whichever keys of this algorithm would sign at `retire_at` or later, except the one that takes over.
    pub async fn retire_signing_keys(
        &mut self,
        algorithm: SigningAlgorithm,
        successor: KeyId,
        retire_at: Timestamp,
        remove_at: Timestamp,
    ) -> Result<u64, StoreError> {
        let sql = "UPDATE signing_keys SET retire_at = $3, remove_at = $4, version = version + 1 \
                   WHERE algorithm = $1 AND id <> $2 AND activate_at IS NOT NULL \
                   AND (retire_at IS NULL OR retire_at > $3)";
        let args: [Value; 4] = [
            algorithm.as_str().into(),
            successor.to_string().into(),
            retire_at.as_millis().into(),
            remove_at.as_millis().into(),
        ];
        self.execute(sql, &args).await
    }

    /// Deletes the keys whose last token is dead; gives their ids.
    pub async fn remove_dead_signing_keys(&mut self, now: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        let sql = "DELETE FROM signing_keys WHERE remove_at <= $1 RETURNING id";
        let rows = self.tx.query(sql, &[now.as_millis().into()]).await?;
        rows.iter().map(|r| parsed(&r.text(0)?, "signing_keys.id")).collect()
    }

    /// Replaces the sealed private half, when the master key changes.
    pub async fn reseal_signing_key(&mut self, id: KeyId, sealed: Vec<u8>) -> Result<bool, StoreError> {
        let sql = "UPDATE signing_keys SET sealed = $2 WHERE id = $1";
        Ok(self.execute(sql, &[id.to_string().into(), sealed.into()]).await? == 1)
    }
}
