//! Public keys, parsed once, and the form in which they are published (RFC 7517).

use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::{JwsError, KeyRejected, SigningAlgorithm};

/// RSA moduli that are accepted, in bytes: 2048 to 4096 bits.
const RSA_LEN: RangeInclusive<usize> = 256..=512;

/// How SEC 1 marks a point that is written with both coordinates.
const UNCOMPRESSED: u8 = 4;

/// A public key, parsed and ready to verify any number of signatures.
#[derive(Clone)]
pub struct PublicKey {
    parameters: Parameters,
    parsed: ParsedPublicKey,
}

/// The public parameters, as a JWK carries them.
#[derive(Clone, PartialEq, Eq)]
enum Parameters {
    Ec { x: [u8; 32], y: [u8; 32] },
    Okp { x: [u8; 32] },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl PublicKey {
    /// From an uncompressed P-256 point (SEC 1 §2.3.3), 65 bytes.
    pub(super) fn es256(point: &[u8]) -> Result<Self, KeyRejected> {
        let (x, y) = match point.split_first() {
            Some((&UNCOMPRESSED, coordinates)) if coordinates.len() == 64 => coordinates.split_at(32),
            _ => return Err(KeyRejected::Parameters),
        };
        let parameters = Parameters::Ec { x: coordinate(x)?, y: coordinate(y)? };
        // The library refuses a point that is not on the curve.
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| KeyRejected::Parameters)?;
        Ok(Self { parameters, parsed })
    }

    /// From the 32 bytes of an Ed25519 key.
    pub(super) fn eddsa(bytes: &[u8]) -> Result<Self, KeyRejected> {
        let parameters = Parameters::Okp { x: coordinate(bytes)? };
        let parsed = ParsedPublicKey::new(&ED25519, bytes).map_err(|_| KeyRejected::Parameters)?;
        Ok(Self { parameters, parsed })
    }

    /// From modulus and exponent, big-endian without leading zeros.
    pub(super) fn rs256(n: &[u8], e: &[u8]) -> Result<Self, KeyRejected> {
        if !RSA_LEN.contains(&n.len()) || n.first().is_none_or(|b| n.len() == *RSA_LEN.start() && *b < 0x80) {
            return Err(KeyRejected::Size);
        }
        let odd = |number: &[u8]| number.last().is_some_and(|b| b % 2 == 1);
        let minimal = |number: &[u8]| number.first().is_some_and(|b| *b != 0);
        if !odd(n) || !minimal(n) || !odd(e) || !minimal(e) || e == [1] || e.len() > 4 {
            return Err(KeyRejected::Parameters);
        }
        let parsed = RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| KeyRejected::Parameters)?;
        Ok(Self { parameters: Parameters::Rsa { n: n.to_vec(), e: e.to_vec() }, parsed })
    }

    /// The one algorithm this key verifies.
    pub fn algorithm(&self) -> SigningAlgorithm {
        match self.parameters {
            Parameters::Ec { .. } => SigningAlgorithm::Es256,
            Parameters::Okp { .. } => SigningAlgorithm::EdDsa,
            Parameters::Rsa { .. } => SigningAlgorithm::Rs256,
        }
    }

    /// Whether the signature is of this message: header and payload with the dot between them (RFC 7515 §5.2).
    pub fn verify(&self, signing_input: &[u8], signature: &[u8]) -> Result<(), JwsError> {
        self.parsed.verify_sig(signing_input, signature).map_err(|_| JwsError::Signature)
    }

    /// As a JWK with `use`, `alg` and this `kid`.
    pub fn to_jwk(&self, kid: &str) -> Jwk {
        let encode = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
        let named = Jwk {
            r#use: Some("sig".to_owned()),
            alg: Some(self.algorithm().as_str().to_owned()),
            kid: Some(kid.to_owned()),
            ..Jwk::default()
        };
        match &self.parameters {
            Parameters::Ec { x, y } => {
                let crv = Some("P-256".to_owned());
                Jwk { kty: "EC".to_owned(), crv, x: encode(x), y: encode(y), ..named }
            }
            Parameters::Okp { x } => {
                Jwk { kty: "OKP".to_owned(), crv: Some("Ed25519".to_owned()), x: encode(x), ..named }
            }
            Parameters::Rsa { n, e } => Jwk { kty: "RSA".to_owned(), n: encode(n), e: encode(e), ..named },
        }
    }

    /// From a JWK; `use`, `key_ops` and `alg`, if present, must allow what the key is for.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyRejected> {
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                let mut point = vec![UNCOMPRESSED];
                point.extend(coordinate(&decode(&jwk.x)?)?);
                point.extend(coordinate(&decode(&jwk.y)?)?);
                Self::es256(&point)?
            }
            ("OKP", Some("Ed25519")) => Self::eddsa(&decode(&jwk.x)?)?,
            ("RSA", _) => Self::rs256(&decode(&jwk.n)?, &decode(&jwk.e)?)?,
            _ => return Err(KeyRejected::Kind),
        };
        let meant_for_signatures = jwk.r#use.as_deref().is_none_or(|used| used == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
            && jwk.alg.as_deref().is_none_or(|alg| alg == key.algorithm().as_str());
        if meant_for_signatures { Ok(key) } else { Err(KeyRejected::Kind) }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.parameters == other.parameters
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.algorithm())
    }
}

fn coordinate(bytes: &[u8]) -> Result<[u8; 32], KeyRejected> {
    bytes.try_into().map_err(|_| KeyRejected::Parameters)
}

fn decode(parameter: &Option<String>) -> Result<Vec<u8>, KeyRejected> {
    let text = parameter.as_deref().ok_or(KeyRejected::Parameters)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyRejected::Parameters)
}

/// One published key (RFC 7517 §4); members that this project does not use are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `EC`, `OKP` or `RSA`.
    pub kty: String,
    /// `sig` for all keys of this project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#use: Option<String>,
    /// What the key may do, where `use` is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
    /// The one algorithm it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// The name that tokens carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The curve of `EC` and `OKP` keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// First coordinate (`EC`) or the whole key (`OKP`), base64url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// Second coordinate (`EC`), base64url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// Modulus (`RSA`), base64url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// Exponent (`RSA`), base64url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
}

/// A published set of keys (RFC 7517 §5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys, in the order of the document.
    #[serde(deserialize_with = "readable_keys")]
    pub keys: Vec<Jwk>,
}

/// "Implementations SHOULD ignore JWKs within a JWK Set that […] are missing required members, or for which values are
/// out of the supported ranges" (RFC 7517 §5): one odd key must not cost the others.
fn readable_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Jwk>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Key(Box<Jwk>),
        Unreadable(IgnoredAny),
    }
    let entries = Vec::<Entry>::deserialize(deserializer)?;
    Ok(entries
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Key(jwk) => Some(*jwk),
            Entry::Unreadable(_) => None,
        })
        .collect())
}
