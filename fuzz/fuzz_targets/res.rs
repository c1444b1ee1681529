//! Resource lists: two on the first two lines, a resource to ask for on the third.
#![no_main]

use keyward_model::rights::{MAX_SET, Res, ResSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(set) = serde_json::from_str::<ResSet>(text) {
        assert!(set.iter().count() <= MAX_SET);
    }
    let mut lines = text.splitn(3, '\n');
    let mut set = || lines.next().unwrap_or_default().parse::<ResSet>();
    let (Ok(left), Ok(right)) = (set(), set()) else { return };
    for set in [&left, &right] {
        assert_eq!(&set.to_text().parse::<ResSet>().expect("what is written can be read"), set);
        let json = serde_json::to_string(set).expect("a set can be written");
        assert_eq!(&serde_json::from_str::<ResSet>(&json).expect("what is written can be read"), set);
        assert!(set.iter().all(|res| set.covers(res)));
    }
    let both = left.intersect(&right);
    assert_eq!(both, right.intersect(&left));
    assert_eq!(both.first_beyond(&left), None);
    assert_eq!(both.first_beyond(&right), None);
    if let Some(Ok(probe)) = lines.next().map(str::parse::<Res>) {
        assert_eq!(both.covers(&probe), left.covers(&probe) && right.covers(&probe));
    }
});
