//! What a browser keeps for the server and brings back: vouched for by a key of the server, for one purpose, until an
//! instant. So nothing is stored for whoever only looks at a page, and every node can read what another wrote.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_model::secret::Secret;
use keyward_model::time::Timestamp;

const TAG: usize = 32;
const INSTANT: usize = 8;

/// Vouches. What it vouches for can be read by whoever has it, and changed by nobody.
pub(crate) struct Seal(hmac::Key);

impl Seal {
    /// By this key.
    pub(crate) fn new(key: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// The content as text that can be told from any other.
    pub(crate) fn seal(&self, purpose: &'static str, until: Timestamp, content: &[u8]) -> String {
        let mut bytes = until.as_millis().to_be_bytes().to_vec();
        bytes.extend_from_slice(content);
        let tag = self.over(purpose, &bytes).sign();
        bytes.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The content, if it was sealed for this purpose and its time is not over; and until when it is.
    pub(crate) fn open(&self, purpose: &'static str, now: Timestamp, text: &str) -> Option<(Vec<u8>, Timestamp)> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (said, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
        // Equal tags in constant time: the key's own verification knows only whole messages.
        let expected = self.over(purpose, said).sign();
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), tag).ok()?;
        let (until, content) = said.split_at_checked(INSTANT)?;
        let until = Timestamp::from_millis(i64::from_be_bytes(until.try_into().ok()?));
        (until > now).then(|| (content.to_vec(), until))
    }

    fn over(&self, purpose: &str, said: &[u8]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        // No purpose holds a NUL: none passes for another with the beginning of a content.
        context.update(purpose.as_bytes());
        context.update(b"\0");
        context.update(said);
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn seal(key: u8) -> Seal {
        Seal::new(&Secret::new([key; 32]))
    }

    #[test]
    fn what_was_sealed_opens_for_its_purpose_until_its_end() {
        let until = Timestamp::from_seconds(1_001);
        let text = seal(1).seal("a", until, b"content");
        assert_eq!(seal(1).open("a", NOW, &text), Some((b"content".to_vec(), until)));
        assert_eq!(seal(1).open("b", NOW, &text), None);
        assert_eq!(seal(2).open("a", NOW, &text), None);
        assert_eq!(seal(1).open("a", until, &text), None);
    }

    proptest! {
        #[test]
        fn nothing_else_opens(text in "[A-Za-z0-9_-]{0,120}", at in 0usize..60, by in 1u8..) {
            prop_assert_eq!(seal(1).open("a", NOW, &text), None);
            let sealed = seal(1).seal("a", Timestamp::from_seconds(2_000), b"sixteen bytes ..");
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
            let place = at % bytes.len();
            bytes[place] ^= by;
            prop_assert_eq!(seal(1).open("a", NOW, &URL_SAFE_NO_PAD.encode(bytes)), None);
        }
    }
}
