//! Anthropic's dialect as a vendor speaks it: golden files in both directions, and every way of cutting a stream.
//!
//! To accept a change of a golden file, look at it and run the tests once with `INSTA_UPDATE=always`.

use bytes::{Bytes, BytesMut};
use penstock_dialect::anthropic::raw_lane::RawLane;
use penstock_dialect::anthropic::reader::{MessageReader, read_whole, unfold};
use penstock_dialect::anthropic::{self, chat};
use penstock_dialect::openai;
use penstock_dialect::openai::stream::ChunkReader;
use penstock_dialect::{Ask, Chats, Encode as _, Fold as _, Lane as _};
use penstock_domain::{Content, Conversation, Delta, Dialect, Error, Notes, Request, Task};
use proptest::prelude::*;

use crate::support::{choices, fixtures, request, semantic as chunks_semantic, task};

fn settled(folder: &str) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../fixtures/{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

fn streams() -> Vec<(String, Vec<u8>)> {
    fixtures("messages/streams", "sse")
}

fn told(delta: &Delta) -> String {
    match delta {
        // A source is vendor text cut to size: its exact words are not the promise.
        Delta::Failed(error) => format!("Failed({error})"),
        other => format!("{other:?}"),
    }
}

/// A vendor's stream as its asker gets it: the bytes and what was noted, and how it failed.
fn forwarded<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (String, Vec<String>) {
    let mut lane = RawLane::new();
    let mut deltas = Vec::new();
    for chunk in chunks {
        lane.push(Bytes::copy_from_slice(chunk)).unwrap();
        deltas.extend(std::iter::from_fn(|| lane.next()));
    }
    deltas.extend(std::iter::from_fn(|| lane.finish()));
    let (mut bytes, mut notes) = (String::new(), Vec::new());
    // Notes are told per delta, and deltas depend on the chunks: their sum does not.
    let mut sum = Notes::default();
    for delta in deltas {
        match delta {
            Delta::Raw(raw) => {
                assert_eq!(raw.dialect, Dialect::Anthropic);
                assert!(raw.bytes.ends_with(b"\n\n") && raw.notes.events > 0, "whole events only");
                bytes.push_str(std::str::from_utf8(&raw.bytes).unwrap());
                sum = Notes {
                    content: sum.content | raw.notes.content,
                    events: sum.events + raw.notes.events,
                    usage: raw.notes.usage.or(sum.usage),
                    finish: raw.notes.finish.or(sum.finish),
                    text: sum.text + raw.notes.text,
                    version: sum.version.or(raw.notes.version),
                };
            }
            other => notes.push(told(&other)),
        }
    }
    notes.push(format!("{sum:?}"));
    (bytes, notes)
}

fn meaning<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Delta> {
    let mut reader = MessageReader::new();
    let mut deltas = Vec::new();
    for chunk in chunks {
        reader.push(Bytes::copy_from_slice(chunk)).unwrap();
        deltas.extend(std::iter::from_fn(|| reader.next()));
    }
    deltas.extend(std::iter::from_fn(|| reader.finish()));
    deltas
}

fn shown(deltas: &[Delta]) -> String {
    deltas.iter().map(told).collect::<Vec<_>>().join("\n")
}

fn asked_chat() -> Request {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    request("chat", body.as_bytes()).unwrap()
}

fn asked_message() -> Request {
    let body = r#"{"model":"m","max_tokens":9,"stop_sequences":["END"],"messages":[{"role":"user","content":"x"}],"stream":true}"#;
    request("anthropic", body.as_bytes()).unwrap()
}

fn as_chunks(deltas: &[Delta]) -> String {
    let mut encoder = openai::stream::StreamEncoder::new(&asked_chat(), 7);
    let mut out = BytesMut::new();
    deltas.iter().for_each(|delta| encoder.encode(delta.clone(), &mut out));
    encoder.finish(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn as_events(deltas: &[Delta]) -> String {
    let mut encoder = anthropic::stream::StreamEncoder::new(&asked_message());
    let mut out = BytesMut::new();
    deltas.iter().for_each(|delta| encoder.encode(delta.clone(), &mut out));
    encoder.finish(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn text(folded: Result<Bytes, Error>) -> String {
    folded.map_or_else(|error| error.to_string(), |body| String::from_utf8(body.to_vec()).unwrap())
}

fn as_completion(deltas: &[Delta]) -> String {
    let mut folder = openai::response::Folder::new(&asked_chat(), 7);
    text(
        deltas
            .iter()
            .try_for_each(|delta| folder.push(delta.clone()))
            .and_then(|()| Box::new(folder).finish()),
    )
}

fn as_message(deltas: &[Delta]) -> String {
    let mut folder = anthropic::response::Folder::new(&asked_message());
    text(
        deltas
            .iter()
            .try_for_each(|delta| folder.push(delta.clone()))
            .and_then(|()| Box::new(folder).finish()),
    )
}

#[test]
fn transcripts_become_the_reviewed_deltas_chunks_and_completions() {
    settled("messages/streams").bind(|| {
        for (name, bytes) in streams() {
            let (sent, notes) = forwarded([&bytes[..]]);
            let same = if sent.as_bytes() == bytes { "as sent".to_owned() } else { sent };
            let deltas = meaning([&bytes[..]]);
            let told = format!(
                "forwarded {notes:#?}\n{same}\n\nmeaning\n{}\n\nas chunks\n{}\nas a completion\n{}\n\nas a message\n{}",
                shown(&deltas),
                as_chunks(&deltas),
                as_completion(&deltas),
                as_message(&deltas),
            );
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

#[test]
fn chat_chunks_become_the_reviewed_events_and_messages() {
    settled("messages/from_openai").bind(|| {
        for (name, bytes) in fixtures("streams", "sse") {
            if task(&name) != Task::Chat {
                continue;
            }
            let reader = ChunkReader::new(Task::Chat, choices(&name));
            let (deltas, _) = chunks_semantic(reader, [&bytes[..]]);
            let told = format!("{}\n{}", as_events(&deltas), as_message(&deltas));
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

#[test]
fn whole_bodies_become_the_reviewed_deltas_or_errors() {
    settled("messages/whole").bind(|| {
        for (name, body) in fixtures("messages/whole", "json") {
            let whole = match read_whole(Bytes::from(body.clone())) {
                Ok(Delta::Whole(whole)) => {
                    assert_eq!(whole.bytes, body, "untouched");
                    format!("{:?}", whole.notes)
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => error.to_string(),
            };
            let meaning = match unfold(&body) {
                Ok(deltas) => {
                    format!("{}\n{}\n{}", shown(&deltas), as_completion(&deltas), as_message(&deltas))
                }
                Err(error) => error.to_string(),
            };
            insta::assert_snapshot!(name.as_str(), format!("{whole}\n\n{meaning}"));
        }
    });
}

fn conversation(name: &str, body: &[u8]) -> Conversation {
    match request(name, body).unwrap().body.content().unwrap() {
        Content::Chat(conversation) => conversation.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_become_the_reviewed_bodies_of_the_other_dialect() {
    settled("messages/requests").bind(|| {
        for (name, body) in fixtures("requests", "json") {
            if task(&name) != Task::Chat || name.contains("bad") {
                continue;
            }
            let chat = conversation(&name, &body);
            let encoded = if name.contains("anthropic") {
                let chats = Chats::COMPATIBLE;
                let (task, model) = (Task::Chat, "upstream");
                let ask = Ask { task, model, stream: true, ask_usage: true, max_tokens: 4096, chats };
                Ok(openai::chat::encode_body(&chat, &ask))
            } else {
                chat::encode_body(&chat, "upstream", true, 4096)
            };
            let told = match encoded {
                Ok(encoded) => {
                    let _: serde_json::Value = serde_json::from_slice(&encoded.body).unwrap();
                    format!("dropped {:?}\n{}", encoded.dropped, text(Ok(encoded.body)))
                }
                Err(error) => error.to_string(),
            };
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

#[test]
fn decoding_the_body_we_encode_gives_the_same_conversation() {
    let body = include_bytes!("../fixtures/requests/anthropic_everything.json");
    let mut first = conversation("anthropic", body);
    // Beside thinking the API takes no such sampling: what is left out then has a test of its own.
    first.thinking = None;
    let encoded = chat::encode_body(&first, "m", true, 1).unwrap();
    assert_eq!(encoded.dropped, first.unsaid);
    first.unsaid.clear();
    assert_eq!(conversation("anthropic", &encoded.body), first);
}

#[test]
fn what_the_dialect_cannot_carry_is_refused() {
    let fault = |content: &str| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{content}]}}]}}"#);
        chat::encode_body(&conversation("chat", body.as_bytes()), "m", false, 9).unwrap_err().code().name()
    };
    assert_eq!(
        fault(r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"mp3"}}"#),
        "unsupported"
    );
    assert_eq!(fault(r#"{"type":"file","file":{"file_data":"AAAA"}}"#), "unsupported");
    let two = conversation("chat", br#"{"model":"m","n":2,"messages":[{"role":"user","content":"x"}]}"#);
    assert_eq!(chat::encode_body(&two, "m", false, 9).unwrap_err().param(), Some("n"));
    let calls = br#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"[1"}}]}]}"#;
    let error = chat::encode_body(&conversation("chat", calls), "m", false, 9).unwrap_err();
    assert_eq!(error.code().name(), "invalid_request");
}

#[test]
fn what_is_written_again_means_the_same() {
    for (name, bytes) in streams() {
        let deltas = meaning([&bytes[..]]);
        if !matches!(deltas.last(), Some(Delta::Failed(_))) {
            let again = meaning([as_events(&deltas).as_bytes()]);
            assert_eq!(shown(&again), shown(&deltas), "{name}");
        }
    }
}

fn with_ends(bytes: &[u8], end: &str) -> Vec<u8> {
    String::from_utf8(bytes.to_vec()).unwrap().replace('\n', end).into_bytes()
}

/// Notes are told per delta, and deltas depend on the chunks: only their sum is a promise.
fn sum((bytes, mut notes): (String, Vec<String>)) -> (String, Vec<String>) {
    notes.dedup();
    (bytes, notes)
}

#[test]
fn a_transcript_cut_at_every_byte_says_the_same() {
    for (name, bytes) in streams() {
        for end in ["\n", "\r\n", "\r"] {
            let bytes = with_ends(&bytes, end);
            let sent = sum(forwarded([&bytes[..]]));
            let said = shown(&meaning([&bytes[..]]));
            for cut in 0..=bytes.len() {
                let halves = || [&bytes[..cut], &bytes[cut..]];
                assert_eq!(sum(forwarded(halves())), sent, "{name} cut at {cut}");
                assert_eq!(shown(&meaning(halves())), said, "{name} cut at {cut}");
            }
        }
    }
}

#[test]
fn a_cut_off_transcript_looks_complete_only_when_its_end_really_came() {
    for (name, bytes) in streams() {
        let whole = meaning([&bytes[..]]);
        for cut in 0..bytes.len() {
            let ended = String::from_utf8_lossy(&bytes[..cut]).contains(r#"{"type":"message_stop"}"#);
            let (_, notes) = forwarded([&bytes[..cut]]);
            assert_eq!(!notes.iter().any(|note| note.starts_with("Failed")), ended, "{name} cut at {cut}");
            let deltas = meaning([&bytes[..cut]]);
            assert_eq!(!matches!(deltas.last(), Some(Delta::Failed(_))), ended, "{name} cut at {cut}");
            let said = deltas.len() - usize::from(!ended);
            assert_eq!(
                shown(&deltas[..said]),
                shown(&whole[..said]),
                "{name} cut at {cut} says something else"
            );
        }
    }
}

#[test]
fn nothing_follows_the_end_or_a_failure() {
    for (name, bytes) in streams() {
        let more = [&bytes[..], b"\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n"].concat();
        assert_eq!(shown(&meaning([&more[..]])), shown(&meaning([&bytes[..]])), "{name}");
        assert_eq!(forwarded([&more[..]]).0, forwarded([&bytes[..]]).0, "{name}");
    }
}

#[test]
fn an_event_that_its_dialect_does_not_know_fails_at_its_place() {
    let (_, bytes) = streams().into_iter().find(|(name, _)| name == "text").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let events: Vec<&str> = text.split_inclusive("\n\n").collect();
    for bad in ["data: {\"type\":\n\n", "data: {\"choices\":[]}\n\n", "data: [DONE]\n\n"] {
        for at in 0..events.len() - 1 {
            let mut all = events.clone();
            all.insert(at, bad);
            let (sent, notes) = forwarded([all.concat().as_bytes()]);
            assert_eq!(sent, events[..at].concat());
            assert!(notes.iter().any(|note| note.starts_with("Failed(upstream_bad_response")), "{notes:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_chunking_says_the_same(sizes in prop::collection::vec(1_usize..200, 1..20), crlf: bool) {
        for (name, bytes) in streams() {
            let bytes = with_ends(&bytes, if crlf { "\r\n" } else { "\n" });
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = &bytes[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, next) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = next;
            }
            prop_assert_eq!(sum(forwarded(pieces.clone())), sum(forwarded([&bytes[..]])), "{}", name);
            prop_assert_eq!(shown(&meaning(pieces)), shown(&meaning([&bytes[..]])), "{}", name);
        }
    }

    #[test]
    fn hostile_streams_never_panic_and_fail_once(noise in prop::collection::vec(any::<u8>(), 0..40), at in 0_usize..4000) {
        for (_, mut bytes) in streams() {
            let at = at % bytes.len();
            bytes.splice(at..(at + noise.len()).min(bytes.len()), noise.iter().copied());
            let deltas = meaning([&bytes[..]]);
            let failures = deltas.iter().filter(|delta| matches!(delta, Delta::Failed(_))).count();
            prop_assert!(failures <= 1);
            prop_assert_eq!(failures == 1, matches!(deltas.last(), Some(Delta::Failed(_))));
            let _ = (read_whole(Bytes::from(bytes.clone())), unfold(&bytes));
        }
    }
}
