//! Who proves to hold a key: the same work whatever was presented, so that whoever guesses learns nothing by it.

use keyward_model::key::Key;
use keyward_model::secret::{Secret, SecretHash};
use keyward_store::StoreError;

use crate::app::App;
use crate::principals::Principal;

/// Everyone behind the key, in whatever state they are, if its secret is the right one.
pub(crate) async fn prove(app: &App, presented: &str) -> Result<Option<Principal>, StoreError> {
    let key = Key::parse(presented).ok();
    let principal = match &key {
        Some(key) => app.principals.find(app, key.credential).await?,
        None => None,
    };
    // Whoever there is or is not, one secret is hashed and one hash compared.
    let secret = key.map_or_else(|| Secret::new([0; 32]), |key| key.secret);
    let stored = principal.as_ref().and_then(|p| p.entry.credential.secret_hash.clone());
    let nobody = || SecretHash::from_bytes(&[0; 32]);
    let (Some(stored), known) = (stored.clone().or_else(nobody), stored.is_some()) else { return Ok(None) };
    let right = app.hashing_key.matches(&secret, &stored) && known;
    Ok(principal.filter(|_| right))
}
