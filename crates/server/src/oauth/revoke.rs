//! Token revocation: RFC 7009, of an access or refresh token by the client it was issued to.
//!
//! 1. Authenticate the client, or let a public one name itself         §2.1
//! 2. What is no valid token of ours needs no revoking: success        §2.2
//! 3. Somebody else's token is refused                                 §2.1
//! 4. A refresh token: end its session, with all its tokens            §2.1
//!    A device_code: the device gives up, also what it was given meanwhile
//! 5. Charge the client's budget: each revocation stays in the log for ever
//! 6. Note the token's end and append the event; answer when in force
//! 7. When as many are noted as are listed for verifiers, end all tokens of the same grant instead    §2.1

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use keyward_model::device_grant::GrantState;
use keyward_model::device_session::DeviceSession;
use keyward_model::event::Draft;
use keyward_model::id::{CredentialId, DeviceGrantId};
use keyward_model::refresh_token::RefreshToken;
use keyward_model::secret::Secret;
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;
use keyward_store::{Origin, StoreError, TokensOf, Tx};
use serde_json::json;

use crate::api::changes::MOVED;
use crate::api::device_sessions::draft;
use crate::app::App;
use crate::device_grants;
use crate::oauth::caller;
use crate::oauth::client_auth::{self, Asker};
use crate::oauth::form::FormRequest;
use crate::oauth::status_list::{MOST_TOKENS, last_token_dead};
use crate::oauth::token::no_store;
use crate::respond::{ErrorCode, OAuthError, json_response};

/// `POST /revoke`
pub async fn revoke(State(app): State<Arc<App>>, request: FormRequest) -> Result<Response, OAuthError> {
    let (now, form) = (request.now, request.form()?);
    let from = caller::of(&request, &form)?;
    let asker = client_auth::identify(&app, &request, &form).await?;
    if let Some(credential) = asker.credential() {
        app.callers.accepted(credential, from, now);
    }
    let token = form.get("token")?.ok_or_else(|| ErrorCode::InvalidRequest.because("token is missing"))?;
    let origin = Origin { actor: asker.actor(), source: request.address.map(|a| a.to_string()), now };
    match (RefreshToken::parse(token), Secret::parse(token)) {
        (Ok(token), _) => end_session(&app, &token, &asker, &origin).await?,
        (Err(_), Some(device_code)) => cancel_device_grant(&app, &device_code, &asker, &origin).await?,
        (Err(_), None) => end_access_token(&app, token, &asker, &origin).await?,
    }
    Ok(no_store(json_response(StatusCode::OK, &json!({}))))
}

/// RFC 7009 §2.1: with a refresh token, all tokens of its grant end. One that was replaced says as well whose session it is.
async fn end_session(app: &App, token: &RefreshToken, asker: &Asker, origin: &Origin) -> Result<(), OAuthError> {
    if !token.is_genuine(&app.hashing_key) {
        return Ok(());
    }
    let Some(session) = app.store.find_device_session(token.session).await? else { return Ok(()) };
    if session.client != asker.client().id {
        return Err(ErrorCode::UnauthorizedClient.because("this token was issued to another client"));
    }
    let mut tx = app.store.begin().await?;
    let Some(ended) = tx.revoke_device_session(session.id, origin.now).await? else {
        return Ok(app.settle(tx, origin).await?);
    };
    tx.record(draft("device_session.revoked", &ended));
    let seq = tx.commit(origin).await?;
    Ok(app.wait_until_applied(seq).await?)
}

/// A device gives up. It may have been let in without having heard of it: then nobody else has what it was to get.
async fn cancel_device_grant(app: &App, code: &Secret, asker: &Asker, origin: &Origin) -> Result<(), OAuthError> {
    let found = app.store.find_device_grant_of_device(&app.hashing_key.hash(code)).await?;
    let Some(grant) = found.filter(|grant| grant.client == asker.client().id) else { return Ok(()) };
    let mut tx = app.store.begin().await?;
    if let Some(denied) = tx.cancel_device_grant(grant.id, origin.now).await? {
        if denied.state.user().is_some() {
            tx.record(device_grants::draft("device_grant.denied", &denied));
        }
    } else if let Some(ended) = revoke_redeemed(&mut tx, grant.id, origin.now).await? {
        tx.record(draft("device_session.revoked", &ended));
    } else {
        return Ok(app.settle(tx, origin).await?);
    }
    let seq = tx.commit(origin).await?;
    Ok(app.wait_until_applied(seq).await?)
}

async fn revoke_redeemed(tx: &mut Tx, id: DeviceGrantId, now: Timestamp) -> Result<Option<DeviceSession>, StoreError> {
    match tx.find_device_grant(id).await?.map(|grant| grant.state) {
        Some(GrantState::Redeemed { session, .. }) => tx.revoke_device_session(session, now).await,
        _ => Ok(None),
    }
}

async fn end_access_token(app: &App, token: &str, asker: &Asker, origin: &Origin) -> Result<(), OAuthError> {
    let (now, client) = (origin.now, asker.client().id);
    let keys = app.key_ring.load_full();
    let Ok(claims) = keyward_guard::verify(token, &keys.key_set, &app.expect_any, now) else { return Ok(()) };
    if claims.client_id != client {
        return Err(ErrorCode::UnauthorizedClient.because("this token was issued to another client"));
    }
    if app.revoked_tokens.contains(&app.store, claims.jti).await? {
        return Ok(());
    }
    if let Some(wait) = app.changes.charge(client, now) {
        return Err(OAuthError {
            retry_after: Some(wait),
            ..ErrorCode::TemporarilyUnavailable.because(
                "this client has ended too many tokens; wait as long as Retry-After says, or revoke the credential",
            )
        });
    }
    // Verifiers may be lenient about the end of a token; it must stay known as revoked as long.
    let known_until = claims.exp.plus(keyward_guard::MAX_LEEWAY);
    let mut tx = app.store.begin().await?;
    let full = tx.count_revoked_tokens(now).await? >= MOST_TOKENS;
    let told = match claims.cred.or(asker.credential()) {
        Some(credential) if !full => {
            if !tx.insert_revoked_token(claims.jti, credential, known_until, now).await? {
                return Ok(app.settle(tx, origin).await?);
            }
            let data = json!({ "client": client, "credential": credential, "expires_at": known_until });
            Draft { kind: "token.revoked", subject: claims.jti.to_string(), data }
        }
        // A public client's token has no credential: all of its session end, and it gets others by its refresh token.
        credential => end_all_of_grant(&mut tx, &claims, credential, now).await?,
    };
    tx.record(told);
    let seq = tx.commit(origin).await?;
    Ok(app.wait_until_applied(seq).await?)
}

/// Ends every token got with the same credential or in the same device session: their place in the status list is left.
async fn end_all_of_grant(
    tx: &mut Tx,
    claims: &AccessTokenClaims,
    credential: Option<CredentialId>,
    now: Timestamp,
) -> Result<Draft, OAuthError> {
    let (kind, subject, of) = match (claims.sid, credential) {
        (Some(session), _) => ("device_session.tokens_ended", session.to_string(), TokensOf::DeviceSession(session)),
        (None, Some(cred)) => ("credential.tokens_ended", cred.to_string(), TokensOf::Credential(cred)),
        (None, None) => return Err(ErrorCode::UnauthorizedClient.because("a public client has no such tokens")),
    };
    let moved = tx.end_tokens(of, last_token_dead(now), now).await?;
    let data = json!({ "client": claims.client_id, "token": claims.jti, MOVED: moved });
    Ok(Draft { kind, subject, data })
}
