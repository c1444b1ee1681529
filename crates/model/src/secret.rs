//! Values that must never be printed, and how they are kept and compared.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// 256 secret bits. `Debug` prints `[redacted]`; the memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Wraps the bytes; the caller wipes its own copy.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The digest of something secret of another length; the purpose keeps it apart from all other digests.
    pub(crate) fn digest(purpose: &str, secret: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(purpose.as_bytes());
        context.update(b"\0");
        context.update(secret);
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self::new(out)
    }

    /// The bytes themselves, for hashing and sealing only.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the text form that [`reveal`](Self::reveal) gives; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        bytes.as_slice().try_into().ok().map(Self::new)
    }

    /// The text form of a secret that travels bare, in a cookie or a link: 43 characters of base64url.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.expose()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Keyed hash of a generated secret: HMAC-SHA-256 under the hashing key.
///
/// Generated secrets hold 256 random bits, so no slow hash is needed; the key keeps a stolen database from being
/// searched at all.
#[derive(Clone)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// From the stored bytes; `None` if they are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The server-wide key under which secrets are hashed; kept sealed under the master key.
#[derive(Clone)]
pub struct HashingKey(hmac::Key);

impl HashingKey {
    /// From 256 secret bits.
    pub fn new(key: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// The hash of a secret, to be stored.
    pub fn hash(&self, secret: &Secret) -> SecretHash {
        let tag = hmac::sign(&self.0, secret.expose());
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        SecretHash(out)
    }

    /// A key for one other purpose: whoever learns it learns nothing of this one, nor of those for other purposes.
    pub fn derive(&self, purpose: &str) -> Secret {
        // Longer than any secret that is hashed, so that no hash is ever such a key.
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"keyward: a key derived for the purpose of ");
        context.update(purpose.as_bytes());
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        Secret::new(out)
    }

    /// Whether the secret has this hash, in constant time.
    pub fn matches(&self, secret: &Secret, stored: &SecretHash) -> bool {
        constant_time::verify_slices_are_equal(self.hash(secret).as_bytes(), stored.as_bytes()).is_ok()
    }
}

impl fmt::Debug for HashingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_under_the_same_key_matches() {
        let key = HashingKey::new(&Secret::new([7; 32]));
        let stored = key.hash(&Secret::new([1; 32]));
        assert!(key.matches(&Secret::new([1; 32]), &stored));
        assert!(!key.matches(&Secret::new([2; 32]), &stored));
        assert!(!HashingKey::new(&Secret::new([8; 32])).matches(&Secret::new([1; 32]), &stored));
    }

    #[test]
    fn a_secret_survives_the_round_trip_through_its_text() {
        let secret = Secret::new([0xfb; 32]);
        assert_eq!(Secret::parse(&secret.reveal()).unwrap().expose(), secret.expose());
        for text in ["", "AAAA", &secret.reveal()[1..], &format!("{}=", *secret.reveal()), "\u{e4}"] {
            assert!(Secret::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn every_purpose_has_a_key_of_its_own() {
        let derive = |key: u8, purpose| *HashingKey::new(&Secret::new([key; 32])).derive(purpose).expose();
        assert_eq!(derive(1, "a"), derive(1, "a"));
        assert_ne!(derive(1, "a"), derive(1, "b"));
        assert_ne!(derive(1, "a"), derive(2, "a"));
    }

    #[test]
    fn debug_shows_nothing() {
        let key = HashingKey::new(&Secret::new([7; 32]));
        let secret = Secret::new([0x41; 32]);
        for shown in [format!("{secret:?}"), format!("{key:?}"), format!("{:?}", key.hash(&secret))] {
            assert_eq!(shown, "[redacted]");
        }
    }
}
