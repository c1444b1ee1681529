//! Proof Key for Code Exchange (RFC 7636): whoever redeems a code is the one who asked for it. `S256` only.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The one method (RFC 7636 §4.2): `plain` would show the verifier to whoever sees the request.
pub const METHOD: &str = "S256";

/// What stands in the request for a code: the hash of a verifier that only its sender knows.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeChallenge(String);

/// Why something is no challenge or verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PkceError {
    /// RFC 7636 §4.2
    #[error("code_challenge must be the SHA-256 of the verifier in base64url: 43 characters")]
    Challenge,
    /// RFC 7636 §4.1
    #[error("code_verifier must be 43 to 128 letters, digits and -._~")]
    Verifier,
}

impl CodeChallenge {
    /// The challenge of this verifier.
    pub fn of_verifier(verifier: &str) -> Result<Self, PkceError> {
        let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(is_unreserved) {
            return Err(PkceError::Verifier);
        }
        Ok(Self(URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))))
    }

    /// Whether both are the same, in constant time.
    pub fn is(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }

    /// As it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CodeChallenge {
    type Err = PkceError;

    fn from_str(text: &str) -> Result<Self, PkceError> {
        match URL_SAFE_NO_PAD.decode(text) {
            Ok(hash) if hash.len() == 32 => Ok(Self(text.to_owned())),
            _ => Err(PkceError::Challenge),
        }
    }
}

impl fmt::Debug for CodeChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_7636_appendix_b_holds() {
        let challenge = CodeChallenge::of_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").unwrap();
        assert_eq!(challenge.as_str(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn verifiers_and_challenges_have_their_form() {
        for verifier in ["a".repeat(42), "a".repeat(129), format!("{} ", "a".repeat(43)), "\u{e4}".repeat(30)] {
            assert_eq!(CodeChallenge::of_verifier(&verifier), Err(PkceError::Verifier), "{verifier}");
        }
        let (short, long, padded) = ("A".repeat(42), "A".repeat(44), format!("{}=", "A".repeat(43)));
        for challenge in ["", &short, &long, &padded, &format!("{}+", "A".repeat(42))] {
            assert_eq!(challenge.parse::<CodeChallenge>(), Err(PkceError::Challenge), "{challenge}");
        }
    }

    proptest! {
        #[test]
        fn only_its_own_verifier_answers_a_challenge(one in "[A-Za-z0-9._~-]{43,128}", two in "[A-Za-z0-9._~-]{43,128}") {
            let sent: CodeChallenge = CodeChallenge::of_verifier(&one).unwrap().as_str().parse().unwrap();
            prop_assert!(sent.is(&CodeChallenge::of_verifier(&one).unwrap()));
            prop_assert_eq!(sent.is(&CodeChallenge::of_verifier(&two).unwrap()), one == two);
        }
    }
}
