//! Form bodies (`application/x-www-form-urlencoded`), read strictly: nothing is guessed, nothing is replaced.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use keyward_model::time::Timestamp;

use crate::app::App;
use crate::request::Arrival;
use crate::respond::{ErrorCode, OAuthError};

/// The largest body an OAuth endpoint reads, in bytes.
pub const MAX_BODY: usize = 16 * 1024;
/// The most parameters in one body.
const MAX_PARAMETERS: usize = 64;

/// The parameters of a request, decoded.
#[derive(Debug)]
pub struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// Why a body is not a form. Says nothing of the values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A `%` that two hexadecimal digits do not follow.
    #[error("the form body has a broken percent-encoding")]
    Encoding,
    /// Bytes that are not UTF-8.
    #[error("the form body is not UTF-8")]
    Utf8,
    /// A NUL character.
    #[error("the form body contains a NUL character")]
    Nul,
    /// Too many parameters.
    #[error("the form body has more than {MAX_PARAMETERS} parameters")]
    TooMany,
}

impl<'a> Form<'a> {
    /// Reads a body.
    pub fn parse(body: &'a [u8]) -> Result<Self, FormError> {
        let mut parameters = Vec::new();
        for pair in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return Err(FormError::TooMany);
            }
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let (name, value) = pair.split_at(at);
            parameters.push((decode(name)?, decode(value.get(1..).unwrap_or_default())?));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter that may stand once. One without a value counts as absent (RFC 6749 §3.2).
    pub fn get(&self, name: &str) -> Result<Option<&str>, OAuthError> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            // RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once."
            return Err(ErrorCode::InvalidRequest.because(format!("the parameter {name} is there more than once")));
        }
        Ok(value.filter(|v| !v.is_empty()))
    }

    /// All values of a parameter that may be repeated.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| &**value)
    }
}

/// Decodes `+` and percent-encoding (the form encoding of RFC 6749 Appendix B).
pub fn decode(encoded: &[u8]) -> Result<Cow<'_, str>, FormError> {
    let decoded = if encoded.iter().any(|b| matches!(b, b'+' | b'%')) {
        let mut decoded = Vec::with_capacity(encoded.len());
        let mut rest = encoded.iter();
        while let Some(byte) = rest.next() {
            decoded.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let mut digit = || rest.next().and_then(|d| char::from(*d).to_digit(16)).ok_or(FormError::Encoding);
                    let (high, low) = (digit()?, digit()?);
                    u8::try_from(high << 4 | low).map_err(|_| FormError::Encoding)?
                }
                byte => *byte,
            });
        }
        Cow::Owned(String::from_utf8(decoded).map_err(|_| FormError::Utf8)?)
    } else {
        Cow::Borrowed(std::str::from_utf8(encoded).map_err(|_| FormError::Utf8)?)
    };
    if decoded.contains('\0') { Err(FormError::Nul) } else { Ok(decoded) }
}

impl From<FormError> for OAuthError {
    fn from(error: FormError) -> Self {
        ErrorCode::InvalidRequest.because(error.to_string())
    }
}

/// A request to an OAuth endpoint: a form of bearable size that arrived in time.
pub struct FormRequest {
    /// The instant of the request.
    pub now: Timestamp,
    /// The network address of the client.
    pub address: Option<IpAddr>,
    /// The header fields.
    pub headers: HeaderMap,
    body: Bytes,
}

impl FormRequest {
    /// The parameters.
    pub fn form(&self) -> Result<Form<'_>, OAuthError> {
        Ok(Form::parse(&self.body)?)
    }
}

impl FromRequest<Arc<App>> for FormRequest {
    type Rejection = OAuthError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, OAuthError> {
        let now = app.clock.now();
        let (parts, body) = request.into_parts();
        let refuse = |why: &'static str| Err(ErrorCode::InvalidRequest.because(why));
        if parts.uri.query().is_some() {
            // RFC 6749 §2.3.1: the credentials "MUST NOT be included in the request URI".
            return refuse("parameters belong into the body, not into the URL");
        }
        let mut content_types = parts.headers.get_all(header::CONTENT_TYPE).iter();
        let is_form = content_types.next().is_some_and(|v| is_form(v.as_bytes())) && content_types.next().is_none();
        if !is_form {
            return refuse("the content type must be application/x-www-form-urlencoded");
        }
        let collected = Limited::new(body, MAX_BODY).collect();
        let body = match tokio::time::timeout(app.body_timeout, collected).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return refuse("the body is larger than 16 KiB"),
            Ok(Err(_)) => return refuse("the body could not be read to its end"),
            Err(_) => return refuse("the body took too long to arrive"),
        };
        Ok(Self { now, address: Arrival::address(&parts.extensions), headers: parts.headers, body })
    }
}

fn is_form(content_type: &[u8]) -> bool {
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}


#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let form = Form::parse(b"a=1+2%2b&b=%C3%A4&&c&d=x=y").unwrap();
        assert_eq!(form.get("a").unwrap(), Some("1 2+"));
        assert_eq!(form.get("b").unwrap(), Some("\u{e4}"));
        assert_eq!(form.get("c").unwrap(), None);
        assert_eq!(form.get("d").unwrap(), Some("x=y"));
        assert_eq!(form.get("e").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        for (body, error) in [
            (&b"a=%"[..], FormError::Encoding),
            (b"a=%2", FormError::Encoding),
            (b"a=%zz", FormError::Encoding),
            (b"a=%ff", FormError::Utf8),
            (b"a=\xff", FormError::Utf8),
            (b"a=%00", FormError::Nul),
            (b"\0=1", FormError::Nul),
        ] {
            assert_eq!(Form::parse(body).unwrap_err(), error, "{body:?}");
        }
        assert_eq!(Form::parse("a&".repeat(65).as_bytes()).unwrap_err(), FormError::TooMany);
    }

    #[test]
    fn a_parameter_that_stands_twice_is_refused_even_when_empty() {
        let form = Form::parse(b"a=1&a=&r=1&r=2").unwrap();
        assert!(form.get("a").is_err());
        assert_eq!(form.all("r").collect::<Vec<_>>(), ["1", "2"]);
    }
}
