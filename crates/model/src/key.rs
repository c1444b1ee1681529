//! The API key: the text a person pastes, and the OAuth `client_secret` a client sends.
//!
//! `kw_` + credential id (22) + 256 random bits (43) + CRC-32 (6), the last three in base62: 74 characters of
//! `[A-Za-z0-9_]`. A secret scanner finds it, a double click selects it, a typo is refused before any database work,
//! and the credential's row is found by one indexed read because its id is inside. This format never changes.

use std::fmt;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError};
use crate::id::CredentialId;
use crate::secret::Secret;

/// What every key begins with.
pub const PREFIX: &str = "kw_";
/// How long every key is, in characters.
pub const LEN: usize = PREFIX.len() + ID_LEN + SECRET_LEN + CHECKSUM_LEN;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_LEN: usize = 22;
const SECRET_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;

/// A whole API key in memory. `Debug` prints only the credential's id.
#[derive(Clone)]
pub struct Key {
    /// Which credential this is the secret of.
    pub credential: CredentialId,
    /// The 256 random bits.
    pub secret: Secret,
}

/// Why a text is not a key. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Wrong prefix, length or characters.
    #[error("not a key of the form kw_…")]
    Form,
    /// The checksum does not match: a typo or a truncated copy.
    #[error("the key's checksum does not match: it was mistyped or cut")]
    Checksum,
}

impl Key {
    /// A new key for this credential.
    pub fn generate(credential: CredentialId, entropy: &Entropy) -> Result<Self, EntropyError> {
        let secret = Secret::new(entropy.bytes()?);
        Ok(Self { credential, secret })
    }

    /// Reads a key from its text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = text.as_bytes();
        if bytes.len() != LEN {
            return Err(KeyError::Form);
        }
        let (body, checksum) = bytes.split_at(LEN - CHECKSUM_LEN);
        let (id, secret) = body.strip_prefix(PREFIX.as_bytes()).ok_or(KeyError::Form)?.split_at(ID_LEN);
        let id: [u8; 16] = decode(id).ok_or(KeyError::Form)?;
        let secret: Zeroizing<[u8; 32]> = decode(secret).map(Zeroizing::new).ok_or(KeyError::Form)?;
        let checksum: [u8; 4] = decode(checksum).ok_or(KeyError::Form)?;
        if checksum != crc32fast::hash(body).to_be_bytes() {
            return Err(KeyError::Checksum);
        }
        Ok(Self { credential: CredentialId::from_uuid(Uuid::from_bytes(id)), secret: Secret::new(*secret) })
    }

    /// The text to hand out, once.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(LEN));
        text.push_str(PREFIX);
        encode(self.credential.as_uuid().as_bytes(), ID_LEN, &mut text);
        encode(self.secret.expose(), SECRET_LEN, &mut text);
        let checksum = crc32fast::hash(text.as_bytes());
        encode(&checksum.to_be_bytes(), CHECKSUM_LEN, &mut text);
        text
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

/// Appends the big-endian number in `len` base62 digits.
fn encode(bytes: &[u8], len: usize, out: &mut String) {
    let mut number: Zeroizing<Vec<u8>> = Zeroizing::new(bytes.to_vec());
    let mut digits = Zeroizing::new(vec![b'0'; len]);
    for digit in digits.iter_mut().rev() {
        let mut remainder: u32 = 0;
        for byte in number.iter_mut() {
            let value = remainder << 8 | u32::from(*byte);
            // A remainder below 62 keeps the quotient below 256.
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET.get(remainder as usize).copied().unwrap_or(b'0');
    }
    out.extend(digits.iter().map(|d| char::from(*d)));
}

/// Reads base62 digits as a big-endian number of exactly `N` bytes, at most 32; `None` for another character or an
/// overflow. Ten digits at a time, for this stands on the way to every token.
fn decode<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut limbs = Zeroizing::new([0u64; 4]);
    for chunk in digits.chunks(10) {
        // 62^10 is below 2^60.
        let (mut value, mut weight) = (0u64, 1u64);
        for digit in chunk {
            value = value * 62 + u64::from(worth(*digit)?);
            weight *= 62;
        }
        let mut carry = u128::from(value);
        for limb in limbs.iter_mut() {
            carry += u128::from(*limb) * u128::from(weight);
            *limb = carry as u64;
            carry >>= 64;
        }
        if carry != 0 {
            return None;
        }
    }
    let mut bytes = limbs.iter().flat_map(|limb| limb.to_le_bytes());
    let mut number = [0u8; N];
    for byte in number.iter_mut().rev() {
        *byte = bytes.next()?;
    }
    bytes.all(|beyond| beyond == 0).then_some(number)
}

/// What a base62 digit stands for.
const fn worth(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'Z' => Some(digit - b'A' + 10),
        b'a'..=b'z' => Some(digit - b'a' + 36),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn numbers_too_large_for_their_bytes_are_refused() {
        // 62^6 is above 2^32, 62^22 above 2^128, 62^43 above 2^256.
        assert_eq!(decode::<4>(b"4gfFC3"), Some(u32::MAX.to_be_bytes()));
        assert_eq!(decode::<4>(b"4gfFC4"), None);
        assert_eq!(decode::<4>(b"zzzzzz"), None);
        assert_eq!(decode::<16>(&[b'z'; 22]), None);
        assert_eq!(decode::<32>(&[b'z'; 43]), None);
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
