//! Identity tokens: a user's own access token (RFC 9068) out of a device session.
//!
//! 1. The session stands: neither ended, nor its client or user disabled
//! 2. For all APIs of its client, or those named, if one signature serves them      RFC 8707 §2.2
//! 3. How much: requested ∩ session ∩ client ∩ user's rights now, as far as these APIs know it
//! 4. For five minutes, never longer than the session; nothing is written           RFC 9068 §2.2

use std::sync::Arc;
use std::time::Duration;

use keyward_model::api::Api;
use keyward_model::id::{CredentialId, DeviceSessionId, TokenId};
use keyward_model::rights::{self, Requested, Rights};
use keyward_model::time::Timestamp;
use keyward_model::token::{AccessTokenClaims, MAX_AUDIENCES, Status, StatusReference, Subject};

use crate::app::App;
use crate::oauth::grants::{Request, TokenResponse};
use crate::registry::{Registry, scopes_of};
use crate::respond::{ErrorCode, OAuthError};
use crate::standing::SignedIn;

/// However long the tokens of an API live: a person's token is got anew while they are there.
const LIFETIME: Duration = Duration::from_secs(300);

/// What is asked for, and with which credential: a confidential client's token may not stand alone.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// Less than all that may be granted, if anything is named.
    pub request: Request<'a>,
    /// The credential of a confidential client.
    pub credential: Option<CredentialId>,
}

/// Issues a token of this session, with all it may have.
pub async fn issue(
    app: &Arc<App>,
    session: DeviceSessionId,
    credential: Option<CredentialId>,
    now: Timestamp,
) -> Result<TokenResponse, OAuthError> {
    let found = SignedIn::find(app, session).await?;
    let signed_in = found.ok_or_else(|| ErrorCode::InvalidGrant.because("there is no such device session"))?;
    issue_for(app, &signed_in, &Wanted { request: Request::default(), credential }, now)
}

/// Issues a token to whoever stands behind the session as they are now.
pub(crate) fn issue_for(
    app: &App,
    signed_in: &SignedIn,
    wanted: &Wanted<'_>,
    now: Timestamp,
) -> Result<TokenResponse, OAuthError> {
    signed_in.require_standing(now).map_err(|lapse| ErrorCode::InvalidGrant.because(lapse.to_string()))?;
    let registry = app.registry.load_full();
    let apis = apis(signed_in, &registry, &wanted.request.resources)?;
    let Some(first) = apis.first() else {
        return Err(ErrorCode::InvalidTarget.because("this client may not use any API yet; its owner can add one"));
    };
    let keys = app.key_ring.load();
    let Some(key) = keys.signer(first.algorithm, now) else {
        return Err(
            ErrorCode::ServerError.because("there is no key yet that signs for these APIs; try again in a moment")
        );
    };
    let granted = granted(signed_in, (&apis, &registry), &wanted.request)?;
    let scope = granted.scope.to_string();
    let lifetime = apis.iter().map(|api| api.token_lifetime).min().unwrap_or(LIFETIME).min(LIFETIME);
    let claims = AccessTokenClaims {
        iss: app.issuer.clone(),
        aud: apis.iter().map(|api| api.audience.as_str()).collect(),
        sub: Subject::User(signed_in.user.id),
        client_id: signed_in.client.id,
        iat: now,
        nbf: None,
        exp: now.plus(lifetime).min(signed_in.session.expires_at),
        jti: TokenId::new(now, &app.entropy)?,
        scope: granted.scope,
        res: granted.res,
        cred: wanted.credential,
        act: None,
        sid: Some(signed_in.session.id),
        auth_time: Some(signed_in.session.authenticated_at),
        status: Some(Status {
            status_list: StatusReference {
                idx: u64::try_from(signed_in.session.status_index).unwrap_or(0),
                uri: app.status_list_uri.clone(),
            },
        }),
    };
    let expires_in = claims.exp.as_seconds() - now.as_seconds();
    Ok(TokenResponse { expires_in, ..TokenResponse::bearer(claims.sign(key)?, scope) })
}

/// All APIs of the client, or those named (RFC 8707 §2.2).
fn apis(signed_in: &SignedIn, registry: &Registry, resources: &[&str]) -> Result<Vec<Arc<Api>>, OAuthError> {
    let allowed = || signed_in.client.apis.iter().filter_map(|id| registry.api(*id)).cloned();
    if let Some(other) = resources.iter().find(|resource| !allowed().any(|api| api.audience == **resource)) {
        return Err(ErrorCode::InvalidTarget.because(format!("this client may not use the API {other}")));
    }
    let apis: Vec<Arc<Api>> =
        allowed().filter(|api| resources.is_empty() || resources.contains(&api.audience.as_str())).collect();
    if apis.len() > MAX_AUDIENCES {
        return Err(ErrorCode::InvalidTarget.because(format!(
            "this client may use more than {MAX_AUDIENCES} APIs: name some by the parameter resource"
        )));
    }
    if apis.iter().any(|api| apis.first().is_some_and(|first| first.algorithm != api.algorithm)) {
        return Err(ErrorCode::InvalidTarget
            .because("the APIs of this client want different signatures: name some by the parameter resource"));
    }
    Ok(apis)
}

fn granted(
    signed_in: &SignedIn,
    (apis, registry): (&[Arc<Api>], &Registry),
    request: &Request<'_>,
) -> Result<Rights, OAuthError> {
    let ceiling = signed_in.ceiling(registry);
    let within = Rights { scope: ceiling.scope.intersect(&scopes_of(apis)), res: ceiling.res };
    let requested = request.requested()?;
    rights::grant(&requested, &within, &registry.catalogue).map_err(|excess| {
        ErrorCode::InvalidScope.because(match requested == Requested::default() {
            true => {
                "nothing may be granted: what the session, its client and its user may do has nothing in common".into()
            }
            false => excess.to_string(),
        })
    })
}
