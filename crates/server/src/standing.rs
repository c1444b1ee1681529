//! Whether a token that was rightly issued still counts: its credential, client, owner and rights as they are now.
//!
//! Introspection and Keyward's own API ask this of every token; verifiers elsewhere learn of it by the status list.

use std::sync::Arc;

use keyward_model::time::Timestamp;
use keyward_model::token::{AccessTokenClaims, Subject};
use keyward_store::StoreError;

use crate::app::App;
use crate::principals::Principal;

/// Why a token counts no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lapse {
    /// Not one got with a credential that exists.
    #[error("the credential it was got with does not exist any more")]
    Unknown,
    /// It was revoked itself.
    #[error("the token was revoked")]
    TokenRevoked,
    /// Its credential was revoked or has expired.
    #[error("the credential it was got with has ended")]
    CredentialEnded,
    /// The application was switched off.
    #[error("the client is disabled")]
    ClientDisabled,
    /// The person behind it was switched off.
    #[error("the owner of the client is disabled")]
    OwnerDisabled,
    /// The client was given to somebody else.
    #[error("the client has another owner by now")]
    OwnerChanged,
    /// The client may not use the API any more.
    #[error("the client may not use this API any more")]
    ApiTaken,
    /// It says more than may be granted by now.
    #[error("the rights of credential, client or owner are lower by now")]
    RightsLowered,
}

/// Everyone behind the token, if it still counts.
pub(crate) async fn standing(
    app: &Arc<App>,
    claims: &AccessTokenClaims,
    now: Timestamp,
) -> Result<Result<Principal, Lapse>, StoreError> {
    let Some(credential) = claims.cred else { return Ok(Err(Lapse::Unknown)) };
    let Some(principal) = app.principals.find(&app.store, credential).await? else { return Ok(Err(Lapse::Unknown)) };
    if app.revoked_tokens.contains(&app.store, claims.jti).await? {
        return Ok(Err(Lapse::TokenRevoked));
    }
    Ok(judge(app, claims, &principal, now).map(|()| principal))
}

fn judge(app: &App, claims: &AccessTokenClaims, principal: &Principal, now: Timestamp) -> Result<(), Lapse> {
    if principal.client.id != claims.client_id {
        return Err(Lapse::Unknown);
    }
    if !principal.entry.credential.state_at(now).authenticates() {
        return Err(Lapse::CredentialEnded);
    }
    if principal.client.disabled_at.is_some() {
        return Err(Lapse::ClientDisabled);
    }
    if principal.owner.disabled_at.is_some() {
        return Err(Lapse::OwnerDisabled);
    }
    if matches!(claims.sub, Subject::User(user) if user != principal.owner.id) {
        return Err(Lapse::OwnerChanged);
    }
    // A transfer gives its credentials new places: also what a client got in its own name, or its owner got before they
    // gave it away and got it back, ends with the old ones.
    let place = claims.status.as_ref().map(|status| status.status_list.idx);
    if place.is_some_and(|place| i64::try_from(place) != Ok(principal.entry.credential.status_index)) {
        return Err(Lapse::OwnerChanged);
    }
    let registry = app.registry.load_full();
    let apis = claims.aud.iter().map(|audience| registry.api_by_audience(audience));
    if !apis.into_iter().all(|api| api.is_some_and(|api| principal.client.apis.contains(&api.id))) {
        return Err(Lapse::ApiTaken);
    }
    let ceiling = principal.ceiling(&registry);
    let beyond = claims.scope.first_beyond(&ceiling.rights.scope).is_some()
        || claims.res.first_beyond(&ceiling.rights.res).is_some();
    if beyond { Err(Lapse::RightsLowered) } else { Ok(()) }
}
