//! Form decoding (`application/x-www-form-urlencoded`), borrowing wherever nothing is escaped.

use std::borrow::Cow;

/// The name and value pairs of a form body, in order. A pair with a bad escape or bad UTF-8 is an `Err`.
pub(crate) fn pairs(body: &[u8]) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), BadForm>> {
    body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                let (name, rest) = pair.split_at(at);
                (name, rest.get(1..).unwrap_or_default())
            }
            None => (pair, &[][..]),
        };
        Ok((decode(name)?, decode(value)?))
    })
}

/// Not a well-formed form: a broken escape or invalid UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadForm;

/// Decodes one name or value: `+` is a space, `%XX` a byte.
pub(crate) fn decode(raw: &[u8]) -> Result<Cow<'_, str>, BadForm> {
    if !raw.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| BadForm);
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(&byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next())? << 4 | hex(bytes.next())?,
            other => other,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| BadForm)
}

fn hex(digit: Option<&u8>) -> Result<u8, BadForm> {
    match digit {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(BadForm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<Vec<(String, String)>, BadForm> {
        pairs(body).map(|pair| pair.map(|(name, value)| (name.into_owned(), value.into_owned()))).collect()
    }

    #[test]
    fn a_form_is_read_in_order_with_its_escapes_undone() {
        let expected = [("scope", "Supervisor Worker"), ("res", "plant/7"), ("x", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read(b"scope=Supervisor+Worker&res=plant%2f7&&x"), Ok(expected.to_vec()));
    }

    #[test]
    fn a_broken_escape_or_bad_utf8_is_refused() {
        for body in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%ff", b"\xff=1"] {
            assert_eq!(read(body), Err(BadForm));
        }
    }
}
