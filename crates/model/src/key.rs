//! The API key: the text a person pastes, and the OAuth `client_secret` a client sends.
//!
//! `kw_` + credential id (22) + 256 random bits (43) + CRC-32 (6), the last three in base62: 74 characters of
//! `[A-Za-z0-9_]`. A secret scanner finds it, a double click selects it, a typo is refused before any database work,
//! and the credential's row is found by one indexed read because its id is inside. This format never changes.

use std::fmt;

use zeroize::Zeroizing;

use crate::checksummed;
pub use crate::checksummed::KeyError;
use crate::entropy::{Entropy, EntropyError};
use crate::id::CredentialId;
use crate::secret::Secret;

/// What every key begins with.
pub const PREFIX: &str = "kw_";
/// How long every key is, in characters.
pub const LEN: usize = checksummed::len(PREFIX);

/// A whole API key in memory. `Debug` prints only the credential's id.
#[derive(Clone)]
pub struct Key {
    /// Which credential this is the secret of.
    pub credential: CredentialId,
    /// The 256 random bits.
    pub secret: Secret,
}

impl Key {
    /// A new key for this credential.
    pub fn generate(credential: CredentialId, entropy: &Entropy) -> Result<Self, EntropyError> {
        let secret = Secret::new(entropy.bytes()?);
        Ok(Self { credential, secret })
    }

    /// Reads a key from its text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (id, secret) = checksummed::parse(PREFIX, text)?;
        Ok(Self { credential: CredentialId::from_uuid(id), secret })
    }

    /// The text to hand out, once.
    pub fn reveal(&self) -> Zeroizing<String> {
        checksummed::reveal(PREFIX, self.credential.as_uuid(), &self.secret)
    }
}

/// Every whole key among these bytes, with the place where it begins. The checksum tells a key from what looks like one,
/// so it does not matter what stands around it.
pub fn find_all(bytes: &[u8]) -> impl Iterator<Item = (usize, Key)> {
    memchr::memmem::find_iter(bytes, PREFIX.as_bytes()).filter_map(move |at| {
        let text = std::str::from_utf8(bytes.get(at..at + LEN)?).ok()?;
        Some((at, Key::parse(text).ok()?))
    })
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, [redacted])", self.credential)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn key(id: u128, secret: [u8; 32]) -> Key {
        Key { credential: CredentialId::from_uuid(Uuid::from_u128(id)), secret: Secret::new(secret) }
    }

    #[test]
    fn the_format_is_fixed_for_ever() {
        let text = key(0x0189_0a5d_ac96_774b_bcce_b302_099a_8057, [0xab; 32]).reveal();
        assert_eq!(&*text, "kw_02tcRIyrxLXTR81B3dqdOxehv1hsdOHPxDuX3xn9YyIKbgl4yJuySCWzdimD4heup4FfSet");
        assert_eq!(text.len(), LEN);
    }

    #[test]
    fn every_single_typo_is_refused() {
        let text = key(7, [3; 32]).reveal();
        for at in PREFIX.len()..LEN {
            let mut typo = text.as_bytes().to_vec();
            typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
            let typo = String::from_utf8(typo).unwrap();
            assert!(Key::parse(&typo).is_err(), "typo at {at}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        let key = key(7, [3; 32]);
        assert_eq!(format!("{key:?}"), format!("Key({}, [redacted])", key.credential));
    }

    proptest! {
        #[test]
        fn a_key_is_found_among_whatever_stands_around_it(before: Vec<u8>, after: Vec<u8>, secret: [u8; 32]) {
            let key = key(7, secret);
            let bytes = [&before, key.reveal().as_bytes(), &after].concat();
            let found: Vec<_> = find_all(&bytes).map(|(at, key)| (at, *key.secret.expose())).collect();
            prop_assert_eq!(found, [(before.len(), secret)]);
        }

        #[test]
        fn every_key_survives_the_round_trip(id: u128, secret: [u8; 32]) {
            let text = key(id, secret).reveal();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            let back = Key::parse(&text).unwrap();
            prop_assert_eq!(back.credential.as_uuid().as_u128(), id);
            prop_assert_eq!(back.secret.expose(), &secret);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,100}") {
            let _ = Key::parse(&text);
        }
    }
}
