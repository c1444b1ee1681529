//! Redirect URIs: what may be registered leads to where it says, and only what was registered matches it.
#![no_main]

use keyward_model::redirect_uri::RedirectUri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (one, two) = text.split_once('\n').unwrap_or((text, text));
    let (Ok(one), Ok(two)) = (one.parse::<RedirectUri>(), two.parse::<RedirectUri>()) else { return };
    assert!(one.as_str().starts_with(one.origin()) && !one.origin().contains([';', ' ']));
    assert_eq!(one.matches(&two), two.matches(&one));
    assert!(one == two || !one.matches(&two) || one.as_str().starts_with("http://"), "only loopback is lenient");
    let led = one.with(&[("code", "a b"), ("state", "&#=")]);
    assert!(led.ends_with("code=a%20b&state=%26%23%3D") && !led.contains('#'), "{led}");
});
