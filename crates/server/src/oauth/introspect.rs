//! Token introspection: RFC 7662. Computed from the token and the state of things; no row per token exists.
//!
//! 1. Authenticate whoever asks                                    §2.1
//! 2. Verify the token as any API would
//! 3. Ask how credential or device session, client, user and rights stand now
//! 4. Answer the client itself and the APIs the token is for; of a refresh token, the client alone    §2.2, §4

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use keyward_model::id::ClientId;
use keyward_model::refresh_token::RefreshToken;
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;
use keyward_store::Presented;
use serde_json::{Value, json};

use crate::app::App;
use crate::oauth::form::FormRequest;
use crate::oauth::token::no_store;
use crate::oauth::{caller, client_auth};
use crate::respond::{ErrorCode, OAuthError, json_response};
use crate::standing::{SignedIn, standing};

/// `POST /introspect`
pub async fn introspect(State(app): State<Arc<App>>, request: FormRequest) -> Result<Response, OAuthError> {
    let (now, form) = (request.now, request.form()?);
    let from = caller::of(&request, &form)?;
    let caller = client_auth::authenticate(&app, &request, &form).await?;
    // An API that only ever asks about tokens uses its key too.
    app.callers.accepted(caller.entry.credential.id, from, now);
    let token = form.get("token")?.ok_or_else(|| ErrorCode::InvalidRequest.because("token is missing"))?;
    if let Ok(token) = RefreshToken::parse(token) {
        let answer = refresh(&app, &token, caller.client.id, now).await?;
        return Ok(no_store(json_response(StatusCode::OK, &answer)));
    }
    let answer = match active(&app, token, caller.client.id, now).await? {
        Some(claims) => json!({
            "active": true, "token_type": "Bearer", "iss": claims.iss, "sub": claims.sub, "aud": claims.aud,
            "client_id": claims.client_id, "scope": claims.scope, "res": claims.res, "cred": claims.cred,
            "act": claims.act, "sid": claims.sid, "auth_time": claims.auth_time.map(Timestamp::as_seconds),
            "jti": claims.jti, "iat": claims.iat.as_seconds(), "exp": claims.exp.as_seconds(),
        }),
        // RFC 7662 §2.2: nothing more is said of an inactive token, "including why the token is inactive".
        None => json!({ "active": false }),
    };
    Ok(no_store(json_response(StatusCode::OK, &answer)))
}

/// A refresh token is the business of its own client alone.
async fn refresh(app: &App, token: &RefreshToken, caller: ClientId, now: Timestamp) -> Result<Value, OAuthError> {
    let inactive = Ok(json!({ "active": false }));
    if !token.is_genuine(&app.hashing_key) {
        return inactive;
    }
    let found = SignedIn::find(app, token.session).await?;
    let Some(signed_in) = found.filter(|s| s.client.id == caller && s.require_standing(now).is_ok()) else {
        return inactive;
    };
    match app.store.find_refresh_token(token.session, &token.hash(&app.hashing_key), now).await? {
        Some(Presented::Current) => {}
        _ => return inactive,
    }
    let SignedIn { session, user, .. } = &signed_in;
    let most = signed_in.ceiling(&app.registry.load());
    Ok(json!({
        "active": true, "iss": app.issuer, "sub": user.id, "client_id": caller, "sid": session.id, "scope": most.scope,
        "res": most.res, "auth_time": session.authenticated_at.as_seconds(), "exp": session.expires_at.as_seconds(),
    }))
}

async fn active(
    app: &Arc<App>,
    token: &str,
    caller: ClientId,
    now: Timestamp,
) -> Result<Option<AccessTokenClaims>, OAuthError> {
    let keys = app.key_ring.load_full();
    let Ok(claims) = keyward_guard::verify(token, &keys.key_set, &app.expect_any, now) else { return Ok(None) };
    if !may_ask(app, &claims, caller) {
        return Ok(None);
    }
    Ok(standing(app, &claims, now).await?.is_ok().then_some(claims))
}

/// A token is the business of its own client and of the APIs it is for.
fn may_ask(app: &App, claims: &AccessTokenClaims, caller: ClientId) -> bool {
    let registry = app.registry.load();
    let is_for = |audience| registry.api_by_audience(audience).is_some_and(|api| api.client == Some(caller));
    claims.client_id == caller || claims.aud.iter().any(is_for)
}
