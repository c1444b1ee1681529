//! Client credentials grant: RFC 6749 §4.4, with resource indicators (RFC 8707) and JWT access tokens (RFC 9068).
//!
//! 1. For which APIs: those named by `resource`, else the client's only one    RFC 8707 §2.2
//! 2. How much: requested ∩ credential ∩ client ∩ owner, as far as these APIs know it
//! 3. The token, signed; nothing is written                                    RFC 9068 §2.2

use std::sync::Arc;

use keyward_model::api::Api;
use keyward_model::client::Subject;
use keyward_model::credential::State;
use keyward_model::id::TokenId;
use keyward_model::rights::{Rights, ScopeSet, grant};
use keyward_model::time::Timestamp;
use keyward_model::token::{AccessTokenClaims, Actor, Status, StatusReference, Subject as Sub};

use crate::oauth::grants::{Call, Request, TokenResponse};
use crate::principals::Principal;
use crate::registry::Registry;
use crate::respond::{ErrorCode, OAuthError};

/// RFC 6749 §4.4.2
pub const GRANT_TYPE: &str = "client_credentials";

/// Issues a token for the client itself.
pub fn exchange(call: &Call<'_>, request: Request<'_>) -> Result<TokenResponse, OAuthError> {
    let registry = call.app.registry.load_full();
    let apis = targets(&call.principal, &registry, &request.resources)?;
    let ceiling = call.principal.ceiling(&registry);
    let known: ScopeSet = apis.iter().flat_map(|api| api.scopes.iter()).cloned().collect();
    let within = Rights { scope: ceiling.rights.scope.intersect(&known), res: ceiling.rights.res.clone() };
    let granted = grant(&request.requested, &within, &registry.catalogue)
        .map_err(|excess| ErrorCode::InvalidScope.because(excess.to_string()))?;
    issue(call, &apis, granted)
}

/// The APIs the token is for. RFC 8707 §2: what cannot be had is `invalid_target`.
fn targets(principal: &Principal, registry: &Registry, resources: &[&str]) -> Result<Vec<Arc<Api>>, OAuthError> {
    let allowed = &principal.client.apis;
    if resources.is_empty() {
        return match allowed.as_slice() {
            [only] => registry.api(*only).map(|api| vec![Arc::clone(api)]),
            [] => {
                return Err(
                    ErrorCode::InvalidTarget.because("this client may not use any API yet; its owner can add one")
                );
            }
            _ => None,
        }
        .ok_or_else(|| {
            ErrorCode::InvalidTarget.because("this client may use several APIs: name one by the parameter resource")
        });
    }
    let mut apis: Vec<Arc<Api>> = Vec::with_capacity(resources.len());
    for resource in resources {
        let api = registry.api_by_audience(resource).filter(|api| allowed.contains(&api.id));
        let api =
            api.ok_or_else(|| ErrorCode::InvalidTarget.because("this client may not use the API named by resource"))?;
        if !apis.iter().any(|known| known.id == api.id) {
            apis.push(Arc::clone(api));
        }
    }
    if apis.iter().any(|api| apis.first().is_some_and(|first| first.algorithm != api.algorithm)) {
        return Err(ErrorCode::InvalidTarget.because("these APIs want different signatures: ask for one token each"));
    }
    Ok(apis)
}

fn issue(call: &Call<'_>, apis: &[Arc<Api>], granted: Rights) -> Result<TokenResponse, OAuthError> {
    let Call { app, principal, now } = call;
    let (Some(first), Some(lifetime)) = (apis.first(), apis.iter().map(|api| api.token_lifetime).min()) else {
        return Err(ErrorCode::InvalidTarget.because("no API was named"));
    };
    let keys = app.key_ring.load();
    let Some(key) = keys.signer(first.algorithm, *now) else {
        return Err(
            ErrorCode::ServerError.because("there is no key yet that signs for this API; try again in a moment")
        );
    };
    let credential = &principal.entry.credential;
    let expires_at = earliest(now.plus(lifetime), credential.expires_at, credential.state);
    let by_owner = principal.client.subject == Subject::Owner;
    let scope = granted.scope.to_string();
    let claims = AccessTokenClaims {
        iss: app.issuer.clone(),
        aud: apis.iter().map(|api| api.audience.as_str()).collect(),
        sub: if by_owner { Sub::User(principal.owner.id) } else { Sub::Client(principal.client.id) },
        client_id: principal.client.id,
        iat: *now,
        nbf: None,
        exp: expires_at,
        jti: TokenId::new(*now, &app.entropy)?,
        scope: granted.scope,
        res: granted.res,
        cred: Some(credential.id),
        act: by_owner.then_some(Actor { sub: principal.client.id }),
        status: Some(Status {
            status_list: StatusReference {
                idx: u64::try_from(credential.status_index).unwrap_or(0),
                uri: app.status_list_uri.clone(),
            },
        }),
    };
    let access_token = claims.sign(key)?;
    let expires_in = expires_at.as_seconds() - now.as_seconds();
    Ok(TokenResponse { access_token, token_type: "Bearer", expires_in, scope })
}

/// A token never outlives the credential it was got with: verifiers without a line to us would not notice.
fn earliest(by_lifetime: Timestamp, expires_at: Option<Timestamp>, state: State) -> Timestamp {
    let retire_at = match state {
        State::Retiring { retire_at } => Some(retire_at),
        _ => None,
    };
    [expires_at, retire_at].into_iter().flatten().fold(by_lifetime, Timestamp::min)
}
