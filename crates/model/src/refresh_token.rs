//! Refresh tokens: the text with which an application gets a device session's next tokens (RFC 6749 §1.5).
//!
//! `kwr_` + session id (22) + 256 bits (43) + CRC-32 (6), as an API key is written. Half of the bits are random; the other
//! half vouches for them, so that one that was replaced long ago is told from one that somebody made up. Without that
//! whoever reads a session's id in a token could end the session by making up a refresh token for it.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::checksummed::{self, KeyError};
use crate::entropy::{Entropy, EntropyError};
use crate::id::DeviceSessionId;
use crate::secret::{HashingKey, Secret, SecretHash};

/// What every refresh token begins with.
pub const PREFIX: &str = "kwr_";
/// How long the answer to a refresh is given again to whoever did not get it.
pub const ANSWERED_AGAIN_FOR: Duration = Duration::from_secs(60);

const RANDOM_LEN: usize = 16;

/// A whole refresh token in memory. `Debug` prints only the session's id.
#[derive(Clone)]
pub struct RefreshToken {
    /// Whose tokens it gets.
    pub session: DeviceSessionId,
    secret: Secret,
}

impl RefreshToken {
    /// A new one for this session.
    pub fn generate(session: DeviceSessionId, key: &HashingKey, entropy: &Entropy) -> Result<Self, EntropyError> {
        let random: Zeroizing<[u8; RANDOM_LEN]> = Zeroizing::new(entropy.bytes()?);
        let mut secret = Zeroizing::new([0; 32]);
        let written = random.iter().copied().chain(voucher(session, &*random, key));
        for (to, from) in secret.iter_mut().zip(written) {
            *to = from;
        }
        Ok(Self { session, secret: Secret::new(*secret) })
    }

    /// Reads one from its text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (session, secret) = checksummed::parse(PREFIX, text)?;
        Ok(Self { session: DeviceSessionId::from_uuid(session), secret })
    }

    /// The text to hand out, once.
    pub fn reveal(&self) -> Zeroizing<String> {
        checksummed::reveal(PREFIX, self.session.as_uuid(), &self.secret)
    }

    /// Whether it was ever given out for its session, however long ago.
    pub fn is_genuine(&self, key: &HashingKey) -> bool {
        let (random, vouched) = self.secret.expose().split_at(RANDOM_LEN);
        let expected: Vec<u8> = voucher(self.session, random, key).collect();
        constant_time::verify_slices_are_equal(&expected, vouched).is_ok()
    }

    /// What is stored of it.
    pub fn hash(&self, key: &HashingKey) -> SecretHash {
        key.hash(&self.secret)
    }

    /// The 256 bits, for sealing what only whoever holds it may read.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// What vouches for the random half: the beginning of a keyed hash of both.
fn voucher(session: DeviceSessionId, random: &[u8], key: &HashingKey) -> impl Iterator<Item = u8> + use<> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.derive("refresh tokens").expose());
    let mut context = hmac::Context::with_key(&key);
    context.update(session.as_uuid().as_bytes());
    context.update(random);
    let tag = context.sign();
    (0..32 - RANDOM_LEN).filter_map(move |at| tag.as_ref().get(at).copied())
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefreshToken({}, [redacted])", self.session)
    }
}

/// As it stands in a token response, and in nothing else that is written.
impl Serialize for RefreshToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.reveal())
    }
}

impl<'de> Deserialize<'de> for RefreshToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn key(seed: u8) -> HashingKey {
        HashingKey::new(&Secret::new([seed; 32]))
    }

    fn token(session: u128) -> RefreshToken {
        let session = DeviceSessionId::from_uuid(Uuid::from_u128(session));
        RefreshToken::generate(session, &key(1), &Entropy::seeded(7)).unwrap()
    }

    #[test]
    fn only_what_was_given_out_for_a_session_is_genuine() {
        let given = token(1);
        assert!(given.is_genuine(&key(1)));
        assert!(!given.is_genuine(&key(2)), "made elsewhere");
        let other = DeviceSessionId::from_uuid(Uuid::from_u128(2));
        assert!(!RefreshToken { session: other, ..given.clone() }.is_genuine(&key(1)), "given out for another");
        for bit in 0..256 {
            let mut secret = *given.secret.expose();
            secret[bit / 8] ^= 1 << (bit % 8);
            assert!(!RefreshToken { secret: Secret::new(secret), ..given }.is_genuine(&key(1)), "bit {bit}");
        }
    }

    #[test]
    fn it_is_no_api_key_and_debug_hides_it() {
        let given = token(1);
        assert!(crate::key::Key::parse(&given.reveal()).is_err());
        assert_eq!(crate::key::find_all(given.reveal().as_bytes()).count(), 0);
        assert_eq!(format!("{given:?}"), format!("RefreshToken({}, [redacted])", given.session));
    }

    proptest! {
        #[test]
        fn every_one_survives_the_round_trip(session: u128) {
            let given = token(session);
            let text = given.reveal();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            let back = RefreshToken::parse(&text).unwrap();
            prop_assert_eq!(back.session, given.session);
            prop_assert!(back.is_genuine(&key(1)));
            prop_assert_eq!(back.secret().expose(), given.secret().expose());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(kwr_)?.{0,80}") {
            let _ = RefreshToken::parse(&text);
        }
    }
}
