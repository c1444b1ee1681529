//! Why a request is refused: in full for operators, in the words of RFC 6750 for whoever sent it.

use std::borrow::Cow;
use std::fmt::{self, Write};

use keyward_model::id::ClientId;
use keyward_model::jws::JwsError;
use keyward_model::time::Timestamp;
use keyward_model::token::Audience;

/// Why a token is not accepted. `Display` is for operators; callers get [`Refusal::challenge`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token was sent, or another scheme than `Bearer`.
    #[error("no access token was sent")]
    Missing,
    /// The `Authorization` header is not `Bearer` and one token.
    #[error("the Authorization header is not Bearer and one token (RFC 6750 §2.1)")]
    Request,
    /// No signed token, or not signed by the key it names.
    #[error("token refused: {0}")]
    Jws(#[from] JwsError),
    /// Some other kind of JWT.
    #[error("the token's typ is {0:?}, not at+jwt: it is no access token (RFC 9068 §4)")]
    Type(Option<String>),
    /// The header does not name a key.
    #[error("the token names no key (kid)")]
    KeyMissing,
    /// The key is not in the set: perhaps newer than the set, perhaps another issuer's.
    #[error("the token names the key {0:?}, which is not among the issuer's published keys")]
    KeyUnknown(String),
    /// The payload lacks a required claim or has one of the wrong type.
    #[error("the token's claims are not those of an access token: {0}")]
    Claims(String),
    /// Another issuer's token, for a user whose name is not one: an identifier of Keyward's, too long, or not legible.
    #[error(
        "the token's sub is not a name that another issuer may give: it is empty, has spaces at its ends, is longer \
         than 255 visible ASCII characters, or is an identifier of Keyward's"
    )]
    Subject,
    /// From another issuer.
    #[error("the token was issued by {0:?}")]
    Issuer(String),
    /// For other APIs.
    #[error("the token is for {0:?}")]
    Audience(Audience),
    /// No longer valid.
    #[error("the token expired at {} (Unix seconds)", .0.as_seconds())]
    Expired(Timestamp),
    /// Not valid yet.
    #[error("the token is not valid before {} (Unix seconds)", .0.as_seconds())]
    NotYetValid(Timestamp),
    /// From the future: somebody's clock is wrong.
    #[error("the token claims to be issued at {} (Unix seconds), which is in the future", .0.as_seconds())]
    IssuedInFuture(Timestamp),
    /// Its claims contradict each other.
    #[error("the token's claims make it neither a client token nor an identity token")]
    Kind,
    /// The `Identity-Token` header does not hold one token.
    #[error("the Identity-Token header is not one token")]
    IdentityRequest,
    /// What is wrong with the identity token, where the client token is good.
    #[error("identity token: {0}")]
    Identity(Box<Refusal>),
    /// A client token where an identity token belongs.
    #[error("the Identity-Token header carries a client token")]
    NotIdentityToken,
    /// Two identity tokens and no client token.
    #[error("the Authorization header carries an identity token although Identity-Token does too")]
    NotClientToken,
    /// An identity token that may not stand alone: a confidential client got it.
    #[error(
        "the Authorization header carries an identity token of {0}, a confidential client, without its client token"
    )]
    ClientTokenMissing(ClientId),
    /// Two tokens that do not belong together.
    #[error("the identity token was issued to {0}, whose identity tokens are not accepted from other clients here")]
    OtherClient(ClientId),
    /// It was revoked, or something it stands on has ended.
    #[error("the token counts no longer: {0}")]
    Ended(&'static str),
    /// Whether it still counts cannot be found out, and this API accepts nothing on trust.
    #[error("whether the token still counts cannot be found out: {0}")]
    Unknowable(&'static str),
    /// Valid, but without the scope that is needed here.
    #[error("the token lacks the scope {0}")]
    Scope(String),
    /// Valid, but not for this resource.
    #[error("the token does not cover the resource {0}")]
    Res(String),
}

/// The error codes of RFC 6750 §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request is malformed.
    InvalidRequest,
    /// The token is expired, malformed or not acceptable for another reason.
    InvalidToken,
    /// The token is good, and what it allows is not enough.
    InsufficientScope,
}

impl ErrorCode {
    /// The code in the challenge.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }

    /// The HTTP status that goes with it.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::InvalidToken => 401,
            Self::InsufficientScope => 403,
        }
    }
}

