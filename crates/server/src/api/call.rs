//! Who calls the REST API, and how far their rights reach.
//!
//! `keyward:admin` manages everything; `keyward:support` sees everything and may stop clients and credentials;
//! `keyward:self` manages the clients its user owns. Nobody hands out more than the token they hold.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;
use keyward_guard::Refusal;
use keyward_model::client::Client;
use keyward_model::credential::Credential;
use keyward_model::event::Actor;
use keyward_model::id::{DeviceSessionId, UserId};
use keyward_model::rights::{ResSet, Rights};
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;
use keyward_model::user::User;
use keyward_store::{Origin, Tx};

use crate::app::App;
use crate::principals::Principal;
use crate::request::Arrival;
use crate::respond::{ApiError, Problem};
use crate::standing::{SignedIn, Standing, standing};

const REALM: &str = "keyward";

/// How far a token reaches in Keyward's own API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `keyward:self`
    Own,
    /// `keyward:support`
    Support,
    /// `keyward:admin`
    Admin,
}

impl Level {
    /// The scope that reaches so far.
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Own => "keyward:self",
            Self::Support => "keyward:support",
            Self::Admin => "keyward:admin",
        }
    }
}

/// An authenticated call of the REST API.
pub struct Call {
    /// The server.
    pub app: Arc<App>,
    /// The instant of the request.
    pub now: Timestamp,
    /// How far it reaches.
    pub level: Level,
    claims: AccessTokenClaims,
    /// Everyone behind the token.
    behind: Standing,
    source: Option<IpAddr>,
}

impl FromRequestParts<Arc<App>> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let now = app.clock.now();
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(authorization), None) = (values.next(), values.next()) else {
            return Err(refuse(&Refusal::Missing));
        };
        let token = keyward_guard::bearer(authorization.as_bytes()).map_err(|r| refuse(&r))?;
        let keys = app.key_ring.load_full();
        let claims = keyward_guard::verify(token, &keys.key_set, &app.expect, now).map_err(|r| refuse(&r))?;
        let behind = standing(app, &claims, now).await?.and_then(Standing::alone).map_err(|lapse| ApiError {
            challenge: Some(format!(
                "Bearer realm=\"{REALM}\", error=\"invalid_token\", error_description=\"{lapse}\""
            )),
            ..Problem::Unauthorized.because(lapse.to_string())
        })?;
        let level = [Level::Admin, Level::Support, Level::Own].into_iter().find(|l| claims.has_scope(l.scope()));
        let Some(level) = level else { return Err(insufficient(Level::Own)) };
        Ok(Self { app: Arc::clone(app), now, level, claims, behind, source: Arrival::address(&parts.extensions) })
    }
}

fn refuse(refusal: &Refusal) -> ApiError {
    ApiError { challenge: refusal.challenge(REALM), ..Problem::Unauthorized.because(refusal.description()) }
}

fn insufficient(level: Level) -> ApiError {
    let scope = level.scope();
    ApiError {
        // RFC 6750 §3.1: the challenge may name the scope that would do.
        challenge: Some(format!("Bearer realm=\"{REALM}\", error=\"insufficient_scope\", scope=\"{scope}\"")),
        ..Problem::Forbidden.because(format!("this needs a token with the scope {scope}"))
    }
}

impl Call {
    /// On whose behalf: whoever is signed in, else the owner of the calling client.
    pub(crate) fn acting(&self) -> &User {
        match &self.behind {
            Standing::Client(principal) => &principal.owner,
            Standing::Identity(signed_in) => &signed_in.user,
        }
    }

    /// The same by their id.
    pub fn user(&self) -> UserId {
        self.acting().id
    }

    /// The calling client.
    pub(crate) fn client(&self) -> &Client {
        match &self.behind {
            Standing::Client(principal) => &principal.client,
            Standing::Identity(signed_in) => &signed_in.client,
        }
    }

