//! The SSE decoder and the fast lane: no panic, and the same events for every way of cutting the stream.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use penstock_dialect::Lane as _;
use penstock_dialect::openai::raw_lane::RawLane;
use penstock_dialect::sse::{Frame, SseDecoder};
use penstock_domain::Task;

fn events(chunks: &[&[u8]]) -> Vec<(Option<Bytes>, Bytes)> {
    let mut decoder = SseDecoder::new(1 << 16);
    let mut out = Vec::new();
    for chunk in chunks {
        if decoder.push(Bytes::copy_from_slice(chunk)).is_err() {
            break;
        }
        while let Some(frame) = decoder.next() {
            if let Frame::Event(event) = frame {
                out.push((event.event, event.data));
            }
        }
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let (a, b) = rest.split_at(usize::from(first).min(rest.len()));
    if rest.len() < 1 << 16 {
        assert_eq!(events(&[a, b]), events(&[rest]));
    }
    let mut lane = RawLane::new(Task::Chat, first & 1 == 0);
    for chunk in [a, b] {
        let _ = lane.push(Bytes::copy_from_slice(chunk));
    }
    while lane.next().is_some() {}
    while lane.finish().is_some() {}
});
