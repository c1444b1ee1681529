//! APIs.

use std::time::Duration;

use keyward_model::api::Api;
use keyward_model::id::{ApiId, ClientId};
use keyward_model::time::Timestamp;

use crate::engine::{Row, Value};
use crate::{Store, StoreError, Tx, parsed};

const COLUMNS: &str = "id, name, audience, scopes, token_lifetime_s, algorithm, client, identity_clients, \
                       identity_issuers, created_at, updated_at, version";

fn read(row: &Row) -> Result<Api, StoreError> {
    Ok(Api {
        id: parsed(&row.text(0)?, "apis.id")?,
        name: row.text(1)?,
        audience: row.text(2)?,
        scopes: parsed(&row.text(3)?, "apis.scopes")?,
        token_lifetime: Duration::from_secs(
            u64::try_from(row.int(4)?)
                .map_err(|_| StoreError::Corrupt("apis.token_lifetime_s is negative".to_owned()))?,
        ),
        algorithm: parsed(&row.text(5)?, "apis.algorithm")?,
        client: row.opt_text(6)?.map(|t| parsed(&t, "apis.client")).transpose()?,
        identity_clients: identity_clients(&row.text(7)?)?,
        identity_issuers: serde_json::from_str(&row.text(8)?)
            .map_err(|e| StoreError::Corrupt(format!("apis.identity_issuers: {e}")))?,
        created_at: Timestamp::from_millis(row.int(9)?),
        updated_at: Timestamp::from_millis(row.int(10)?),
        version: row.int(11)?,
    })
}

fn identity_clients(text: &str) -> Result<Vec<ClientId>, StoreError> {
    text.split_whitespace().map(|id| parsed(id, "apis.identity_clients")).collect()
}

impl Store {
    /// All APIs, in the order in which they were registered. They are few: every node keeps them in memory.
    pub async fn list_apis(&self) -> Result<Vec<Api>, StoreError> {
        self.query(&format!("SELECT {COLUMNS} FROM apis ORDER BY id"), &[]).await?.iter().map(read).collect()
    }
}

impl Tx {
    /// All APIs as this transaction sees them, in the order in which they were registered.
    pub async fn list_apis(&mut self) -> Result<Vec<Api>, StoreError> {
        self.tx.query(&format!("SELECT {COLUMNS} FROM apis ORDER BY id"), &[]).await?.iter().map(read).collect()
    }

    /// Registers an API; `Conflict` if its audience is taken.
    pub async fn insert_api(&mut self, api: &Api) -> Result<(), StoreError> {
        let sql = format!("INSERT INTO apis ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)");
        self.execute(&sql, &values(api)?).await.map(|_| ())
    }

    /// Writes the API if nobody has changed it since `version` was read; `None` if somebody has.
    pub async fn update_api(&mut self, api: &Api, version: i64) -> Result<Option<Api>, StoreError> {
        let sql = format!(
            "UPDATE apis SET name = $2, audience = $3, scopes = $4, token_lifetime_s = $5, algorithm = $6, client = $7, \
             identity_clients = $8, identity_issuers = $9, created_at = $10, updated_at = $11, version = $12 + 1 \
             WHERE id = $1 AND version = $12 RETURNING {COLUMNS}"
        );
        let mut values = values(api)?;
        values[11] = version.into();
        self.find(&sql, &values, read).await
    }

    /// Deletes an API; `Conflict` if a client may still ask for it, `false` if changed since `version` was read.
    pub async fn delete_api(&mut self, id: ApiId, version: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM apis WHERE id = $1 AND version = $2";
        Ok(self.execute(sql, &[id.to_string().into(), version.into()]).await? == 1)
    }
}

fn values(api: &Api) -> Result<[Value; 12], StoreError> {
    let identity_clients: Vec<String> = api.identity_clients.iter().map(ClientId::to_string).collect();
    let identity_issuers = serde_json::to_string(&api.identity_issuers)
        .map_err(|e| StoreError::Corrupt(format!("apis.identity_issuers: {e}")))?;
    Ok([
        api.id.to_string().into(),
        api.name.as_str().into(),
        api.audience.as_str().into(),
        api.scopes.to_string().into(),
        i64::try_from(api.token_lifetime.as_secs()).unwrap_or(i64::MAX).into(),
        api.algorithm.as_str().into(),
        api.client.map(|c| c.to_string()).into(),
        identity_clients.join(" ").into(),
        identity_issuers.into(),
        api.created_at.as_millis().into(),
        api.updated_at.as_millis().into(),
        api.version.into(),
    ])
}
