//! Refreshing a device session's tokens: RFC 6749 §6, with rotation (RFC 9700 §4.14.2).
//!
//! 1. The token was given out for a session, which stands, and to this client    RFC 6749 §10.4
//! 2. The one that counts: new tokens, for no more than the session has          RFC 6749 §6
//! 3. The one before, whose answer was perhaps lost: the same bytes again, for a minute and as long as nobody came with
//!    what they gave
//! 4. One that was replaced: two have it, so the session ends                    RFC 9700 §4.14.2
//! 5. The successor takes its place: one statement, and the answer is kept sealed with it

use keyward_model::event::Draft;
use keyward_model::id::DeviceSessionId;
use keyward_model::refresh_token::RefreshToken;
use keyward_store::{Presented, Succession};
use serde_json::json;

use crate::oauth::grants::{Call, Request, TokenResponse};
use crate::oauth::identity_token::{self, Wanted};
use crate::oauth::{sealed_response, session_tokens};
use crate::respond::{ErrorCode, OAuthError};
use crate::standing::SignedIn;

/// RFC 6749 §6
pub const GRANT_TYPE: &str = "refresh_token";

/// Of requests with one token at once, one is first and all others find what it left. Only a token that keeps changing
/// under somebody's hands is given up.
const ATTEMPTS: u8 = 4;

/// Gives the next tokens of a session.
pub async fn exchange(call: &Call<'_>, request: Request<'_>) -> Result<TokenResponse, OAuthError> {
    let presented = RefreshToken::parse(call.required("refresh_token")?)
        .ok()
        .filter(|token| token.is_genuine(&call.app.hashing_key))
        .ok_or_else(|| ErrorCode::InvalidGrant.because("this is no refresh token of this server"))?;
    let wanted = Wanted { request, credential: call.asker.credential() };
    for _ in 0..ATTEMPTS {
        let signed_in = standing(call, presented.session).await?;
        let hash = presented.hash(&call.app.hashing_key);
        match call.app.store.find_refresh_token(presented.session, &hash, call.now).await? {
            None => return Err(over()),
            Some(Presented::Answered(answer)) => {
                let again = sealed_response::open(&answer, presented.secret(), &asked(&wanted.request), call.now);
                return again.ok_or_else(|| {
                    let why = "this refresh token was used a moment ago, and for something else: use its successor";
                    ErrorCode::InvalidRequest.because(why)
                });
            }
            Some(Presented::Replaced) => return Err(end(call, presented.session).await?),
            Some(Presented::Current) => {
                if let Some(response) = succeed(call, &presented, &signed_in, &wanted).await? {
                    return Ok(response);
                }
            }
        }
    }
    Err(ErrorCode::ServerError.because("this refresh token is used too often at once; try again"))
}

/// The session, if its tokens may go on; only its own client hears anything of it.
async fn standing(call: &Call<'_>, session: DeviceSessionId) -> Result<SignedIn, OAuthError> {
    let signed_in = SignedIn::find(call.app, session).await?.ok_or_else(over)?;
    if signed_in.client.id != call.asker.client().id {
        return Err(ErrorCode::InvalidGrant.because("this refresh token was issued to another client"));
    }
    signed_in.require_standing(call.now).map_err(|lapse| ErrorCode::InvalidGrant.because(lapse.to_string()))?;
    Ok(signed_in)
}

/// New tokens, if the one presented still counts.
async fn succeed(
    call: &Call<'_>,
    presented: &RefreshToken,
    signed_in: &SignedIn,
    wanted: &Wanted<'_>,
) -> Result<Option<TokenResponse>, OAuthError> {
    let Call { app, now, .. } = call;
    let next = RefreshToken::generate(presented.session, &app.hashing_key, &app.entropy)?;
    let mut response = identity_token::issue_for(app, signed_in, wanted, *now)?;
    let to = Succession {
        session: presented.session,
        presented: presented.hash(&app.hashing_key),
        next: next.hash(&app.hashing_key),
        idle_at: session_tokens::idle_at(app, &signed_in.session, *now),
        answer: {
            response.refresh_token = Some(next);
            sealed_response::seal(&response, presented.secret(), &asked(&wanted.request), *now)?
        },
    };
    let mut tx = app.store.begin().await?;
    let rotated = tx.rotate_refresh_token(&to, *now).await?;
    // Also for whoever was late: what a transaction sees of others is certain only once it is itself committed.
    tx.commit(&call.origin()).await?;
    Ok(rotated.then_some(response))
}

/// Whoever has it beside its client may have it still: nobody goes on with this session. The refusal commits.
async fn end(call: &Call<'_>, session: DeviceSessionId) -> Result<OAuthError, OAuthError> {
    let mut tx = call.app.store.begin().await?;
    if let Some(ended) = tx.revoke_device_session(session, call.now).await? {
        let data = json!({ "user": ended.user, "client": ended.client, "because": "refresh_token_reused" });
        tx.record(Draft { kind: "device_session.revoked", subject: session.to_string(), data });
        let seq = tx.commit(&call.origin()).await?;
        call.app.wait_until_applied(seq).await?;
        tracing::warn!(%session, "a refresh token that was replaced came again: the session was ended");
    } else {
        call.app.settle(tx, &call.origin()).await?;
    }
    Ok(ErrorCode::InvalidGrant.because("this refresh token was used before; the session was ended: sign in again"))
}

fn over() -> OAuthError {
    ErrorCode::InvalidGrant.because("the session has ended: sign in again")
}

/// What was asked for beside the token. Everything in it is quoted: no two requests read the same.
fn asked(request: &Request<'_>) -> String {
    format!("{request:?}")
}
