//! Form encoding (`application/x-www-form-urlencoded`, RFC 6749 Appendix B), read strictly: nothing is guessed, nothing
//! is replaced.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The most parameters in one form.
const MAX_PARAMETERS: usize = 64;

/// The parameters of a form, decoded.
#[derive(Debug)]
pub struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// Why bytes are not a form, or not one with the parameters it may have. Says nothing of the values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A `%` that two hexadecimal digits do not follow.
    #[error("broken percent-encoding")]
    Encoding,
    /// Bytes that are not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// A NUL character.
    #[error("a NUL character")]
    Nul,
    /// Too many parameters.
    #[error("more than {MAX_PARAMETERS} parameters")]
    TooMany,
    /// RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once."
    #[error("the parameter {0} is there more than once")]
    Repeated(&'static str),
}

impl<'a> Form<'a> {
    /// Reads the bytes of a form.
    pub fn parse(body: &'a [u8]) -> Result<Self, FormError> {
        let mut parameters = Vec::new();
        for pair in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return Err(FormError::TooMany);
            }
            let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let (name, value) = pair.split_at(at);
            parameters.push((decode(name)?, decode(value.get(1..).unwrap_or_default())?));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter that may stand once. One without a value counts as absent (RFC 6749 §3.2).
    pub fn get(&self, name: &'static str) -> Result<Option<&str>, FormError> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            return Err(FormError::Repeated(name));
        }
        Ok(value.filter(|v| !v.is_empty()))
    }

    /// All parameters in their order, for whoever takes none that it does not know.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// All values of a parameter that may be repeated.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| &**value)
    }
}

/// The text as the value of a parameter: what is not unreserved (RFC 3986 §2.3) as `%XX`.
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            byte => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

/// Decodes `+` and percent-encoding (the form encoding of RFC 6749 Appendix B).
pub fn decode(encoded: &[u8]) -> Result<Cow<'_, str>, FormError> {
    let decoded = if memchr::memchr2(b'+', b'%', encoded).is_some() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert_eq!(form.get("a").unwrap_err(), FormError::Repeated("a"));
        assert_eq!(form.all("r").collect::<Vec<_>>(), ["1", "2"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&body);
        }

        #[test]
        fn every_text_survives_being_encoded(text in "[^\\x00]{0,50}") {
            let encoded: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            prop_assert_eq!(decode(encoded.as_bytes()).unwrap(), text);
        }
    }
}
