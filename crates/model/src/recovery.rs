//! Recovery codes: what lets somebody in once who has lost every other way. Generated, so nobody can guess one.

use std::fmt;

use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError};
use crate::secret::Secret;

/// How many somebody gets at once.
pub const CODES: usize = 10;

/// Without `i`, `l`, `o` and `u`: what is read for another is taken for it.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 80 bits.
const LENGTH: usize = 16;
const GROUP: usize = 4;

/// One code: `7h2k-9qwe-x0m4-t8rv`. `Debug` prints `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryCode(Zeroizing<[u8; LENGTH]>);

impl RecoveryCode {
    /// A new one.
    pub fn generate(entropy: &Entropy) -> Result<Self, EntropyError> {
        let random = Zeroizing::new(entropy.bytes::<LENGTH>()?);
        // 256 is a multiple of 32: every character is as likely as any other.
        Ok(Self(Zeroizing::new(random.map(|byte| ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'0')))))
    }

    /// Reads what somebody types: in either case, with any spaces and dashes, an `O` for a `0` and an `l` for a `1`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut code = Zeroizing::new([0; LENGTH]);
        let mut places = code.iter_mut();
        for typed in text.chars().filter(|c| !c.is_whitespace() && !is_dash(*c)) {
            let read = match typed.to_ascii_lowercase() {
                'o' => '0',
                'i' | 'l' => '1',
                other => other,
            };
            *places.next()? = u8::try_from(read).ok().filter(|byte| ALPHABET.contains(byte))?;
        }
        let is_whole = places.next().is_none();
        is_whole.then_some(Self(code))
    }

    /// As it is shown, once.
    pub fn reveal(&self) -> Zeroizing<String> {
        let groups = self.0.chunks(GROUP).map(|group| String::from_utf8_lossy(group).into_owned());
        Zeroizing::new(groups.collect::<Vec<_>>().join("-"))
    }

    /// What is hashed and kept of it.
    pub fn secret(&self) -> Secret {
        Secret::digest("keyward recovery code", &*self.0)
    }
}

pub(crate) fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}')
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let code = RecoveryCode::parse("01ab-cdef-ghjk-mnpq").unwrap();
        for typed in ["01abcdefghjkmnpq", " OLAB CDEF GHJK MNPQ\n", "oIab\u{2013}cdef\u{2212}ghjk-mnpq"] {
            assert_eq!(RecoveryCode::parse(typed).as_ref(), Some(&code), "{typed}");
        }
        for wrong in ["", "01ab-cdef-ghjk-mnp", "01ab-cdef-ghjk-mnpqr", "01ab-cdef-ghjk-mnpu", "\u{e4}1abcdefghjkmnpq"]
        {
            assert!(RecoveryCode::parse(wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_code_survives_the_round_trip(seed: u64) {
            let code = RecoveryCode::generate(&Entropy::seeded(seed)).unwrap();
            let shown = code.reveal();
            prop_assert_eq!(shown.len(), 19);
            let read = RecoveryCode::parse(&shown).unwrap();
            prop_assert_eq!(*read.secret().expose(), *code.secret().expose());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = RecoveryCode::parse(&text);
        }
    }
}
