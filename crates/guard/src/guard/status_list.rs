//! The status list (IETF Token Status List): read from its JWT, and trusted no more than any other token.

use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::ZlibDecoder;
use keyward_model::id::TokenId;
use keyward_model::jws::{Compact, JwsError};
use keyward_model::time::Timestamp;
use serde::Deserialize;

use crate::KeySet;

/// The longest list, as a JWT.
pub(crate) const MAX_JWT: usize = 12 * 1024 * 1024;
/// The most places, 64 Mi: a list of 8 MiB.
pub(crate) const MAX_PLACES: u64 = 1 << 26;
/// For how long a copy counts where the list does not say so, and within which bounds it may say so.
const USUAL_TTL: u64 = 60;
const TTL: std::ops::RangeInclusive<u64> = 5..=3600;
const MEDIA_TYPE: &str = "statuslist+jwt";

/// A list that was signed by its issuer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StatusList {
    /// One bit for each place, the lowest of each byte first.
    pub(crate) bits: Vec<u8>,
    /// Single tokens that were revoked.
    pub(crate) revoked: Vec<TokenId>,
    /// For how long a copy counts.
    pub(crate) ttl: Duration,
    /// After which no copy counts.
    pub(crate) exp: Timestamp,
}

/// Why a status list is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    /// No signed JWT, or not signed by the key it names.
    #[error("the status list was refused: {0}")]
    Jws(#[from] JwsError),
    /// Another kind of JWT.
    #[error("the status list is not a statuslist+jwt")]
    Type,
    /// Not a key of the issuer's.
    #[error("the status list is not signed by a key of the issuer")]
    Key,
    /// The payload is not that of a status list.
    #[error("the status list cannot be read: {0}")]
    Claims(String),
    /// Another issuer's.
    #[error("the status list is of another issuer")]
    Issuer,
    /// Another list than the one that was asked for.
    #[error("the status list is another one than was asked for")]
    Subject,
    /// No longer valid.
    #[error("the status list has expired")]
    Expired,
    /// Not one bit a place.
    #[error("the status list does not have one bit a place")]
    Bits,
    /// No zlib, or more than [`MAX_PLACES`].
    #[error("the status list cannot be decompressed, or is too long")]
    Compression,
}

/// From which issuer a list must be, and which.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// `iss`
    pub(crate) issuer: &'a str,
    /// `sub`
    pub(crate) uri: &'a str,
    /// The issuer's keys.
    pub(crate) keys: &'a KeySet,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: i64,
    ttl: Option<u64>,
    status_list: Bits,
    #[serde(default)]
    revoked_tokens: Vec<TokenId>,
}

#[derive(Deserialize)]
struct Bits {
    bits: u8,
    lst: String,
}

impl StatusList {
    /// The list in this JWT, if it is the one wanted.
    pub(crate) fn read(jwt: &str, wanted: Wanted<'_>, now: Timestamp) -> Result<Self, ListError> {
        let compact = Compact::parse_within(jwt, MAX_JWT)?;
        let is_list = |typ: &str| typ.strip_prefix("application/").unwrap_or(typ) == MEDIA_TYPE;
        if !compact.typ().is_some_and(is_list) {
            return Err(ListError::Type);
        }
        let key = compact.kid().and_then(|kid| wanted.keys.find(kid)).ok_or(ListError::Key)?;
        let payload = compact.verify(key)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|err| ListError::Claims(err.to_string()))?;
        if claims.iss != wanted.issuer {
            return Err(ListError::Issuer);
        }
        if claims.sub != wanted.uri {
            return Err(ListError::Subject);
        }
        let exp = Timestamp::from_seconds(claims.exp);
        if now >= exp.plus(crate::DEFAULT_LEEWAY) {
            return Err(ListError::Expired);
        }
        if claims.status_list.bits != 1 {
            return Err(ListError::Bits);
        }
        let bits = decompress(&claims.status_list.lst).ok_or(ListError::Compression)?;
        let ttl = Duration::from_secs(claims.ttl.unwrap_or(USUAL_TTL).clamp(*TTL.start(), *TTL.end()));
        Ok(Self { bits, revoked: claims.revoked_tokens, ttl, exp })
    }
}

