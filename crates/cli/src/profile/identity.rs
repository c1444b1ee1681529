//! As whom a profile lets this command line speak: a client with its key, or somebody who has signed in.

use keyward_model::id::{ClientId, UserId};
use keyward_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Profile;

/// As whom to speak.
#[derive(Clone)]
pub(crate) enum Identity {
    /// A client, which proves itself by its API key.
    Key(Zeroizing<String>),
    /// Somebody who has signed in.
    Login(Box<Login>),
    /// Nobody: whoever was signed in has signed out.
    SignedOut,
}

impl Identity {
    /// What it is, in a word.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Login(_) => "login",
            Self::SignedOut => "signed out",
        }
    }
}

/// Somebody who has signed in, with what their device session gave last.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Login {
    /// Who.
    pub(crate) user: UserId,
    /// What they were called then.
    pub(crate) name: String,
    /// Gives the next tokens, once.
    pub(crate) refresh_token: Zeroizing<String>,
    /// An identity token.
    pub(crate) access_token: Zeroizing<String>,
    /// When that ends.
    pub(crate) expires_at: Timestamp,
    /// What it was granted.
    #[serde(default)]
    pub(crate) scope: String,
}

/// How somebody signs in from a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// With the browser of this machine.
    Browser,
    /// With a browser anywhere, by a code.
    Device,
}

/// A profile as its file holds it.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    url: String,
    client_id: ClientId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret: Option<Zeroizing<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login: Option<Box<Login>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sign_in_by: Option<Way>,
}

impl From<Profile> for Stored {
    fn from(profile: Profile) -> Self {
        let Profile { url, client_id, identity, way } = profile;
        let (client_secret, login) = match identity {
            Identity::Key(key) => (Some(key), None),
            Identity::Login(login) => (None, Some(login)),
            Identity::SignedOut => (None, None),
        };
        Self { url, client_id, client_secret, login, sign_in_by: way }
    }
}

impl TryFrom<Stored> for Profile {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let Stored { url, client_id, client_secret, login, sign_in_by: way } = stored;
        let identity = match (client_secret, login) {
            (Some(key), None) => Identity::Key(key),
            (None, Some(login)) => Identity::Login(login),
            (None, None) => Identity::SignedOut,
            (Some(_), Some(_)) => return Err("a profile holds either a key or a login"),
        };
        Ok(Self { url, client_id, identity, way })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(members: Value) -> Result<Profile, serde_json::Error> {
        let mut all = json!({ "url": "http://127.0.0.1:8080", "client_id": "client_01h455vb4pex5vsknk084sn02q" });
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value(all)
    }

    #[test]
    fn a_profile_holds_a_key_or_a_login_or_neither_and_is_written_as_it_was_read() {
        let login = json!({ "user": "user_01h455vb4pex5vsknk084sn02q", "name": "olga", "refresh_token": "r",
            "access_token": "a", "expires_at": 1_795_435_200_000_i64, "scope": "keyward:self" });
        for (members, kind) in [
            (json!({ "client_secret": "kw_1" }), "key"),
            (json!({ "login": login, "sign_in_by": "device" }), "login"),
            (json!({ "sign_in_by": "browser" }), "signed out"),
        ] {
            let profile = read(members.clone()).unwrap();
            assert_eq!(profile.identity.kind(), kind);
            let written = serde_json::to_value(&profile).unwrap();
            for (name, value) in members.as_object().unwrap() {
                assert_eq!(&written[name], value);
            }
            assert_eq!(written.as_object().unwrap().len(), 2 + members.as_object().unwrap().len());
        }
        assert!(read(json!({ "client_secret": "kw_1", "login": login })).is_err());
    }
}
