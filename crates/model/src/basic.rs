//! Client credentials in the `Authorization` header: HTTP Basic as RFC 6749 §2.3.1 has it, both halves form-encoded
//! before they are joined by a colon.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::form::{self, FormError};

/// Both halves, decoded. `Debug` hides the secret.
pub struct Basic {
    client_id: String,
    secret: Zeroizing<String>,
}

/// Why a header is not Basic credentials. Says nothing of the credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BasicError {
    /// Another scheme, or a scheme alone.
    #[error("the Authorization header must use the scheme Basic")]
    Scheme,
    /// The rest is not base64.
    #[error("the Basic credentials are not base64")]
    Base64,
    /// Only one half.
    #[error("the Basic credentials have no colon between client_id and client_secret")]
    Colon,
    /// A half that cannot be decoded.
    #[error("the Basic credentials cannot be read: {0}")]
    Half(#[from] FormError),
}

impl Basic {
    /// Reads the header's value (RFC 7617 §2).
    pub fn parse(value: &[u8]) -> Result<Self, BasicError> {
        let (scheme, encoded) = value.split_at_checked(6).ok_or(BasicError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return Err(BasicError::Scheme);
        }
        let decoded = Zeroizing::new(STANDARD.decode(encoded.trim_ascii()).map_err(|_| BasicError::Base64)?);
        let mut halves = decoded.splitn(2, |b| *b == b':');
        let (Some(id), Some(secret)) = (halves.next(), halves.next()) else { return Err(BasicError::Colon) };
        let client_id = form::decode(id)?.into_owned();
        let secret = Zeroizing::new(form::decode(secret)?.into_owned());
        Ok(Self { client_id, secret })
    }

    /// The first half.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The second half.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Basic({:?}, [redacted])", self.client_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(payload: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(payload)).into_bytes()
    }

    #[test]
    fn both_halves_are_form_decoded_after_they_are_parted() {
        let basic = Basic::parse(&header("a%3Ab+c:d%25:e")).unwrap();
        assert_eq!((basic.client_id(), basic.secret()), ("a:b c", "d%:e"));
        assert_eq!(format!("{basic:?}"), "Basic(\"a:b c\", [redacted])");
    }

    #[test]
    fn the_scheme_has_no_case() {
        assert!(Basic::parse(b"bAsIC YTpi").is_ok());
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for (value, error) in [
            (&b""[..], BasicError::Scheme),
            (b"Basic", BasicError::Scheme),
            (b"Bearer x", BasicError::Scheme),
            (b"Basic ?", BasicError::Base64),
            (b"Basic YQ==", BasicError::Colon),
        ] {
            assert_eq!(Basic::parse(value).unwrap_err(), error);
        }
        assert_eq!(Basic::parse(&header("%:x")).unwrap_err(), BasicError::Half(FormError::Encoding));
        assert_eq!(Basic::parse(&header("x:%00")).unwrap_err(), BasicError::Half(FormError::Nul));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(value in prop::collection::vec(any::<u8>(), 0..100), payload in ".{0,50}") {
            let _ = Basic::parse(&value);
            let _ = Basic::parse(&header(&payload));
        }
    }
}
