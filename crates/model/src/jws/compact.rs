//! Reading the compact form (RFC 7515 §7.1) strictly, within bounds, and without trusting any of it.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{JwsError, MAX_SIGNATURE, PublicKey, Signature, SigningAlgorithm};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;
/// The longest header, in bytes before base64url.
pub const MAX_HEADER: usize = 1024;

/// A token taken apart. The payload can be had only through [`Compact::verify`].
#[derive(Clone)]
pub struct Compact<'a> {
    header: Header,
    signing_input: &'a str,
    payload: &'a str,
    signature: Signature,
}

impl<'a> Compact<'a> {
    /// Takes a token apart; nothing in it is trustworthy until [`Compact::verify`].
    pub fn parse(token: &'a str) -> Result<Self, JwsError> {
        Self::parse_within(token, MAX_TOKEN)
    }

    /// The same for another kind of JWT, of at most so many bytes: a status list is longer than any token.
    pub fn parse_within(token: &'a str, longest: usize) -> Result<Self, JwsError> {
        if token.len() > longest {
            return Err(JwsError::TooLong);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JwsError::Form)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwsError::Form)?;
        // An encrypted token has five segments (RFC 7516 §7.1): its header is not one to be judged here.
        if payload.contains('.') {
            return Err(JwsError::Form);
        }
        Ok(Self { header: Header::decode(header)?, signing_input, payload, signature: Signature::decode(signature)? })
    }

    /// What the header claims to be signed with.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.header.alg
    }

    /// The `typ` of the header.
    pub fn typ(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }

    /// The `kid` of the header.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The payload, if it was signed by this key with this key's algorithm.
    pub fn verify(&self, key: &PublicKey) -> Result<Vec<u8>, JwsError> {
        if self.header.alg != key.algorithm() {
            return Err(JwsError::AlgorithmMismatch);
        }
        key.verify(self.signing_input.as_bytes(), self.signature.as_bytes())?;
        URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| JwsError::Form)
    }
}

impl Signature {
    fn decode(text: &str) -> Result<Self, JwsError> {
        let mut bytes = [0; MAX_SIGNATURE];
        // Too long for the buffer is too long for any algorithm.
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| JwsError::Form)?;
        Ok(Self { bytes, len })
    }
}

#[derive(Clone)]
struct Header {
    alg: SigningAlgorithm,
    typ: Option<String>,
    kid: Option<String>,
}

impl Header {
    fn decode(text: &str) -> Result<Self, JwsError> {
        let mut bytes = [0; MAX_HEADER];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|err| match err {
            base64::DecodeSliceError::OutputSliceTooSmall => JwsError::TooLong,
            base64::DecodeSliceError::DecodeError(_) => JwsError::Form,
        })?;
        let json = bytes.get(..len).unwrap_or_default();
        let members: Members<'_> = serde_json::from_slice(json).map_err(|_| JwsError::Header)?;
        if members.crit {
            return Err(JwsError::Critical);
        }
        Ok(Self {
            alg: members.alg.ok_or(JwsError::Header)?.parse()?,
            typ: members.typ.map(Cow::into_owned),
            kid: members.kid.map(Cow::into_owned),
        })
    }
}

/// The header's members before they are judged.
#[derive(Default)]
struct Members<'a> {
    alg: Option<Cow<'a, str>>,
    typ: Option<Cow<'a, str>>,
    kid: Option<Cow<'a, str>>,
    crit: bool,
}

/// "The Header Parameter names within the JOSE Header MUST be unique" (RFC 7515 §4): two readers that choose different
/// ones of two `alg` members are how a signature gets verified with one and believed with the other. Derived code would
/// check only the members it knows.
impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object with unique members")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                let mut others: Vec<Text<'de>> = Vec::new();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    let slot = match &*name.0 {
                        "alg" => &mut members.alg,
                        "typ" => &mut members.typ,
                        "kid" => &mut members.kid,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            members.crit |= name.0 == "crit";
                            if others.contains(&name) {
                                return Err(de::Error::custom("duplicate member"));
                            }
                            others.push(name);
                            continue;
                        }
                    };
                    if slot.replace(map.next_value::<Text<'de>>()?.0).is_some() {
                        return Err(de::Error::custom("duplicate member"));
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A string that is borrowed where the JSON has no escapes in it.
#[derive(PartialEq, Eq, serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
