//! Both lanes of responses: no panic, and the same meaning for every way of cutting the stream.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use penstock_dialect::Lane;
use penstock_dialect::responses::{raw_lane::RawLane, reader::ResponseReader};
use penstock_domain::Delta;

fn told(lane: &mut dyn Lane, chunks: &[&[u8]]) -> Vec<String> {
    let mut out = Vec::new();
    let mut show = |delta: Delta| match delta {
        Delta::Failed(error) => out.push(error.to_string()),
        // How bytes are grouped is not the promise.
        Delta::Raw(raw) => out.push(String::from_utf8_lossy(&raw.bytes).into_owned()),
        other => out.push(format!("{other:?}")),
    };
    for chunk in chunks {
        let pushed = lane.push(Bytes::copy_from_slice(chunk));
        while let Some(delta) = lane.next() {
            show(delta);
        }
        if pushed.is_err() {
            return out;
        }
    }
    while let Some(delta) = lane.finish() {
        show(delta);
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let (a, b) = rest.split_at(usize::from(first).min(rest.len()));
    assert_eq!(told(&mut RawLane::new(), &[a, b]).concat(), told(&mut RawLane::new(), &[rest]).concat());
    assert_eq!(told(&mut ResponseReader::new(), &[a, b]), told(&mut ResponseReader::new(), &[rest]));
});
