//! The two-token rule at a gateway: may this request, which a gateway holds back, go on to its API?
//!
//! 1. What this route of the gateway asks for                      `demand.rs`
//! 2. Who calls: tokens, or a key where the settings allow it      `keyward_guard`, `oauth/client_auth.rs`
//! 3. Whether each token of Keyward's still counts                 `standing.rs`
//! 4. What the API is told                                         `told.rs`; both remembered in `admitted.rs`
//! 5. Whether the rights that all of it leaves suffice
//!
//! One function for nginx, Caddy, Traefik (`forward_auth.rs`) and Envoy (`ext_authz.rs`). Nothing is written on the way.

mod admitted;
mod demand;
mod told;

use std::net::IpAddr;
use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use keyward_guard::{Caller, Given, Keys, Policy, Presented, Refusal};
use keyward_model::api::Api;
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;

use crate::app::App;
use crate::meter;
use crate::oauth::grants::client_credentials::{self, Holder};
use crate::oauth::{client_auth, key_warning};
use crate::respond::{ErrorCode, GatewayError, OAuthError, Realm, let_in, letting_in, turn_away};
use crate::standing::standing;
use admitted::Verdict;
use demand::Demand;

pub(crate) use admitted::Admitted;
pub(crate) use told::NAMES;

/// A request as a gateway describes it.
pub(crate) struct Knock<'a> {
    /// Its headers.
    pub(crate) headers: &'a HeaderMap,
    /// Its path and query, as they came from the network.
    pub(crate) target: Option<&'a [u8]>,
    /// From where it came.
    pub(crate) address: Option<IpAddr>,
    /// The instant of the question.
    pub(crate) now: Timestamp,
}

/// What a caller was let in for.
struct Admission {
    caller: Caller,
    /// Whether it is an application that came with a token and nothing else. Of users the database is asked each time, and
    /// keys are judged anew.
    by_token_alone: bool,
    /// When the key that was sent ends, if that is soon.
    key_expires: Option<HeaderValue>,
}

/// The whole answer: 200 with what the API is to be told, or what whoever sent the request is to be told.
pub(crate) async fn answer<'a>(
    app: &Arc<App>,
    parameters: impl Iterator<Item = (&'a str, &'a str)>,
    knock: &Knock<'_>,
) -> Response {
    let demand = match Demand::read(parameters) {
        Ok(demand) => demand,
        Err(why) => return misconfigured(why),
    };
    match judge(app, &demand, knock).await {
        Ok(headers) => let_in(headers),
        Err(error) => turn_away(error, &Realm { audience: demand.audience, takes_keys: app.gateway.basic }),
    }
}

/// The answer where it is not even clear what a gateway asks for.
pub(crate) fn misconfigured(why: impl Into<String>) -> Response {
    turn_away(GatewayError::Misconfigured(why.into()), &Realm { audience: "", takes_keys: false })
}

/// The headers of the answer for whoever may call the API so. What most requests do not come to is boxed: they carry no room
/// for it.
async fn judge(app: &Arc<App>, demand: &Demand<'_>, knock: &Knock<'_>) -> Result<HeaderMap, GatewayError> {
    let registry = app.registry.load_full();
    let api = registry.api_by_audience(demand.audience);
    let Some((api, policy)) = api.and_then(|api| Some((api, registry.policy(api.id)?))) else {
        return Err(GatewayError::Misconfigured(format!("there is no API with the audience {:?}", demand.audience)));
    };
    demand.require_known_scopes(api)?;
    // Before anything is judged by it.
    let known = app.known();
    let Admission { caller, by_token_alone, key_expires } = admit(app, api, policy, knock).await?;
    let remembered = by_token_alone.then(|| app.admitted.find(caller.client_token(), known, knock.now)).flatten();
    let headers = match remembered {
        Some(headers) => headers,
        None => {
            let until = Box::pin(stands_until(app, &caller, knock.now)).await?;
            let headers = letting_in(told::headers(&caller, key_expires)?);
            if let (true, Some(known)) = (by_token_alone, known) {
                let claims = Arc::clone(caller.client_token());
                app.admitted.insert(Verdict { claims, known, until, headers: headers.clone() }, knock.now);
            }
            headers
        }
    };
    demand.satisfied_by(&caller, knock.target)?;
    Ok(headers)
}

