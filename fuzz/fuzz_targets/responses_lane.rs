//! Both lanes of responses: no panic, the same meaning for every way of cutting the stream, and one that can be told on.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use penstock_dialect::responses::{raw_lane::RawLane, reader::ResponseReader};

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let (a, b) = rest.split_at(usize::from(first).min(rest.len()));
    let raw = |chunks: &[&[u8]]| shared::told(&shared::deltas(&mut RawLane::new(), chunks));
    assert_eq!(raw(&[a, b]), raw(&[rest]));
    let read = shared::deltas(&mut ResponseReader::new(), &[rest]);
    assert_eq!(shared::told(&shared::deltas(&mut ResponseReader::new(), &[a, b])), shared::told(&read));
    shared::retell(&read.0);
});
