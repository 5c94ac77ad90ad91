//! Gemini's dialect: golden files in both directions, every way of cutting a stream, signatures on their way round.
//!
//! To accept a change of a golden file, look at it and run the tests once with `INSTA_UPDATE=always`.
//! `tests/gemini` holds every request body in them against the types of Google's own SDK.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use penstock_dialect::{Ask, Chats, Lane, Refusal, Vendor, asker, vendor};
use penstock_domain::{Code, Delta, Dialect, Request, Retry, Task};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{choices, fixtures, request, task};

const MODELS: [&str; 2] = ["gemini-2.5-flash", "gemini-3-pro-preview"];

fn gemini() -> &'static dyn Vendor {
    vendor(Dialect::Gemini).unwrap()
}

fn settled(folder: &str) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../fixtures/gemini/{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

fn ask(task: Task, model: &str) -> Ask<'_> {
    Ask { task, model, stream: true, ask_usage: true, max_tokens: 4096, chats: Chats::OPENAI }
}

/// The body for a model, and what was lost.
fn encoded(request: &Request, task: Task, model: &str) -> Result<(Vec<String>, String), String> {
    let content = request.body.content().map_err(|error| error.to_string())?;
    let encoded = gemini().encode(content, &ask(task, model)).map_err(|error| error.to_string())?;
    Ok((encoded.dropped, String::from_utf8(encoded.body.to_vec()).unwrap()))
}

fn said(request: &Request, task: Task, model: &str) -> String {
    match encoded(request, task, model) {
        Ok((dropped, body)) => {
            let body: Value = serde_json::from_str(&body).unwrap();
            format!("dropped {dropped:?}\n{body:#}")
        }
        Err(error) => error,
    }
}

fn sent(request: &Request, model: &str) -> Value {
    serde_json::from_str(&encoded(request, Task::Chat, model).unwrap().1).unwrap()
}

#[test]
fn requests_of_every_asker_become_the_reviewed_bodies() {
    settled("requests").bind(|| {
        for (name, body) in fixtures("gemini/requests", "json") {
            let request = request(&name, &body).unwrap();
            for model in MODELS {
                insta::assert_snapshot!(format!("{name}.{model}"), said(&request, task(&name), model));
            }
        }
    });
}

#[test]
fn counts_and_embeddings_become_the_reviewed_bodies() {
    settled("requests").bind(|| {
        let all = fixtures("gemini/requests", "json");
        let (_, body) = all.iter().find(|(name, _)| name == "anthropic_thinking_round").unwrap();
        let chat = request("anthropic", body).unwrap();
        insta::assert_snapshot!("count", said(&chat, Task::CountTokens, MODELS[0]));
        let texts = br#"{"model":"m","input":["one","two"],"dimensions":256,"encoding_format":"base64"}"#;
        let texts = request("embedding", texts).unwrap();
        insta::assert_snapshot!("embedding", said(&texts, Task::Embedding, "gemini-embedding-001"));
    });
    let tokens = request("embedding", br#"{"model":"m","input":[1,2]}"#).unwrap();
    assert!(said(&tokens, Task::Embedding, "e").starts_with("unsupported: "));
    let prompt = request("completion", br#"{"model":"m","prompt":"x"}"#).unwrap();
    assert!(said(&prompt, Task::Completion, "m").starts_with("unsupported: "));
}

#[test]
fn what_makes_no_sense_to_the_vendor_is_refused_before_it_is_asked() {
    let orphan = br#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"tool","tool_call_id":"nobody","content":"y"}]}"#;
    let calls = br#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"[1"}}]}]}"#;
    for body in [&orphan[..], calls] {
        let error = encoded(&request("chat", body).unwrap(), Task::Chat, MODELS[0]).unwrap_err();
        assert!(error.starts_with("invalid_request: "), "{error}");
    }
    let bare = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"AAAA"}}]}]}"#;
    let error = encoded(&request("chat", bare).unwrap(), Task::Chat, MODELS[0]).unwrap_err();
    assert!(error.starts_with("unsupported: "), "{error}");
}

// === answers ===

