//! Authorization code grant, token step: RFC 6749 §4.1.3, with PKCE (RFC 7636 §4.5).
//!
//! 1. Code, redirect URI and verifier are there, whatever the client                      §4.1.3, RFC 7636 §4.5
//! 2. The code is redeemed once: by its client, for its redirect URI and its challenge    §4.1.3, RFC 7636 §4.6
//! 3. A code that was redeemed before: the session it gave ends                           §4.1.2
//! 4. The session begins, in the same transaction                                         `session_tokens`

use keyward_model::event::Draft;
use keyward_model::pkce::CodeChallenge;
use keyward_model::secret::{Secret, SecretHash};
use keyward_store::{Redeemed, Tx};
use serde_json::json;

use crate::oauth::grants::{Call, TokenResponse};
use crate::oauth::session_tokens::{self, NewSession, SessionTokens};
use crate::respond::{ErrorCode, OAuthError};

/// RFC 6749 §4.1.3
pub const GRANT_TYPE: &str = "authorization_code";

const UNKNOWN: &str =
    "there is no such code for this client, redirect_uri and code_verifier, or it was used or is over: ask for another";

/// Gives the first tokens of a session for a code.
pub async fn exchange(call: &Call<'_>) -> Result<TokenResponse, OAuthError> {
    let (code, redirect_uri) = (call.required("code")?, call.required("redirect_uri")?);
    let code_challenge = CodeChallenge::of_verifier(call.required("code_verifier")?)
        .map_err(|error| ErrorCode::InvalidRequest.because(error.to_string()))?;
    let code = Secret::parse(code).ok_or_else(|| call.guessed(UNKNOWN))?;
    let code = call.app.hashing_key.hash(&code);
    // Anybody may come with anything: only a code that there is begins a transaction.
    if !call.app.store.is_authorization_code(&code).await? {
        return Err(call.guessed(UNKNOWN));
    }
    let with = Redeemed { code: &code, client: call.asker.client().id, redirect_uri, code_challenge: &code_challenge };

    let mut tx = call.app.store.begin().await?;
    let Some(given) = tx.redeem_authorization_code(&with, call.now).await? else {
        return Err(seen_before(call, tx, &code).await?);
    };
    let new = NewSession {
        user: given.user,
        client: given.client,
        rights: given.rights,
        label: String::new(),
        authenticated_at: given.authenticated_at,
        amr: given.amr,
        created_from: given.created_from,
        credential: call.asker.credential(),
    };
    let SessionTokens { session, response } = match session_tokens::begin(call.app, &mut tx, call.now, new).await {
        Ok(begun) => begun,
        Err(fault) if fault.code == ErrorCode::ServerError => return Err(fault),
        Err(refusal) => {
            // The code was used for it: a refusal commits.
            tx.commit(&call.origin()).await?;
            return Err(refusal);
        }
    };
    tx.note_session_of_code(&code, session.id).await?;
    tx.commit(&call.origin()).await?;
    Ok(response)
}

/// Whoever comes second has the code from somewhere; it cannot be known whether they or the first are its client.
async fn seen_before(call: &Call<'_>, mut tx: Tx, code: &SecretHash) -> Result<OAuthError, OAuthError> {
    let ended = match tx.find_session_of_code(code).await? {
        Some(session) => tx.revoke_device_session(session, call.now).await?,
        None => None,
    };
    let Some(ended) = ended else {
        call.app.settle(tx, &call.origin()).await?;
        return Ok(ErrorCode::InvalidGrant.because(UNKNOWN));
    };
    let data = json!({ "user": ended.user, "client": ended.client, "because": "authorization_code_reused" });
    tx.record(Draft { kind: "device_session.revoked", subject: ended.id.to_string(), data });
    let seq = tx.commit(&call.origin()).await?;
    call.app.wait_until_applied(seq).await?;
    tracing::warn!(session = %ended.id, "an authorization code came twice: the session it gave was ended");
    Ok(ErrorCode::InvalidGrant.because(UNKNOWN))
}
