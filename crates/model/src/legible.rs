//! Texts from elsewhere, as they may be shown and kept: no secret in them, nothing unseen.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use crate::key::PREFIX;

/// Words longer than this are longer than anybody reads.
const MOST: usize = 40;
/// What is kept of a word that is cut: of an API key less than its public half.
const KEPT: usize = 12;

/// Cuts the words that are longer than anybody reads, and whatever has the prefix of an API key in it. Secrets are such
/// words: put in the wrong place by mistake, they do not go on to more places than they came from.
pub fn legible(text: &str) -> Cow<'_, str> {
    if is_legible(text) {
        return Cow::Borrowed(text);
    }
    let shorten = |piece: &str| {
        let word = word(piece);
        match (word.get(..KEPT), piece.get(word.len()..)) {
            (Some(start), Some(end)) if is_cut(word) => format!("{start}...{end}"),
            _ => piece.to_owned(),
        }
    };
    Cow::Owned(text.split_inclusive(no_word).map(shorten).collect())
}

/// Whether no word is cut. In one pass over the bytes, for this stands on the way to every token.
fn is_legible(text: &str) -> bool {
    let (mut length, mut has_prefix) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            length += 1;
        } else if byte == b'_' {
            length += 1;
            has_prefix |= text.as_bytes().get(..=at).is_some_and(|before| before.ends_with(PREFIX.as_bytes()));
        } else {
            (length, has_prefix) = (0, false);
        }
        if length > if has_prefix { KEPT } else { MOST } {
            return false;
        }
    }
    true
}

fn is_cut(word: &str) -> bool {
    word.len() > MOST || (word.len() > KEPT && word.contains(PREFIX))
}

fn word(piece: &str) -> &str {
    piece.trim_end_matches(no_word)
}

fn no_word(c: char) -> bool {
    !c.is_ascii_alphanumeric() && c != '-' && c != '_'
}

/// The text without what is unseen or secret, cut to `most` bytes. What needs no change is not copied.
pub fn kept(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
    let is_clean = text.len() <= most && text == text.trim() && !text.chars().any(is_unseen);
    // Secrets first: a key whose end is cut off would no longer look like one.
    let text = match (is_clean, text) {
        (true, Cow::Borrowed(text)) => legible(text),
        (_, text) => {
            let seen: String = text.chars().filter(|c| !is_unseen(*c)).collect();
            Cow::Owned(legible(seen.trim()).into_owned())
        }
    };
    if text.len() <= most {
        return text;
    }
    let mut text = text.into_owned();
    text.truncate(text.floor_char_boundary(most));
    text.truncate(text.trim_end().len());
    Cow::Owned(text)
}

/// A name as it is kept and looked for: without space around it, and each letter written in one way (Unicode's NFC). What
/// looks the same on every screen is the same name, whichever keyboard it came from.
pub fn name(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if is_nfc(text) { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) }
}

/// Characters that do something to the text around them instead of being seen: controls, marks of direction, zero
/// width, separators of lines. In a table or a log they would pass for what they are not.
pub fn is_unseen(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "kw_0352gInxoyUwshFr5tCyMvvBkfLublUqJcSuTJ0pfgFy40B5ExcvFiqVLZI9w1reE44aF3Y";

    #[test]
    fn what_looks_the_same_is_the_same_name() {
        assert_eq!(name(" Ju\u{308}rgen\u{a0}"), "J\u{fc}rgen");
        assert_eq!(name("J\u{fc}rgen"), "J\u{fc}rgen");
    }

    #[test]
    fn long_words_are_cut_and_everything_else_is_left() {
        assert_eq!(legible(&format!("scope {KEY} is unknown")), "scope kw_0352gInxo... is unknown");
        assert_eq!(legible(&format!("{KEY}.{KEY}")), "kw_0352gInxo....kw_0352gInxo...");
        assert_eq!(
            legible(&format!("\"{KEY}\", \u{e9}{KEY}\u{e9}")),
            "\"kw_0352gInxo...\", \u{e9}kw_0352gInxo...\u{e9}"
        );
        for text in ["", "user_00000000000000000000000000 exists", "https://orders.example/a-b/c", "\u{e9}", "a  b\n"] {
            assert_eq!(legible(text), text);
        }
    }

    #[test]
    fn a_part_of_a_key_is_cut_too() {
        assert_eq!(legible(&KEY[..36]), "kw_0352gInxo...");
        assert_eq!(legible("kw_line-3"), "kw_line-3", "a name that merely begins like one");
    }

    proptest! {
        #[test]
        fn the_quick_look_and_the_thorough_one_agree(text in "[kw_x\u{e9} -]{0,60}") {
            let thorough = text.split_inclusive(no_word).any(|piece| is_cut(word(piece)));
            prop_assert_eq!(is_legible(&text), !thorough, "{}", text);
        }

        #[test]
        fn no_text_around_a_key_keeps_its_secret(before in ".{0,20}", after in ".{0,20}") {
            let text = format!("{before}{KEY}{after}");
            prop_assert!(!legible(&text).contains(&KEY[KEPT..]));
        }
    }
}
