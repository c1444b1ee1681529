//! User codes: whatever is typed is one code or none, and a code is read as it is shown.
#![no_main]

use keyward_model::device_grant::Digits;
use keyward_model::user_code::UserCode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(code) = UserCode::parse(text) {
        assert!(UserCode::parse(&code.reveal()) == Some(code), "what is shown can be typed");
    }
    if let Some(digits) = Digits::parse(text) {
        assert!(Digits::parse(&digits.reveal()) == Some(digits), "what is shown can be typed");
    }
});
