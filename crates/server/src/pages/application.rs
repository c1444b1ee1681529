//! What people are told of an application beside its name, which whoever registered it chose.

use keyward_model::id::UserId;

use crate::api::call::Level;
use crate::app::App;
use crate::respond::PageError;

/// Whether an administrator answers for a client of this owner: anybody else may call theirs whatever they like.
pub(crate) async fn is_verified(app: &App, owner: UserId) -> Result<bool, PageError> {
    let Some(owner) = app.store.find_user(owner).await? else { return Ok(false) };
    let scopes = app.registry.load().catalogue.expand(&owner.rights.scope);
    Ok(owner.disabled_at.is_none() && scopes.contains(Level::Admin.scope()))
}
