//! Secrets of the server itself, sealed under the master key.

use crate::engine::Row;
use crate::{Store, StoreError, Tx};

const ALL: &str = "SELECT name, sealed FROM sealed_secrets ORDER BY name";

fn read(row: &Row) -> Result<(String, Vec<u8>), StoreError> {
    Ok((row.text(0)?, row.blob(1)?))
}

impl Store {
    /// All of them: name and sealed bytes.
    pub async fn list_sealed_secrets(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.query(ALL, &[]).await?.iter().map(read).collect()
    }
}

impl Tx {
    /// All of them as this transaction sees them: as long as it lasts, nobody else seals them under another key.
    pub async fn list_sealed_secrets(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.tx.query(ALL, &[]).await?.iter().map(read).collect()
    }

    /// Stores a new one unless there is one of this name: of two nodes that start at once, the first decides.
    pub async fn insert_sealed_secret(&mut self, name: &str, sealed: Vec<u8>) -> Result<bool, StoreError> {
        let sql = "INSERT INTO sealed_secrets (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        Ok(self.execute(sql, &[name.into(), sealed.into()]).await? == 1)
    }

    /// Replaces one, when the master key changes.
    pub async fn reseal_secret(&mut self, name: &str, sealed: Vec<u8>) -> Result<bool, StoreError> {
        let sql = "UPDATE sealed_secrets SET sealed = $2 WHERE name = $1";
        Ok(self.execute(sql, &[name.into(), sealed.into()]).await? == 1)
    }
}
