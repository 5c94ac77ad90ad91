//! Every asker at every vendor, with every feature, whole and streamed: the list is the product of the tables here, and
//! every cell has its request and its answer, so that one that is missing fails.
//!
//! A cell keeps what it is about on both ways, or [`LOST`] says by which name the asker is told. What a cell looks like is
//! reviewed in `fixtures/matrix/ASKER_to_VENDOR.snap`; to accept a change, look at it and run the tests once with
//! `INSTA_UPDATE=always`.

use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use penstock_dialect::splice::upstream_body;
use penstock_dialect::{Ask, Chats, DecodeLimits, asker, vendor};
use penstock_domain::{Delta, Dialect, Origin, Request, RequestId, Task};
use proptest::prelude::*;
use serde_json::{Value, json};

const ASKERS: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Responses];

const VENDORS: [Dialect; 5] =
    [Dialect::OpenAi, Dialect::Anthropic, Dialect::Responses, Dialect::Gemini, Dialect::Bedrock];

/// A feature: what of it a vendor's request must hold in small letters, which answer is given, and what of that an asker
/// must get.
struct Feature {
    name: &'static str,
    asked: &'static [&'static str],
    answer: &'static str,
    told: &'static [&'static str],
}

const FEATURES: [Feature; 8] = [
    Feature { name: "text", asked: &["be brief.", "hello there", "0.5"], answer: "text", told: &["Bonjour"] },
    Feature {
        name: "tools",
        asked: &["get_weather", "get_time", "\"city\"", "rome", "cet", "21 degrees"],
        answer: "tools",
        told: &["get_weather", "get_time", "Rome", "CET"],
    },
    Feature { name: "structured", asked: &["verdict"], answer: "text", told: &["Bonjour"] },
    Feature { name: "reasoning", asked: &["high"], answer: "reasoning", told: &["Let me think", "Bonjour"] },
    Feature { name: "images", asked: &["ivborw0kggo="], answer: "text", told: &["Bonjour"] },
    Feature { name: "documents", asked: &["jvberi0="], answer: "text", told: &["Bonjour"] },
    Feature {
        name: "citations",
        asked: &["jvberi0="],
        answer: "citations",
        told: &["Bonjour", "https://example.com/source"],
    },
    Feature { name: "stop", asked: &["16"], answer: "stop", told: &["1 2 3"] },
];

/// What a vendor cannot be asked for, by the name that the asker is told: all that may be named in these cells.
const LOST: &[(Dialect, Dialect, &str, &[&str])] = &[
    (Dialect::OpenAi, Dialect::Responses, "stop", &["stop"]),
    (Dialect::OpenAi, Dialect::Gemini, "documents", &["messages.document.name"]),
    (Dialect::OpenAi, Dialect::Gemini, "citations", &["messages.document.name"]),
    (Dialect::Anthropic, Dialect::OpenAi, "tools", &["messages.is_error"]),
    (Dialect::Anthropic, Dialect::OpenAi, "documents", &["messages.document.context"]),
    (Dialect::Anthropic, Dialect::OpenAi, "citations", &["messages.document.citations"]),
    (Dialect::Anthropic, Dialect::Responses, "tools", &["messages.is_error"]),
    (Dialect::Anthropic, Dialect::Responses, "documents", &["messages.document.context"]),
    (Dialect::Anthropic, Dialect::Responses, "citations", &["messages.document.citations"]),
    (Dialect::Anthropic, Dialect::Responses, "stop", &["stop"]),
    (
        Dialect::Anthropic,
        Dialect::Gemini,
        "documents",
        &["messages.document.context", "messages.document.name"],
    ),
    (
        Dialect::Anthropic,
        Dialect::Gemini,
        "citations",
        &["messages.document.citations", "messages.document.name"],
    ),
    (Dialect::Responses, Dialect::OpenAi, "citations", &["truncation"]),
    (Dialect::Responses, Dialect::Anthropic, "structured", &["verbosity"]),
    (Dialect::Responses, Dialect::Anthropic, "reasoning", &["prompt_cache_key"]),
    (Dialect::Responses, Dialect::Anthropic, "citations", &["truncation"]),
    (Dialect::Responses, Dialect::Anthropic, "stop", &["service_tier"]),
    (Dialect::Responses, Dialect::Gemini, "structured", &["verbosity"]),
    (Dialect::Responses, Dialect::Gemini, "reasoning", &["prompt_cache_key", "user"]),
    (Dialect::Responses, Dialect::Gemini, "documents", &["messages.document.name"]),
    (Dialect::Responses, Dialect::Gemini, "citations", &["messages.document.name", "truncation"]),
    (Dialect::Responses, Dialect::Bedrock, "structured", &["verbosity"]),
    (Dialect::Responses, Dialect::Bedrock, "reasoning", &["prompt_cache_key", "user"]),
    (Dialect::Responses, Dialect::Bedrock, "citations", &["truncation"]),
];

