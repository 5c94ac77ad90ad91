//! However a stream is cut into chunks, and whatever its line ends, it says the same; and a stream that was cut off never
//! looks complete.

use crate::support::{Told, choices, fixtures, lane, semantic, task};
use penstock_dialect::openai::raw_lane::RawLane;
use penstock_dialect::openai::stream::ChunkReader;
use proptest::prelude::*;

fn lane_of(name: &str, strip: bool) -> RawLane {
    RawLane::new(task(name), strip).expecting(choices(name))
}

fn whole(name: &str, strip: bool, bytes: &[u8]) -> Told {
    lane(lane_of(name, strip), [bytes])
}

/// A transcript with other line ends. The blank lines within JSON text are escaped, so every LF is one of SSE.
fn with_ends(bytes: &[u8], end: &str) -> Vec<u8> {
    String::from_utf8(bytes.to_vec()).unwrap().replace('\n', end).into_bytes()
}

#[test]
fn a_transcript_cut_at_every_byte_says_the_same() {
    for (name, bytes) in fixtures("streams", "sse") {
        for end in ["\n", "\r\n", "\r"] {
            let bytes = with_ends(&bytes, end);
            for strip in [false, true] {
                let expected = whole(&name, strip, &bytes);
                for cut in 0..=bytes.len() {
                    let told = lane(lane_of(&name, strip), [&bytes[..cut], &bytes[cut..]]);
                    assert_eq!(told, expected, "{name} cut at {cut}");
                }
            }
        }
    }
}

#[test]
fn line_ends_do_not_change_what_is_forwarded() {
    for (name, bytes) in fixtures("streams", "sse") {
        for end in ["\r\n", "\r"] {
            assert_eq!(whole(&name, true, &with_ends(&bytes, end)), whole(&name, true, &bytes), "{name}");
        }
    }
}

#[test]
fn a_cut_off_transcript_looks_complete_only_when_its_end_really_came() {
    for (name, bytes) in fixtures("streams", "sse") {
        let full = whole(&name, false, &bytes);
        let mut complete = 0;
        for cut in 0..bytes.len() {
            let told = whole(&name, false, &bytes[..cut]);
            assert!(full.bytes.starts_with(&told.bytes), "{name} cut at {cut} forwards something else");
            let sent = String::from_utf8_lossy(&bytes[..cut]);
            let done = sent.replace("data:[", "data: [").contains("data: [DONE]");
            let ends = told.bytes.matches("\"finish_reason\":\"").count();
            assert_eq!(told.failed.is_none(), done || ends >= choices(&name) as usize, "{name} cut at {cut}");
            complete += usize::from(told.failed.is_none());
        }
        assert!(complete < bytes.len() / 2, "{name} is complete before its end");
    }
}

#[test]
fn a_failure_forwards_no_later_event() {
    let all = fixtures("streams", "sse");
    let (name, bytes) = all.iter().find(|(name, _)| name == "error_after_content").unwrap();
    let more = [
        &bytes[..],
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n",
    ]
    .concat();
    assert_eq!(whole(name, true, &more), whole(name, true, bytes));
}

#[test]
fn one_bad_event_at_each_place_fails_there() {
    let all = fixtures("streams", "sse");
    let (name, bytes) = all.iter().find(|(name, _)| name == "plain").unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let events: Vec<&str> = text.split_inclusive("\n\n").collect();
    for at in 0..events.len() {
        let mut bad = events.clone();
        bad.insert(at, "data: {\"choices\":[{\"index\":0,\n\n");
        let told = whole(name, false, bad.concat().as_bytes());
        assert_eq!(told.bytes, events[..at].concat(), "the events before {at} and no more");
        assert!(told.failed.unwrap().starts_with("upstream_bad_response"));
    }
}

fn pieces(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut out = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, next) = rest.split_at((*size).min(rest.len()));
        out.push(piece.to_vec());
        rest = next;
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn every_chunking_says_the_same(sizes in prop::collection::vec(1_usize..200, 1..20), crlf: bool, strip: bool) {
        for (name, bytes) in fixtures("streams", "sse") {
            let bytes = with_ends(&bytes, if crlf { "\r\n" } else { "\n" });
            let chunks = pieces(&bytes, &sizes);
            let chunks = || chunks.iter().map(Vec::as_slice);
            prop_assert_eq!(lane(lane_of(&name, strip), chunks()), whole(&name, strip, &bytes));
            let reader = || ChunkReader::new(task(&name), choices(&name));
            prop_assert_eq!(semantic(reader(), chunks()).1, semantic(reader(), [&bytes[..]]).1);
        }
    }
}
