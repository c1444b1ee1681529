//! The tokens that a request brings along: `Authorization`, always, and `Identity-Token`, perhaps.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use crate::Refusal;
use crate::bearer::{bearer, token68};

/// The header that carries the token of the user who is present.
pub const IDENTITY_TOKEN: HeaderName = HeaderName::from_static("identity-token");

/// The tokens of one request, taken out of their headers and not yet verified.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The token in `Authorization: Bearer …`.
    pub authorization: &'a str,
    /// The token in `Identity-Token: …`.
    pub identity: Option<&'a str>,
}

impl<'a> Presented<'a> {
    /// The tokens in these headers. Of a header that stands twice nobody knows which one counts: refused.
    pub fn of(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let authorization = single(headers, &AUTHORIZATION).map_err(|Twice| Refusal::Request)?;
        let authorization = bearer(authorization.ok_or(Refusal::Missing)?)?;
        Ok(Self { authorization, identity: Self::identity_of(headers)? })
    }

    /// The identity token in these headers, where the client is known by other means than a token.
    pub fn identity_of(headers: &'a HeaderMap) -> Result<Option<&'a str>, Refusal> {
        let identity = single(headers, &IDENTITY_TOKEN).map_err(|Twice| Refusal::IdentityRequest)?;
        identity.map(|value| token68(value).ok_or(Refusal::IdentityRequest)).transpose()
    }
}

struct Twice;

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Twice> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|value| value.as_bytes())),
        (_, Some(_)) => Err(Twice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn tokens(headers: &[(&HeaderName, &'static str)]) -> Result<(String, Option<String>), Refusal> {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| ((*name).clone(), HeaderValue::from_static(value))).collect();
        Presented::of(&headers).map(|p| (p.authorization.to_owned(), p.identity.map(str::to_owned)))
    }

    #[test]
    fn a_request_brings_one_token_or_two() {
        assert_eq!(tokens(&[(&AUTHORIZATION, "Bearer a.b")]), Ok(("a.b".into(), None)));
        let both = tokens(&[(&AUTHORIZATION, "bearer a.b"), (&IDENTITY_TOKEN, "c.d")]);
        assert_eq!(both, Ok(("a.b".into(), Some("c.d".into()))));
    }

    #[test]
    fn an_identity_token_alone_is_no_token() {
        assert_eq!(tokens(&[]), Err(Refusal::Missing));
        assert_eq!(tokens(&[(&IDENTITY_TOKEN, "c.d")]), Err(Refusal::Missing));
        assert_eq!(tokens(&[(&AUTHORIZATION, "Basic YTpi"), (&IDENTITY_TOKEN, "c.d")]), Err(Refusal::Missing));
    }

    #[test]
    fn a_header_that_stands_twice_or_is_no_token_is_refused() {
        let good = (&AUTHORIZATION, "Bearer a.b");
        assert_eq!(tokens(&[good, good]), Err(Refusal::Request));
        assert_eq!(tokens(&[good, (&IDENTITY_TOKEN, "c"), (&IDENTITY_TOKEN, "c")]), Err(Refusal::IdentityRequest));
        for value in ["", "Bearer c.d", "c d", "c,d", "="] {
            assert_eq!(tokens(&[good, (&IDENTITY_TOKEN, value)]), Err(Refusal::IdentityRequest), "{value:?}");
        }
    }
}