/// How an answer that met its bound ends, in each asker's words.
fn bound(asker: Dialect) -> &'static str {
    match asker {
        Dialect::OpenAi => "\"length\"",
        Dialect::Anthropic => "\"max_tokens\"",
        _ => "\"max_output_tokens\"",
    }
}

fn model(vendor: Dialect) -> &'static str {
    match vendor {
        Dialect::OpenAi | Dialect::Responses => "gpt-5.1",
        Dialect::Anthropic => "claude-opus-4-6",
        Dialect::Gemini => "gemini-3-pro-preview",
        Dialect::Bedrock => "eu.anthropic.claude-opus-4-6-v1:0",
    }
}

/// A cell's fixture: there must be one.
fn fixture(folder: &str, dialect: Dialect, name: &str) -> Value {
    let file = format!("tests/fixtures/matrix/{folder}/{}.json", dialect.name());
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap();
    let mut all: Value = serde_json::from_slice(&text).unwrap();
    assert!(all[name].is_object(), "{file} has no `{name}`");
    all[name].take()
}

fn request(dialect: Dialect, feature: &str, stream: bool) -> Request {
    let mut body = fixture("asks", dialect, feature);
    if stream {
        body["stream"] = json!(true);
        if dialect == Dialect::OpenAi {
            body["stream_options"] = json!({"include_usage": true});
        }
    }
    let bytes = Bytes::from(body.to_string());
    let decoded = asker(dialect).unwrap().decode(Task::Chat, bytes, &DecodeLimits::default()).unwrap();
    decoded.into_request(RequestId::new("req_matrix"), Origin::Http, None)
}

/// What a vendor is sent, and what is named.
fn sent(request: &Request, to: Dialect) -> (String, Vec<String>) {
    let model = model(to);
    if request.body.dialect() == to {
        return (String::from_utf8(upstream_body(request, model, true).to_vec()).unwrap(), Vec::new());
    }
    let (task, stream) = (request.task, request.stream);
    let ask = Ask { task, model, stream, ask_usage: true, max_tokens: 4096, chats: Chats::OPENAI };
    let encoded = vendor(to).unwrap().encode(request.body.content().unwrap(), &ask).unwrap();
    let body: Value = serde_json::from_slice(&encoded.body).unwrap();
    (format!("{body:#}"), encoded.dropped)
}

/// A streamed answer as the vendor's bytes.
fn wire(from: Dialect, events: &Value) -> Bytes {
    let mut out = BytesMut::new();
    for event in events.as_array().unwrap() {
        match from {
            Dialect::Anthropic | Dialect::Responses => {
                let name = event["type"].as_str().unwrap();
                out.put_slice(format!("event: {name}\ndata: {event}\n\n").as_bytes());
            }
            Dialect::OpenAi | Dialect::Gemini => out.put_slice(format!("data: {event}\n\n").as_bytes()),
            Dialect::Bedrock => frame(event[0].as_str().unwrap(), &event[1], &mut out),
        }
    }
    if from == Dialect::OpenAi {
        out.put_slice(b"data: [DONE]\n\n");
    }
    out.freeze()
}

