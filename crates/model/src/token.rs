//! The claims of an access token (RFC 9068 §2.2), as Keyward writes them and as everyone reads them.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{ClientId, CredentialId, DeviceSessionId, TokenId, UserId};
use crate::jws::{ACCESS_TOKEN, JwsError, SigningKey};
use crate::rights::{ResSet, ScopeSet};
use crate::time::Timestamp;

/// The most audiences in one token.
pub const MAX_AUDIENCES: usize = 16;

/// Bytes that hold the JSON of a usual token, so that writing it does not grow the buffer.
const USUAL_LEN: usize = 640;

/// Bytes for the claims that no two tokens share: two instants, an identifier, their names.
const OWN_LEN: usize = 96;

/// Everything an access token says. Instants are whole seconds (RFC 7519 §2 `NumericDate`) in the JSON. What no two
/// tokens have in common comes first; see [`SharedClaims`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenClaims {
    /// When it was issued.
    #[serde(with = "numeric_date")]
    pub iat: Timestamp,
    /// From when on it is not valid any more.
    #[serde(with = "numeric_date")]
    pub exp: Timestamp,
    /// The token's own identifier.
    pub jti: TokenId,
    /// Who issued it: the issuer's URL.
    pub iss: String,
    /// For whom it is: the audience URIs of one or more APIs (RFC 8707 §2).
    pub aud: Audience,
    /// On whose behalf: the owner of the client, or the client itself.
    pub sub: Subject,
    /// Which application.
    pub client_id: ClientId,
    /// Before when it is not valid; Keyward leaves it out.
    #[serde(with = "numeric_date::option", default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<Timestamp>,
    /// Granted scopes with all they imply; absent means none.
    #[serde(default)]
    pub scope: ScopeSet,
    /// Granted resources; absent means none.
    #[serde(default)]
    pub res: ResSet,
    /// The credential it was got with, so that an API's own log can tell who uses an old key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cred: Option<CredentialId>,
    /// Who acts, wherever `sub` is the owner: nobody may mistake a key for the present user (RFC 8693 §4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// The device session of an identity token; no client token has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<DeviceSessionId>,
    /// When the user of an identity token proved who they are (RFC 9068 §2.2.1).
    #[serde(with = "numeric_date::option", default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<Timestamp>,
    /// Where its revocation can be looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl AccessTokenClaims {
    /// The signed token.
    pub fn sign(&self, key: &SigningKey) -> Result<String, JwsError> {
        let mut payload = Vec::with_capacity(USUAL_LEN);
        serde_json::to_writer(&mut payload, self).map_err(|_| JwsError::Signing)?;
        key.sign(ACCESS_TOKEN, &payload)
    }

    /// Which of the two kinds it is; `None` for claims that contradict each other, which are neither.
    pub fn kind(&self) -> Option<TokenKind> {
        match (self.sub, self.act, self.sid) {
            (Subject::User(_), Some(act), None) if act.sub == self.client_id => Some(TokenKind::Client),
            (Subject::Client(sub), None, None) if sub == self.client_id => Some(TokenKind::Client),
            (Subject::User(_), None, Some(_)) => Some(TokenKind::Identity),
            _ => None,
        }
    }

    /// What tokens of the same grant have in common with this one.
    pub fn shared(&self) -> Result<SharedClaims, JwsError> {
        let json = serde_json::to_string(self).map_err(|_| JwsError::Signing)?;
        let members = json.strip_prefix(&*own_claims(self.iat, self.exp, self.jti, 0)).ok_or(JwsError::Signing)?;
        Ok(SharedClaims { members: members.into() })
    }

    /// Plain membership: what a scope implies was written out when the token was issued.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope.contains(scope)
    }

    /// Whether the token may touch this resource; never for a text that is no resource.
    pub fn covers(&self, res: &str) -> bool {
        res.parse().is_ok_and(|res| self.res.covers(&res))
    }
}

/// For whom a token speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An application's, got with client credentials. It may act as its owner, and then says so (`act`).
    Client,
    /// A user's own, got through a login. One without `cred` was got by a public client and names the application too.
    Identity,
}

/// All claims but `iat`, `exp` and `jti`, written once: machines ask for the same again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedClaims {
    /// The members of the JSON object, with the brace that closes it.
    members: Box<str>,
}

