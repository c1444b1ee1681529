//! What every node keeps in memory as a whole because it is small: the scope catalogue, the APIs, and whether command lines
//! have their client.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use keyward_guard::{Expect, Policy, TrustedIssuer};
use keyward_model::api::Api;
use keyward_model::client::{COMMAND_LINE, Client};
use keyward_model::id::ApiId;
use keyward_model::rights::{Catalogue, Rights, Scope, ScopeSet};
use keyward_store::{Store, StoreError};

/// One consistent reading of catalogue and APIs; replaced as a whole when one of them changes.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// All scopes and what they imply.
    pub(crate) catalogue: Catalogue,
    descriptions: HashMap<Scope, String>,
    apis: HashMap<ApiId, Arc<Api>>,
    by_audience: HashMap<String, Arc<Api>>,
    policies: HashMap<ApiId, Policy>,
    /// Whether the client for command lines is there and not disabled.
    pub(crate) has_command_line: bool,
}

impl Registry {
    /// Reads both from the database of the server that is this issuer.
    pub(crate) async fn load(store: &Store, issuer: &str) -> Result<Self, StoreError> {
        let entries = store.list_scopes().await?;
        let descriptions = entries.iter().map(|entry| (entry.name.clone(), entry.description.clone())).collect();
        let entries = entries.into_iter().map(|entry| (entry.name, entry.implies));
        let catalogue = Catalogue::new(entries).map_err(|e| StoreError::Corrupt(format!("scopes: {e}")))?;
        let apis: Vec<Arc<Api>> = store.list_apis().await?.into_iter().map(Arc::new).collect();
        let by_audience = apis.iter().map(|api| (api.audience.clone(), Arc::clone(api))).collect();
        let policies = apis.iter().map(|api| (api.id, policy(api, &catalogue, issuer))).collect();
        let command_line = store.find_client(COMMAND_LINE).await?;
        let has_command_line = command_line.is_some_and(|client| client.disabled_at.is_none());
        let apis = apis.into_iter().map(|api| (api.id, api)).collect();
        Ok(Self { catalogue, descriptions, apis, by_audience, policies, has_command_line })
    }

    /// What a scope lets one do, in the words of whoever keeps the catalogue; empty if they gave none.
    pub(crate) fn description(&self, scope: &Scope) -> &str {
        self.descriptions.get(scope).map_or("", String::as_str)
    }

    /// The API with this id.
    pub(crate) fn api(&self, id: ApiId) -> Option<&Arc<Api>> {
        self.apis.get(&id)
    }

    /// The API with this audience.
    pub(crate) fn api_by_audience(&self, audience: &str) -> Option<&Arc<Api>> {
        self.by_audience.get(audience)
    }

    /// What the APIs of a client know of rights: no token for them says more.
    pub(crate) fn known_to_apis_of(&self, client: &Client) -> ScopeSet {
        scopes_of(client.apis.iter().filter_map(|id| self.api(*id)))
    }

    /// What an API asks of the tokens that it accepts.
    pub(crate) fn policy(&self, id: ApiId) -> Option<&Policy> {
        self.policies.get(&id)
    }

    /// All issuers that some API trusts beside Keyward.
    pub(crate) fn trusted_issuers(&self) -> HashSet<&str> {
        self.policies.values().flat_map(Policy::trusted).map(|trusted| trusted.issuer.as_str()).collect()
    }

    /// All APIs, in no order.
    pub(crate) fn apis(&self) -> impl Iterator<Item = &Arc<Api>> {
        self.apis.values()
    }
}

/// All scopes that one of these APIs knows.
pub(crate) fn scopes_of<'a>(apis: impl IntoIterator<Item = &'a Arc<Api>>) -> ScopeSet {
    apis.into_iter().flat_map(|api| api.scopes.iter()).cloned().collect()
}

fn policy(api: &Api, catalogue: &Catalogue, issuer: &str) -> Policy {
    let mut policy = Policy::new(Expect::new(issuer, &*api.audience));
    for client in &api.identity_clients {
        policy = policy.accept_identities_of(*client);
    }
    for trusted in &api.identity_issuers {
        // As tokens of Keyward's own: with all that the scopes imply.
        let expanded = |rights: Rights| Rights { scope: catalogue.expand(&rights.scope), res: rights.res };
        policy = policy.trust(TrustedIssuer {
            issuer: trusted.issuer.clone(),
            audience: trusted.audience.clone(),
            rights: trusted.rights().map(expanded),
        });
    }
    policy
}