/// One event in Amazon's encoding.
fn frame(kind: &str, payload: &Value, out: &mut BytesMut) {
    let mut head = BytesMut::new();
    for (name, value) in
        [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")]
    {
        head.put_u8(name.len() as u8);
        head.put_slice(name.as_bytes());
        head.put_u8(7);
        head.put_u16(value.len() as u16);
        head.put_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let mut frame = BytesMut::new();
    frame.put_u32((16 + head.len() + payload.len()) as u32);
    frame.put_u32(head.len() as u32);
    frame.put_u32(crc32fast::hash(&frame));
    frame.put_slice(&head);
    frame.put_slice(payload.as_bytes());
    frame.put_u32(crc32fast::hash(&frame));
    out.put_slice(&frame);
}

/// What a vendor's answer means to this request.
fn deltas(request: &Request, from: Dialect, answer: &Value) -> Vec<Delta> {
    let wires = vendor(from).unwrap();
    if !request.stream {
        return wires.whole(request, Bytes::from(answer["whole"].to_string())).unwrap();
    }
    let mut lane = wires.lane(request);
    let pushed = lane.push(wire(from, &answer["stream"]));
    let mut deltas: Vec<Delta> = std::iter::from_fn(|| lane.next()).collect();
    match pushed {
        Ok(()) => deltas.extend(std::iter::from_fn(|| lane.finish())),
        Err(error) => deltas.push(Delta::Failed(error)),
    }
    deltas
}

/// What the asker gets.
fn told(request: &Request, deltas: Vec<Delta>) -> String {
    let asker = asker(request.body.dialect()).unwrap();
    if request.stream {
        let mut encoder = asker.encoder(request, 7);
        let mut out = BytesMut::new();
        deltas.into_iter().for_each(|delta| encoder.encode(delta, &mut out));
        encoder.finish(&mut out);
        return String::from_utf8(out.to_vec()).unwrap();
    }
    let mut folder = asker.folder(request, 7);
    deltas.into_iter().try_for_each(|delta| folder.push(delta)).unwrap();
    String::from_utf8(folder.finish().unwrap().to_vec()).unwrap()
}

/// Checks a cell and shows it.
fn cell(from: Dialect, to: Dialect, feature: &Feature, stream: bool) -> String {
    let mode = if stream { "streamed" } else { "whole" };
    let name = format!("{} to {}, {}, {mode}", from.name(), to.name(), feature.name);
    let request = request(from, feature.name, stream);
    let (body, dropped) = sent(&request, to);
    let lost = LOST.iter().find(|(a, v, f, _)| (*a, *v, *f) == (from, to, feature.name));
    let lost = lost.map_or(&[][..], |(_, _, _, names)| names);
    assert_eq!(dropped, lost, "{name}");
    let small = body.to_lowercase();
    for part in feature.asked {
        assert!(small.contains(part), "{name} lost `{part}` on the way there: {body}");
    }
    let answer = fixture("answers", to, feature.answer);
    let deltas = deltas(&request, to, &answer);
    assert!(!deltas.iter().any(|delta| matches!(delta, Delta::Failed(_))), "{name}: {deltas:?}");
    let told = told(&request, deltas);
    if from == to {
        let bytes =
            if stream { wire(to, &answer["stream"]) } else { Bytes::from(answer["whole"].to_string()) };
        assert_eq!(told.as_bytes(), bytes, "{name} is not as it was sent");
        return String::new();
    }
    for part in feature.told {
        assert!(told.contains(part), "{name} lost `{part}` on the way back: {told}");
    }
    if feature.name == "stop" {
        assert!(told.contains(bound(from)), "{name}: {told}");
    }
    let there = if stream { String::new() } else { format!("without {dropped:?}\n{body}\n") };
    format!("## {}, {mode}\n{there}\n{told}\n\n", feature.name)
}

#[test]
fn every_asker_is_understood_by_every_vendor_with_every_feature() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../fixtures/matrix");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for from in ASKERS {
            for to in VENDORS {
                let cells = FEATURES.iter().flat_map(|feature| [(feature, false), (feature, true)]);
                let shown: String = cells.map(|(feature, stream)| cell(from, to, feature, stream)).collect();
                if from != to {
                    insta::assert_snapshot!(format!("{}_to_{}", from.name(), to.name()), shown);
                }
            }
        }
    });
}

/// Anthropic's blocks open and close in turn, and nothing follows an error or the end.
fn check_blocks(events: &str) {
    let (mut open, mut over) = (false, false);
    for event in events.split("\n\n").filter(|event| !event.is_empty()) {
        assert!(!over, "{event} follows the end: {events}");
        match event.lines().next().unwrap() {
            "event: content_block_start" => assert!(!std::mem::replace(&mut open, true), "{events}"),
            "event: content_block_stop" => assert!(std::mem::take(&mut open), "{events}"),
            "event: content_block_delta" => assert!(open, "{events}"),
            "event: error" | "event: message_stop" => over = true,
            _ => {}
        }
    }
    assert!(over, "no end: {events}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_in_any_order_never_break_an_askers_stream(
        to in prop::sample::select(VENDORS.to_vec()),
        feature in 0..FEATURES.len(),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3_u8), 0..6),
    ) {
        let mut answer = fixture("answers", to, FEATURES[feature].answer);
        let events = answer["stream"].as_array_mut().unwrap();
        for (a, b, kind) in swaps {
            let (a, b) = (a.index(events.len()), b.index(events.len()));
            match kind {
                0 => events.swap(a, b),
                1 => events.insert(b, events[a].clone()),
                _ if events.len() > 1 => drop(events.remove(a)),
                _ => {}
            }
        }
        for from in ASKERS.into_iter().filter(|from| *from != to) {
            let request = request(from, "text", true);
            let told = told(&request, deltas(&request, to, &answer));
            match from {
                Dialect::Anthropic => check_blocks(&told),
                Dialect::OpenAi => prop_assert!(told.matches("data: [DONE]").count() <= 1, "{told}"),
                _ => prop_assert!(told.contains("response.completed") || told.contains("response.incomplete")
                    || told.contains("event: response.failed") || told.contains("event: error"), "{told}"),
            }
        }
    }
}
