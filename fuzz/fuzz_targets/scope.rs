//! Scope lists: what parses survives being written and read, in text and in JSON.
#![no_main]

use keyward_model::rights::{MAX_SET, ScopeSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(set) = serde_json::from_str::<ScopeSet>(text) {
        assert!(set.iter().count() <= MAX_SET);
    }
    let (left, right) = text.split_once('\n').unwrap_or((text, ""));
    let (Ok(left), Ok(right)) = (left.parse::<ScopeSet>(), right.parse::<ScopeSet>()) else { return };
    for set in [&left, &right] {
        assert_eq!(&set.to_string().parse::<ScopeSet>().expect("what is written can be read"), set);
        let json = serde_json::to_string(set).expect("a set can be written");
        assert_eq!(&serde_json::from_str::<ScopeSet>(&json).expect("what is written can be read"), set);
    }
    let both = left.intersect(&right);
    for scope in left.union(&right).iter().map(|scope| scope.as_str()) {
        assert_eq!(both.contains(scope), left.contains(scope) && right.contains(scope));
    }
});
