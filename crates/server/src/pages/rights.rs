//! Rights in words, for people who decide about them.

use keyward_model::rights::{Res, Rights, ScopeSet};

use crate::registry::Registry;

/// What somebody may do, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sentences {
    /// Each with its description, in the catalogue's words. What another implies is not repeated.
    pub(crate) scopes: Vec<(String, String)>,
    /// On which resources; empty if on all.
    pub(crate) places: Vec<String>,
}

impl Sentences {
    /// Of these rights.
    pub(crate) fn of(rights: &Rights, registry: &Registry) -> Self {
        // Without a scope there is nothing to be done anywhere, and the other way round.
        if rights.scope.is_empty() || rights.res.is_empty() {
            return Self { scopes: Vec::new(), places: Vec::new() };
        }
        let implies = |scope| registry.catalogue.expand(&ScopeSet::from_iter([scope]));
        let is_implied = |scope: &str| {
            let mut others = rights.scope.iter().filter(|other| other.as_str() != scope);
            others.any(|other| implies(other.clone()).contains(scope))
        };
        let own = rights.scope.iter().filter(|scope| !is_implied(scope.as_str()));
        let scopes = own.map(|scope| (scope.to_string(), registry.description(scope).to_owned())).collect();
        let places = if rights.res.covers(&Res::all()) {
            Vec::new()
        } else {
            rights.res.iter().map(ToString::to_string).collect()
        };
        Self { scopes, places }
    }
}
