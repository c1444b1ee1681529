//! A software authenticator, and what a browser does with it: WebAuthn by another implementation than the server's.

use std::sync::{Arc, Mutex, PoisonError};

use passkey::authenticator::{
    Authenticator, CredentialStore, DiscoverabilitySupport, StoreInfo, UiHint, UserCheck, UserValidationMethod,
};
use passkey::client::{Client, DefaultClientData};
use passkey::crypto::aws_lc_rs::AwsLcRsBackend;
use passkey::types::Passkey;
use passkey::types::ctap2::make_credential::{Options, PublicKeyCredentialRpEntity, PublicKeyCredentialUserEntity};
use passkey::types::ctap2::{Aaguid, Ctap2Error, StatusCode};
use passkey::types::webauthn::PublicKeyCredentialDescriptor;
use reqwest::Url;
use serde_json::{Value, json};

/// Keeps passkeys, and finds them by the site alone.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Passkey>>>);

/// Somebody who unlocks the authenticator, or does not.
struct Somebody {
    unlocks: Arc<Mutex<bool>>,
}

/// A device with passkeys, and the browser in front of it.
pub struct Device {
    origin: Url,
    keeper: Keeper,
    unlocks: Arc<Mutex<bool>>,
    /// Counts signatures, as hardware does; 0 as synchronised passkeys do.
    counts: bool,
}

impl Device {
    /// A device whose browser visits this origin. Passkeys that count are refused when the count goes back.
    pub fn at(origin: &str, counts: bool) -> Self {
        let origin = origin.parse().expect("a URL");
        Self { origin, keeper: Keeper::default(), unlocks: Arc::new(Mutex::new(true)), counts }
    }

    /// Whether whoever holds the device shows finger, face or PIN.
    pub fn unlock(&self, unlocks: bool) {
        *self.unlocks.lock().unwrap_or_else(PoisonError::into_inner) = unlocks;
    }

    /// The same device as it is now: what happens to one from now on, the other does not know.
    pub fn clone_of(&self) -> Self {
        let passkeys = self.keeper.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            origin: self.origin.clone(),
            keeper: Keeper(Arc::new(Mutex::new(passkeys))),
            unlocks: Arc::clone(&self.unlocks),
            counts: self.counts,
        }
    }

    /// The same device, visiting another site.
    pub fn visiting(&self, origin: &str) -> Self {
        Self { origin: origin.parse().expect("a URL"), ..self.clone_of() }
    }

    fn authenticator(&self) -> Authenticator<Keeper, Somebody, AwsLcRsBackend> {
        let somebody = Somebody { unlocks: Arc::clone(&self.unlocks) };
        let mut authenticator = Authenticator::new(Aaguid::new_empty(), self.keeper.clone(), somebody, AwsLcRsBackend);
        authenticator.set_make_credentials_with_signature_counter(self.counts);
        authenticator
    }

    /// Makes a passkey as the server's options say; the answer as a browser sends it.
    pub async fn make(&self, options: &Value) -> Result<String, String> {
        let request = serde_json::from_value(json!({ "publicKey": options })).map_err(|e| e.to_string())?;
        let made = Client::new(self.authenticator()).register(&self.origin, request, DefaultClientData).await;
        let made = made.map_err(|error| format!("{error:?}"))?;
        serde_json::to_string(&made).map_err(|e| e.to_string())
    }

    /// Uses a passkey as the server's options say; the answer as a browser sends it.
    pub async fn answer(&self, options: &Value) -> Result<String, String> {
        let mut options = options.clone();
        if options["allowCredentials"].as_array().is_some_and(Vec::is_empty) {
            options.as_object_mut().map(|options| options.remove("allowCredentials"));
        }
        let request = serde_json::from_value(json!({ "publicKey": options })).map_err(|e| e.to_string())?;
        let answer = Client::new(self.authenticator()).authenticate(&self.origin, request, DefaultClientData).await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        serde_json::to_string(&answer).map_err(|e| e.to_string())
    }
}

#[async_trait::async_trait]
impl CredentialStore for Keeper {
    type PasskeyItem = Passkey;

    async fn find_credentials(
        &self,
        ids: Option<&[PublicKeyCredentialDescriptor]>,
        rp_id: &str,
        _: Option<&[u8]>,
    ) -> Result<Vec<Passkey>, StatusCode> {
        let passkeys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |passkey: &&Passkey| {
            passkey.rp_id == rp_id && ids.is_none_or(|ids| ids.iter().any(|id| id.id == passkey.credential_id))
        };
        // The newest first, as people expect.
        let found: Vec<Passkey> = passkeys.iter().rev().filter(wanted).cloned().collect();
        if found.is_empty() { Err(Ctap2Error::NoCredentials.into()) } else { Ok(found) }
    }

    async fn save_credential(
        &mut self,
        passkey: Passkey,
        _: PublicKeyCredentialUserEntity,
        _: PublicKeyCredentialRpEntity,
        _: Options,
    ) -> Result<(), StatusCode> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(passkey);
        Ok(())
    }

    async fn update_credential(&mut self, passkey: &Passkey) -> Result<(), StatusCode> {
        let mut passkeys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for known in passkeys.iter_mut().filter(|known| known.credential_id == passkey.credential_id) {
            *known = passkey.clone();
        }
        Ok(())
    }

    async fn get_info(&self) -> StoreInfo {
        StoreInfo { discoverability: DiscoverabilitySupport::Full }
    }
}

#[async_trait::async_trait]
impl UserValidationMethod for Somebody {
    type PasskeyItem = Passkey;

    async fn check_user<'a>(&self, _: UiHint<'a, Passkey>, _: bool, _: bool) -> Result<UserCheck, Ctap2Error> {
        let verification = *self.unlocks.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(UserCheck { presence: true, verification })
    }

    fn is_presence_enabled(&self) -> bool {
        true
    }

    fn is_verification_enabled(&self) -> Option<bool> {
        Some(true)
    }
}
