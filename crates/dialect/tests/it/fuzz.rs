//! Hostile bytes, on the stable toolchain and bounded in time: the decoders never panic, never disagree with themselves,
//! and keep their promises on mutations of good input. `fuzz/` runs the same promises for as long as one likes.

use crate::support::{fixtures, lane, request, semantic};
use bytes::Bytes;
use penstock_dialect::openai::error::error_body;
use penstock_dialect::openai::raw_lane::RawLane;
use penstock_dialect::openai::response::{read_whole, unfold};
use penstock_dialect::openai::stream::ChunkReader;
use penstock_dialect::responses;
use penstock_dialect::splice::upstream_body;
use penstock_dialect::sse::{Frame, SseDecoder};
use penstock_dialect::{DecodeLimits, Fold as _, Lane, Refusal};
use penstock_domain::{Delta, Origin, RequestId, Task};
use proptest::prelude::*;
use proptest::sample::Index;

const TASKS: [Task; 3] = [Task::Chat, Task::Completion, Task::Embedding];

/// One change of a good input.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Cut(Index, Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

/// Bytes that mean something to JSON or to SSE.
fn telling() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        ",",
        ":",
        "null",
        "true",
        "0",
        "-",
        "1e999",
        "\\ud800",
        "\\u0000",
        "\0",
        "\u{feff}",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "data:",
        "data: [DONE]\n\n",
        "event: error\n",
        ": c\n",
        "\"model\":\"x\",",
        "\"error\":{},",
        "\"choices\":[",
        "\"index\":4294967295,",
        "\"penstock\":{},",
        "\"usage\":null,",
    ];
    prop_oneof![
        4 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..8),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (place(), place()).prop_map(|(a, b)| Mutation::Cut(a, b)),
        (place(), telling()).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (place(), place()).prop_map(|(a, b)| Mutation::Repeat(a, b)),
    ]
}

fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        let size = bytes.len() + 1;
        let part = |a: &Index, b: &Index| {
            let (a, b) = (a.index(size), b.index(size));
            // Short parts: long ones leave nothing to look at.
            a.min(b)..a.max(b).min(a.min(b) + 64)
        };
        match mutation {
            Mutation::Set(at, byte) => {
                let at = at.index(size);
                if let Some(found) = bytes.get_mut(at) {
                    *found = *byte;
                }
            }
            Mutation::Cut(a, b) => drop(bytes.drain(part(a, b))),
            Mutation::Insert(at, more) => {
                drop(bytes.splice(at.index(size)..at.index(size), more.iter().copied()))
            }
            Mutation::Repeat(a, b) => {
                let part = part(a, b);
                let (end, copy) = (part.end, bytes[part].to_vec());
                bytes.splice(end..end, copy);
            }
        }
    }
    bytes
}

fn mutated(folder: &'static str, ending: &'static str) -> impl Strategy<Value = (String, Vec<u8>)> {
    (prop::sample::select(fixtures(folder, ending)), prop::collection::vec(mutation(), 0..6))
        .prop_map(|((name, bytes), mutations)| (name, mutate(bytes, &mutations)))
}

fn frames(bytes: &[u8], sizes: &[usize]) -> Vec<Frame> {
    let mut decoder = SseDecoder::new(4096);
    let mut out = Vec::new();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, next) = rest.split_at((*size).min(rest.len()));
        rest = next;
        let pushed = decoder.push(Bytes::copy_from_slice(chunk));
        out.extend(std::iter::from_fn(|| decoder.next()));
        if pushed.is_err() {
            return out;
        }
    }
    out.extend(decoder.finish());
    out
}

/// The frames without `raw`, in which a line end that was cut in two may be shorter.
fn meaning(frames: Vec<Frame>) -> Vec<(u8, Option<Bytes>, Bytes)> {
    let told = |frame| match frame {
        Frame::Event(event) => (0, event.event, event.data),
        Frame::Comment => (1, None, Bytes::new()),
        Frame::Tail(event) => (2, event.event, event.data),
    };
    frames.into_iter().map(told).collect()
}

