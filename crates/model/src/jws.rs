//! JSON Web Signatures in the compact form (RFC 7515), with a closed list of algorithms and keys that stay parsed.
//!
//! Parsing a private key costs more than signing with it does, so keys are parsed once and kept; the encoded header is
//! kept beside them. What a token says of its own algorithm is only ever compared with what the key is for.

mod compact;
mod private;
mod public;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

pub use compact::{Compact, MAX_HEADER, MAX_TOKEN};
pub use private::PrivateKey;
pub use public::{Jwk, Jwks, PublicKey};

use crate::id::KeyId;

/// The `typ` of an access token (RFC 9068 §2.1).
pub const ACCESS_TOKEN: &str = "at+jwt";

/// The longest signature: RSA with 4096 bits.
const MAX_SIGNATURE: usize = 512;

/// How a token is signed; there is no other way, and no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519 (RFC 8037 §3.1).
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    #[serde(rename = "RS256")]
    Rs256,
}

impl SigningAlgorithm {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The `alg` value (RFC 7518 §3.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SigningAlgorithm {
    type Err = JwsError;

    fn from_str(text: &str) -> Result<Self, JwsError> {
        Self::ALL.into_iter().find(|a| a.as_str() == text).ok_or(JwsError::Algorithm)
    }
}

/// Why a token was not made or not accepted. Says nothing of the token's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than [`MAX_TOKEN`], or its header longer than [`MAX_HEADER`].
    #[error("longer than a token may be")]
    TooLong,
    /// Not three segments of unpadded base64url.
    #[error("not a compact JWS: three segments of unpadded base64url (RFC 7515 §7.1)")]
    Form,
    /// The header is not a JSON object with unique members and an `alg`.
    #[error("the header is not a JSON object with unique members and an alg (RFC 7515 §4)")]
    Header,
    /// An algorithm outside the closed list.
    #[error("the algorithm is none of ES256, EdDSA and RS256")]
    Algorithm,
    /// The header asks for extensions to be understood; none are.
    #[error("the header names critical extensions (RFC 7515 §4.1.11), and none are supported")]
    Critical,
    /// The header names another algorithm than the key's.
    #[error("the header names another algorithm than the key is for")]
    AlgorithmMismatch,
    /// The signature is not of this key and this content.
    #[error("the signature does not match")]
    Signature,
    /// The cryptographic library could not sign.
    #[error("signing failed")]
    Signing,
}

/// Why a key was not made or not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRejected {
    /// Another kind of key, curve, algorithm or use than those supported.
    #[error("not a signature key for ES256, EdDSA or RS256")]
    Kind,
    /// A parameter is missing, malformed or impossible.
    #[error("the key's parameters are missing or malformed")]
    Parameters,
    /// An RSA modulus outside 2048 to 4096 bits.
    #[error("an RSA key must have 2048 to 4096 bits")]
    Size,
    /// The cryptographic library could not make or write a key.
    #[error("the key could not be generated or encoded")]
    Generation,
}

/// A private key under its public name, ready to sign.
#[derive(Debug)]
pub struct SigningKey {
    kid: KeyId,
    private: PrivateKey,
    /// The encoded header of an access token: it is the same for every token of this key.
    access_token_header: String,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'a str,
    kid: KeyId,
}

impl SigningKey {
    /// Names a key.
    pub fn new(kid: KeyId, private: PrivateKey) -> Result<Self, JwsError> {
        let access_token_header = encode_header(private.algorithm(), ACCESS_TOKEN, kid)?;
        Ok(Self { kid, private, access_token_header })
    }

    /// The `kid` that its tokens carry.
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    /// What it signs with.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.private.algorithm()
    }

    /// The private key itself, for sealing only.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// The compact JWS of this payload, with `alg`, `typ` and `kid` in its header.
    pub fn sign(&self, typ: &str, payload: &[u8]) -> Result<String, JwsError> {
        let header = match typ {
            ACCESS_TOKEN => Cow::Borrowed(self.access_token_header.as_str()),
            _ => Cow::Owned(encode_header(self.algorithm(), typ, self.kid)?),
        };
        let payload_len = base64::encoded_len(payload.len(), false).ok_or(JwsError::TooLong)?;
        let mut token = String::with_capacity(header.len() + payload_len + self.private.encoded_signature_len() + 2);
        token.push_str(&header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.private.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_bytes(), &mut token);
        Ok(token)
    }
}

fn encode_header(alg: SigningAlgorithm, typ: &str, kid: KeyId) -> Result<String, JwsError> {
    let header = serde_json::to_vec(&Header { alg: alg.as_str(), typ, kid }).map_err(|_| JwsError::Header)?;
    Ok(URL_SAFE_NO_PAD.encode(header))
}

/// A signature of any of the algorithms, on the stack.
#[derive(Clone)]
struct Signature {
    bytes: [u8; MAX_SIGNATURE],
    len: usize,
}

impl Signature {
    fn copied(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_SIGNATURE];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self { bytes, len: from.len() })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