    /// The credential that its token was got with, if it is a client's.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        match &self.behind {
            Standing::Client(principal) => Some(&principal.entry.credential),
            Standing::Identity(_) => None,
        }
    }

    /// The device session that its token is of, if it is a user's own.
    pub(crate) fn session(&self) -> Option<DeviceSessionId> {
        match &self.behind {
            Standing::Client(_) => None,
            Standing::Identity(signed_in) => Some(signed_in.session.id),
        }
    }

    /// The resources the caller's token covers.
    pub fn res(&self) -> &ResSet {
        &self.claims.res
    }

    /// Refuses tokens that reach less far.
    pub fn require(&self, level: Level) -> Result<(), ApiError> {
        if self.level >= level { Ok(()) } else { Err(insufficient(level)) }
    }

    /// Whose things this call sees; `None` for everybody's.
    pub fn only_of(&self) -> Option<UserId> {
        (self.level == Level::Own).then(|| self.user())
    }

    /// Refuses to show a client that is none of the caller's business, as if it were not there.
    pub fn require_sight_of(&self, client: &Client) -> Result<(), ApiError> {
        match self.only_of() {
            Some(user) if user != client.owner => Err(Problem::NotFound.because("there is no such client")),
            _ => Ok(()),
        }
    }

    /// Refuses to change a client that the caller may only see.
    pub fn require_management_of(&self, client: &Client) -> Result<(), ApiError> {
        self.require_sight_of(client)?;
        if self.level == Level::Admin || client.owner == self.user() { Ok(()) } else { Err(insufficient(Level::Admin)) }
    }

    /// Refuses to stop a client or its credentials: support may do that too.
    pub fn require_stopping_of(&self, client: &Client) -> Result<(), ApiError> {
        self.require_sight_of(client)
    }

    /// Refuses to hand out more than the caller's token holds: no scope of Keyward's own it lacks, no resource it does
    /// not cover. Other scopes are bounded by the owner's rights whenever a token is asked for.
    pub fn require_handing_out(&self, rights: &Rights) -> Result<(), ApiError> {
        let registry = self.app.registry.load();
        let wanted = registry.catalogue.expand(&rights.scope);
        if let Some(scope) = wanted.iter().find(|s| s.is_keyward() && !self.claims.scope.contains(s.as_str())) {
            return Err(Problem::Forbidden.because(format!("a token without {scope} cannot hand it out")));
        }
        if let Some(res) = rights.res.first_beyond(&self.claims.res) {
            return Err(Problem::Forbidden.because(format!("a token that does not cover res {res} cannot hand it out")));
        }
        if let Some(unknown) = rights.scope.iter().find(|s| !registry.catalogue.knows(s)) {
            return Err(ApiError::field(
                "scope",
                format!("there is no scope {unknown}; add it to the catalogue first"),
            ));
        }
        Ok(())
    }

    /// Refuses to add one where there are `count` already, unless an administrator does it.
    pub fn require_room(&self, count: u64, most: u32, what: &str) -> Result<(), ApiError> {
        if count < most.into() || self.level == Level::Admin {
            return Ok(());
        }
        Err(Problem::Conflict.because(format!("{what} ({most}); end some of them first, or ask an administrator")))
    }

    /// Starts a change, if everything the caller was judged by still stands: between the head of a request and the end
    /// of its body there is time to be disabled. Whoever manages their own has a budget, for the log keeps all changes.
    pub async fn begin(&self) -> Result<Tx, ApiError> {
        self.pay()?;
        self.begin_paid().await
    }

    /// Takes a change out of the caller's budget, where more than the change itself costs.
    pub fn pay(&self) -> Result<(), ApiError> {
        if let Some(wait) = self.only_of().and_then(|user| self.charge(user)) {
            return Err(ApiError {
                retry_after: Some(wait),
                ..Problem::TooMany.because("there were too many changes; wait as long as Retry-After says")
            });
        }
        Ok(())
    }

    /// As [`Self::begin`], once it is paid for.
    pub async fn begin_paid(&self) -> Result<Tx, ApiError> {
        let mut tx = self.app.store.begin().await?;
        let unchanged = match &self.behind {
            Standing::Client(Principal { entry, client, owner }) => {
                tx.are_unchanged(&entry.credential, client, owner).await?
            }
            Standing::Identity(signed_in) => {
                let SignedIn { session, client, user } = &**signed_in;
                tx.is_still_signed_in(session, client, user, self.now).await?
            }
        };
        if unchanged {
            Ok(tx)
        } else {
            Err(Problem::Conflict.because("the key, client or user behind this token changed meanwhile; try again"))
        }
    }

    /// A client with a key has a budget; of one that many people use, each of them has.
    fn charge(&self, user: UserId) -> Option<Duration> {
        match &self.behind {
            Standing::Client(principal) => self.app.changes.charge(principal.client.id, self.now),
            Standing::Identity(_) => self.app.changes_of_users.charge(user, self.now),
        }
    }

    /// Commits on behalf of the caller and waits until the change is in force on this node; gives its place in the log.
    pub async fn commit(&self, tx: Tx) -> Result<(), ApiError> {
        let seq = tx.commit(&self.origin()).await.map_err(conflict)?;
        self.app.wait_until_applied(seq).await?;
        Ok(())
    }

    /// Who commits, from where and when.
    pub fn origin(&self) -> Origin {
        Origin {
            actor: match &self.behind {
                Standing::Client(Principal { entry, client, owner }) => {
                    Actor::Token { user: owner.id, client: client.id, credential: entry.credential.id }
                }
                Standing::Identity(signed_in) => Actor::DeviceSession {
                    user: signed_in.user.id,
                    client: signed_in.client.id,
                    session: signed_in.session.id,
                },
            },
            source: self.source.map(|a| a.to_string()),
            now: self.now,
        }
    }
}

/// A change the database refused: what it contradicts is the caller's to mend, anything else is our fault.
pub fn conflict(error: keyward_store::StoreError) -> ApiError {
    match error {
        keyward_store::StoreError::Conflict { .. } => {
            Problem::Conflict.because("a name is taken, or something still refers to what was to be deleted")
        }
        other => other.into(),
    }
}