fn asked(name: &str, dialect: Dialect, stream: bool) -> Request {
    let body = json!({
        "model": "m", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "x"}],
    });
    let mut body = body;
    if dialect == Dialect::OpenAi {
        body["n"] = json!(choices(name));
        if stream {
            body["stream_options"] = json!({"include_usage": true});
        }
    }
    let kind = if dialect == Dialect::Anthropic { "anthropic" } else { "chat" };
    request(kind, body.to_string().as_bytes()).unwrap()
}

fn meaning<'a>(name: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Delta> {
    let mut lane = gemini().lane(&asked(name, Dialect::OpenAi, true));
    told(&mut *lane, chunks)
}

fn told<'a>(lane: &mut dyn Lane, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Delta> {
    let mut deltas = Vec::new();
    for chunk in chunks {
        let pushed = lane.push(Bytes::copy_from_slice(chunk));
        deltas.extend(std::iter::from_fn(|| lane.next()));
        if let Err(error) = pushed {
            deltas.push(Delta::Failed(error));
            return deltas;
        }
    }
    deltas.extend(std::iter::from_fn(|| lane.finish()));
    deltas
}

fn shown(deltas: &[Delta]) -> String {
    let show = |delta: &Delta| match delta {
        // A source is vendor text cut to size: its exact words are not the promise.
        Delta::Failed(error) => format!("Failed({error})"),
        other => format!("{other:?}"),
    };
    deltas.iter().map(show).collect::<Vec<_>>().join("\n")
}

