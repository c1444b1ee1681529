//! Rights in words, for people who decide about them.

use keyward_model::rights::{Res, ResSet, Rights};

use crate::device_grants::{ScopeInWords, in_words};
use crate::registry::Registry;

/// What somebody may do, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sentences {
    /// Each with its description, in the catalogue's words. What another implies is not repeated.
    pub(crate) scopes: Vec<ScopeInWords>,
    /// On which resources; empty if on all.
    pub(crate) places: Vec<String>,
}

impl Sentences {
    /// Of these rights.
    pub(crate) fn of(rights: &Rights, registry: &Registry) -> Self {
        Self::new(in_words(registry, &rights.scope), &rights.res)
    }

    /// Of these scopes on these resources.
    pub(crate) fn new(scopes: Vec<ScopeInWords>, res: &ResSet) -> Self {
        // Without a resource there is nothing to be done anywhere.
        let scopes = if res.is_empty() { Vec::new() } else { scopes };
        let everywhere = res.covers(&Res::all());
        let places = if everywhere { Vec::new() } else { res.iter().map(ToString::to_string).collect() };
        Self { scopes, places }
    }
}