/// A few bytes can become a thousand times as many: no more is taken out than a list may have.
pub(crate) fn decompress(lst: &str) -> Option<Vec<u8>> {
    let most = MAX_PLACES / 8;
    let compressed = URL_SAFE_NO_PAD.decode(lst).ok()?;
    let mut bits = Vec::new();
    ZlibDecoder::new(&*compressed).take(most + 1).read_to_end(&mut bits).ok()?;
    (bits.len() as u64 <= most).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ISSUER, KEYS, NOW, key_set, signing_key};
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use keyward_model::jws::{ACCESS_TOKEN, SigningAlgorithm};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::io::Write as _;

    const URI: &str = "https://keyward.example/status-lists/1";

    fn compress(bits: &[u8]) -> String {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bits).unwrap();
        URL_SAFE_NO_PAD.encode(encoder.finish().unwrap())
    }

    fn payload() -> Value {
        json!({
            "iss": ISSUER, "sub": URI, "iat": NOW.as_seconds(), "exp": NOW.as_seconds() + 600, "ttl": 60,
            "status_list": { "bits": 1, "lst": compress(&[0xb9, 0xa3]) },
        })
    }

    fn read(typ: &str, payload: &Value) -> Result<StatusList, ListError> {
        let jwt = KEYS[0].sign(typ, payload.to_string().as_bytes()).unwrap();
        let keys = key_set();
        StatusList::read(&jwt, Wanted { issuer: ISSUER, uri: URI, keys: &keys }, NOW)
    }

    fn with(name: &str, value: Value) -> Result<StatusList, ListError> {
        let mut payload = payload();
        payload[name] = value;
        read(MEDIA_TYPE, &payload)
    }

    #[test]
    fn a_list_of_the_issuer_is_read() {
        let list = read(MEDIA_TYPE, &payload()).unwrap();
        let exp = Timestamp::from_seconds(NOW.as_seconds() + 600);
        let expected = StatusList { bits: vec![0xb9, 0xa3], revoked: vec![], ttl: Duration::from_secs(60), exp };
        assert_eq!(list, expected);
        let revoked = with("revoked_tokens", json!(["tok_00000000000000000000000001"])).unwrap().revoked;
        assert_eq!(revoked, ["tok_00000000000000000000000001".parse().unwrap()]);
        let ttl = |ttl: u64| with("ttl", json!(ttl)).unwrap().ttl.as_secs();
        assert_eq!((ttl(0), ttl(20), ttl(u64::MAX)), (5, 20, 3600));
        // The specification's own example (Token Status List §4.1).
        assert_eq!(decompress("eNrbuRgAAhcBXQ").unwrap(), [0xb9, 0xa3]);
    }

    #[test]
    fn any_other_jwt_is_refused() {
        assert_eq!(read(ACCESS_TOKEN, &payload()), Err(ListError::Type));
        assert_eq!(with("iss", json!("https://other.example")), Err(ListError::Issuer));
        assert_eq!(with("sub", json!("https://keyward.example/status-lists/2")), Err(ListError::Subject));
        assert_eq!(with("exp", json!(NOW.as_seconds() - 30)), Err(ListError::Expired));
        assert!(matches!(with("exp", Value::Null), Err(ListError::Claims(_))));
        assert!(matches!(with("revoked_tokens", json!(["x"])), Err(ListError::Claims(_))));
        assert_eq!(with("status_list", json!({ "bits": 2, "lst": "" })), Err(ListError::Bits));
        for lst in ["", "AAAA", "eNrbuRgAAhcBX", "%"] {
            let verdict = with("status_list", json!({ "bits": 1, "lst": lst }));
            assert_eq!(verdict, Err(ListError::Compression), "{lst:?}");
        }
        let stranger = signing_key(9, SigningAlgorithm::EdDsa).sign(MEDIA_TYPE, payload().to_string().as_bytes());
        let keys = key_set();
        let wanted = Wanted { issuer: ISSUER, uri: URI, keys: &keys };
        assert_eq!(StatusList::read(&stranger.unwrap(), wanted, NOW), Err(ListError::Key));
        assert_eq!(StatusList::read("a.b", wanted, NOW), Err(ListError::Jws(JwsError::Form)));
    }

    #[test]
    fn a_small_answer_that_unfolds_into_a_huge_one_is_refused() {
        let places = usize::try_from(MAX_PLACES).unwrap();
        assert_eq!(decompress(&compress(&vec![0; places / 8])).unwrap().len(), places / 8);
        let bomb = compress(&vec![0; places / 8 + 1]);
        assert!(bomb.len() < 20_000);
        assert_eq!(with("status_list", json!({ "bits": 1, "lst": bomb })), Err(ListError::Compression));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decompress(&URL_SAFE_NO_PAD.encode(&bytes));
            let _ = decompress(&String::from_utf8_lossy(&bytes));
            prop_assert_eq!(decompress(&compress(&bytes)), Some(bytes));
        }
    }
}
