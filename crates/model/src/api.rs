//! APIs: resource servers, each known by its audience.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{ApiId, ClientId};
use crate::jws::SigningAlgorithm;
use crate::rights::{ResSet, Rights, ScopeSet};
use crate::time::Timestamp;

/// The audience of Keyward's own REST API.
pub const KEYWARD_AUDIENCE: &str = "urn:keyward:api";
/// How long a token may live at most, whatever an API asks for. Signing keys stay published this long after their last use.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a token lives unless its API says otherwise.
pub const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(600);

/// A resource server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// `api_…`.
    pub id: ApiId,
    /// What people call it.
    pub name: String,
    /// The `aud` of its tokens and the `resource` by which clients ask for them (RFC 8707 §2); unique.
    pub audience: String,
    /// The scopes it knows; tokens for it carry no others.
    pub scopes: ScopeSet,
    /// How long its tokens live.
    pub token_lifetime: Duration,
    /// How its tokens are signed.
    pub algorithm: SigningAlgorithm,
    /// The client as which this API introspects the tokens it receives (RFC 7662 §2.1).
    pub client: Option<ClientId>,
    /// The clients whose identity tokens it accepts beside the client token of any client; in order.
    pub identity_clients: Vec<ClientId>,
    /// Issuers whose users it knows, beside Keyward.
    pub identity_issuers: Vec<IdentityIssuer>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Grows by one with each change; the `ETag` (RFC 9110 §8.8.3).
    pub version: i64,
}

/// An OpenID provider whose users an API knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityIssuer {
    /// The `iss` of its tokens; its keys are found from it (OpenID Connect Discovery §4).
    pub issuer: String,
    /// The `aud` of its tokens for this API, often a `client_id` there.
    pub audience: String,
    /// The scopes its users may have at most; goes together with `res`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeSet>,
    /// The resources its users may touch at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub res: Option<ResSet>,
}

impl IdentityIssuer {
    /// What its users may do at most; `None` if its tokens say that themselves.
    pub fn rights(&self) -> Option<Rights> {
        let (Some(scope), Some(res)) = (&self.scope, &self.res) else { return None };
        Some(Rights { scope: scope.clone(), res: res.clone() })
    }
}

/// One scope of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeEntry {
    /// Its name.
    pub name: crate::rights::Scope,
    /// What it allows, in words for people.
    pub description: String,
    /// The scopes it brings with it.
    pub implies: ScopeSet,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Grows by one with each change; the `ETag` (RFC 9110 §8.8.3).
    pub version: i64,
}
