//! Validating a JWT access token: RFC 9068 §4, with RFC 8725 (best current practices) in mind.
//!
//! 1. Taken apart within bounds; the algorithm is of the closed list          RFC 7515 §5.2
//! 2. `typ` is `at+jwt`: no other kind of JWT passes for an access token       RFC 9068 §4
//! 3. The key that `kid` names decides the algorithm; the signature holds      RFC 8725 §3.1
//! 4. All required claims are there, once, and of the right type              RFC 9068 §2.2
//! 5. Issuer and audience are those expected                                   RFC 9068 §4
//! 6. Now lies within its life                                                 RFC 7519 §4.1

use std::time::Duration;

use keyward_model::jws::{ACCESS_TOKEN, Compact};
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;

use crate::{KeySet, Refusal};

/// How far two clocks may differ unless said otherwise.
pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
/// How far two clocks may differ at most: every second of it is a second of life for an expired token.
pub const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// What a token must say to be accepted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    issuer: String,
    audience: Option<String>,
    leeway: Duration,
}

impl Expect {
    /// Tokens of this issuer for this audience, both compared character by character.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self { issuer: issuer.into(), audience: Some(audience.into()), leeway: DEFAULT_LEEWAY }
    }

    /// Tokens of this issuer for whatever audience: for the issuer itself, which introspects and revokes tokens that are
    /// meant for others. Never for an API.
    pub fn of_any_audience(issuer: impl Into<String>) -> Self {
        Self { issuer: issuer.into(), audience: None, leeway: DEFAULT_LEEWAY }
    }

    /// With another tolerance for clocks that differ, at most [`MAX_LEEWAY`].
    #[must_use]
    pub fn with_leeway(self, leeway: Duration) -> Self {
        Self { leeway: leeway.min(MAX_LEEWAY), ..self }
    }

    /// How far clocks may differ.
    #[cfg(feature = "discover")]
    pub(crate) fn leeway(&self) -> Duration {
        self.leeway
    }

    /// Whom and when a token is for; the only part of a verdict that may change while the token stays the same.
    pub(crate) fn check(&self, claims: &AccessTokenClaims, now: Timestamp) -> Result<(), Refusal> {
        if claims.iss != self.issuer {
            return Err(Refusal::Issuer(claims.iss.clone()));
        }
        if self.audience.as_deref().is_some_and(|audience| !claims.aud.contains(audience)) {
            return Err(Refusal::Audience(claims.aud.clone()));
        }
        self.check_life(claims.iat, claims.nbf, claims.exp, now)
    }

    pub(crate) fn check_life(
        &self,
        iat: Timestamp,
        nbf: Option<Timestamp>,
        exp: Timestamp,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        // "on or after which the JWT MUST NOT be accepted" (RFC 7519 §4.1.4).
        if now >= exp.plus(self.leeway) {
            return Err(Refusal::Expired(exp));
        }
        let latest = now.plus(self.leeway);
        if let Some(nbf) = nbf.filter(|nbf| *nbf > latest) {
            return Err(Refusal::NotYetValid(nbf));
        }
        if iat > latest {
            return Err(Refusal::IssuedInFuture(iat));
        }
        Ok(())
    }
}

/// The claims of a token that is valid here and now. Whether they suffice is asked with [`require_scope`] and
/// [`require_res`]; whether the credential was revoked since, no token can tell by itself.
pub fn verify(token: &str, keys: &KeySet, expect: &Expect, now: Timestamp) -> Result<AccessTokenClaims, Refusal> {
    let compact = Compact::parse(token)?;
    if !compact.typ().is_some_and(is_access_token) {
        return Err(Refusal::Type(compact.typ().map(str::to_owned)));
    }
    let kid = compact.kid().ok_or(Refusal::KeyMissing)?;
    let key = keys.find(kid).ok_or_else(|| Refusal::KeyUnknown(kid.to_owned()))?;
    let payload = compact.verify(key)?;
    let claims = serde_json::from_slice(&payload).map_err(|err| Refusal::Claims(err.to_string()))?;
    expect.check(&claims, now)?;
    Ok(claims)
}

/// Refuses a token without this scope; plain membership, since a token carries all that its scopes imply.
pub fn require_scope(claims: &AccessTokenClaims, scope: &str) -> Result<(), Refusal> {
    if claims.has_scope(scope) { Ok(()) } else { Err(Refusal::Scope(scope.to_owned())) }
}

/// Refuses a token that does not cover this resource, such as `plant/7/line/3`.
pub fn require_res(claims: &AccessTokenClaims, res: &str) -> Result<(), Refusal> {
    if claims.covers(res) { Ok(()) } else { Err(Refusal::Res(res.to_owned())) }
}

/// "at+jwt" or "application/at+jwt" (RFC 9068 §4).
pub(crate) fn is_access_token(typ: &str) -> bool {
    is_media_type(typ, ACCESS_TOKEN)
}

/// Whether a `typ` is this one, with or without `application/` (RFC 7515 §4.1.9); media types are compared in any case
/// (RFC 2045 §5.1).
pub(crate) fn is_media_type(typ: &str, wanted: &str) -> bool {
    let subtype = match typ.split_once('/') {
        Some((tree, subtype)) if tree.eq_ignore_ascii_case("application") => subtype,
        _ => typ,
    };
    subtype.eq_ignore_ascii_case(wanted)
}

#[cfg(test)]
mod tests;
