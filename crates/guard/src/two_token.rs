//! The two-token rule: every request carries a client token, and perhaps the token of a user who is present.
//!
//! 1. The token in `Authorization` is Keyward's, valid, and for this API
//! 2. A client token may stand alone, and so may the identity token of a public client: it names the application too
//! 3. The token in `Identity-Token` is Keyward's or a trusted issuer's, valid, and for this API
//! 4. It was issued to the same client, or to one that the API has named
//! 5. What both allow is what the request may do
//!
//! Whether the tokens still count is not asked here: see [`Caller::keyward_tokens`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use keyward_model::id::ClientId;
use keyward_model::jws::{Compact, JwsError};
use keyward_model::rights::Rights;
use keyward_model::time::Timestamp;
use keyward_model::token::{AccessTokenClaims, TokenKind};

use crate::{Caller, Expect, Identity, KeySet, Presented, Refusal, TrustedIssuer, verify};

/// What an API asks of the tokens that it accepts.
#[derive(Debug, Clone)]
pub struct Policy {
    expect: Expect,
    identity_clients: HashSet<ClientId>,
    issuers: Vec<TrustedIssuer>,
}

/// The key sets of all issuers that count.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    own: Arc<KeySet>,
    others: HashMap<String, Arc<KeySet>>,
}

impl Keys {
    /// With Keyward's keys.
    pub fn new(own: impl Into<Arc<KeySet>>) -> Self {
        Self { own: own.into(), others: HashMap::new() }
    }

    /// With the keys of a trusted issuer as well.
    #[must_use]
    pub fn with(mut self, issuer: impl Into<String>, keys: impl Into<Arc<KeySet>>) -> Self {
        self.others.insert(issuer.into(), keys.into());
        self
    }

    /// Without those of an issuer that are not to be trusted any more.
    #[must_use]
    pub fn without(mut self, issuer: &str) -> Self {
        self.others.remove(issuer);
        self
    }

    /// Keyward's.
    pub fn own(&self) -> &KeySet {
        &self.own
    }

    /// A trusted issuer's, once they are there.
    pub fn of(&self, issuer: &str) -> Option<&KeySet> {
        self.others.get(issuer).map(|keys| &**keys)
    }

    /// With other keys of Keyward's.
    #[must_use]
    pub fn with_own(mut self, own: impl Into<Arc<KeySet>>) -> Self {
        self.own = own.into();
        self
    }
}

impl Policy {
    /// Client tokens as expected, and identity tokens of the same clients.
    pub fn new(expect: Expect) -> Self {
        Self { expect, identity_clients: HashSet::new(), issuers: Vec::new() }
    }

    /// Accepts the identity tokens of this client from every client, such as those of the company's login.
    #[must_use]
    pub fn accept_identities_of(mut self, client: ClientId) -> Self {
        self.identity_clients.insert(client);
        self
    }

    /// Accepts identity tokens of this issuer from every client.
    #[must_use]
    pub fn trust(mut self, issuer: TrustedIssuer) -> Self {
        self.issuers.push(issuer);
        self
    }

    /// The issuers that are trusted beside Keyward.
    pub fn trusted(&self) -> &[TrustedIssuer] {
        &self.issuers
    }

    /// What is expected of Keyward's tokens.
    pub fn expect(&self) -> &Expect {
        &self.expect
    }

    /// Who calls with these tokens. Whether these tokens still count is another question.
    pub fn check(&self, presented: &Presented<'_>, keys: &Keys, now: Timestamp) -> Result<Caller, Refusal> {
        let client = verify(presented.authorization, keys.own(), &self.expect, now)?;
        self.check_beside(client, presented.identity, keys, now)
    }

    /// Who calls with this identity token, or none, as a client that is known already: what a token for it would say.
    pub fn check_beside(
        &self,
        client: AccessTokenClaims,
        identity: Option<&str>,
        keys: &Keys,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        let identity = identity.map(|token| self.verify_identity(token, keys, now)).transpose();
        self.combine(Arc::new(client), identity.map_err(of_identity)?)
    }

    /// Who calls with these tokens, each of which has been verified.
    pub(crate) fn combine(
        &self,
        client: Arc<AccessTokenClaims>,
        identity: Option<Identity>,
    ) -> Result<Caller, Refusal> {
        let kind = client.kind().ok_or(Refusal::Kind)?;
        let Some(identity) = identity else {
            if kind == TokenKind::Identity && client.cred.is_some() {
                return Err(Refusal::ClientTokenMissing(client.client_id));
            }
            return Ok(Caller { client, identity: None, shared: None });
        };
        if kind == TokenKind::Identity {
            return Err(Refusal::NotClientToken);
        }
        let (scope, res) = match &identity {
            Identity::Keyward(claims) => {
                self.check_belongs(&client, claims)?;
                (&claims.scope, &claims.res)
            }
            Identity::Foreign(foreign) => (&foreign.rights.scope, &foreign.rights.res),
        };
        let shared = Rights { scope: client.scope.intersect(scope), res: client.res.intersect(res) };
        Ok(Caller { client, identity: Some(identity), shared: Some(shared) })
    }

    fn check_belongs(&self, client: &AccessTokenClaims, identity: &AccessTokenClaims) -> Result<(), Refusal> {
        match identity.kind() {
            Some(TokenKind::Identity) => {}
            Some(TokenKind::Client) => return Err(Refusal::NotIdentityToken),
            None => return Err(of_identity(Refusal::Kind)),
        }
        let issued_to = identity.client_id;
        if issued_to == client.client_id || self.identity_clients.contains(&issued_to) {
            Ok(())
        } else {
            Err(Refusal::OtherClient(issued_to))
        }
    }

    /// The keys decide whose token it is: what it says of its issuer counts when the signature is that issuer's.
    pub(crate) fn verify_identity(&self, token: &str, keys: &Keys, now: Timestamp) -> Result<Identity, Refusal> {
        let compact = Compact::parse(token)?;
        let kid = compact.kid().ok_or(Refusal::KeyMissing)?;
        let mut refusal = Refusal::KeyUnknown(kid.to_owned());
        if keys.own.find(kid).is_some() {
            match verify(token, &keys.own, &self.expect, now) {
                Err(err @ (Refusal::Type(_) | Refusal::Jws(JwsError::Signature | JwsError::AlgorithmMismatch))) => {
                    refusal = err;
                }
                verdict => return verdict.map(|claims| Identity::Keyward(Arc::new(claims))),
            }
        }
        // Names of keys are unique within an issuer only, so one that does not match may be another issuer's.
        for trusted in &self.issuers {
            let Some(key) = keys.others.get(&trusted.issuer).and_then(|set| set.find(kid)) else { continue };
            match trusted.verify(&compact, key, &self.expect, now) {
                Err(err @ Refusal::Jws(JwsError::Signature | JwsError::AlgorithmMismatch)) => refusal = err,
                // Several issuers may share keys, and one may be trusted for several audiences. Of an issuer that the
                // token is not of, less is to be told than of the one that it is of.
                Err(Refusal::Issuer(_)) if matches!(refusal, Refusal::Audience(_)) => {}
                Err(err @ (Refusal::Issuer(_) | Refusal::Audience(_))) => refusal = err,
                verdict => return verdict.map(|foreign| Identity::Foreign(Arc::new(foreign))),
            }
        }
        Err(refusal)
    }
}

/// So that whoever sent two tokens knows which of them is meant.
pub(crate) fn of_identity(refusal: Refusal) -> Refusal {
    Refusal::Identity(Box::new(refusal))
}

#[cfg(test)]
mod tests;