impl SharedClaims {
    /// The signed token with these claims and its own.
    pub fn sign(&self, key: &SigningKey, iat: Timestamp, exp: Timestamp, jti: TokenId) -> Result<String, JwsError> {
        let mut payload = own_claims(iat, exp, jti, self.members.len());
        payload.push_str(&self.members);
        key.sign(ACCESS_TOKEN, payload.as_bytes())
    }

    /// Bytes of memory it takes.
    pub fn size(&self) -> usize {
        self.members.len()
    }
}

/// The beginning of a token's JSON, with room for as many bytes more.
fn own_claims(iat: Timestamp, exp: Timestamp, jti: TokenId, room: usize) -> String {
    let mut json = String::with_capacity(OWN_LEN + room);
    // Writing to a string cannot fail.
    let _ = write!(json, r#"{{"iat":{},"exp":{},"jti":"{jti}","#, iat.as_seconds(), exp.as_seconds());
    json
}

/// Whom a token stands for: a user, or the application itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The owner of the client, or the user who logged in.
    User(UserId),
    /// The client itself.
    Client(ClientId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Client(id) => id.fmt(f),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        match text.parse() {
            Ok(user) => Ok(Self::User(user)),
            Err(_) => text.parse().map(Self::Client).map_err(|_| de::Error::custom("sub is no user and no client")),
        }
    }
}

/// The party that acts for the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The client that acts for its owner.
    pub sub: ClientId,
}

/// How a token's revocation is published (Token Status List).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The one mechanism in use.
    pub status_list: StatusReference,
}

/// One place in one status list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReference {
    /// The index in the list, from 0.
    pub idx: u64,
    /// The URL of the list.
    pub uri: String,
}

/// For whom a token is: a JSON string for one, an array for several (RFC 7519 §4.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience(Vec<String>);

impl Audience {
    /// One audience.
    pub fn one(audience: impl Into<String>) -> Self {
        Self(vec![audience.into()])
    }

