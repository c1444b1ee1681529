//! The keys that an issuer has published, found by name.

use std::collections::HashMap;

use keyward_model::jws::{Jwks, PublicKey};

/// Parsed public keys by their `kid`. A key decides its algorithm; no token does.
#[derive(Debug, Clone, Default)]
pub struct KeySet(HashMap<Box<str>, PublicKey>);

impl KeySet {
    /// All keys of the document that have a `kid` and can verify signatures of the three algorithms; others are skipped
    /// (RFC 7517 §5). Of two with the same `kid` the first counts.
    pub fn from_jwks(jwks: &Jwks) -> Self {
        let mut keys = HashMap::new();
        for jwk in &jwks.keys {
            if let (Some(kid), Ok(key)) = (&jwk.kid, PublicKey::from_jwk(jwk)) {
                keys.entry(kid.as_str().into()).or_insert(key);
            }
        }
        Self(keys)
    }

    /// The key of this name.
    pub fn find(&self, kid: &str) -> Option<&PublicKey> {
        self.0.get(kid)
    }

    /// Whether it has all keys of an earlier one, none withdrawn or exchanged.
    #[cfg(feature = "discover")]
    pub(crate) fn keeps(&self, earlier: &Self) -> bool {
        earlier.0.iter().all(|(kid, key)| self.find(kid) == Some(key))
    }

    /// How many keys can be found.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no token at all can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<Box<str>>> FromIterator<(K, PublicKey)> for KeySet {
    fn from_iter<I: IntoIterator<Item = (K, PublicKey)>>(keys: I) -> Self {
        Self(keys.into_iter().map(|(kid, key)| (kid.into(), key)).collect())
    }
}
