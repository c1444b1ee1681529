//! Creates that may be repeated: the `Idempotency-Key` request header.

use keyward_model::time::Timestamp;

use crate::engine::Row;
use crate::{Store, StoreError, Tx};

/// What an earlier request with the same key made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// A digest of the earlier request, to tell a repetition from another request under the same key.
    pub request: String,
    /// The identifier of what it made.
    pub made: String,
}

const FIND: &str = "SELECT request, made FROM idempotency_keys WHERE actor = $1 AND key = $2";

fn read(row: &Row) -> Result<Made, StoreError> {
    Ok(Made { request: row.text(0)?, made: row.text(1)? })
}

impl Store {
    /// What this actor has made under this key.
    pub async fn find_made(&self, actor: &str, key: &str) -> Result<Option<Made>, StoreError> {
        self.find(FIND, &[actor.into(), key.into()], read).await
    }
}

impl Tx {
    /// What this actor has made under this key, as this transaction sees it: as long as it lasts, nobody else makes it.
    pub async fn find_made(&mut self, actor: &str, key: &str) -> Result<Option<Made>, StoreError> {
        self.find(FIND, &[actor.into(), key.into()], read).await
    }

    /// Notes what this actor makes under this key; `Conflict` if the key was used meanwhile.
    pub async fn insert_made(&mut self, actor: &str, key: &str, made: &Made, now: Timestamp) -> Result<(), StoreError> {
        let sql = "INSERT INTO idempotency_keys (actor, key, request, made, created_at) VALUES ($1, $2, $3, $4, $5)";
        let args =
            [actor.into(), key.into(), made.request.as_str().into(), made.made.as_str().into(), now.as_millis().into()];
        self.execute(sql, &args).await.map(|_| ())
    }

    /// Forgets the keys used before `before`.
    pub async fn forget_idempotency_keys(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        self.execute("DELETE FROM idempotency_keys WHERE created_at < $1", &[before.as_millis().into()]).await
    }
}