/// Who calls.
async fn admit(app: &Arc<App>, api: &Arc<Api>, policy: &Policy, knock: &Knock<'_>) -> Result<Admission, GatewayError> {
    if app.gateway.basic && carries_basic(knock.headers) {
        let identity = Presented::identity_of(knock.headers)?;
        let (claims, key_expires) = Box::pin(by_key(app, api, knock)).await?;
        let caller = with_foreign_keys(app, policy, identity.is_some(), knock.now, |given| {
            policy.check_beside(claims.clone(), identity, given.keys, given.now)
        });
        return Ok(Admission { caller: caller.await?, by_token_alone: false, key_expires });
    }
    let presented = Presented::of(knock.headers)?;
    let caller = with_foreign_keys(app, policy, presented.identity.is_some(), knock.now, |given| {
        app.verified.check(policy, &presented, given)
    });
    let caller = caller.await?;
    Ok(Admission { by_token_alone: caller.user().is_none(), caller, key_expires: None })
}

fn carries_basic(headers: &HeaderMap) -> bool {
    let basic = |value: &HeaderValue| value.as_bytes().get(..6).is_some_and(|s| s.eq_ignore_ascii_case(b"basic "));
    headers.get_all(header::AUTHORIZATION).iter().any(basic)
}

/// What a token would say that is asked for with this key.
async fn by_key(
    app: &Arc<App>,
    api: &Arc<Api>,
    knock: &Knock<'_>,
) -> Result<(AccessTokenClaims, Option<HeaderValue>), GatewayError> {
    let principal = client_auth::authenticate_in_header(app, knock.headers, knock.address, knock.now).await?;
    let holder = Holder { app, principal: &principal, now: knock.now };
    let claims = match client_credentials::all_for(holder, api) {
        Ok(claims) => claims,
        // As a token would be refused that this client could get: one for another API.
        Err(OAuthError { code: ErrorCode::InvalidTarget, .. }) => {
            let why = "this client may not use this API; its owner can add it";
            return Err(ErrorCode::InvalidClient.because(why).into());
        }
        Err(error) => return Err(error.into()),
    };
    Ok((claims, key_warning::in_header(app, &principal, knock.now)))
}

/// The verdict of the guard, with the keys of other issuers as far as they are needed.
async fn with_foreign_keys(
    app: &Arc<App>,
    policy: &Policy,
    has_identity: bool,
    now: Timestamp,
    check: impl Fn(Given<'_>) -> Result<Caller, Refusal>,
) -> Result<Caller, Refusal> {
    if !has_identity || policy.trusted().is_empty() {
        let ring = app.key_ring.load();
        return check(Given { keys: &Keys::new(Arc::clone(&ring.key_set)), epoch: ring.epoch, now });
    }
    let ring = app.key_ring.load_full();
    let (own, epoch) = (&ring.key_set, ring.epoch);
    let mut verdict = check(Given { keys: &app.foreign_keys.beside(own, policy, now), epoch, now });
    if lacks_key(&verdict) {
        Box::pin(app.foreign_keys.until_asked(policy)).await;
        verdict = check(Given { keys: &app.foreign_keys.beside(own, policy, now), epoch, now });
    }
    if lacks_key(&verdict) && !app.foreign_keys.miss(policy, now) {
        let unknowable = Refusal::Unknowable("the keys of an issuer that this API trusts are not known");
        return Err(Refusal::Identity(Box::new(unknowable)));
    }
    verdict
}

fn lacks_key(verdict: &Result<Caller, Refusal>) -> bool {
    matches!(verdict, Err(Refusal::Identity(cause)) if matches!(**cause, Refusal::KeyUnknown(_)))
}

/// Refuses a caller of whose tokens one was rightly issued and has ended since; gives when time will end one.
async fn stands_until(app: &Arc<App>, caller: &Caller, now: Timestamp) -> Result<Timestamp, Refusal> {
    let mut until = caller.client_token().exp;
    for (at, claims) in caller.keyward_tokens().enumerate() {
        let counts = counts_until(app, claims, now).await;
        let counts = counts.map_err(|refusal| if at == 0 { refusal } else { Refusal::Identity(Box::new(refusal)) })?;
        until = until.min(counts);
    }
    Ok(until)
}

async fn counts_until(app: &Arc<App>, claims: &AccessTokenClaims, now: Timestamp) -> Result<Timestamp, Refusal> {
    match standing(app, claims, now).await {
        Ok(Ok(standing)) => Ok(standing.ends_at(now).map_or(claims.exp, |end| end.min(claims.exp))),
        Ok(Err(lapse)) => {
            tracing::info!(client = %claims.client_id, token = %claims.jti, %lapse, "a token counts no longer");
            Err(Refusal::Ended("the line before says why"))
        }
        Err(error) => {
            meter::DATABASE_ERRORS.increment();
            tracing::error!(%error, "the database failed");
            Err(Refusal::Unknowable("the database does not answer"))
        }
    }
}
