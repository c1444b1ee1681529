//! The status list: whatever is compressed in it, no more comes out than a list may have.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_guard::fuzzing::{MAX_BITS, bits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    assert!(bits(&URL_SAFE_NO_PAD.encode(data)).is_none_or(|bits| bits.len() <= MAX_BITS));
    if let Ok(text) = std::str::from_utf8(data) {
        bits(text);
    }
});
