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
    let body = value.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
    // Each byte of each token passes here: compared one by one, with no search in between.
    let legal = |b: &u8| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    if body == 0 || !value.iter().take(body).all(legal) {
        return None;
    }
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
