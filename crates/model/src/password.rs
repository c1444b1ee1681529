//! Passwords: what may be chosen as one. Length is what counts (NIST SP 800-63B §3.1.1.2: no rules of composition).

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// The fewest characters.
pub const FEWEST: usize = 12;
/// The most bytes: far more than anybody types, far less than what would be work to hash.
pub const MOST: usize = 512;
/// The fewest different characters.
const FEWEST_DIFFERENT: usize = 6;

/// A password as somebody typed it. `Debug` prints `[redacted]`; the memory is wiped on drop.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// Why a password may not be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Fewer than [`FEWEST`] characters.
    #[error("a password must have at least {FEWEST} characters")]
    Short,
    /// More than [`MOST`] bytes.
    #[error("a password must have at most {MOST} bytes")]
    Long,
    /// The same few characters again and again, or a run of neighbours.
    #[error("this password repeats itself")]
    Plain,
    /// Little more than the name of its owner or of this program.
    #[error("this password is close to the name it protects")]
    Named,
}

impl Password {
    /// What somebody presents as the password they have. Keyboards write the same letter, and the space, in several ways;
    /// each becomes the same one (RFC 8265 §4.2.2).
    pub fn presented(text: &str) -> Self {
        let is_other_space = |c: &char| c.is_whitespace() && !c.is_ascii();
        // No letter becomes longer than three times its bytes: the memory that is wiped is all there was.
        let mut composed = Zeroizing::new(String::with_capacity(text.len() * 3));
        composed.extend(text.chars().map(|c| if is_other_space(&c) { ' ' } else { c }).nfc());
        Self(composed)
    }

    /// What the user of this name chooses.
    pub fn chosen(text: &str, user: &str) -> Result<Self, Weakness> {
        let password = Self::presented(text);
        let text = password.0.as_str();
        if text.chars().count() < FEWEST {
            return Err(Weakness::Short);
        }
        if text.len() > MOST {
            return Err(Weakness::Long);
        }
        let lower = Zeroizing::new(text.to_lowercase());
        let mut different: Vec<char> = lower.chars().collect();
        different.sort_unstable();
        different.dedup();
        if different.len() < FEWEST_DIFFERENT || is_run(&lower) {
            return Err(Weakness::Plain);
        }
        let is_name = |name: &str| {
            let rest = lower.replace(name, "");
            !name.is_empty() && rest.len() < lower.len() && rest.chars().count() < FEWEST / 2
        };
        if [user.to_lowercase().as_str(), "keyward", "password", "passwort"].into_iter().any(is_name) {
            return Err(Weakness::Named);
        }
        Ok(password)
    }

    /// The text itself, for hashing only.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Whether nearly every character is a neighbour of the one before: `123456789012`, `abcdefghijkl`, `aaaaaaaabbbb`.
fn is_run(text: &str) -> bool {
    let steps = text.chars().zip(text.chars().skip(1));
    let (near, all) = steps
        .fold((0, 0), |(near, all), (a, b)| (near + usize::from(u32::from(a).abs_diff(u32::from(b)) <= 1), all + 1));
    near * 4 > all * 3
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_ones_are_taken_whatever_they_are_made_of() {
        for good in
            ["correct horse battery", "zwölf Zeichen", "олень бежит домой", "9f!K2 w-x?7Qp", "keyward is my own server"]
        {
            assert!(Password::chosen(good, "olga").is_ok(), "{good}");
        }
    }

    #[test]
    fn what_guessers_try_first_is_refused() {
        for (weak, why) in [
            ("hunter2", Weakness::Short),
            ("aaaaaaaaaaaaaaaa", Weakness::Plain),
            ("abcabcabcabcabc", Weakness::Plain),
            ("123456789012", Weakness::Plain),
            ("abcdefghijklmnop", Weakness::Plain),
            ("Olga.Petrova1", Weakness::Named),
            ("password1234", Weakness::Named),
            ("Keyward!2026", Weakness::Named),
        ] {
            assert_eq!(Password::chosen(weak, "olga.petrova").unwrap_err(), why, "{weak}");
        }
        assert_eq!(Password::chosen(&"ab cdxyq9".repeat(60), "olga").unwrap_err(), Weakness::Long);
    }

    #[test]
    fn the_same_letters_are_the_same_password_however_a_keyboard_writes_them() {
        let typed = ["zw\u{f6}lf gr\u{fc}ne\u{a0}L\u{e4}mmer", "zwo\u{308}lf gru\u{308}ne La\u{308}mmer"];
        let [one, other] = typed.map(|text| Password::chosen(text, "olga").unwrap());
        assert_eq!(one.expose(), other.expose());
        assert_eq!(one.expose(), "zw\u{f6}lf gr\u{fc}ne L\u{e4}mmer".as_bytes());
        assert_ne!(Password::presented("Straße").expose(), Password::presented("Strasse").expose());
        assert_eq!(Password::chosen(&"e\u{308}".repeat(6), "olga").unwrap_err(), Weakness::Short, "six letters");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Password::presented("hunter2")), "[redacted]");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_rule_panic(text in ".{0,60}", name in ".{0,20}") {
            let _ = Password::chosen(&text, &name);
            let once = Password::presented(&text);
            let text = std::str::from_utf8(once.expose()).unwrap();
            let twice = Password::presented(text);
            prop_assert_eq!(twice.expose(), once.expose());
        }
    }
}
