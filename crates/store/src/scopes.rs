//! The scope catalogue.

use keyward_model::api::ScopeEntry;
use keyward_model::rights::Scope;
use keyward_model::time::Timestamp;

use crate::engine::{Row, Value};
use crate::{Store, StoreError, Tx, parsed};

const COLUMNS: &str = "name, description, implies, created_at, updated_at, version";

fn read(row: &Row) -> Result<ScopeEntry, StoreError> {
    Ok(ScopeEntry {
        name: parsed(&row.text(0)?, "scopes.name")?,
        description: row.text(1)?,
        implies: parsed(&row.text(2)?, "scopes.implies")?,
        created_at: Timestamp::from_millis(row.int(3)?),
        updated_at: Timestamp::from_millis(row.int(4)?),
        version: row.int(5)?,
    })
}

impl Store {
    /// The whole catalogue by name. It is small: every node keeps it in memory.
    pub async fn list_scopes(&self) -> Result<Vec<ScopeEntry>, StoreError> {
        self.query(&format!("SELECT {COLUMNS} FROM scopes ORDER BY name"), &[]).await?.iter().map(read).collect()
    }
}

impl Tx {
    /// The whole catalogue as this transaction sees it, to judge a change before it is committed. Nobody else commits
    /// anything until then: two changes, each of them right, could make a circle together.
    pub async fn list_scopes(&mut self) -> Result<Vec<ScopeEntry>, StoreError> {
        self.tx.query(&format!("SELECT {COLUMNS} FROM scopes ORDER BY name"), &[]).await?.iter().map(read).collect()
    }

    /// Adds a scope; `Conflict` if the name is taken.
    pub async fn insert_scope(&mut self, scope: &ScopeEntry) -> Result<(), StoreError> {
        let sql = format!("INSERT INTO scopes ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)");
        self.execute(&sql, &values(scope)).await.map(|_| ())
    }

    /// Writes the scope if nobody has changed it since `version` was read; `None` if somebody has.
    pub async fn update_scope(&mut self, scope: &ScopeEntry, version: i64) -> Result<Option<ScopeEntry>, StoreError> {
        let sql = format!(
            "UPDATE scopes SET description = $2, implies = $3, created_at = $4, updated_at = $5, version = $6 + 1 \
             WHERE name = $1 AND version = $6 RETURNING {COLUMNS}"
        );
        let mut values = values(scope);
        values[5] = version.into();
        self.find(&sql, &values, read).await
    }

    /// Whether a user, a client or a credential holds this scope by name.
    pub async fn scope_is_held(&mut self, name: &Scope) -> Result<bool, StoreError> {
        // A name is never part of another between spaces; LIKE would need its wildcards escaped.
        let holds = "replace(' ' || scope || ' ', $1, '') <> ' ' || scope || ' '";
        let sql = format!(
            "SELECT 1 FROM users WHERE {holds} UNION ALL SELECT 1 FROM clients WHERE {holds} \
             UNION ALL SELECT 1 FROM credentials WHERE scope IS NOT NULL AND {holds} LIMIT 1"
        );
        Ok(self.find(&sql, &[format!(" {name} ").into()], |_| Ok(())).await?.is_some())
    }

    /// Deletes a scope; `false` if changed since `version` was read.
    pub async fn delete_scope(&mut self, name: &Scope, version: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM scopes WHERE name = $1 AND version = $2";
        Ok(self.execute(sql, &[name.as_str().into(), version.into()]).await? == 1)
    }
}

fn values(scope: &ScopeEntry) -> [Value; 6] {
    [
        scope.name.as_str().into(),
        scope.description.as_str().into(),
        scope.implies.to_string().into(),
        scope.created_at.as_millis().into(),
        scope.updated_at.as_millis().into(),
        scope.version.into(),
    ]
}
