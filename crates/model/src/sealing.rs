//! Sealing what must rest encrypted: under the master key (signing keys, the hashing key), or under a secret that only its
//! holder has. AES-256-GCM, with the name of what is sealed as additional data, so that nothing sealed can be put in
//! another's place.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError};
use crate::secret::Secret;

/// What the text form of a master key begins with.
const PREFIX: &str = "kwm_";
/// How many bytes of a master key's digest name it in what it sealed.
const FINGERPRINT_LEN: usize = 8;

/// The key under which everything else is sealed. 256 bits; text form `kwm_` + base64url.
#[derive(Clone)]
pub struct MasterKey(Secret);

/// Why something could not be sealed or opened. Holds nothing of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not the text of a master key.
    #[error("not a master key of the form kwm_…")]
    Form,
    /// Sealed under another master key.
    #[error("sealed under another master key")]
    OtherKey,
    /// Changed since it was sealed, or put in another's place.
    #[error("changed since it was sealed")]
    Changed,
    /// The cipher refused.
    #[error("sealing failed")]
    Failed,
}

impl MasterKey {
    /// A new one.
    pub fn generate(entropy: &Entropy) -> Result<Self, EntropyError> {
        entropy.bytes().map(|bytes| Self(Secret::new(bytes)))
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(SealError::Form)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| SealError::Form)?);
        let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| SealError::Form)?;
        Ok(Self(Secret::new(bytes)))
    }

    /// The text form, for the master key file.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0.expose())))
    }

    /// Names this key without telling anything of it.
    pub fn fingerprint(&self) -> [u8; FINGERPRINT_LEN] {
        let mut input = Zeroizing::new(b"keyward master key fingerprint\0".to_vec());
        input.extend_from_slice(self.0.expose());
        let mut out = [0; FINGERPRINT_LEN];
        for (to, from) in out.iter_mut().zip(digest::digest(&SHA256, &input).as_ref()) {
            *to = *from;
        }
        out
    }

    /// Seals `plain` as `name`: fingerprint, nonce, ciphertext and tag in one.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = self.fingerprint().to_vec();
        seal(&self.0, name, plain, &mut sealed)?;
        Ok(sealed)
    }

    /// Opens what was sealed as `name`.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (fingerprint, rest) = sealed.split_at_checked(FINGERPRINT_LEN).ok_or(SealError::Changed)?;
        if fingerprint != self.fingerprint() {
            return Err(SealError::OtherKey);
        }
        open(&self.0, name, rest)
    }
}

/// A key that only whoever holds a secret can make: what it seals can be read by nobody who has but the secret's hash.
pub struct HolderKey(Secret);

impl HolderKey {
    /// Of this secret, for one purpose (HKDF-SHA-256, RFC 5869).
    pub fn derive(secret: &Secret, purpose: &str) -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, b"keyward: sealed for whoever holds the secret")
            .extract(secret.expose())
            .expand(&[purpose.as_bytes()], &AES_256_GCM)
            .and_then(|material| material.fill(&mut *key))
            .map_err(|_| SealError::Failed)?;
        Ok(Self(Secret::new(*key)))
    }

    /// Seals `plain` as `name`: nonce, ciphertext and tag in one.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = Vec::new();
        seal(&self.0, name, plain, &mut sealed)?;
        Ok(sealed)
    }

    /// Opens what was sealed as `name`.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        open(&self.0, name, sealed)
    }
}

fn seal(key: &Secret, name: &str, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
    let mut text = plain.to_vec();
    let nonce =
        cipher(key)?.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut text).map_err(|_| SealError::Failed)?;
    out.extend_from_slice(nonce.as_ref());
    out.extend_from_slice(&text);
    Ok(())
}

fn open(key: &Secret, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Changed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Changed)?;
    let mut text = Zeroizing::new(text.to_vec());
    let len =
        cipher(key)?.open_in_place(nonce, Aad::from(name.as_bytes()), &mut text).map_err(|_| SealError::Changed)?.len();
    text.truncate(len);
    Ok(text)
}

fn cipher(key: &Secret) -> Result<RandomizedNonceKey, SealError> {
    RandomizedNonceKey::new(&AES_256_GCM, key.expose()).map_err(|_| SealError::Failed)
}

impl fmt::Debug for HolderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u64) -> MasterKey {
        MasterKey::generate(&Entropy::seeded(seed)).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_under_the_same_key_and_name_only() {
        let sealed = key(1).seal("hashing key", b"secret").unwrap();
        assert_eq!(&**key(1).open("hashing key", &sealed).unwrap(), b"secret");
        assert_eq!(key(2).open("hashing key", &sealed).unwrap_err(), SealError::OtherKey);
        assert_eq!(key(1).open("another", &sealed).unwrap_err(), SealError::Changed);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let sealed = key(1).seal("n", b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key(1).open("n", &changed).is_err(), "byte {at}");
            assert!(key(1).open("n", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn only_whoever_holds_the_secret_opens_what_was_sealed_for_them() {
        let of = |secret: u8, purpose| HolderKey::derive(&Secret::new([secret; 32]), purpose).unwrap();
        let sealed = of(1, "answer").seal("n", b"plain").unwrap();
        assert_eq!(&**of(1, "answer").open("n", &sealed).unwrap(), b"plain");
        for (key, name) in [(of(2, "answer"), "n"), (of(1, "another"), "n"), (of(1, "answer"), "m")] {
            assert_eq!(key.open(name, &sealed).unwrap_err(), SealError::Changed);
        }
        assert_eq!(format!("{:?}", of(1, "answer")), "[redacted]");
    }

    #[test]
    fn the_text_form_survives_the_round_trip_and_debug_hides_it() {
        let text = key(1).reveal();
        assert_eq!(MasterKey::parse(&format!("{}\n", *text)).unwrap().fingerprint(), key(1).fingerprint());
        assert_eq!(MasterKey::parse("kwm_short").unwrap_err(), SealError::Form);
        assert_eq!(format!("{:?}", key(1)), "[redacted]");
    }
}
