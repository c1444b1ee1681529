//! The revocation feed: no stream makes its parser panic or remember without end, and where chunks are cut makes no
//! difference; nor does the answer to a long poll. The first byte is the size of the chunks.
#![no_main]

use keyward_guard::fuzzing::{events, polled};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = events(stream, usize::MAX);
    assert_eq!(events(stream, usize::from(*size)), whole);
    if let Some((events, understood)) = whole {
        assert!(understood <= events.len());
        let told: usize = events.iter().map(|event| event[1].len()).sum();
        assert!(told <= stream.len());
    }
    polled(stream);
});
