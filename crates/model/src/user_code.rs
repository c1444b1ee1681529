//! User codes of the device flow (RFC 8628 §6.1): eight letters that somebody reads off one screen and types into another.

use std::fmt;

use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError};
use crate::secret::Secret;

/// RFC 8628 §6.1: no vowels, so no words, and nothing that is taken for something else.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;
const HALF: usize = LENGTH / 2;
/// The largest multiple of 20 that a byte reaches: what lies above is thrown away, or some letters came up more often.
const FAIR: u8 = 240;

/// How many codes there are: 34.6 bits. Rates of guessing are measured against this.
pub const CODES: u64 = 25_600_000_000;

/// One code: `WDJB-MJHT`. `Debug` prints `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct UserCode(Zeroizing<[u8; LENGTH]>);

impl UserCode {
    /// A new one.
    pub fn generate(entropy: &Entropy) -> Result<Self, EntropyError> {
        let mut code = Zeroizing::new([0; LENGTH]);
        let mut places = code.iter_mut();
        let mut place = places.next();
        while place.is_some() {
            for byte in Zeroizing::new(entropy.bytes::<16>()?).iter().filter(|byte| **byte < FAIR) {
                let Some(empty) = place else { break };
                *empty = ALPHABET.get(usize::from(byte % 20)).copied().unwrap_or(b'B');
                place = places.next();
            }
        }
        Ok(Self(code))
    }

    /// Reads what somebody types: in either case, in letters of any width, with any spaces and dashes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut code = Zeroizing::new([0; LENGTH]);
        let mut places = code.iter_mut();
        for typed in text.chars().filter(|c| !c.is_whitespace() && !is_dash(*c)) {
            let read = u8::try_from(narrow(typed).to_ascii_uppercase()).ok()?;
            *places.next()? = Some(read).filter(|byte| ALPHABET.contains(byte))?;
        }
        let is_whole = places.next().is_none();
        is_whole.then_some(Self(code))
    }

    /// As it is shown.
    pub fn reveal(&self) -> Zeroizing<String> {
        let halves = self.0.chunks(HALF).map(String::from_utf8_lossy).collect::<Vec<_>>();
        Zeroizing::new(halves.join("-"))
    }

    /// What is hashed and kept of it.
    pub fn secret(&self) -> Secret {
        Secret::digest("keyward user code", &*self.0)
    }
}

/// The ASCII character that a full-width one stands for, as Asian keyboards type them.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

fn is_dash(c: char) -> bool {
    crate::recovery::is_dash(c) || matches!(c, '_' | '\u{30fc}' | '\u{ff70}')
}

impl fmt::Debug for UserCode {
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
        let code = UserCode::parse("WDJB-MJHT").unwrap();
        for typed in [
            "wdjbmjht",
            " WDJB MJHT\n",
            "w-d-j-b-m-j-h-t",
            "wdjb\u{2013}mjht",
            "WDJB\u{2212}MJHT",
            "\u{ff37}\u{ff24}\u{ff2a}\u{ff22}\u{ff0d}\u{ff4d}\u{ff4a}\u{ff48}\u{ff54}",
            "WDJB\u{3000}MJHT",
        ] {
            assert_eq!(UserCode::parse(typed).as_ref(), Some(&code), "{typed}");
        }
        for wrong in ["", "WDJB-MJH", "WDJB-MJHTB", "WDJB-MJHA", "WDJB-MJH1", "WDJB.MJHT", "\u{c4}DJB-MJHT"] {
            assert!(UserCode::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn there_are_as_many_codes_as_letters_allow_and_all_letters_are_used_alike() {
        assert_eq!(CODES, (ALPHABET.len() as u64).pow(8));
        let (entropy, mut seen) = (Entropy::seeded(1), [0_u32; 256]);
        for _ in 0..5_000 {
            UserCode::generate(&entropy).unwrap().0.iter().for_each(|letter| seen[usize::from(*letter)] += 1);
        }
        let often = |letter: &u8| (1_800..2_200).contains(&seen[usize::from(*letter)]);
        assert!(ALPHABET.iter().all(often), "{seen:?}");
        assert_eq!(seen.iter().sum::<u32>(), 40_000);
    }

    proptest! {
        #[test]
        fn every_code_survives_the_round_trip(seed: u64) {
            let code = UserCode::generate(&Entropy::seeded(seed)).unwrap();
            let shown = code.reveal();
            prop_assert_eq!((shown.len(), shown.find('-')), (9, Some(4)));
            let read = UserCode::parse(&shown.to_lowercase()).unwrap();
            prop_assert_eq!(*read.secret().expose(), *code.secret().expose());
        }

        #[test]
        fn whatever_is_typed_is_one_code_or_none(text in ".{0,40}") {
            if let Some(code) = UserCode::parse(&text) {
                prop_assert_eq!(UserCode::parse(&code.reveal()), Some(code));
            }
        }
    }
}
