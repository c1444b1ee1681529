//! Device authorization grant, token step: RFC 8628 §3.4 and §3.5.
//!
//! 1. The device polls with its `device_code`, through the client that asked    §3.4
//! 2. Came too late, or nothing comes of it: `expired_token`, `access_denied`   §3.5
//! 3. Redeemed before: the same answer again if it was perhaps lost; else two have the code, and its session ends
//! 4. Approved, and confirmed if its client wants that: tokens, exactly once    §3.5, RFC 6749 §5.1
//! 5. Not yet decided: `slow_down` if it came too early                         §3.5
//! 6. Else the answer is held for some seconds: the decision, or `authorization_pending`
//!
//! What is final comes before the pace: nobody is told to wait for what is there.

use keyward_model::caller::Network;
use keyward_model::device_grant::{Approval, DeviceGrant, Digits, GrantState, MOST_WRONG_CONFIRMATIONS};
use keyward_model::event::Draft;
use keyward_model::id::DeviceSessionId;
use keyward_model::secret::Secret;
use keyward_model::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::device_grants::{draft, rights_now};
use crate::meter;
use crate::oauth::grants::{Call, Request, TokenResponse};
use crate::oauth::sealed_response;
use crate::oauth::session_tokens::{self, NewSession, SessionTokens};
use crate::respond::{ErrorCode, OAuthError};
use crate::standing::SignedIn;

/// RFC 8628 §3.4
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Of polls with one code at once, one redeems it and all others find what it left.
const ATTEMPTS: u8 = 4;

/// What a device is told beside that it has to wait.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Polling {
    /// Seconds between two questions, also after `slow_down`, which the client makes longer by itself.
    pub(crate) interval: u64,
    /// The device was let in and must send the digits that were shown: how often it may still be wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) confirmation_tries_left: Option<i64>,
}

/// Gives the first tokens of a device that was let in.
pub async fn exchange(call: &Call<'_>, _request: Request<'_>) -> Result<TokenResponse, OAuthError> {
    let device_code = call.required("device_code")?;
    let Some(code) = Secret::parse(device_code) else { return Err(unknown(call)) };
    let grant = find(call, &code).await?;
    match settled(call, &code, &grant, call.now).await? {
        Some(response) => Ok(response),
        None => wait(call, &code, &grant).await,
    }
}

/// The grant of this code. RFC 8628 §3.4: only the client that asked gets anything for it.
async fn find(call: &Call<'_>, code: &Secret) -> Result<DeviceGrant, OAuthError> {
    let found = call.app.store.find_device_grant_of_device(&call.app.hashing_key.hash(code)).await?;
    found.filter(|grant| grant.client == call.asker.client().id).ok_or_else(|| unknown(call))
}

fn unknown(call: &Call<'_>) -> OAuthError {
    call.guessed("this client has no such device_code; let the device ask anew")
}

/// The answer if there is one; `None` while nothing is decided.
async fn settled(
    call: &Call<'_>,
    code: &Secret,
    grant: &DeviceGrant,
    now: Timestamp,
) -> Result<Option<TokenResponse>, OAuthError> {
    let mut grant = grant.clone();
    for _ in 0..ATTEMPTS {
        match grant.state_at(now) {
            GrantState::Pending | GrantState::Claimed(_) => return Ok(None),
            GrantState::Expired { .. } => {
                return Err(ErrorCode::ExpiredToken.because("nobody let the device in in time; let it ask anew"));
            }
            GrantState::Denied { .. } => return Err(denied()),
            GrantState::Redeemed { session, .. } => return again(call, code, &grant, session).await.map(Some),
            GrantState::Approved(approval) => {
                confirm(call, &grant, &approval).await?;
                if let Some(response) = redeem(call, code, &grant, &approval, now).await? {
                    return Ok(Some(response));
                }
                grant = find(call, code).await?;
            }
        }
    }
    Err(ErrorCode::ServerError.because("this device_code is used too often at once; try again"))
}

fn denied() -> OAuthError {
    ErrorCode::AccessDenied.because("the device was not let in")
}

/// Not yet decided: whoever keeps the pace is held until it is, or for some seconds.
async fn wait(call: &Call<'_>, code: &Secret, grant: &DeviceGrant) -> Result<TokenResponse, OAuthError> {
    let grants = &call.app.device_grants;
    require_bearable(call, grant)?;
    if grants.pace.is_early(grant, call.now) {
        return Err(slow_down(grant));
    }
    let Some(_place) = (!grants.hold.is_zero()).then(|| grants.waiting.place()).flatten() else {
        return Err(pending(grant));
    };
    let _held = meter::HELD_POLLS.enter();
    let mut waiter = grants.waiting.hear(grant.id);
    let ends_at = tokio::time::Instant::now() + grants.hold;
    loop {
        // After it is listened for and not before: what changes meanwhile is not missed.
        let now = call.app.clock.now();
        if let Some(response) = settled(call, code, &find(call, code).await?, now).await? {
            return Ok(response);
        }
        let left = ends_at.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() || !waiter.changed(left).await {
            return Err(pending(grant));
        }
    }
}

/// `slow_down` is advice; this is for whoever takes none. Of a network that is too fast as a whole it is not known who is:
/// there it stays advice, for a refusal would end the login of everybody behind the same address.
fn require_bearable(call: &Call<'_>, grant: &DeviceGrant) -> Result<(), OAuthError> {
    let budgets = &call.app.device_grants.budgets;
    if let Some(wait) = budgets.charge_poll(grant.id, call.now) {
        let why = "too many polls; wait as long as Retry-After says";
        return Err(ErrorCode::TemporarilyUnavailable.because(why).retry_in(wait));
    }
    match budgets.charge_polls_of(call.address.map_or(grant.network, Network::from), call.now) {
        Some(_) => Err(slow_down(grant)),
        None => Ok(()),
    }
}

