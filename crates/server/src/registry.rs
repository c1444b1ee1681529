//! What every node keeps in memory as a whole because it is small: the scope catalogue and the APIs.

use std::collections::HashMap;
use std::sync::Arc;

use keyward_model::api::Api;
use keyward_model::id::ApiId;
use keyward_model::rights::Catalogue;
use keyward_store::{Store, StoreError};

/// One consistent reading of catalogue and APIs; replaced as a whole when one of them changes.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// All scopes and what they imply.
    pub(crate) catalogue: Catalogue,
    apis: HashMap<ApiId, Arc<Api>>,
}

impl Registry {
    /// Reads both from the database.
    pub(crate) async fn load(store: &Store) -> Result<Self, StoreError> {
        let entries = store.list_scopes().await?.into_iter().map(|entry| (entry.name, entry.implies));
        let catalogue = Catalogue::new(entries).map_err(|e| StoreError::Corrupt(format!("scopes: {e}")))?;
        let apis = store.list_apis().await?.into_iter().map(|api| (api.id, Arc::new(api))).collect();
        Ok(Self { catalogue, apis })
    }

    /// The API with this id.
    pub(crate) fn api(&self, id: ApiId) -> Option<&Arc<Api>> {
        self.apis.get(&id)
    }

    /// The API with this audience.
    pub(crate) fn api_by_audience(&self, audience: &str) -> Option<&Arc<Api>> {
        self.apis.values().find(|api| api.audience == audience)
    }

    /// All APIs, in no order.
    pub(crate) fn apis(&self) -> impl Iterator<Item = &Arc<Api>> {
        self.apis.values()
    }
}
