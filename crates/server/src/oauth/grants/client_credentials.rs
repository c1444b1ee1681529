//! Client credentials grant: RFC 6749 §4.4, with resource indicators (RFC 8707) and JWT access tokens (RFC 9068).
//!
//! 1. For which APIs: those named by `resource`, else the client's only one    RFC 8707 §2.2
//! 2. How much: requested ∩ credential ∩ client ∩ owner, as far as these APIs know it
//! 3. The token, signed; nothing is written                                    RFC 9068 §2.2

use std::sync::Arc;
use std::time::Duration;

use keyward_model::api::Api;
use keyward_model::client::Subject;
use keyward_model::id::TokenId;
use keyward_model::jws::SigningAlgorithm;
use keyward_model::rights::{self, Rights};
use keyward_model::time::Timestamp;
use keyward_model::token::{AccessTokenClaims, Actor, SharedClaims, Status, StatusReference, Subject as Sub};

use crate::app::App;
use crate::oauth::client_auth::Asker;
use crate::oauth::grants::{Call, Request, TokenResponse};
use crate::principals::{Ceiling, Principal};
use crate::registry::{Registry, scopes_of};
use crate::respond::{ErrorCode, OAuthError};

/// RFC 6749 §4.4.2
pub const GRANT_TYPE: &str = "client_credentials";

/// Until a node has heard of what was done on another.
const A_MOMENT: Duration = Duration::from_secs(1);

/// The largest grant that is remembered, in bytes: memory for thousands of credentials is bounded by it.
const MOST_REMEMBERED: usize = 4096;

/// What one credential was last granted, and for what request.
#[derive(Debug)]
pub(crate) struct LastGrant {
    scope: Option<String>,
    res: Option<String>,
    resources: Vec<String>,
    grant: Arc<Grant>,
}

/// A grant: all that its tokens have in common.
#[derive(Debug)]
struct Grant {
    scope: String,
    algorithm: SigningAlgorithm,
    lifetime: Duration,
    claims: SharedClaims,
}

/// A client that has proved to hold one of its credentials.
#[derive(Clone, Copy)]
pub(crate) struct Holder<'a> {
    /// The server.
    pub(crate) app: &'a Arc<App>,
    /// The client with its credential and owner.
    pub(crate) principal: &'a Principal,
    /// The instant of the request.
    pub(crate) now: Timestamp,
}

/// Issues a token for the client itself. RFC 6749 §4.4: this grant "MUST only be used by confidential clients".
pub fn exchange(call: &Call<'_>, request: Request<'_>) -> Result<TokenResponse, OAuthError> {
    let Asker::Confidential(principal) = &call.asker else {
        let why = "a public client has no credentials; let a user sign in with it instead";
        return Err(ErrorCode::UnauthorizedClient.because(why));
    };
    let holder = Holder { app: call.app, principal, now: call.now };
    let ceiling = principal.ceiling(&call.app.registry.load());
    // Machines ask for the same again and again. A ceiling lasts until anything changes that a grant depends on.
    let last = ceiling.last_grant.load();
    if let Some(last) = last.as_ref().filter(|last| last.answers(&request)) {
        return issue(holder, &last.grant);
    }
    let grant = Arc::new(decide(holder, &ceiling, &request)?);
    ceiling.last_grant.store(LastGrant::worth_remembering(&request, &grant).map(Arc::new));
    issue(holder, &grant)
}

impl LastGrant {
    fn worth_remembering(request: &Request<'_>, grant: &Arc<Grant>) -> Option<Self> {
        let asked = [request.scope, request.res].into_iter().flatten().chain(request.resources.iter().copied());
        let size = asked.map(str::len).sum::<usize>() + grant.scope.len() + grant.claims.size();
        (size <= MOST_REMEMBERED).then(|| Self {
            scope: request.scope.map(str::to_owned),
            res: request.res.map(str::to_owned),
            resources: request.resources.iter().map(|&resource| resource.to_owned()).collect(),
            grant: Arc::clone(grant),
        })
    }

    fn answers(&self, request: &Request<'_>) -> bool {
        self.scope.as_deref() == request.scope
            && self.res.as_deref() == request.res
            && self.resources == request.resources
    }
}