fn slow_down(grant: &DeviceGrant) -> OAuthError {
    let why = "the device asks too often; it has to wait five seconds longer each time (RFC 8628 3.5)";
    ErrorCode::SlowDown.because(why).with(polling(grant))
}

fn pending(grant: &DeviceGrant) -> OAuthError {
    ErrorCode::AuthorizationPending.because("nobody has decided yet; ask again").with(polling(grant))
}

fn polling(grant: &DeviceGrant) -> Polling {
    Polling { interval: grant.interval.as_secs(), ..Polling::default() }
}

/// The digits that were shown at the approval, where they are asked for. Wrong ones are counted: the refusal commits.
async fn confirm(call: &Call<'_>, grant: &DeviceGrant, approval: &Approval) -> Result<(), OAuthError> {
    let Some(digits) = approval.digits else { return Ok(()) };
    let unconfirmed = |wrong: i64| {
        let why = "the device must send the digits that are shown at the approval, as confirmation";
        let tries_left = Some(MOST_WRONG_CONFIRMATIONS - wrong);
        ErrorCode::AuthorizationPending
            .because(why)
            .with(Polling { confirmation_tries_left: tries_left, ..polling(grant) })
    };
    let Some(given) = call.form.get("confirmation")? else {
        require_bearable(call, grant)?;
        return Err(unconfirmed(approval.wrong));
    };
    if Digits::parse(given) == Some(digits) {
        return Ok(());
    }
    let mut tx = call.app.store.begin().await?;
    let counted = tx.count_wrong_confirmation(grant.id, MOST_WRONG_CONFIRMATIONS, call.now).await?;
    let state = counted.as_ref().map(|counted| counted.state.clone());
    if let (Some(counted), Some(GrantState::Denied { .. })) = (&counted, &state) {
        tx.record(draft("device_grant.denied", counted));
    }
    let seq = tx.commit(&call.origin()).await?;
    call.app.wait_until_applied(seq).await?;
    match state {
        Some(GrantState::Approved(approval)) => Err(unconfirmed(approval.wrong)),
        _ => Err(denied()),
    }
}

/// Begins the session, and takes the approval for it: both or neither. `None` if another poll was faster.
async fn redeem(
    call: &Call<'_>,
    code: &Secret,
    grant: &DeviceGrant,
    approval: &Approval,
    now: Timestamp,
) -> Result<Option<TokenResponse>, OAuthError> {
    let app = call.app;
    let mut tx = app.store.begin().await?;
    let who = tx.find_client_and_user(grant.client, approval.claim.user).await?.ok_or_else(denied)?;
    let rights = rights_now(app, &who, grant);
    let new = NewSession {
        user: approval.claim.user,
        client: grant.client,
        rights: rights.map_err(|why| ErrorCode::InvalidGrant.because(why.to_string()))?,
        label: grant.label.clone(),
        authenticated_at: approval.authenticated_at,
        amr: approval.method.amr().join(" "),
        created_from: call.address.map(|address| address.to_string()),
        credential: call.asker.credential(),
    };
    let SessionTokens { session, response } = session_tokens::begin(app, &mut tx, now, new).await?;
    let answer = sealed_response::seal(&response, code, &grant.id.to_string(), now)?;
    let Some(redeemed) = tx.redeem_device_grant(grant.id, session.id, &answer, now).await? else {
        drop(tx);
        // What a transaction sees of others is certain only once they are committed: one behind them says when.
        app.settle(app.store.begin().await?, &call.origin()).await?;
        return Ok(None);
    };
    tx.record(draft("device_grant.redeemed", &redeemed));
    let seq = tx.commit(&call.origin()).await?;
    app.wait_until_applied(seq).await?;
    Ok(Some(response))
}

/// Whoever lost the answer gets the same, for a minute and as long as nobody has used the refresh token in it. Later, two
/// have the code: nobody goes on with its session.
async fn again(
    call: &Call<'_>,
    code: &Secret,
    grant: &DeviceGrant,
    session: DeviceSessionId,
) -> Result<TokenResponse, OAuthError> {
    let now = call.app.clock.now();
    let signed_in = SignedIn::find(call.app, session).await?;
    let is_over = signed_in.is_none_or(|signed_in| signed_in.require_standing(now).is_err());
    let over = || ErrorCode::InvalidGrant.because("this device_code was used, and its session has ended: ask anew");
    if is_over {
        return Err(over());
    }
    let answer = call.app.store.find_device_grant_answer(grant.id).await?;
    if let Some(response) = answer.and_then(|answer| sealed_response::open(&answer, code, &grant.id.to_string(), now)) {
        return Ok(response);
    }
    let mut tx = call.app.store.begin().await?;
    let Some(ended) = tx.revoke_device_session(session, now).await? else {
        call.app.settle(tx, &call.origin()).await?;
        return Err(over());
    };
    let data = json!({ "user": ended.user, "client": ended.client, "because": "device_code_reused" });
    tx.record(Draft { kind: "device_session.revoked", subject: session.to_string(), data });
    let seq = tx.commit(&call.origin()).await?;
    call.app.wait_until_applied(seq).await?;
    tracing::warn!(%session, "a device_code came again after it was used: the session was ended");
    Err(ErrorCode::InvalidGrant.because("this device_code was used before; the session was ended: ask anew"))
}
