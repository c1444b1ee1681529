//! Callers: whatever a caller says of itself, what is kept is short and seen, holds no key, and is kept as it is again.
#![no_main]

use std::borrow::Cow;

use keyward_model::caller::{Caller, Network};
use keyward_model::legible::{is_unseen, legible};
use libfuzzer_sys::fuzz_target;

const KEY: &str = "kw_0352gInxoyUwshFr5tCyMvvBkfLublUqJcSuTJ0pfgFy40B5ExcvFiqVLZI9w1reE44aF3Y";

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(network) = text.parse::<Network>()
    {
        assert_eq!(network.to_string().parse(), Ok(network));
    }
    let network: Network = "192.0.2.1".parse().expect("an address");
    let text = String::from_utf8_lossy(data);
    let caller = Caller::new(network, data, &text);
    assert!(caller.user_agent.len() <= 200 && caller.instance.len() <= 100);
    assert!(!caller.user_agent.chars().chain(caller.instance.chars()).any(is_unseen));
    let again = Caller::new(network, caller.user_agent.as_bytes(), &caller.instance);
    assert_eq!(again.fingerprint(), caller.fingerprint());

    let middle = text.floor_char_boundary(text.len() / 2);
    let (before, after) = text.split_at(middle);
    let with_key = format!("{before}{KEY}{after}");
    let caller = Caller::new(network, with_key.as_bytes(), &with_key);
    for kept in [caller.user_agent, caller.instance, Cow::Owned(legible(&with_key).into_owned())] {
        assert!(!kept.contains(&KEY[12..28]), "a key is kept");
    }
});
