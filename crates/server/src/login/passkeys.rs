//! Passkeys (WebAuthn), verified by `webauthn-rs`; the only file that knows that library.
//!
//! 1. An offer goes to the browser: options with a challenge, and the ceremony, sealed: what the answer is judged by. It is
//!    kept by the browser, so whoever merely looks at the page makes no row, and any node can take the answer.
//! 2. The answer comes back with the ceremony. Origin, RP ID, challenge, user verification, signature and counter are
//!    verified; whoever uses the answer spends the challenge in the same transaction, so it is answered once.

use std::time::Duration;

use keyward_model::entropy::{Entropy, EntropyError};
use keyward_model::id::UserId;
use keyward_model::passkey::Passkey;
use keyward_model::time::Timestamp;
use keyward_model::user::User;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use webauthn_rs::prelude::{
    DiscoverableAuthentication, PasskeyRegistration, PublicKeyCredential, RegisterPublicKeyCredential, Url, Webauthn,
    WebauthnBuilder, WebauthnError,
};

use crate::login::sealed::Seal;

/// How long a challenge may be answered.
const ANSWERED_WITHIN: Duration = Duration::from_mins(5);
const REGISTER: &str = "passkey registration";
const SIGN_IN: &str = "passkey sign-in";

/// Verifies passkeys of one relying party: this server.
pub(crate) struct Passkeys {
    webauthn: Webauthn,
}

/// What a browser needs to make or use a passkey.
#[derive(Debug, Serialize)]
pub(crate) struct Offer {
    /// `PublicKeyCredentialCreationOptionsJSON` or `PublicKeyCredentialRequestOptionsJSON`.
    options: Value,
    /// To be sent back with the answer.
    ceremony: String,
}

/// A challenge that was answered: to be spent with whatever the answer allows.
pub(crate) struct Answered {
    /// Names the challenge.
    pub(crate) challenge: [u8; 16],
    /// From when on it could not be answered anyway.
    pub(crate) expires_at: Timestamp,
}

/// A passkey that was made just now.
pub(crate) struct Made {
    /// What its authenticator calls it.
    pub(crate) credential_id: Vec<u8>,
    /// What it is verified by.
    pub(crate) verifier: String,
    /// The challenge it was made for.
    pub(crate) answered: Answered,
}