fn as_events(name: &str, dialect: Dialect, deltas: &[Delta]) -> String {
    let mut encoder = asker(dialect).unwrap().encoder(&asked(name, dialect, true), 7);
    let mut out = BytesMut::new();
    deltas.iter().for_each(|delta| encoder.encode(delta.clone(), &mut out));
    encoder.finish(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn folded(name: &str, dialect: Dialect, deltas: &[Delta]) -> String {
    let mut folder = asker(dialect).unwrap().folder(&asked(name, dialect, false), 7);
    let folded = deltas.iter().try_for_each(|delta| folder.push(delta.clone()));
    match folded.and_then(|()| folder.finish()) {
        Ok(body) => String::from_utf8(body.to_vec()).unwrap(),
        Err(error) => error.to_string(),
    }
}

const ASKERS: [Dialect; 2] = [Dialect::OpenAi, Dialect::Anthropic];

#[test]
fn streams_become_the_reviewed_deltas_and_answers_of_every_asker() {
    settled("streams").bind(|| {
        for (name, bytes) in fixtures("gemini/streams", "sse") {
            let deltas = meaning(&name, [&bytes[..]]);
            let mut told = shown(&deltas);
            for dialect in ASKERS {
                let asker = dialect.name();
                told += &format!("\n\nas events for {asker}\n{}", as_events(&name, dialect, &deltas));
                told += &format!("as a body for {asker}\n{}", folded(&name, dialect, &deltas));
            }
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

#[test]
fn whole_bodies_become_the_reviewed_deltas_or_errors() {
    settled("whole").bind(|| {
        for (name, body) in fixtures("gemini/whole", "json") {
            let asked = asked(&name, Dialect::OpenAi, false);
            let told = match gemini().whole(&asked, Bytes::from(body)) {
                Ok(deltas) => {
                    let mut told = shown(&deltas);
                    for dialect in ASKERS {
                        told += &format!("\n\n{}", folded(&name, dialect, &deltas));
                    }
                    told
                }
                Err(error) => error.to_string(),
            };
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

#[test]
fn vectors_and_counts_are_read_and_nothing_that_only_looks_like_them() {
    let embedding = request("embedding", br#"{"model":"m","input":"x"}"#).unwrap();
    let whole = |request: &Request, body: &'static str| {
        let told = gemini().whole(request, Bytes::from_static(body.as_bytes()));
        told.map_or_else(|error| error.code().to_string(), |deltas| shown(&deltas))
    };
    let vectors = r#"{"embeddings":[{"values":[0.5,-1.0]},{"values":[1e-3,2]}],"usageMetadata":{"promptTokenCount":3}}"#;
    let told = whole(&embedding, vectors);
    assert!(told.contains("Vectors([[0.5, -1.0], [0.001, 2.0]])"), "{told}");
    assert!(told.contains("Usage(Usage { input: 3, output: 0"), "{told}");
    for bad in ["{}", r#"{"embeddings":[]}"#, r#"{"embeddings":[{"values":[]}]}"#, "[[]]", "<html>"] {
        assert_eq!(whole(&embedding, bad), "upstream_bad_response", "{bad}");
    }
    let mut count = asked("x", Dialect::Anthropic, false);
    count.task = Task::CountTokens;
    assert_eq!(whole(&count, r#"{"totalTokens":31}"#), "Counted { input: 31, estimated: false }");
    for bad in ["{}", "[31]", r#"{"totalTokens":-1}"#] {
        assert_eq!(whole(&count, bad), "upstream_bad_response", "{bad}");
    }
    let quota = r#"{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}"#;
    assert_eq!(whole(&count, quota), "upstream_rate_limited");
}

// === signatures ===

/// What the vendor sent, asked again with the asker's answer put into the next request.
fn next_turn(dialect: Dialect, deltas: &[Delta], model: &str) -> Value {
    let answer: Value = serde_json::from_str(&folded("x", dialect, deltas)).unwrap();
    let result = |id: &Value| match dialect {
        Dialect::Anthropic => {
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "7"}]})
        }
        _ => json!({"role": "tool", "tool_call_id": id, "content": "7"}),
    };
    let (turn, ids): (Value, Vec<Value>) = match dialect {
        Dialect::Anthropic => {
            let content = answer["content"].as_array().unwrap();
            let calls = content.iter().filter(|block| block["type"] == "tool_use");
            (json!({"role": "assistant", "content": content}), calls.map(|call| call["id"].clone()).collect())
        }
        _ => {
            let message = answer["choices"][0]["message"].clone();
            let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
            (message, calls.into_iter().map(|call| call["id"].clone()).collect())
        }
    };
    let mut messages = vec![json!({"role": "user", "content": "go"}), turn];
    messages.extend(ids.iter().map(result));
    let body = json!({"model": "m", "max_tokens": 9, "messages": messages}).to_string();
    let kind = if dialect == Dialect::Anthropic { "anthropic" } else { "chat" };
    sent(&request(kind, body.as_bytes()).unwrap(), model)["contents"].clone()
}

fn stream(name: &str) -> Vec<Delta> {
    let all = fixtures("gemini/streams", "sse");
    let (name, bytes) = all.iter().find(|(found, _)| found == name).unwrap();
    meaning(name, [&bytes[..]])
}

#[test]
fn a_call_comes_back_with_its_signature_and_its_id_as_the_model_made_it() {
    for dialect in ASKERS {
        let contents = next_turn(dialect, &stream("parallel_tools"), "gemini-3-pro-preview");
        let turn = contents[1]["parts"].as_array().unwrap();
        let calls: Vec<&Value> = turn.iter().filter(|part| part.get("functionCall").is_some()).collect();
        assert_eq!(calls.len(), 3, "{contents:#}");
        assert_eq!(calls[0]["thoughtSignature"], "CiQBVKhc7kc=", "{dialect:?}");
        assert_eq!(calls[0]["functionCall"].get("id"), None, "the model gave none");
        assert_eq!(calls[1].get("thoughtSignature"), None);
        assert_eq!(calls[1]["functionCall"]["args"]["city"], "London \"UK\"");
        assert_eq!(calls[2]["functionCall"]["id"], "fc-77");
        let results = contents[2]["parts"].as_array().unwrap();
        assert_eq!(results.len(), 3, "together in one turn");
        assert_eq!(results[2]["functionResponse"]["id"], "fc-77");
        assert_eq!(contents.as_array().unwrap().len(), 3);
    }
}

#[test]
fn an_asker_with_a_place_for_it_brings_the_signature_of_a_text_back_where_it_was() {
    let contents = next_turn(Dialect::Anthropic, &stream("thinking"), MODELS[1]);
    let expected = json!([
        {"text": "**Weighing**\n\nFirst, then.", "thought": true},
        {"text": "Forty-two"},
        {"text": "", "thoughtSignature": "CsQBAVSoXO6rZm9vYmFy+/=="},
    ]);
    // Without a signature right after it, reasoning is nobody's: it may be another vendor's.
    let parts = contents[1]["parts"].as_array().unwrap();
    assert_eq!(parts[parts.len() - 2..], expected.as_array().unwrap()[1..], "{contents:#}");
    let body =
        fixtures("gemini/whole", "json").into_iter().find(|(n, _)| n == "tools_and_thinking").unwrap().1;
    let deltas = gemini().whole(&asked("x", Dialect::Anthropic, false), Bytes::from(body)).unwrap();
    let contents = next_turn(Dialect::Anthropic, &deltas, MODELS[1]);
    let expected = json!([
        {"text": "Think.", "thought": true},
        {"text": "I look.\n", "thoughtSignature": "c2lnLXRleHQ="},
        {"functionCall": {"name": "weather", "args": {"city": "Paris", "note": "a  b"}}, "thoughtSignature": "c2lnLWNhbGw="},
    ]);
    assert_eq!(contents[1]["parts"], expected);
}

#[test]
fn another_vendor_is_never_sent_googles_signature() {
    let all = fixtures("gemini/requests", "json");
    let (_, body) = all.iter().find(|(name, _)| name == "anthropic_thinking_round").unwrap();
    let content = request("anthropic", body).unwrap();
    for dialect in [Dialect::Anthropic, Dialect::Bedrock, Dialect::OpenAi] {
        let to = vendor(dialect).unwrap();
        let encoded = to.encode(content.body.content().unwrap(), &ask(Task::Chat, "claude")).unwrap();
        assert!(!String::from_utf8_lossy(&encoded.body).contains("google:"), "{:?}", encoded.body);
    }
}

// === errors ===

#[test]
fn googles_errors_are_told_apart() {
    let cases: Vec<Value> = serde_json::from_slice(include_bytes!("../fixtures/gemini/errors.json")).unwrap();
    assert_eq!(cases.len(), 15);
    for case in cases {
        let one = json!({"error": case["error"]});
        let status = u16::try_from(one["error"]["code"].as_u64().unwrap()).unwrap();
        for body in [one.to_string(), json!([one]).to_string()] {
            let error = Refusal { status, body: body.as_bytes(), ..Refusal::default() }.meaning();
            assert_eq!(error.code().name(), case["means"], "{body}");
            assert_eq!(format!("{:?}", error.retry()), case["retry"], "{body}");
        }
        let lane = &mut *gemini().lane(&asked("x", Dialect::OpenAi, true));
        let deltas = told(lane, [format!("data: {one}\n\n").as_bytes()]);
        let [Delta::Failed(inside)] = &deltas[..] else { panic!("{deltas:?}") };
        assert_eq!(inside.code().name(), case["means"], "inside of a stream: {one}");
    }
    let header =
        Refusal { status: 503, wait: Some(Duration::from_secs(2)), body: b"<html>", ..Refusal::default() }
            .meaning();
    assert_eq!((header.code(), header.retry()), (Code::UpstreamError, Retry::After(Duration::from_secs(2))));
}

// === streams in every chunking ===

fn with_ends(bytes: &[u8], end: &str) -> Vec<u8> {
    String::from_utf8(bytes.to_vec()).unwrap().replace('\n', end).into_bytes()
}

#[test]
fn a_stream_cut_in_two_at_every_byte_says_the_same() {
    for (name, bytes) in fixtures("gemini/streams", "sse") {
        for end in ["\n", "\r\n", "\r"] {
            let bytes = with_ends(&bytes, end);
            let whole = shown(&meaning(&name, [&bytes[..]]));
            for cut in 0..=bytes.len() {
                let halves = shown(&meaning(&name, [&bytes[..cut], &bytes[cut..]]));
                assert_eq!(halves, whole, "{name} cut at {cut}");
            }
        }
    }
}

/// How many candidates told why they ended, as a blunt reader sees it: whole lines of JSON, looked at as values.
fn ends(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let events =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    events
        .map(|event| {
            let candidates = event["candidates"].as_array().cloned().unwrap_or_default();
            candidates.iter().filter(|candidate| candidate.get("finishReason").is_some()).count()
        })
        .sum()
}

#[test]
fn a_cut_off_stream_looks_complete_only_when_every_candidate_had_ended() {
    for (name, bytes) in fixtures("gemini/streams", "sse") {
        let whole = meaning(&name, [&bytes[..]]);
        if matches!(whole.last(), Some(Delta::Failed(_))) {
            continue;
        }
        let all = shown(&whole);
        for cut in 0..bytes.len() {
            let deltas = meaning(&name, [&bytes[..cut]]);
            let failed = matches!(deltas.last(), Some(Delta::Failed(error)) if error.code() == Code::UpstreamStreamCut);
            assert_eq!(!failed, ends(&bytes[..cut]) >= choices(&name) as usize, "{name} cut at {cut}");
            let said = shown(&deltas[..deltas.len() - usize::from(failed)]);
            assert!(all.starts_with(&said), "{name} cut at {cut} says something else");
        }
    }
}

#[test]
fn nothing_follows_the_end_or_a_failure() {
    for (name, bytes) in fixtures("gemini/streams", "sse") {
        let more = "\n\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"more\"}]}}]}\n\n";
        let longer = [&bytes[..], more.as_bytes()].concat();
        assert_eq!(shown(&meaning(&name, [&longer[..]])), shown(&meaning(&name, [&bytes[..]])), "{name}");
    }
}

#[test]
fn an_event_that_is_none_fails_at_its_place() {
    let all = fixtures("gemini/streams", "sse");
    let (name, bytes) = all.iter().find(|(name, _)| name == "text").unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let events: Vec<&str> = text.split_inclusive("\n\n").collect();
    for bad in
        ["data: {\"candidates\":\n\n", "data: [DONE]\n\n", "data: {\"candidates\":[{\"index\":4096}]}\n\n"]
    {
        for at in 0..events.len() {
            let mut all = events.clone();
            all.insert(at, bad);
            let deltas = meaning(name, [all.concat().as_bytes()]);
            let Some((Delta::Failed(error), before)) = deltas.split_last() else { panic!("{bad} at {at}") };
            assert_eq!(error.code(), Code::UpstreamBadResponse);
            let expected = meaning(name, [events[..at].concat().as_bytes()]);
            let texts = |deltas: &[Delta]| deltas.iter().filter(|d| matches!(d, Delta::Text { .. })).count();
            assert_eq!(texts(before), texts(&expected), "{bad} at {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn every_chunking_says_the_same(sizes in prop::collection::vec(1_usize..200, 1..20), crlf: bool) {
        for (name, bytes) in fixtures("gemini/streams", "sse") {
            let bytes = with_ends(&bytes, if crlf { "\r\n" } else { "\n" });
            let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, next) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = next;
            }
            prop_assert_eq!(shown(&meaning(&name, pieces)), shown(&meaning(&name, [&bytes[..]])), "{}", name);
        }
    }

    #[test]
    fn hostile_bytes_never_panic_and_fail_once(noise in prop::collection::vec(any::<u8>(), 0..40), at: prop::sample::Index) {
        let all = [fixtures("gemini/streams", "sse"), fixtures("gemini/whole", "json")].concat();
        for (name, mut bytes) in all {
            let at = at.index(bytes.len());
            bytes.splice(at..(at + noise.len()).min(bytes.len()), noise.iter().copied());
            let deltas = meaning(&name, [&bytes[..]]);
            let failures = deltas.iter().filter(|delta| matches!(delta, Delta::Failed(_))).count();
            prop_assert!(failures <= 1);
            prop_assert_eq!(failures == 1, matches!(deltas.last(), Some(Delta::Failed(_))));
            for dialect in ASKERS {
                let _ = (folded(&name, dialect, &deltas), as_events(&name, dialect, &deltas));
            }
            let request = asked(&name, Dialect::OpenAi, false);
            let _ = gemini().whole(&request, Bytes::from(bytes.clone()));
            let _ = Refusal { status: 400, body: &bytes, ..Refusal::default() }.meaning();
        }
    }
}
