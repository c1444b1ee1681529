//! Secrets in the form that people paste: a prefix that says what it is, the identifier that finds its row, 256 secret
//! bits and a CRC-32, all but the prefix in base62. A scanner finds it, a double click selects it, and a typo is refused
//! before any database work.

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::secret::Secret;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_LEN: usize = 22;
const SECRET_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;

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

/// How long a secret with this prefix is, in characters.
pub(crate) const fn len(prefix: &str) -> usize {
    prefix.len() + ID_LEN + SECRET_LEN + CHECKSUM_LEN
}

/// Reads identifier and secret from the text.
pub(crate) fn parse(prefix: &str, text: &str) -> Result<(Uuid, Secret), KeyError> {
    let bytes = text.as_bytes();
    if bytes.len() != len(prefix) {
        return Err(KeyError::Form);
    }
    let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
    let (id, secret) = body.strip_prefix(prefix.as_bytes()).ok_or(KeyError::Form)?.split_at(ID_LEN);
    let id: [u8; 16] = decode(id).ok_or(KeyError::Form)?;
    let secret: Zeroizing<[u8; 32]> = decode(secret).map(Zeroizing::new).ok_or(KeyError::Form)?;
    let checksum: [u8; 4] = decode(checksum).ok_or(KeyError::Form)?;
    if checksum != crc32fast::hash(body).to_be_bytes() {
        return Err(KeyError::Checksum);
    }
    Ok((Uuid::from_bytes(id), Secret::new(*secret)))
}

/// The text to hand out, once.
pub(crate) fn reveal(prefix: &str, id: Uuid, secret: &Secret) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(len(prefix)));
    text.push_str(prefix);
    encode(id.as_bytes(), ID_LEN, &mut text);
    encode(secret.expose(), SECRET_LEN, &mut text);
    let checksum = crc32fast::hash(text.as_bytes());
    encode(&checksum.to_be_bytes(), CHECKSUM_LEN, &mut text);
    text
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

    #[test]
    fn numbers_too_large_for_their_bytes_are_refused() {
        // 62^6 is above 2^32, 62^22 above 2^128, 62^43 above 2^256.
        assert_eq!(decode::<4>(b"4gfFC3"), Some(u32::MAX.to_be_bytes()));
        assert_eq!(decode::<4>(b"4gfFC4"), None);
        assert_eq!(decode::<4>(b"zzzzzz"), None);
        assert_eq!(decode::<16>(&[b'z'; 22]), None);
        assert_eq!(decode::<32>(&[b'z'; 43]), None);
    }
}