/// Why an answer does not count. For the log: a browser is told no more than that.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasskeyError {
    /// Not sealed by us, or too late.
    #[error("the challenge is not ours or its time is over")]
    Ceremony,
    /// Not what browsers send.
    #[error("the answer cannot be read")]
    Unreadable,
    /// The passkey says that it belongs to somebody else.
    #[error("the passkey names another user")]
    OtherUser,
    /// The library refused it.
    #[error("{0}")]
    Refused(#[from] WebauthnError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// What is stored cannot be read: our fault, not that of whoever signs in.
    #[error("a stored passkey cannot be read: {0}")]
    Stored(serde_json::Error),
    /// What we sealed cannot be read, or what we offer cannot be written.
    #[error("a passkey or ceremony cannot be written: {0}")]
    Form(#[from] serde_json::Error),
}

/// What the answer will be judged by.
#[derive(Serialize, Deserialize)]
struct Ceremony<T> {
    challenge: [u8; 16],
    user: Option<UserId>,
    state: T,
}

/// An answer to a challenge, not yet verified.
pub(crate) struct Presented {
    credential: PublicKeyCredential,
}

impl Presented {
    /// As the browser sent it.
    pub(crate) fn parse(text: &str) -> Result<Self, PasskeyError> {
        serde_json::from_str(text).map(|credential| Self { credential }).map_err(|_| PasskeyError::Unreadable)
    }

    /// What the authenticator calls the passkey.
    pub(crate) fn credential_id(&self) -> &[u8] {
        self.credential.get_credential_id()
    }
}

impl Passkeys {
    /// For the server at this URL, whose host is the RP ID for ever. `None` where browsers offer no passkeys: the host is an
    /// address, or plain http leads to anything but `localhost`.
    pub(crate) fn new(issuer: &str) -> Option<Self> {
        let url = Url::parse(issuer).ok()?;
        let host = url.domain()?.to_owned();
        let is_local = host == "localhost" || host.ends_with(".localhost");
        if url.scheme() != "https" && !is_local {
            return None;
        }
        let webauthn =
            WebauthnBuilder::new(&host, &url).ok()?.rp_name("Keyward").timeout(ANSWERED_WITHIN).build().ok()?;
        Some(Self { webauthn })
    }

    /// To make a passkey of this user, on an authenticator that has none of those known.
    pub(crate) fn offer_registration(
        &self,
        (seal, entropy): (&Seal, &Entropy),
        user: &User,
        known: &[Passkey],
        now: Timestamp,
    ) -> Result<Offer, PasskeyError> {
        let known = known.iter().map(|passkey| passkey.credential_id.clone()).collect();
        let id = user.id.as_uuid();
        let (options, state) = self.webauthn.start_passkey_registration(id, &user.name, &user.name, Some(known))?;
        let mut options = serde_json::to_value(options.public_key)?;
        // The library discourages passkeys that the authenticator itself can list. Only those sign in here, for nobody is
        // asked for a name first: with "preferred", an authenticator that cannot keep one would make a passkey that opens
        // nothing, perhaps the only one its owner has.
        if let Some(selection) = options.get_mut("authenticatorSelection") {
            *selection = json!({
                "residentKey": "required", "requireResidentKey": true, "userVerification": "required",
            });
        }
        let ceremony = Ceremony { challenge: entropy.bytes()?, user: Some(user.id), state };
        offer(seal, REGISTER, options, &ceremony, now)
    }

    /// The passkey this user made.
    pub(crate) fn register(
        &self,
        seal: &Seal,
        user: UserId,
        (ceremony, answer): (&str, &str),
        now: Timestamp,
    ) -> Result<Made, PasskeyError> {
        let (ceremony, expires_at) = opened::<PasskeyRegistration>(seal, REGISTER, ceremony, now)?;
        if ceremony.user != Some(user) {
            return Err(PasskeyError::OtherUser);
        }
        let answer: RegisterPublicKeyCredential = serde_json::from_str(answer).map_err(|_| PasskeyError::Unreadable)?;
        let passkey = self.webauthn.finish_passkey_registration(&answer, &ceremony.state)?;
        Ok(Made {
            credential_id: passkey.cred_id().to_vec(),
            verifier: serde_json::to_string(&passkey)?,
            answered: Answered { challenge: ceremony.challenge, expires_at },
        })
    }

    /// To sign in with whatever passkey there is.
    pub(crate) fn offer_sign_in(&self, seal: &Seal, entropy: &Entropy, now: Timestamp) -> Result<Offer, PasskeyError> {
        let (options, state) = self.webauthn.start_discoverable_authentication()?;
        let options = serde_json::to_value(options.public_key)?;
        let ceremony = Ceremony { challenge: entropy.bytes()?, user: None, state };
        offer(seal, SIGN_IN, options, &ceremony, now)
    }

    /// Verifies an answer by the passkey it names; gives the challenge, and what the passkey is verified by from now on.
    pub(crate) fn verify(
        &self,
        seal: &Seal,
        passkey: &Passkey,
        (ceremony, presented): (&str, &Presented),
        now: Timestamp,
    ) -> Result<(Answered, String), PasskeyError> {
        let (ceremony, expires_at) = opened::<DiscoverableAuthentication>(seal, SIGN_IN, ceremony, now)?;
        let answer = &presented.credential;
        let (user, _) = self.webauthn.identify_discoverable_authentication(answer)?;
        if user != passkey.user.as_uuid() {
            return Err(PasskeyError::OtherUser);
        }
        let mut verifier: webauthn_rs::prelude::Passkey =
            serde_json::from_str(&passkey.verifier).map_err(PasskeyError::Stored)?;
        let result = self.webauthn.finish_discoverable_authentication_v2(answer, ceremony.state, &verifier)?;
        verifier.update_credential(&result);
        Ok((Answered { challenge: ceremony.challenge, expires_at }, serde_json::to_string(&verifier)?))
    }
}

fn offer<T: Serialize>(
    seal: &Seal,
    purpose: &'static str,
    options: Value,
    ceremony: &Ceremony<T>,
    now: Timestamp,
) -> Result<Offer, PasskeyError> {
    let ceremony = seal.seal(purpose, now.plus(ANSWERED_WITHIN), &serde_json::to_vec(ceremony)?);
    Ok(Offer { options, ceremony })
}

fn opened<T: DeserializeOwned>(
    seal: &Seal,
    purpose: &'static str,
    text: &str,
    now: Timestamp,
) -> Result<(Ceremony<T>, Timestamp), PasskeyError> {
    let (content, expires_at) = seal.open(purpose, now, text).ok_or(PasskeyError::Ceremony)?;
    Ok((serde_json::from_slice(&content)?, expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_are_offered_where_browsers_have_them() {
        for (issuer, offered) in [
            ("https://iam.example.org", true),
            ("https://iam.example.org:8443/keyward", true),
            ("http://localhost:8080", true),
            ("http://keyward.localhost:8080", true),
            ("http://iam.example.org", false),
            ("https://192.0.2.1", false),
            ("http://127.0.0.1:8080", false),
            ("https://[::1]:8080", false),
        ] {
            assert_eq!(Passkeys::new(issuer).is_some(), offered, "{issuer}");
        }
    }

    #[test]
    fn the_challenge_of_one_ceremony_answers_no_other() {
        let (seal, now) = (Seal::new(&keyward_model::secret::Secret::new([1; 32])), Timestamp::from_seconds(1_000));
        let entropy = Entropy::seeded(1);
        let passkeys = Passkeys::new("http://localhost:8080").unwrap();
        let sign_in = passkeys.offer_sign_in(&seal, &entropy, now).unwrap();
        assert!(opened::<DiscoverableAuthentication>(&seal, SIGN_IN, &sign_in.ceremony, now).is_ok());
        let late = now.plus(ANSWERED_WITHIN);
        for (purpose, now) in [(REGISTER, now), (SIGN_IN, late)] {
            let opened = opened::<Value>(&seal, purpose, &sign_in.ceremony, now);
            assert!(matches!(opened, Err(PasskeyError::Ceremony)));
        }
    }
}