impl Refusal {
    /// The error code; none where no token was sent: such a request "SHOULD NOT" be told one (RFC 6750 §3.1).
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Missing | Self::Unknowable(_) => None,
            Self::Identity(cause) => cause.code(),
            Self::Request | Self::IdentityRequest => Some(ErrorCode::InvalidRequest),
            Self::Scope(_) | Self::Res(_) => Some(ErrorCode::InsufficientScope),
            _ => Some(ErrorCode::InvalidToken),
        }
    }

    /// The HTTP status of the answer: 400, 401 or 403, and 503 where the fault is not the sender's.
    pub const fn status(&self) -> u16 {
        match (self, self.code()) {
            (_, Some(code)) => code.status(),
            (Self::Missing, None) => 401,
            (_, None) => 503,
        }
    }

    /// What the sender may know: the cause in one sentence, and nothing of this API's configuration.
    pub fn description(&self) -> Cow<'static, str> {
        if let Self::Identity(cause) = self {
            return Cow::Owned(format!("identity token: {}", cause.description()));
        }
        Cow::Borrowed(match self {
            Self::Missing => "an access token is needed",
            Self::Request => "the Authorization header must be Bearer and one token",
            Self::Jws(JwsError::TooLong) => "the token is longer than a token may be",
            Self::Jws(JwsError::Form | JwsError::Header | JwsError::Critical) => "the token is malformed",
            Self::Jws(JwsError::Algorithm | JwsError::AlgorithmMismatch) => "the token's algorithm is not accepted",
            Self::Jws(JwsError::Signature | JwsError::Signing) => "the token's signature does not match",
            Self::Type(_) | Self::Claims(_) => "the token is not an access token",
            Self::Subject => "the token's sub is not a name that its issuer may give",
            Self::KeyMissing | Self::KeyUnknown(_) => "the token is not signed by a known key",
            Self::Issuer(_) => "the token is from another issuer",
            Self::Audience(_) => "the token is for another audience",
            Self::Expired(_) => "the token has expired",
            Self::NotYetValid(_) | Self::IssuedInFuture(_) => "the token is not valid yet",
            Self::Scope(_) => "the token lacks the scope that is needed",
            Self::Kind => "the token is neither a client token nor an identity token",
            Self::IdentityRequest | Self::Identity(_) => "the Identity-Token header must be one token",
            Self::NotIdentityToken => "Identity-Token carries a client token; it must carry an identity token",
            Self::NotClientToken => "Authorization must carry a client token where Identity-Token is sent",
            Self::ClientTokenMissing(_) => {
                "an identity token that a confidential client got goes into Identity-Token, beside a client token"
            }
            Self::OtherClient(_) => "the identity token was issued to another client",
            Self::Ended(_) => "the token has been revoked",
            Self::Unknowable(_) => "whether the token has been revoked cannot be found out now; try again",
            Self::Res(_) => "the token does not cover this resource",
        })
    }

    /// The value of the `WWW-Authenticate` header (RFC 6750 §3) for this protection space; none where another token
    /// would not help.
    pub fn challenge(&self, realm: &str) -> Option<String> {
        if self.status() == 503 {
            return None;
        }
        let mut value = format!("Bearer realm={}", Quoted(realm));
        let mut push = |name: &str, text: &str| {
            // Writing to a string cannot fail.
            let _ = write!(value, ", {name}={}", Quoted(text));
        };
        if let Some(code) = self.code() {
            push("error", code.as_str());
            push("error_description", &self.description());
        }
        if let Self::Scope(scope) = self {
            push("scope", scope);
        }
        Some(value)
    }
}

/// A quoted-string of visible ASCII (RFC 9110 §5.6.4); whatever else the text holds is left out, so that no text can end
/// the header line or the string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars().filter(|c| matches!(c, ' '..='~')) {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_refusal_has_its_status_and_challenge() {
        for (refusal, status, challenge) in [
            (Refusal::Missing, 401, r#"Bearer realm="plant""#),
            (
                Refusal::Request,
                400,
                r#"Bearer realm="plant", error="invalid_request", error_description="the Authorization header must be Bearer and one token""#,
            ),
            (
                Refusal::Expired(Timestamp::from_seconds(7)),
                401,
                r#"Bearer realm="plant", error="invalid_token", error_description="the token has expired""#,
            ),
            (
                Refusal::Scope("Supervisor".into()),
                403,
                r#"Bearer realm="plant", error="insufficient_scope", error_description="the token lacks the scope that is needed", scope="Supervisor""#,
            ),
            (
                Refusal::Res("plant/7".into()),
                403,
                r#"Bearer realm="plant", error="insufficient_scope", error_description="the token does not cover this resource""#,
            ),
        ] {
            assert_eq!((refusal.status(), refusal.challenge("plant").as_deref()), (status, Some(challenge)));
        }
        let unknowable = Refusal::Unknowable("the list is too old");
        assert_eq!((unknowable.status(), unknowable.challenge("plant")), (503, None));
    }

    #[test]
    fn what_is_wrong_with_an_identity_token_is_told_as_such() {
        let refusal = Refusal::Identity(Box::new(Refusal::Expired(Timestamp::from_seconds(7))));
        assert_eq!((refusal.status(), &*refusal.description()), (401, "identity token: the token has expired"));
        let refusal = Refusal::Identity(Box::new(Refusal::Unknowable("no key set")));
        assert_eq!((refusal.status(), refusal.challenge("plant")), (503, None));
    }

    #[test]
    fn no_realm_breaks_out_of_the_header() {
        let challenge = Refusal::Missing.challenge("a\"b\\c\r\nSet-Cookie: d\u{7f}ä");
        assert_eq!(challenge.unwrap(), "Bearer realm=\"a\\\"b\\\\cSet-Cookie: d\"");
    }
}
