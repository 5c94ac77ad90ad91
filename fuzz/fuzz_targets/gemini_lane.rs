//! Gemini's events and bodies: no panic, the same meaning for every way of cutting the stream, and one that can be told on.
#![no_main]

mod shared;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use penstock_dialect::vendor;
use penstock_domain::Dialect;

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let (a, b) = rest.split_at(usize::from(first).min(rest.len()));
    let (gemini, request) = (vendor(Dialect::Gemini).expect("a vendor"), shared::request(Dialect::OpenAi));
    let read = shared::deltas(&mut *gemini.lane(&request), &[rest]);
    assert_eq!(shared::told(&shared::deltas(&mut *gemini.lane(&request), &[a, b])), shared::told(&read));
    shared::retell(&read.0);
    if let Ok(deltas) = gemini.whole(&request, Bytes::copy_from_slice(rest)) {
        shared::retell(&deltas);
    }
});
