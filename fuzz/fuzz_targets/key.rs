//! API keys: what parses is the one spelling of its key, and a good key with one byte changed is refused.
#![no_main]

use keyward_model::id::CredentialId;
use keyward_model::key::{Key, LEN};
use keyward_model::secret::Secret;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(key) = Key::parse(text)
    {
        assert_eq!(&*key.reveal(), text);
    }
    // The checksum keeps mutated text from getting far: so a good key is built from the input as well.
    let Some((id, rest)) = data.split_first_chunk::<16>() else { return };
    let Some((secret, rest)) = rest.split_first_chunk::<32>() else { return };
    let credential = CredentialId::from_uuid(Uuid::from_bytes(*id));
    let text = Key { credential, secret: Secret::new(*secret) }.reveal();
    let read = Key::parse(&text).expect("a good key parses");
    assert_eq!((read.credential, read.secret.expose()), (credential, secret));

    let &[at, byte, ..] = rest else { return };
    let mut typo = text.as_bytes().to_vec();
    let at = usize::from(at) % LEN;
    if typo[at] != byte {
        typo[at] = byte;
        let refused = std::str::from_utf8(&typo).map_or(true, |typo| Key::parse(typo).is_err());
        assert!(refused, "a typo passes");
    }
});
