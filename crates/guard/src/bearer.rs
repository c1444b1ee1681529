//! Where a request carries its access token.

use crate::Refusal;

/// The token in the value of an `Authorization` header (RFC 6750 §2.1). Another scheme is the same as no token.
pub fn bearer(authorization: &[u8]) -> Result<&str, Refusal> {
    let scheme_end = authorization.iter().position(|b| *b == b' ').unwrap_or(authorization.len());
    let (scheme, rest) = authorization.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Err(Refusal::Missing);
    }
    token68(rest.trim_ascii_start()).ok_or(Refusal::Request)
}

/// A token and nothing else: `token68` of RFC 9110 §11.2.
pub(crate) fn token68(value: &[u8]) -> Option<&str> {
    let end = value.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
    let body = value.get(..end).filter(|body| !body.is_empty())?;
    // Each byte of each token passes here. Without branches many are compared at once.
    if body.iter().fold(true, |all, b| all & is_legal(*b)) { std::str::from_utf8(value).ok() } else { None }
}

fn is_legal(byte: u8) -> bool {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    // `.`, `/` and the digits stand in a row.
    let is_digit = byte.wrapping_sub(b'.') < 12;
    is_letter | is_digit | (byte == b'-') | (byte == b'_') | (byte == b'~') | (byte == b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_of_these_characters() {
        for byte in 0..=255_u8 {
            let legal = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            assert_eq!(is_legal(byte), legal, "{:?}", char::from(byte));
        }
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        for header in ["Bearer a.b-c_d~+/==", "bearer a.b-c_d~+/==", "BEARER   a.b-c_d~+/=="] {
            assert_eq!(bearer(header.as_bytes()), Ok("a.b-c_d~+/=="), "{header}");
        }
    }

    #[test]
    fn another_scheme_is_no_token_and_a_broken_one_a_bad_request() {
        for header in ["", " ", "Basic YTpi", "Bearerx", "DPoP abc", "Bear er"] {
            assert_eq!(bearer(header.as_bytes()), Err(Refusal::Missing), "{header:?}");
        }
        for header in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a,b",
            "Bearer a\0",
            "Bearer =",
            "Bearer a=b",
            "Bearer ä",
            "Bearer a ",
        ] {
            assert_eq!(bearer(header.as_bytes()), Err(Refusal::Request), "{header:?}");
        }
    }
}
