//! Identity tokens of other issuers: the OpenID provider a company already has.
//!
//! 1. Taken apart within bounds; the algorithm is of the closed list          RFC 7515 §5.2
//! 2. A JWT that says so, an access token, or silent about it                  RFC 8725 §3.11
//! 3. The key that `kid` names decides the algorithm; the signature holds      RFC 8725 §3.1
//! 4. Issuer and audience are those the API has named                          OpenID Connect Core §3.1.3.7
//! 5. Now lies within its life                                                 RFC 7519 §4.1
//! 6. Its rights are what the API gives to users of this issuer, else what the token itself says

use keyward_model::jws::{Compact, PublicKey};
use keyward_model::rights::{ResSet, Rights, ScopeSet};
use keyward_model::time::Timestamp;
use keyward_model::token::{Audience, Subject};
use serde::Deserialize;

use crate::verify::{is_access_token, is_media_type};
use crate::{Expect, Refusal};

/// The longest `sub` (OpenID Connect Core §2: "It MUST NOT exceed 255 ASCII characters").
const MAX_SUBJECT: usize = 255;

/// An issuer whose users an API knows, beside Keyward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// The `iss` of its tokens, compared character by character.
    pub issuer: String,
    /// The audience that its tokens for this API carry, often a `client_id` at that issuer.
    pub audience: String,
    /// What its users may do at most, within what the client may. If absent, the `scope` and `res` claims of the token
    /// say it; a token without them may do nothing.
    pub rights: Option<Rights>,
}

/// A user of another issuer, as one of its tokens says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignIdentity {
    /// Who vouches for the user.
    pub issuer: String,
    /// The user's name there.
    pub subject: String,
    /// What the user may do at most.
    pub rights: Rights,
    iat: Timestamp,
    nbf: Option<Timestamp>,
    exp: Timestamp,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    sub: String,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    #[serde(default)]
    scope: serde_json::Value,
    #[serde(default)]
    res: serde_json::Value,
}

impl TrustedIssuer {
    /// Who this token says is present, if it is of this issuer's key.
    pub(crate) fn verify(
        &self,
        compact: &Compact<'_>,
        key: &PublicKey,
        expect: &Expect,
        now: Timestamp,
    ) -> Result<ForeignIdentity, Refusal> {
        if !compact.typ().is_none_or(is_token_of_a_user) {
            return Err(Refusal::Type(compact.typ().map(str::to_owned)));
        }
        let payload = compact.verify(key)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|err| Refusal::Claims(err.to_string()))?;
        if claims.iss != self.issuer {
            return Err(Refusal::Issuer(claims.iss));
        }
        if !claims.aud.contains(&self.audience) {
            return Err(Refusal::Audience(claims.aud));
        }
        let rights = match &self.rights {
            Some(rights) => rights.clone(),
            None => Rights { scope: own::<ScopeSet>(claims.scope)?, res: own::<ResSet>(claims.res)? },
        };
        let identity = ForeignIdentity {
            issuer: claims.iss,
            subject: subject(claims.sub)?,
            rights,
            iat: Timestamp::from_seconds(claims.iat),
            nbf: claims.nbf.map(Timestamp::from_seconds),
            exp: Timestamp::from_seconds(claims.exp),
        };
        identity.check(expect, now)?;
        Ok(identity)
    }
}

impl ForeignIdentity {
    /// From when on it is not valid any more.
    pub fn expires_at(&self) -> Timestamp {
        self.exp
    }

    pub(crate) fn check(&self, expect: &Expect, now: Timestamp) -> Result<(), Refusal> {
        expect.check_life(self.iat, self.nbf, self.exp, now)
    }
}

/// An identifier of Keyward's in another issuer's token would be taken for the user it names, and so would one that
/// becomes it on the way: spaces at the ends get lost in headers, and databases compare names in any case.
fn subject(sub: String) -> Result<String, Refusal> {
    let legible = !sub.is_empty() && sub.len() <= MAX_SUBJECT && sub.bytes().all(|b| matches!(b, b' '..=b'~'));
    let whole = sub.trim() == sub;
    let ours = serde_json::from_value::<Subject>(sub.to_ascii_lowercase().into()).is_ok();
    if legible && whole && !ours { Ok(sub) } else { Err(Refusal::Subject) }
}

/// Absent means nothing; another form than Keyward's is an error rather than nothing, so that it is noticed.
fn own<T: Default + for<'de> Deserialize<'de>>(claim: serde_json::Value) -> Result<T, Refusal> {
    if claim.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(claim).map_err(|err| Refusal::Claims(err.to_string()))
}

/// ID Tokens and access tokens speak of users. Other kinds of JWT with an explicit type do not.
fn is_token_of_a_user(typ: &str) -> bool {
    is_media_type(typ, "JWT") || is_access_token(typ)
}