/// A slow and obvious reading of a stream after the standard's own words, to compare with.
fn reference(bytes: &[u8]) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\r' | b'\n' => {
                at += usize::from(bytes[at..].starts_with(b"\r\n"));
                lines.push(Vec::new());
            }
            byte => lines.last_mut().unwrap().push(byte),
        }
        at += 1;
    }
    // The last line has no end: the standard never looks at it.
    lines.pop();
    let (mut events, mut name, mut data) = (Vec::new(), Vec::new(), None::<Vec<u8>>);
    for line in lines {
        if line.is_empty() {
            let name = std::mem::take(&mut name);
            events.extend(data.take().map(|data| (Some(name).filter(|n| !n.is_empty()), data)));
            continue;
        }
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            },
            b"event" => name = value.to_vec(),
            _ => {}
        }
    }
    events
}

fn sse_soup() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(telling(), 0..40).prop_map(|words| words.concat())
}

fn config(cases: u32) -> ProptestConfig {
    // The same cases in every run: a failure is a failure of the change at hand. `fuzz/` explores.
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(6000))]

    #[test]
    fn any_bytes_in_any_chunks_decode_as_the_standard_says(
        bytes in prop_oneof![sse_soup(), mutated("streams", "sse").prop_map(|(_, bytes)| bytes)],
        sizes in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let cut = meaning(frames(&bytes, &sizes));
        prop_assert_eq!(&cut, &meaning(frames(&bytes, &[usize::MAX])));
        let events: Vec<_> = cut
            .into_iter()
            .filter(|(kind, ..)| *kind == 0)
            .map(|(_, name, data)| (name.map(|n| n.to_vec()), data.to_vec()))
            .collect();
        prop_assert_eq!(events, reference(&bytes));
    }

    #[test]
    fn the_lane_forwards_whole_json_events_only(
        (_, bytes) in mutated("streams", "sse"),
        sizes in prop::collection::vec(1_usize..200, 1..6),
        strip: bool,
    ) {
        let chunks = || {
            let mut rest = &bytes[..];
            let mut sizes = sizes.iter().cycle();
            std::iter::from_fn(move || {
                let (chunk, next) = rest.split_at((*sizes.next()?).min(rest.len()));
                rest = next;
                Some(chunk).filter(|chunk| !chunk.is_empty())
            })
        };
        for task in [Task::Chat, Task::Completion] {
            let told = lane(RawLane::new(task, strip), chunks());
            prop_assert_eq!(&told, &lane(RawLane::new(task, strip), [&bytes[..]]));
            for frame in frames(told.bytes.as_bytes(), &[usize::MAX]) {
                let Frame::Event(event) = frame else { panic!("the lane forwarded {frame:?}") };
                let value = serde_json::from_slice::<&serde_json::value::RawValue>(&event.data);
                prop_assert!(value.is_ok_and(|v| v.get().starts_with('{')), "forwarded {:?}", event.data);
                prop_assert_eq!(event.event, None);
            }
            semantic(ChunkReader::new(task, 1), chunks());
        }
    }

    #[test]
    fn requests_are_decoded_or_refused_and_splicing_keeps_the_rest((name, bytes) in mutated("requests", "json")) {
        let Ok(mut request) = request(&name, &bytes) else { return Ok(()) };
        let _ = request.body.content();
        for ask_usage in [false, true] {
            let spliced = upstream_body(&request, "the vendor's", ask_usage);
            let parse = |bytes: &[u8]| {
                let members: Result<std::collections::BTreeMap<String, Box<serde_json::value::RawValue>>, _> =
                    serde_json::from_slice(bytes);
                members.map(|members| members.into_iter().map(|(k, v)| (k, v.get().to_owned())).collect::<Vec<_>>())
            };
            let (mut before, mut after) = (parse(&bytes).unwrap(), parse(&spliced).unwrap());
            let model = after.iter().find(|(name, _)| name == "model").map(|(_, value)| value.clone());
            prop_assert_eq!(model.as_deref(), Some("\"the vendor's\""));
            prop_assert!(after.iter().all(|(name, _)| name != "penstock"));
            for members in [&mut before, &mut after] {
                members.retain(|(name, _)| !matches!(name.as_str(), "model" | "penstock" | "stream_options"));
            }
            prop_assert_eq!(before, after);
        }
        // The same bytes decode to the same request: what was cut out of them does not matter.
        request.stream = false;
        let again = crate::support::request(&name, &upstream_body(&request, "m", false));
        prop_assert!(again.is_ok(), "{:?}", again);
    }

    #[test]
    fn no_vendor_body_breaks_the_reading_of_answers_and_errors(
        status in 100_u16..600,
        bytes in prop_oneof![
            mutated("requests", "json").prop_map(|(_, bytes)| bytes),
            mutated("streams", "sse").prop_map(|(_, bytes)| bytes.get(6..).unwrap_or_default().to_vec()),
            sse_soup(),
        ],
    ) {
        for task in TASKS {
            let _ = read_whole(task, Bytes::from(bytes.clone()));
            let _ = unfold(task, &bytes);
        }
        let error = Refusal { status, body: &bytes, ..Refusal::default() }.meaning();
        prop_assert!(!error.say().chars().any(char::is_control));
        let body = error_body(&error, &RequestId::new("req_1"));
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
    }

    #[test]
    fn responses_are_decoded_or_refused_and_splicing_keeps_the_rest(
        (_, bytes) in mutated("responses/requests", "json"),
        earlier in mutated("responses/whole", "json"),
    ) {
        let decode = |bytes: Bytes| responses::request::decode(Task::Chat, bytes, &DecodeLimits::default());
        let items: Vec<_> = responses::state::output_items(&earlier.1).unwrap_or_default();
        let items: Vec<_> = items.into_iter().map(|item| item.json).collect();
        let _ = responses::state::head(&bytes);
        let Ok(decoded) = decode(Bytes::from(bytes.clone())) else { return Ok(()) };
        let request = decoded.into_request(RequestId::new("req_1"), Origin::Http, None);
        let _ = request.body.content();
        prop_assert!(decode(upstream_body(&request, "another", true)).is_ok());
        if let Ok(merged) = responses::state::merge(&bytes, &items) {
            let again = decode(merged);
            prop_assert!(again.is_ok(), "a merged body is refused: {:?}", again.err());
        }
        // Whatever is repeated of a request leaves well formed.
        let mut folder = responses::response::Folder::new(&request, 7);
        folder.push(Delta::Text { choice: 0, text: "x".to_owned(), logprobs: Vec::new() }).unwrap();
        let body = Box::new(folder).finish().unwrap();
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "{:?}", body);
        prop_assert!(!body.contains(&b'\n'), "a line end would break an event");
    }

    #[test]
    fn the_lanes_of_responses_agree_with_themselves_on_any_bytes(
        (_, bytes) in mutated("responses/streams", "sse"),
        size in 1_usize..300,
    ) {
        let read = |lane: &mut dyn Lane, size: usize| {
            let mut deltas = Vec::new();
            for chunk in bytes.chunks(size) {
                let pushed = lane.push(Bytes::copy_from_slice(chunk));
                deltas.extend(std::iter::from_fn(|| lane.next()));
                if pushed.is_err() {
                    return deltas;
                }
            }
            deltas.extend(std::iter::from_fn(|| lane.finish()));
            deltas
        };
        let told = |deltas: &[Delta]| -> Vec<String> {
            let told = deltas.iter().map(|delta| match delta {
                Delta::Failed(error) => error.to_string(),
                delta => format!("{delta:?}"),
            });
            told.collect()
        };
        let raw = |deltas: Vec<Delta>| -> Vec<u8> {
            let bytes = deltas.into_iter().map(|delta| match delta {
                Delta::Raw(raw) => raw.bytes.to_vec(),
                _ => Vec::new(),
            });
            bytes.collect::<Vec<_>>().concat()
        };
        let whole = read(&mut responses::reader::ResponseReader::new(), usize::MAX);
        let cut = read(&mut responses::reader::ResponseReader::new(), size);
        prop_assert_eq!(told(&whole), told(&cut));
        let sent = raw(read(&mut responses::raw_lane::RawLane::new(), size));
        prop_assert_eq!(&sent, &raw(read(&mut responses::raw_lane::RawLane::new(), usize::MAX)));
        for frame in frames(&sent, &[usize::MAX]) {
            let Frame::Event(event) = frame else { continue };
            let value = serde_json::from_slice::<&serde_json::value::RawValue>(&event.data);
            prop_assert!(value.is_ok_and(|v| v.get().starts_with('{')), "forwarded {:?}", event.data);
            prop_assert!(event.event.is_some(), "clients go by the name");
        }
        let _ = responses::reader::unfold(&bytes);
        let _ = responses::state::final_response(&bytes);
    }
}
