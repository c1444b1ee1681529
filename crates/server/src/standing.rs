//! Whether a token that was rightly issued still counts: its credential or device session, client, user and rights as
//! they are now.
//!
//! Introspection and Keyward's own API ask this of every token; verifiers elsewhere learn of it by the status list and
//! the revocation feed, which know the places that tokens name.

use std::sync::Arc;

use keyward_model::client::{Client, ClientKind};
use keyward_model::device_session::DeviceSession;
use keyward_model::id::DeviceSessionId;
use keyward_model::rights::Rights;
use keyward_model::time::Timestamp;
use keyward_model::token::{AccessTokenClaims, Subject, TokenKind};
use keyward_model::user::User;
use keyward_store::{FoundSession, StoreError};

use crate::app::App;
use crate::principals::Principal;
use crate::registry::Registry;

/// Why a token counts no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lapse {
    /// Not one got with a credential that exists.
    #[error("the credential it was got with does not exist any more")]
    Unknown,
    /// Not one of a device session that exists.
    #[error("the device session it was got in does not exist any more")]
    UnknownSession,
    /// It was revoked itself.
    #[error("the token was revoked")]
    TokenRevoked,
    /// Its credential was revoked or has expired.
    #[error("the credential it was got with has ended")]
    CredentialEnded,
    /// Its device session was revoked or has expired.
    #[error("the device session has ended")]
    SessionEnded,
    /// The application was switched off.
    #[error("the client is disabled")]
    ClientDisabled,
    /// The person behind it was switched off.
    #[error("the owner of the client is disabled")]
    OwnerDisabled,
    /// The person who logged in was switched off.
    #[error("the user is disabled")]
    UserDisabled,
    /// The client was given to somebody else.
    #[error("the client has another owner by now")]
    OwnerChanged,
    /// It names a place in the status list that was left.
    #[error("the tokens of before were ended: rights were lowered, or the client was given to another owner")]
    PlaceLeft,
    /// The client may not use the API any more.
    #[error("the client may not use this API any more")]
    ApiTaken,
    /// It says more than may be granted by now.
    #[error("the rights of credential, client or owner are lower by now")]
    RightsLowered,
    /// It is a user's own, and names an application that has to prove itself.
    #[error("this identity token is of a confidential client: send that client's own token")]
    NotAlone,
}

/// Everyone behind a token that counts.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Behind an application's token.
    Client(Principal),
    /// Behind a user's own token.
    Identity(Box<SignedIn>),
}

/// A device session, its client and its user as they are now.
#[derive(Debug)]
pub(crate) struct SignedIn {
    /// The session.
    pub(crate) session: DeviceSession,
    /// Through which client.
    pub(crate) client: Client,
    /// Who logged in.
    pub(crate) user: User,
}

impl SignedIn {
    /// Everyone behind this session. The database is asked each time: such tokens live five minutes, and nothing that is
    /// remembered can be out of date.
    pub(crate) async fn find(app: &App, session: DeviceSessionId) -> Result<Option<Self>, StoreError> {
        let Some(found) = app.store.find_signed_in(session).await? else { return Ok(None) };
        app.wait_until_catalogue(found.true_from).await?;
        let FoundSession { session, client, user, .. } = found;
        Ok(Some(Self { session, client, user }))
    }

    /// session ∩ client ∩ user's rights now.
    pub(crate) fn ceiling(&self, registry: &Registry) -> Rights {
        let catalogue = &registry.catalogue;
        self.session.rights.intersect(&self.client.rights, catalogue).intersect(&self.user.rights, catalogue)
    }

    /// Refuses a session that has ended, or that stops because its client or its user is disabled.
    pub(crate) fn require_standing(&self, now: Timestamp) -> Result<(), Lapse> {
        if !self.session.is_active(now) {
            return Err(Lapse::SessionEnded);
        }
        if self.client.disabled_at.is_some() {
            return Err(Lapse::ClientDisabled);
        }
        if self.user.disabled_at.is_some() { Err(Lapse::UserDisabled) } else { Ok(()) }
    }
}

