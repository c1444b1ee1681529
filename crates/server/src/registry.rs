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
    by_audience: HashMap<String, Arc<Api>>,
}

impl Registry {
    /// Reads both from the database.
    pub(crate) async fn load(store: &Store) -> Result<Self, StoreError> {
        let entries = store.list_scopes().await?.into_iter().map(|entry| (entry.name, entry.implies));
        let catalogue = Catalogue::new(entries).map_err(|e| StoreError::Corrupt(format!("scopes: {e}")))?;
        let apis: Vec<Arc<Api>> = store.list_apis().await?.into_iter().map(Arc::new).collect();
        let by_audience = apis.iter().map(|api| (api.audience.clone(), Arc::clone(api))).collect();
        Ok(Self { catalogue, apis: apis.into_iter().map(|api| (api.id, api)).collect(), by_audience })
    }

    /// The API with this id.
    pub(crate) fn api(&self, id: ApiId) -> Option<&Arc<Api>> {
        self.apis.get(&id)
    }

    /// The API with this audience.
    pub(crate) fn api_by_audience(&self, audience: &str) -> Option<&Arc<Api>> {
        self.by_audience.get(audience)
    }

    /// All APIs, in no order.
    pub(crate) fn apis(&self) -> impl Iterator<Item = &Arc<Api>> {
        self.apis.values()
    }
}