    /// Whether this audience is among them, compared character by character.
    pub fn contains(&self, audience: &str) -> bool {
        self.0.iter().any(|a| a == audience)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<T: Into<String>> FromIterator<T> for Audience {
    fn from_iter<I: IntoIterator<Item = T>>(audiences: I) -> Self {
        Self(audiences.into_iter().map(Into::into).collect())
    }
}

impl Serialize for Audience {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one),
            several => serializer.collect_seq(several),
        }
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string or an array of at most {MAX_AUDIENCES} strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Audience, E> {
                Ok(Audience::one(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Audience, A::Error> {
                let mut audiences = Vec::new();
                while let Some(audience) = seq.next_element()? {
                    if audiences.len() == MAX_AUDIENCES {
                        return Err(de::Error::invalid_length(MAX_AUDIENCES + 1, &self));
                    }
                    audiences.push(audience);
                }
                Ok(Audience(audiences))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

/// Whole Unix seconds.
mod numeric_date {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Timestamp;

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(at.as_seconds())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_seconds)
    }

    /// The same where the claim may be absent; `null` is not absent.
    pub(super) mod option {
        use super::*;

        pub(in super::super) fn serialize<S: Serializer>(
            at: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use uuid::Uuid;

    use super::*;
    use crate::id::KeyId;
    use crate::jws::{PrivateKey, SigningAlgorithm};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Dated {
        #[serde(with = "numeric_date")]
        at: Timestamp,
    }

    fn claims(client: ClientId, seconds: i64, jti: u128) -> AccessTokenClaims {
        AccessTokenClaims {
            iss: "https://iam.example".to_owned(),
            aud: ["a", "\"b"].into_iter().collect(),
            sub: Subject::User(UserId::from_uuid(client.as_uuid())),
            client_id: client,
            iat: Timestamp::from_seconds(seconds),
            nbf: None,
            exp: Timestamp::from_seconds(seconds + 600),
            jti: TokenId::from_uuid(Uuid::from_u128(jti)),
            scope: "Worker".parse().unwrap(),
            res: "plant/7".parse().unwrap(),
            cred: Some(CredentialId::from_uuid(client.as_uuid())),
            act: Some(Actor { sub: client }),
            sid: None,
            auth_time: None,
            status: Some(Status { status_list: StatusReference { idx: 7, uri: "https://iam.example/1".to_owned() } }),
        }
    }

    #[test]
    fn one_audience_is_a_string_and_several_are_an_array() {
        for (json, audiences) in
            [("\"a\"", ["a"].as_slice()), ("[\"a\",\"b\"]", &["a", "b"]), ("[]", &[]), ("\"\\u00fc\"", &["ü"])]
        {
            let read: Audience = serde_json::from_str(json).unwrap();
            assert_eq!(read.iter().collect::<Vec<_>>(), audiences);
            assert!(audiences.iter().all(|audience| read.contains(audience)) && !read.contains("c"));
            assert_eq!(serde_json::from_str::<Audience>(&serde_json::to_string(&read).unwrap()).unwrap(), read);
        }
        assert_eq!(serde_json::to_string(&Audience::one("a")).unwrap(), "\"a\"");
        assert_eq!(serde_json::to_string(&["a", "b"].into_iter().collect::<Audience>()).unwrap(), "[\"a\",\"b\"]");
    }

    #[test]
    fn instants_are_whole_seconds_rounded_down() {
        for (millis, seconds) in [(0, 0), (999, 0), (1_000, 1), (1_700_000_000_123, 1_700_000_000), (-1, -1)] {
            let json = serde_json::to_string(&Dated { at: Timestamp::from_millis(millis) }).unwrap();
            assert_eq!(json, format!("{{\"at\":{seconds}}}"));
            let read: Dated = serde_json::from_str(&json).unwrap();
            assert_eq!(read.at, Timestamp::from_seconds(seconds));
        }
        assert!(serde_json::from_str::<Dated>("{\"at\":1.5}").is_err());
    }

    #[test]
    fn a_token_of_shared_claims_says_what_it_would_say_alone() {
        let (id, kid) = (Uuid::from_u128(1), KeyId::from_uuid(Uuid::from_u128(2)));
        let key = SigningKey::new(kid, PrivateKey::generate(SigningAlgorithm::EdDsa).unwrap()).unwrap();
        let claims = |seconds, jti| claims(ClientId::from_uuid(id), seconds, jti);
        let read = |token: &str| {
            let payload = token.split('.').nth(1).unwrap();
            serde_json::from_slice::<AccessTokenClaims>(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
        };
        let (first, second) = (claims(1, 3), claims(2, 4));
        let shared = first.shared().unwrap();
        assert_eq!(shared, second.shared().unwrap());
        let token = shared.sign(&key, second.iat, second.exp, second.jti).unwrap();
        assert_eq!(read(&token), second);
        assert_eq!(read(&second.sign(&key).unwrap()), second);
    }

    #[test]
    fn a_token_is_an_applications_or_a_users_and_never_something_between() {
        let [client, other] = [1, 2].map(|id| ClientId::from_uuid(Uuid::from_u128(id)));
        let user = Subject::User(UserId::from_uuid(Uuid::from_u128(3)));
        let sid = Some(DeviceSessionId::from_uuid(Uuid::from_u128(4)));
        let acting = |sub| Some(Actor { sub });
        for (sub, act, sid, kind) in [
            (user, acting(client), None, Some(TokenKind::Client)),
            (Subject::Client(client), None, None, Some(TokenKind::Client)),
            (user, None, sid, Some(TokenKind::Identity)),
            (user, None, None, None),
            (user, acting(other), None, None),
            (user, acting(client), sid, None),
            (Subject::Client(other), None, None, None),
            (Subject::Client(client), acting(client), None, None),
            (Subject::Client(client), None, sid, None),
        ] {
            let claims = AccessTokenClaims { sub, act, sid, ..claims(client, 1, 2) };
            assert_eq!(claims.kind(), kind, "{sub}, {act:?}, {sid:?}");
        }
    }

    #[test]
    fn a_subject_is_a_user_or_a_client_and_nothing_else() {
        for subject in [
            Subject::User(UserId::from_uuid(Uuid::from_u128(1))),
            Subject::Client(ClientId::from_uuid(Uuid::from_u128(1))),
        ] {
            let json = serde_json::to_string(&subject).unwrap();
            assert_eq!(json, format!("\"{subject}\""));
            assert_eq!(serde_json::from_str::<Subject>(&json).unwrap(), subject);
        }
        for other in ["cred_00000000000000000000000001", "user_", "", "admin"] {
            assert!(serde_json::from_str::<Subject>(&format!("\"{other}\"")).is_err(), "{other}");
        }
    }
}