fn decide(holder: Holder<'_>, ceiling: &Ceiling, request: &Request<'_>) -> Result<Grant, OAuthError> {
    let registry = &ceiling.registry;
    let apis = targets(holder.principal, registry, &request.resources)?;
    let within = Rights { scope: ceiling.rights.scope.intersect(&scopes_of(&apis)), res: ceiling.rights.res.clone() };
    let granted = rights::grant(&request.requested()?, &within, &registry.catalogue)
        .map_err(|excess| ErrorCode::InvalidScope.because(excess.to_string()))?;
    let (Some(first), Some(lifetime)) = (apis.first(), apis.iter().map(|api| api.token_lifetime).min()) else {
        return Err(ErrorCode::InvalidTarget.because("no API was named"));
    };
    Ok(Grant {
        scope: granted.scope.to_string(),
        algorithm: first.algorithm,
        lifetime,
        claims: claims(holder, &apis, granted, lifetime)?.shared()?,
    })
}

/// What a token for this API alone would say, with all that the credential may have there: for requests that carry the
/// key itself.
pub(crate) fn all_for(holder: Holder<'_>, api: &Arc<Api>) -> Result<AccessTokenClaims, OAuthError> {
    let ceiling = holder.principal.ceiling(&holder.app.registry.load());
    let apis = targets(holder.principal, &ceiling.registry, &[&api.audience])?;
    let granted = Rights { scope: ceiling.rights.scope.intersect(&api.scopes), res: ceiling.rights.res.clone() };
    claims(holder, &apis, granted, api.token_lifetime)
}

/// The APIs the token is for. RFC 8707 §2: what cannot be had is `invalid_target`.
fn targets(principal: &Principal, registry: &Registry, resources: &[&str]) -> Result<Vec<Arc<Api>>, OAuthError> {
    let allowed = &principal.client.apis;
    if resources.is_empty() {
        let why = match allowed.as_slice() {
            [only] => return registry.api(*only).map(|api| vec![Arc::clone(api)]).ok_or_else(behind),
            [] => "this client may not use any API yet; its owner can add one",
            _ => "this client may use several APIs: name one by the parameter resource",
        };
        return Err(ErrorCode::InvalidTarget.because(why));
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

/// The API was made on another node a moment ago, and this one has not heard of it.
fn behind() -> OAuthError {
    ErrorCode::ServerError.because("this node does not know the client's API yet; try again").retry_in(A_MOMENT)
}

/// The claims of a token issued now.
fn claims(
    holder: Holder<'_>,
    apis: &[Arc<Api>],
    granted: Rights,
    lifetime: Duration,
) -> Result<AccessTokenClaims, OAuthError> {
    let Holder { app, principal, now } = holder;
    let (credential, client) = (&principal.entry.credential, &principal.client);
    let by_owner = client.subject == Subject::Owner;
    Ok(AccessTokenClaims {
        iss: app.issuer.clone(),
        aud: apis.iter().map(|api| api.audience.as_str()).collect(),
        sub: if by_owner { Sub::User(principal.owner.id) } else { Sub::Client(client.id) },
        client_id: client.id,
        iat: now,
        nbf: None,
        exp: now.plus(lifetime),
        jti: TokenId::new(now, &app.entropy)?,
        scope: granted.scope,
        res: granted.res,
        cred: Some(credential.id),
        act: by_owner.then_some(Actor { sub: client.id }),
        sid: None,
        auth_time: None,
        status: Some(Status {
            status_list: StatusReference {
                idx: u64::try_from(credential.status_index).unwrap_or(0),
                uri: app.status_list_uri.clone(),
            },
        }),
    })
}

fn issue(holder: Holder<'_>, grant: &Grant) -> Result<TokenResponse, OAuthError> {
    let Holder { app, principal, now } = holder;
    let keys = app.key_ring.load();
    let Some(key) = keys.signer(grant.algorithm, now) else {
        return Err(
            ErrorCode::ServerError.because("there is no key yet that signs for this API; try again in a moment")
        );
    };
    let credential = &principal.entry.credential;
    // A token never outlives the credential it was got with: verifiers without a line to us would not notice.
    let by_lifetime = now.plus(grant.lifetime);
    let expires_at = credential.ends_at(now).map_or(by_lifetime, |end| end.min(by_lifetime));
    let access_token = grant.claims.sign(key, now, expires_at, TokenId::new(now, &app.entropy)?)?;
    let expires_in = expires_at.as_seconds() - now.as_seconds();
    Ok(TokenResponse { expires_in, ..TokenResponse::bearer(access_token, grant.scope.clone()) })
}
