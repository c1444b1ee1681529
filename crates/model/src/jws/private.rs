//! Private keys, parsed once.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use zeroize::Zeroizing;

use super::{JwsError, KeyRejected, MAX_SIGNATURE, PublicKey, Signature, SigningAlgorithm};

/// A private key, parsed. `Debug` prints `[redacted]`; the library wipes its memory.
pub struct PrivateKey(Pair);

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl PrivateKey {
    /// A new key from the system's randomness; RSA keys get 2048 bits and take a noticeable part of a second.
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Self, KeyRejected> {
        let pair = match algorithm {
            SigningAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Es256),
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate().map(Pair::EdDsa),
            SigningAlgorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048).map(Pair::Rs256),
        };
        pair.map(Self).map_err(|_| KeyRejected::Generation)
    }

    /// From unencrypted PKCS #8 (RFC 5208), which must hold a key for this algorithm.
    pub fn from_pkcs8(algorithm: SigningAlgorithm, der: &[u8]) -> Result<Self, KeyRejected> {
        let pair = match algorithm {
            SigningAlgorithm::Es256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Pair::Es256),
            SigningAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(der).map(Pair::EdDsa),
            SigningAlgorithm::Rs256 => RsaKeyPair::from_pkcs8(der).map(Pair::Rs256),
        };
        let key = Self(pair.map_err(|_| KeyRejected::Parameters)?);
        // A key whose public half nobody accepts is of no use: this is where its size is judged.
        key.public()?;
        Ok(key)
    }

    /// As PKCS #8 version 1 (RFC 5208), in memory that is wiped on drop.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyRejected> {
        let der = match &self.0 {
            Pair::Es256(pair) => pair.to_pkcs8v1().map(|der| Zeroizing::new(der.as_ref().to_vec())),
            Pair::EdDsa(pair) => pair.to_pkcs8v1().map(|der| Zeroizing::new(der.as_ref().to_vec())),
            Pair::Rs256(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map(|der| Zeroizing::new(der.as_ref().to_vec())),
        };
        der.map_err(|_| KeyRejected::Generation)
    }

    /// The public half.
    pub fn public(&self) -> Result<PublicKey, KeyRejected> {
        match &self.0 {
            Pair::Es256(pair) => PublicKey::es256(pair.public_key().as_ref()),
            Pair::EdDsa(pair) => PublicKey::eddsa(pair.public_key().as_ref()),
            Pair::Rs256(pair) => {
                let public = pair.public_key();
                PublicKey::rs256(
                    public.modulus().big_endian_without_leading_zero(),
                    public.exponent().big_endian_without_leading_zero(),
                )
            }
        }
    }

    /// What it signs with.
    pub fn algorithm(&self) -> SigningAlgorithm {
        match &self.0 {
            Pair::Es256(_) => SigningAlgorithm::Es256,
            Pair::EdDsa(_) => SigningAlgorithm::EdDsa,
            Pair::Rs256(_) => SigningAlgorithm::Rs256,
        }
    }

    pub(super) fn encoded_signature_len(&self) -> usize {
        let bytes = match &self.0 {
            Pair::Es256(_) | Pair::EdDsa(_) => 64,
            Pair::Rs256(pair) => pair.public_modulus_len(),
        };
        base64::encoded_len(bytes, false).unwrap_or_default()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Signature, JwsError> {
        // The library draws its own randomness and ignores the generator it is handed.
        let random = SystemRandom::new();
        let signature = match &self.0 {
            Pair::Es256(pair) => {
                pair.sign(&random, message).ok().and_then(|signature| Signature::copied(signature.as_ref()))
            }
            Pair::EdDsa(pair) => {
                pair.try_sign(message).ok().and_then(|signature| Signature::copied(signature.as_ref()))
            }
            Pair::Rs256(pair) => {
                let mut signature = Signature { bytes: [0; MAX_SIGNATURE], len: pair.public_modulus_len() };
                let out = signature.bytes.get_mut(..signature.len).ok_or(JwsError::Signing)?;
                pair.sign(&RSA_PKCS1_SHA256, &random, message, out).ok().map(|()| signature)
            }
        };
        signature.ok_or(JwsError::Signing)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
