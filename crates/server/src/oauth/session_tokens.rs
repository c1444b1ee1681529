//! The beginning of a device session, whatever grant it comes from: inside the transaction that redeems the grant, so that
//! there is never the one without the other.
//!
//! 1. Client and user as they are now: neither is disabled
//! 2. The first identity token, with all that the session may have            `identity_token`
//! 3. The session gets a place in the status list, and is stored with its first refresh token
//! 4. Of a user's sessions, more than there may be end
//! 5. The caller commits, and answers when that is in force
//!
//! What can be refused is refused before anything is written: a refusal may be committed with the rest.

use std::time::Duration;

use keyward_model::device_session::{DeviceSession, MOST_SESSIONS, SessionState};
use keyward_model::id::{ClientId, CredentialId, DeviceSessionId, UserId};
use keyward_model::refresh_token::RefreshToken;
use keyward_model::rights::Rights;
use keyward_model::time::Timestamp;
use keyward_store::{FoundWho, Tx};

use crate::api::device_sessions::draft;
use crate::app::App;
use crate::oauth::grants::{Request, TokenResponse};
use crate::oauth::identity_token::{self, Wanted};
use crate::respond::{ErrorCode, OAuthError};
use crate::standing::SignedIn;

/// What a user let a client have.
#[derive(Debug)]
pub struct NewSession {
    /// Who.
    pub user: UserId,
    /// Which client.
    pub client: ClientId,
    /// What.
    pub rights: Rights,
    /// What people call it; may be empty.
    pub label: String,
    /// When the user proved who they are.
    pub authenticated_at: Timestamp,
    /// How, in the words of RFC 8176 with spaces between; may be empty.
    pub amr: String,
    /// The network address it was begun from, if it came from a network.
    pub created_from: Option<String>,
    /// With which credential a confidential client comes for the tokens.
    pub credential: Option<CredentialId>,
}

/// A session that has begun, and what its client is answered.
#[derive(Debug)]
pub struct SessionTokens {
    /// The session.
    pub session: DeviceSession,
    /// Its first tokens.
    pub response: TokenResponse,
}

/// Begins the session in the caller's transaction.
pub async fn begin(app: &App, tx: &mut Tx, now: Timestamp, new: NewSession) -> Result<SessionTokens, OAuthError> {
    let found = tx.find_client_and_user(new.client, new.user).await?;
    let Some(FoundWho { client, user, true_from }) = found else {
        return Err(ErrorCode::InvalidGrant.because("its client or its user does not exist any more"));
    };
    // The transaction holds the end of the log: to wait for it here could be to wait for oneself.
    if app.applied.borrow().seq < true_from {
        let behind = ErrorCode::ServerError.because("scopes or APIs have changed this moment; try again");
        return Err(behind.retry_in(Duration::from_secs(1)));
    }
    let credential = new.credential;
    let session = session(app, tx, now, new).await?;
    let signed_in = SignedIn { session, client, user };
    let wanted = Wanted { request: Request::default(), credential };
    let mut response = identity_token::issue_for(app, &signed_in, &wanted, now)?;
    let SignedIn { session, .. } = signed_in;
    let refresh = RefreshToken::generate(session.id, &app.hashing_key, &app.entropy)?;
    tx.insert_device_session(&session).await?;
    let times = (now, idle_at(app, &session, now));
    tx.insert_refresh_token(session.id, &refresh.hash(&app.hashing_key), times).await?;
    tx.record(draft("device_session.created", &session));
    for surplus in tx.revoke_surplus_device_sessions(session.user, MOST_SESSIONS, now).await? {
        tx.record(draft("device_session.revoked", &surplus));
    }
    response.refresh_token = Some(refresh);
    Ok(SessionTokens { session, response })
}

/// When a session ends of which nobody makes any use.
pub(crate) fn idle_at(app: &App, session: &DeviceSession, now: Timestamp) -> Timestamp {
    now.plus(app.sessions.idle()).min(session.expires_at)
}

async fn session(app: &App, tx: &mut Tx, now: Timestamp, new: NewSession) -> Result<DeviceSession, OAuthError> {
    Ok(DeviceSession {
        id: DeviceSessionId::new(now, &app.entropy)?,
        user: new.user,
        client: new.client,
        label: new.label,
        rights: new.rights,
        state: SessionState::Active,
        status_index: tx.next_status_index().await?,
        authenticated_at: new.authenticated_at,
        amr: new.amr,
        expires_at: now.plus(app.sessions.lasts()),
        created_from: new.created_from,
        created_at: now,
        updated_at: now,
        version: 1,
    })
}
