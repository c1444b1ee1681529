//! Client credentials in the `Authorization` header: whatever is sent, and both halves of what was rightly encoded.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward_model::basic::Basic;
use libfuzzer_sys::fuzz_target;

fn form_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fuzz_target!(|data: &[u8]| {
    let _ = Basic::parse(data);
    let header = |payload: &[u8]| format!("Basic {}", STANDARD.encode(payload));
    let _ = Basic::parse(header(data).as_bytes());

    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((id, secret)) = text.split_once('\n').filter(|_| !text.contains('\0')) else { return };
    let payload = format!("{}:{}", form_encoded(id), form_encoded(secret));
    let basic = Basic::parse(header(payload.as_bytes()).as_bytes()).expect("rightly encoded credentials parse");
    assert_eq!((basic.client_id(), basic.secret()), (id, secret));
});
