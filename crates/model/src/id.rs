//! Identifiers: a prefix that says what it is, and a UUIDv7 in Crockford base32 (the TypeID text form).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::entropy::{Entropy, EntropyError};
use crate::time::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX_LEN: usize = 26;
/// The value of each byte that is a digit of the alphabet; `NO_DIGIT` for all others.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses what is out of bounds")]
        {
            digits[ALPHABET[value] as usize] = value as u8;
        }
        value += 1;
    }
    digits
};
const NO_DIGIT: u8 = u8::MAX;

/// Why a text is not the identifier that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of the form {prefix}_… with 26 characters after the prefix")]
pub struct IdError {
    prefix: &'static str,
}

fn uuid_v7(now: Timestamp, rest: [u8; 10]) -> Uuid {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid()
}

/// Writes the 26 characters behind the prefix to where they belong.
fn encode(uuid: Uuid, suffix: &mut [u8]) {
    let mut value = uuid.as_u128();
    for slot in suffix.iter_mut().rev() {
        // The mask keeps the index inside the alphabet.
        *slot = ALPHABET.get((value & 31) as usize).copied().unwrap_or(b'0');
        value >>= 5;
    }
}

fn decode(suffix: &str) -> Option<Uuid> {
    if suffix.len() != SUFFIX_LEN || suffix.as_bytes().first().is_none_or(|b| *b > b'7') {
        return None;
    }
    let mut value: u128 = 0;
    for byte in suffix.bytes() {
        let digit = DIGITS.get(usize::from(byte)).copied().filter(|digit| *digit != NO_DIGIT)?;
        value = value << 5 | u128::from(digit);
    }
    Some(Uuid::from_u128(value))
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the text form begins with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new identifier that sorts by the time it was made.
            pub fn new(now: Timestamp, entropy: &Entropy) -> Result<Self, EntropyError> {
                Ok(Self::with_rest(now, entropy.bytes()?))
            }

            /// The same with what follows the time given, less its first four bits and the first two of its third byte.
            pub fn with_rest(now: Timestamp, rest: [u8; 10]) -> Self {
                Self(uuid_v7(now, rest))
            }

            /// From the bare 128 bits.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bare 128 bits.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                const START: &[u8] = concat!($prefix, "_").as_bytes();
                let mut text = [0; START.len() + SUFFIX_LEN];
                let (start, suffix) = text.split_at_mut(START.len());
                start.copy_from_slice(START);
                encode(self.0, suffix);
                // In one piece: a string that it is written to grows once, to its length.
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or(IdError { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

identifier!(
    /// A person.
    UserId, "user"
);
identifier!(
    /// An application; this is the OAuth `client_id` (RFC 6749 §2.2).
    ClientId, "client"
);
identifier!(
    /// One secret of a client: what people call an API key. Public, part of the key itself.
    CredentialId, "cred"
);
identifier!(
    /// What a user's login left behind, on a device or in a terminal; this is the `sid` of its identity tokens.
    DeviceSessionId, "session"
);
identifier!(
    /// A device that asks to be signed in.
    DeviceGrantId, "grant"
);
identifier!(
    /// A user signed in with a browser.
    LoginId, "login"
);
identifier!(
    /// A passkey a user signs in with.
    PasskeyId, "passkey"
);
identifier!(
    /// A registered resource server.
    ApiId, "api"
);
identifier!(
    /// A signing key; this is the `kid` (RFC 7517 §4.5).
    KeyId, "key"
);
identifier!(
    /// One issued token; this is the `jti` (RFC 7519 §4.1.7).
    TokenId, "tok"
);
identifier!(
    /// Something people are told; every delivery of it carries this id as `webhook-id`.
    NoticeId, "notice"
);
identifier!(
    /// One notice on its way to one receiver.
    DeliveryId, "delivery"
);
identifier!(
    /// A receiver of notices over HTTP.
    WebhookId, "webhook"
);
identifier!(
    /// One HTTP request, for logs and error reports.
    RequestId, "req"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_form_is_the_one_of_typeid() {
        // Vector of the TypeID specification: the UUID 01890a5d-ac96-774b-bcce-b302099a8057.
        let id = UserId::from_uuid(Uuid::from_u128(0x0189_0a5d_ac96_774b_bcce_b302_099a_8057));
        assert_eq!(id.to_string(), "user_01h455vb4pex5vsknk084sn02q");
    }

    #[test]
    fn newer_identifiers_sort_behind_older_ones() {
        let entropy = Entropy::seeded(1);
        let older = ClientId::new(Timestamp::from_millis(1_000), &entropy).unwrap();
        let newer = ClientId::new(Timestamp::from_millis(1_001), &entropy).unwrap();
        assert!(older.to_string() < newer.to_string());
    }

    #[test]
    fn another_kind_of_identifier_is_refused() {
        let id = UserId::from_uuid(Uuid::from_u128(1)).to_string();
        assert!(id.parse::<ClientId>().is_err());
        // The first character holds only three bits: anything above `7` would overflow.
        assert!("user_81h455vb4pex5vsknk084sn02q".parse::<UserId>().is_err());
        assert!("user_01H455VB4PEX5VSKNK084SN02Q".parse::<UserId>().is_err());
    }

    proptest! {
        #[test]
        fn every_identifier_survives_the_round_trip(bits: u128) {
            let id = CredentialId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<CredentialId>(), Ok(id));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,64}") {
            let _ = text.parse::<CredentialId>();
        }
    }
}
