//! Token revocation: RFC 7009, of an access token by the client it was issued to.
//!
//! 1. Authenticate the client                                          §2.1
//! 2. What is no valid token of ours needs no revoking: success        §2.2
//! 3. Somebody else's token is refused                                 §2.1
//! 4. Charge the client's budget: each revocation stays in the log for ever
//! 5. Note the token's end and append the event; answer when in force
//! 6. When as many are noted as are listed for verifiers, end all tokens of the same grant instead    §2.1

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use keyward_model::event::{Actor, Draft};
use keyward_model::id::CredentialId;
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;
use keyward_store::{Origin, StoreError, TokensOf, Tx};
use serde_json::json;

use crate::api::changes::MOVED;
use crate::app::App;
use crate::oauth::form::FormRequest;
use crate::oauth::status_list::{MOST_TOKENS, last_token_dead};
use crate::oauth::token::no_store;
use crate::oauth::{caller, client_auth};
use crate::respond::{ErrorCode, OAuthError, json_response};

/// `POST /revoke`
pub async fn revoke(State(app): State<Arc<App>>, request: FormRequest) -> Result<Response, OAuthError> {
    let (now, form) = (request.now, request.form()?);
    let from = caller::of(&request, &form)?;
    let caller = client_auth::authenticate(&app, &request, &form).await?;
    app.callers.accepted(caller.entry.credential.id, from, now);
    let token = form.get("token")?.ok_or_else(|| ErrorCode::InvalidRequest.because("token is missing"))?;
    let done = || Ok(no_store(json_response(StatusCode::OK, &json!({}))));

    let keys = app.key_ring.load_full();
    let Ok(claims) = keyward_guard::verify(token, &keys.key_set, &app.expect_any, now) else { return done() };
    if claims.client_id != caller.client.id {
        return Err(ErrorCode::UnauthorizedClient.because("this token was issued to another client"));
    }
    if app.revoked_tokens.contains(&app.store, claims.jti).await? {
        return done();
    }
    if let Some(wait) = app.changes.charge(caller.client.id, now) {
        return Err(OAuthError {
            retry_after: Some(wait),
            ..ErrorCode::TemporarilyUnavailable.because(
                "this client has ended too many tokens; wait as long as Retry-After says, or revoke the credential",
            )
        });
    }
    let credential = claims.cred.unwrap_or(caller.entry.credential.id);
    // Verifiers may be lenient about the end of a token; it must stay known as revoked as long.
    let known_until = claims.exp.plus(keyward_guard::MAX_LEEWAY);
    let actor = Actor::Client { client: caller.client.id, credential: caller.entry.credential.id };
    let origin = Origin { actor, source: request.address.map(|a| a.to_string()), now };
    let mut tx = app.store.begin().await?;
    let draft = if tx.count_revoked_tokens(now).await? >= MOST_TOKENS {
        end_all_of_grant(&mut tx, &claims, credential, now).await?
    } else if tx.insert_revoked_token(claims.jti, credential, known_until, now).await? {
        Draft {
            kind: "token.revoked",
            subject: claims.jti.to_string(),
            data: json!({ "client": claims.client_id, "credential": credential, "expires_at": known_until }),
        }
    } else {
        app.settle(tx, &origin).await?;
        return done();
    };
    tx.record(draft);
    let seq = tx.commit(&origin).await?;
    app.wait_until_applied(seq).await?;
    done()
}

/// Ends every token got with the same credential or in the same device session: their place in the status list is left.
async fn end_all_of_grant(
    tx: &mut Tx,
    claims: &AccessTokenClaims,
    credential: CredentialId,
    now: Timestamp,
) -> Result<Draft, StoreError> {
    let (kind, subject, of) = match claims.sid {
        Some(session) => ("device_session.tokens_ended", session.to_string(), TokensOf::DeviceSession(session)),
        None => ("credential.tokens_ended", credential.to_string(), TokensOf::Credential(credential)),
    };
    let moved = tx.end_tokens(of, last_token_dead(now), now).await?;
    let data = json!({ "client": claims.client_id, "token": claims.jti, MOVED: moved });
    Ok(Draft { kind, subject, data })
}
