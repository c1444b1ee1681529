//! A software authenticator and the browser in front of it: WebAuthn as the other side of the server's does it, with
//! nothing of the library that the server verifies it by.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use serde_json::{Value, json};

use crate::run;

/// Flags of the authenticator data (WebAuthn §6.1): somebody was there, and showed finger, face or PIN; the passkey may be
/// in several places, and is; it was made just now.
const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const SYNCHRONISED: u8 = 0x18;
const MADE: u8 = 0x40;

/// A passkey.
#[derive(Clone)]
struct Held {
    rp_id: String,
    id: Vec<u8>,
    user: String,
    key: Arc<EcdsaKeyPair>,
    count: u32,
}

/// A device with passkeys, and the browser in front of it.
pub struct Device {
    origin: Url,
    held: Mutex<Vec<Held>>,
    unlocks: AtomicBool,
    /// Counts signatures, as hardware does; without, it is a synchronised one, whose count is always 0.
    counts: bool,
}

impl Device {
    /// A device whose browser visits this origin.
    pub fn at(origin: &str, counts: bool) -> Self {
        let origin = origin.parse().expect("a URL");
        Self { origin, held: Mutex::default(), unlocks: AtomicBool::new(true), counts }
    }

    /// Whether whoever holds the device shows finger, face or PIN.
    pub fn unlock(&self, unlocks: bool) {
        self.unlocks.store(unlocks, Ordering::Relaxed);
    }

    /// The same device as it is now: what happens to one from now on, the other does not know.
    pub fn clone_of(&self) -> Self {
        self.visiting(self.origin.as_str())
    }

    /// Its passkeys on a device that synchronises them, and says so.
    pub fn synchronised(&self) -> Self {
        Self { counts: false, ..self.clone_of() }
    }

    /// The same device, visiting another site.
    pub fn visiting(&self, origin: &str) -> Self {
        let device = Self::at(origin, self.counts);
        device.unlock(self.unlocks.load(Ordering::Relaxed));
        device.held().extend(self.held().iter().cloned());
        device
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a passkey as the server's options say; the answer as a browser sends it.
    pub fn make(&self, options: &Value) -> Result<String, String> {
        let rp_id = self.rp_id(&options["rp"]["id"])?;
        let known = options["excludeCredentials"].as_array().into_iter().flatten();
        let known: Vec<_> = known.map(|known| bytes(&known["id"])).collect();
        if self.held().iter().any(|held| known.contains(&held.id)) {
            return Err("there is a passkey of this account on the device".to_owned());
        }
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|error| error.to_string())?;
        let id = run::random::<16>().to_vec();
        let user = options["user"]["id"].as_str().unwrap_or_default().to_owned();
        let held = Held { rp_id: rp_id.clone(), id: id.clone(), user, key: Arc::new(key), count: 0 };
        let mut data = self.data(&rp_id, &options["authenticatorSelection"]["userVerification"], &held, MADE)?;
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&[0, 16]);
        data.extend_from_slice(&id);
        data.extend_from_slice(&cose(held.key.public_key().as_ref()));
        // {"fmt": "none", "attStmt": {}, "authData": data} in CBOR.
        let mut attestation = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        attestation.push(u8::try_from(data.len()).map_err(|error| error.to_string())?);
        attestation.extend_from_slice(&data);
        let client = self.client_data("webauthn.create", &options["challenge"]);
        self.held().push(held);
        let response = json!({
            "clientDataJSON": text(&client), "attestationObject": text(&attestation), "transports": ["internal"],
        });
        Ok(sent(&id, response))
    }

    /// Uses the newest passkey for this site as the server's options say; the answer as a browser sends it.
    pub fn answer(&self, options: &Value) -> Result<String, String> {
        let rp_id = self.rp_id(&options["rpId"])?;
        let mut all = self.held();
        let held = all.iter_mut().rev().find(|held| held.rp_id == rp_id).ok_or("no passkey for this site")?;
        held.count += u32::from(self.counts);
        let data = self.data(&rp_id, &options["userVerification"], held, 0)?;
        let client = self.client_data("webauthn.get", &options["challenge"]);
        let signed = [data.as_slice(), digest(&SHA256, &client).as_ref()].concat();
        let signature = held.key.sign(&SystemRandom::new(), &signed).map_err(|error| error.to_string())?;
        let response = json!({
            "clientDataJSON": text(&client), "authenticatorData": text(&data), "signature": text(signature.as_ref()),
            "userHandle": held.user,
        });
        Ok(sent(&held.id, response))
    }

    /// A browser asks for passkeys only of the site it visits, or of one above it.
    fn rp_id(&self, asked: &Value) -> Result<String, String> {
        let (host, asked) = (self.origin.domain().unwrap_or_default(), asked.as_str().unwrap_or_default());
        let is_own = host == asked || host.ends_with(&format!(".{asked}"));
        if is_own && !asked.is_empty() { Ok(asked.to_owned()) } else { Err(format!("{host} is not {asked}")) }
    }

    fn data(&self, rp_id: &str, verification: &Value, held: &Held, flags: u8) -> Result<Vec<u8>, String> {
        let unlocked = self.unlocks.load(Ordering::Relaxed);
        if !unlocked && verification == "required" {
            return Err("the device stays locked".to_owned());
        }
        let verified = if unlocked { VERIFIED } else { 0 };
        let synchronised = if self.counts { 0 } else { SYNCHRONISED };
        let mut data = digest(&SHA256, rp_id.as_bytes()).as_ref().to_vec();
        data.push(PRESENT | verified | synchronised | flags);
        data.extend_from_slice(&held.count.to_be_bytes());
        Ok(data)
    }

    fn client_data(&self, way: &str, challenge: &Value) -> Vec<u8> {
        let origin = self.origin.origin().ascii_serialization();
        json!({ "type": way, "challenge": challenge, "origin": origin, "crossOrigin": false }).to_string().into_bytes()
    }
}

/// A public key on P-256, as COSE writes it: {1: 2, 3: -7, -1: 1, -2: x, -3: y} in CBOR (RFC 9053 §7.1.1).
fn cose(point: &[u8]) -> Vec<u8> {
    let (x, y) = point[1..].split_at(32);
    [b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20", x, b"\x22\x58\x20", y].concat()
}

fn sent(id: &[u8], response: Value) -> String {
    let id = text(id);
    json!({ "id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": {} })
        .to_string()
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn bytes(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap_or_default()).unwrap_or_default()
}
