//! Who calls, and what they may do here: what the tokens of a request come to.

use std::fmt;
use std::sync::Arc;

use keyward_model::id::{ClientId, CredentialId, DeviceSessionId, UserId};
use keyward_model::rights::{ResSet, Rights, ScopeSet};
use keyward_model::token::{AccessTokenClaims, Subject, TokenKind};

use crate::{ForeignIdentity, Refusal};

/// An application, perhaps with a user, whose tokens were verified and belong together.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(crate) client: Arc<AccessTokenClaims>,
    pub(crate) identity: Option<Identity>,
    /// What both tokens allow; `None` where there is one, which says so itself.
    pub(crate) shared: Option<Rights>,
}

/// The token of a user who is present.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Keyward's own.
    Keyward(Arc<AccessTokenClaims>),
    /// Of another issuer that the API trusts.
    Foreign(Arc<ForeignIdentity>),
}

/// A user who is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User<'a> {
    /// One of Keyward's.
    Keyward(UserId),
    /// One of another issuer.
    Foreign {
        /// Who vouches for them.
        issuer: &'a str,
        /// Their name there.
        subject: &'a str,
    },
}

/// The identifier that goes into a column like `modifiedby`.
impl fmt::Display for User<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyward(id) => id.fmt(f),
            Self::Foreign { subject, .. } => f.write_str(subject),
        }
    }
}

impl Caller {
    /// The application.
    pub fn client(&self) -> ClientId {
        self.client.client_id
    }

    /// The user who is present; `None` where an application calls by itself, as whomever it may act.
    pub fn user(&self) -> Option<User<'_>> {
        match &self.identity {
            Some(Identity::Foreign(foreign)) => {
                Some(User::Foreign { issuer: &foreign.issuer, subject: &foreign.subject })
            }
            Some(Identity::Keyward(claims)) => present(claims),
            None if self.client.kind() == Some(TokenKind::Identity) => present(&self.client),
            None => None,
        }
    }

    /// On whose behalf the request is made, for the column where an API records who changed something: the user who is
    /// present, else the owner of the client, or the client itself where it is set to act in its own name.
    pub fn modified_by(&self) -> String {
        self.user().map_or_else(|| self.client.sub.to_string(), |user| user.to_string())
    }

    /// The key that the client's token was got with; none for a public client.
    pub fn credential(&self) -> Option<CredentialId> {
        self.client.cred
    }

    /// The device session of the user who is present.
    pub fn session(&self) -> Option<DeviceSessionId> {
        self.keyward_tokens().find_map(|claims| claims.sid)
    }

    /// The scopes that all tokens of the request allow, with what they imply.
    pub fn scope(&self) -> &ScopeSet {
        self.shared.as_ref().map_or(&self.client.scope, |shared| &shared.scope)
    }

    /// The resources that all tokens of the request cover.
    pub fn res(&self) -> &ResSet {
        self.shared.as_ref().map_or(&self.client.res, |shared| &shared.res)
    }

    /// Whether the caller may do what this scope stands for with this resource; never for a text that is no resource.
    pub fn allows(&self, scope: &str, res: &str) -> bool {
        self.require(scope, res).is_ok()
    }

    /// Refuses a caller that may not do what this scope stands for with this resource, such as `plant/7/line/3`.
    pub fn require(&self, scope: &str, res: &str) -> Result<(), Refusal> {
        self.require_scope(scope)?;
        self.require_res(res)
    }

    /// Refuses a caller without this scope; plain membership, since tokens carry all that their scopes imply.
    pub fn require_scope(&self, scope: &str) -> Result<(), Refusal> {
        if self.scope().contains(scope) { Ok(()) } else { Err(Refusal::Scope(scope.to_owned())) }
    }

    /// Refuses a caller that may not touch this resource.
    pub fn require_res(&self, res: &str) -> Result<(), Refusal> {
        let covered = res.parse().is_ok_and(|res| self.res().covers(&res));
        if covered { Ok(()) } else { Err(Refusal::Res(res.to_owned())) }
    }

    /// The token in `Authorization`, for what the methods here do not tell. The same one again, while it is remembered.
    pub fn client_token(&self) -> &Arc<AccessTokenClaims> {
        &self.client
    }

    /// The tokens that Keyward issued: whether each still counts is to be asked. Another issuer's token lives to its end.
    pub fn keyward_tokens(&self) -> impl Iterator<Item = &AccessTokenClaims> {
        let identity = match &self.identity {
            Some(Identity::Keyward(claims)) => Some(&**claims),
            Some(Identity::Foreign(_)) | None => None,
        };
        std::iter::once(&*self.client).chain(identity)
    }
}

fn present(claims: &AccessTokenClaims) -> Option<User<'static>> {
    match claims.sub {
        Subject::User(user) => Some(User::Keyward(user)),
        Subject::Client(_) => None,
    }
}