impl Standing {
    /// When time will end what is behind the token, if it will.
    pub(crate) fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Client(principal) => principal.entry.credential.ends_at(now),
            Self::Identity(signed_in) => Some(signed_in.session.expires_at),
        }
    }

    /// Those behind a token that may stand alone: an application's, and a user's own through a public client, which names
    /// the application too.
    pub(crate) fn alone(self) -> Result<Self, Lapse> {
        match &self {
            Self::Identity(signed_in) if signed_in.client.kind == ClientKind::Confidential => Err(Lapse::NotAlone),
            _ => Ok(self),
        }
    }
}

/// Everyone behind the token, if it still counts.
pub(crate) async fn standing(
    app: &Arc<App>,
    claims: &AccessTokenClaims,
    now: Timestamp,
) -> Result<Result<Standing, Lapse>, StoreError> {
    let found = match (claims.kind(), claims.cred, claims.sid) {
        (Some(TokenKind::Client), Some(credential), _) => {
            app.principals.find(app, credential).await?.map(Standing::Client).ok_or(Lapse::Unknown)
        }
        (Some(TokenKind::Identity), _, Some(session)) => {
            let found = SignedIn::find(app, session).await?;
            found.map(|found| Standing::Identity(Box::new(found))).ok_or(Lapse::UnknownSession)
        }
        _ => Err(Lapse::Unknown),
    };
    let found = match found {
        Ok(found) => found,
        Err(lapse) => return Ok(Err(lapse)),
    };
    if app.revoked_tokens.contains(&app.store, claims.jti).await? {
        return Ok(Err(Lapse::TokenRevoked));
    }
    let verdict = match &found {
        Standing::Client(principal) => judge_client_token(app, claims, principal, now),
        Standing::Identity(signed_in) => judge_identity_token(app, claims, signed_in, now),
    };
    Ok(verdict.map(|()| found))
}

fn judge_client_token(
    app: &App,
    claims: &AccessTokenClaims,
    principal: &Principal,
    now: Timestamp,
) -> Result<(), Lapse> {
    let credential = &principal.entry.credential;
    if principal.client.id != claims.client_id {
        return Err(Lapse::Unknown);
    }
    if !credential.state_at(now).authenticates() {
        return Err(Lapse::CredentialEnded);
    }
    if principal.client.disabled_at.is_some() {
        return Err(Lapse::ClientDisabled);
    }
    if principal.owner.disabled_at.is_some() {
        return Err(Lapse::OwnerDisabled);
    }
    if matches!(claims.sub, Subject::User(user) if user != principal.owner.id) {
        return Err(Lapse::OwnerChanged);
    }
    require_place(claims, credential.status_index)?;
    let registry = app.registry.load_full();
    require_apis(claims, &principal.client, &registry)?;
    require_within(claims, &principal.ceiling(&registry).rights)
}

fn judge_identity_token(
    app: &App,
    claims: &AccessTokenClaims,
    signed_in: &SignedIn,
    now: Timestamp,
) -> Result<(), Lapse> {
    let SignedIn { session, client, user } = signed_in;
    if client.id != claims.client_id || claims.sub != Subject::User(user.id) {
        return Err(Lapse::UnknownSession);
    }
    signed_in.require_standing(now)?;
    require_place(claims, session.status_index)?;
    let registry = app.registry.load_full();
    require_apis(claims, client, &registry)?;
    require_within(claims, &signed_in.ceiling(&registry))
}

/// Lowered rights and another owner give new places: whatever was issued before ends with the old one.
fn require_place(claims: &AccessTokenClaims, place: i64) -> Result<(), Lapse> {
    let named = claims.status.as_ref().map(|status| status.status_list.idx);
    match named {
        Some(named) if i64::try_from(named) == Ok(place) => Ok(()),
        _ => Err(Lapse::PlaceLeft),
    }
}

fn require_apis(claims: &AccessTokenClaims, client: &Client, registry: &Registry) -> Result<(), Lapse> {
    let mut apis = claims.aud.iter().map(|audience| registry.api_by_audience(audience));
    let all = apis.all(|api| api.is_some_and(|api| client.apis.contains(&api.id)));
    if all { Ok(()) } else { Err(Lapse::ApiTaken) }
}

fn require_within(claims: &AccessTokenClaims, ceiling: &Rights) -> Result<(), Lapse> {
    let beyond = claims.scope.first_beyond(&ceiling.scope).is_some() || claims.res.first_beyond(&ceiling.res).is_some();
    if beyond { Err(Lapse::RightsLowered) } else { Ok(()) }
}
