//! Form bodies: no body makes the parser fail otherwise than by an error, and what was rightly encoded is read back.
#![no_main]

use keyward_model::form::Form;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(form) = Form::parse(data) {
        for name in ["grant_type", "scope", "token"] {
            let values = form.all(name).count();
            assert_eq!(form.get(name).is_err(), values > 1);
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains('\0') {
        return;
    }
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let body = format!("scope={encoded}&x=1");
    let form = Form::parse(body.as_bytes()).expect("a rightly encoded form parses");
    assert_eq!(form.get("scope").expect("it stands once").unwrap_or_default(), text);
});
