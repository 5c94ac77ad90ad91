//! OpenAI's responses as client and as vendor: golden files for every pair, every way of cutting a stream, and OpenAI's
//! own description held against everything that is written.
//!
//! To accept a change of a golden file, look at it and run the tests once with `INSTA_UPDATE=always`.

use bytes::{Bytes, BytesMut};
use penstock_dialect::openai::stream::ChunkReader;
use penstock_dialect::responses::raw_lane::RawLane;
use penstock_dialect::responses::reader::{ResponseReader, read_whole, unfold};
use penstock_dialect::responses::state::{final_response, output_items};
use penstock_dialect::responses::{chat, request as decoder, response, stream};
use penstock_dialect::{Ask, Chats, DecodeLimits, Encode as _, Fold as _, Lane, anthropic, asker, vendor};
use penstock_domain::{Code, Content, Delta, Dialect, Error, Origin, Request, RequestId, Task};
use serde_json::Value;

use crate::schema::Schemas;
use crate::support::{fixtures, request};

fn settled(folder: &str) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../fixtures/responses/{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

fn decoded(body: &[u8]) -> Request {
    let decoded =
        decoder::decode(Task::Chat, Bytes::copy_from_slice(body), &DecodeLimits::default()).unwrap();
    decoded.into_request(RequestId::new("req_test"), Origin::Http, None)
}

/// A request that repeats something of everything.
fn asked() -> Request {
    decoded(
        br#"{"model": "m", "input": "x", "stream": true, "instructions": "be\nbrief", "metadata": {"k": "v"},
            "temperature": 0.7, "reasoning": {"effort": "low"}, "tools": [
                {"type": "function", "name": "weather",
                 "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
                {"type": "custom", "name": "patch"}
            ], "tool_choice": "auto"}"#,
    )
}

fn asked_elsewhere(dialect: Dialect) -> Request {
    let (name, body) = match dialect {
        Dialect::Anthropic => (
            "anthropic",
            r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"stream":true}"#,
        ),
        _ => (
            "chat",
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    };
    request(name, body.as_bytes()).unwrap()
}

fn read<'a>(lane: &mut dyn Lane, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Delta> {
    let mut deltas = Vec::new();
    for chunk in chunks {
        lane.push(Bytes::copy_from_slice(chunk)).unwrap();
        deltas.extend(std::iter::from_fn(|| lane.next()));
    }
    deltas.extend(std::iter::from_fn(|| lane.finish()));
    deltas
}

fn meaning<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Delta> {
    read(&mut ResponseReader::new(), chunks)
}

fn told(delta: &Delta) -> String {
    match delta {
        // A source is vendor text cut to size: its exact words are not the promise.
        Delta::Failed(error) => format!("Failed({error})"),
        other => format!("{other:?}"),
    }
}

fn shown(deltas: &[Delta]) -> String {
    deltas.iter().map(told).collect::<Vec<_>>().join("\n")
}

/// A vendor's stream as its asker gets it: the bytes, and what was noted.
fn forwarded<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (String, Vec<String>) {
    let (mut bytes, mut notes) = (String::new(), Vec::new());
    let (mut content, mut events, mut text) = (false, 0, 0);
    for delta in read(&mut RawLane::new(), chunks) {
        match delta {
            Delta::Raw(raw) => {
                assert_eq!(raw.dialect, Dialect::Responses);
                assert!(raw.bytes.ends_with(b"\n\n") && raw.notes.events > 0, "whole events only");
                bytes.push_str(std::str::from_utf8(&raw.bytes).unwrap());
                content |= raw.notes.content;
                events += raw.notes.events;
                text += raw.notes.text;
                notes.extend(raw.notes.usage.map(|usage| format!("{usage:?}")));
                notes.extend(raw.notes.finish.map(|finish| format!("{finish:?}")));
                notes.extend(raw.notes.version.map(|version| format!("answered by {version}")));
            }
            other => notes.push(told(&other)),
        }
    }
    notes.sort();
    notes.push(format!("content {content}, {events} events, {text} bytes of text"));
    (bytes, notes)
}

/// Events for a client of any dialect.
fn streamed(dialect: Dialect, deltas: &[Delta]) -> String {
    let request = if dialect == Dialect::Responses { asked() } else { asked_elsewhere(dialect) };
    let mut encoder = asker(dialect).unwrap().encoder(&request, 7);
    let mut out = BytesMut::new();
    deltas.iter().for_each(|delta| encoder.encode(delta.clone(), &mut out));
    encoder.finish(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// One body for a client of any dialect.
fn folded(dialect: Dialect, deltas: &[Delta]) -> String {
    let request = if dialect == Dialect::Responses { asked() } else { asked_elsewhere(dialect) };
    let mut folder = asker(dialect).unwrap().folder(&request, 7);
    match deltas.iter().try_for_each(|delta| folder.push(delta.clone())).and_then(|()| folder.finish()) {
        Ok(body) => String::from_utf8(body.to_vec()).unwrap(),
        Err(error) => error.to_string(),
    }
}

/// Checks events against OpenAI's description, their numbers, and that they build the response that ends them.
fn check_events(name: &str, text: &str) {
    let schemas = Schemas::read();
    let mut items: Vec<Value> = Vec::new();
    for (number, block) in text.split_terminator("\n\n").enumerate() {
        let (head, data) = block.split_once("\ndata: ").unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        let kind = event["type"].as_str().unwrap();
        assert_eq!(head, format!("event: {kind}"), "{name}");
        assert_eq!(event["sequence_number"], number, "{name}: {kind}");
        schemas.check("ResponseStreamEvent", &event).unwrap_or_else(|e| panic!("{name}: {e}\n{event:#}"));
        match kind {
            "response.output_item.added" => assert_eq!(event["output_index"], items.len(), "{name}"),
            "response.output_item.done" => {}
            "response.completed" | "response.incomplete" | "response.failed" => {
                assert_eq!(
                    text.trim_end().rsplit("\n\n").next(),
                    Some(block),
                    "{name}: nothing follows the end"
                );
            }
            _ => continue,
        }
        if kind == "response.output_item.added" {
            items.push(Value::Null);
        } else if kind == "response.output_item.done" {
            let at = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
            items[at] = event["item"].clone();
        } else if kind != "response.failed" {
            assert_eq!(event["response"]["output"], Value::Array(items.clone()), "{name}");
        }
    }
}

fn check_response(name: &str, text: &str) {
    let response: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}: {text}"));
    Schemas::read().check("Response", &response).unwrap_or_else(|e| panic!("{name}: {e}\n{response:#}"));
}

fn pretty(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap();
    format!("{value:#}")
}

fn encoded(content: &Content, dialect: Dialect) -> String {
    let ask = Ask {
        task: Task::Chat,
        model: "upstream",
        stream: true,
        ask_usage: true,
        max_tokens: 4096,
        chats: Chats::OPENAI,
    };
    match vendor(dialect).unwrap().encode(content, &ask) {
        Ok(encoded) => format!("{}\ndropped {:?}", pretty(&encoded.body), encoded.dropped),
        Err(error) => format!("{error} {:?}", error.param()),
    }
}

#[test]
fn requests_become_the_reviewed_content_and_bodies_of_every_other_dialect() {
    settled("requests").bind(|| {
        for (name, body) in fixtures("responses/requests", "json") {
            Schemas::read()
                .check("CreateResponse", &serde_json::from_slice(&body).unwrap())
                .unwrap_or_else(|e| panic!("{name} is no request: {e}"));
            let request = decoded(&body);
            let content = request.body.content().unwrap();
            let bodies =
                [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock, Dialect::Responses];
            let bodies =
                bodies.map(|dialect| format!("for {}\n{}", dialect.name(), encoded(content, dialect)));
            insta::assert_snapshot!(name.as_str(), format!("{content:#?}\n\n{}", bodies.join("\n\n")));
        }
    });
}

#[test]
fn requests_of_other_dialects_become_the_reviewed_bodies() {
    settled("foreign").bind(|| {
        for (name, body) in fixtures("responses/foreign", "json") {
            let request = request(&name, &body).unwrap();
            let text = encoded(request.body.content().unwrap(), Dialect::Responses);
            if let Some((json, _)) = text.split_once("\ndropped ") {
                let value: Value = serde_json::from_str(json).unwrap();
                Schemas::read()
                    .check("CreateResponse", &value)
                    .unwrap_or_else(|e| panic!("{name} became no request: {e}\n{value:#}"));
                // What was written is read as the same.
                let again = decoder::decode_content(json.as_bytes(), Task::Chat).unwrap();
                let again = chat::encode_body(again.chat().unwrap(), "upstream", true).unwrap().body;
                let again: Value = serde_json::from_slice(&again).unwrap();
                for member in ["input", "tools", "tool_choice", "text", "max_output_tokens"] {
                    assert_eq!(again[member], value[member], "{name}: {member}");
                }
            }
            insta::assert_snapshot!(name.as_str(), text);
        }
    });
}

#[test]
fn transcripts_become_the_reviewed_deltas_and_the_answers_of_every_dialect() {
    settled("streams").bind(|| {
        for (name, bytes) in fixtures("responses/streams", "sse") {
            let (sent, notes) = forwarded([&bytes[..]]);
            let same = if sent.as_bytes() == bytes { "as sent".to_owned() } else { sent };
            let deltas = meaning([&bytes[..]]);
            let dialects = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Responses];
            let answers = dialects.map(|dialect| {
                let (events, body) = (streamed(dialect, &deltas), folded(dialect, &deltas));
                format!("for {}, streamed\n{events}\nfor {}, whole\n{body}", dialect.name(), dialect.name())
            });
            check_events(&name, &streamed(Dialect::Responses, &deltas));
            let told = format!(
                "forwarded {notes:#?}\n{same}\n\nmeaning\n{}\n\n{}",
                shown(&deltas),
                answers.join("\n\n")
            );
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

#[test]
fn whole_responses_become_the_reviewed_deltas() {
    settled("whole").bind(|| {
        for (name, body) in fixtures("responses/whole", "json") {
            let whole = match read_whole(Bytes::from(body.clone())) {
                Ok(Delta::Whole(whole)) => {
                    assert_eq!(whole.bytes, body, "{name} passes untouched");
                    format!("{:?}", whole.notes)
                }
                other => format!("{other:?}"),
            };
            let meaning = match unfold(&body) {
                Ok(deltas) => {
                    let again = folded(Dialect::Responses, &deltas);
                    check_response(&name, &again);
                    format!("{}\n\nwritten again\n{again}", shown(&deltas))
                }
                Err(error) => error.to_string(),
            };
            insta::assert_snapshot!(name.as_str(), format!("{whole}\n\n{meaning}"));
        }
    });
}

/// Answers of vendors that speak something else, with the vendor's dialect.
fn elsewhere() -> Vec<(String, Vec<Delta>)> {
    let chat = fixtures("streams", "sse").into_iter().filter(|(name, _)| !name.contains("completion")).map(
        |(name, bytes)| {
            let mut lane = ChunkReader::new(Task::Chat, crate::support::choices(&name));
            (format!("openai_{name}"), read(&mut lane, [&bytes[..]]))
        },
    );
    let messages = fixtures("messages/streams", "sse").into_iter().map(|(name, bytes)| {
        let mut lane = anthropic::reader::MessageReader::new();
        (format!("anthropic_{name}"), read(&mut lane, [&bytes[..]]))
    });
    chat.chain(messages).collect()
}

#[test]
fn answers_of_other_vendors_become_the_reviewed_responses_and_keep_openais_description() {
    settled("answers").bind(|| {
        for (name, deltas) in elsewhere() {
            let events = streamed(Dialect::Responses, &deltas);
            check_events(&name, &events);
            let body = folded(Dialect::Responses, &deltas);
            let failed = matches!(deltas.last(), Some(Delta::Failed(_)));
            if !failed {
                check_response(&name, &body);
                let last = final_response(events.as_bytes()).unwrap();
                assert_eq!(last, body.as_bytes(), "{name}: streamed and whole are one");
                assert!(!output_items(&last).unwrap().is_empty(), "{name}");
            }
            insta::assert_snapshot!(name.as_str(), format!("streamed\n{events}\nwhole\n{body}"));
        }
    });
}

#[test]
fn what_is_written_again_means_the_same() {
    for (name, bytes) in fixtures("responses/streams", "sse") {
        let deltas = meaning([&bytes[..]]);
        if matches!(deltas.last(), Some(Delta::Failed(_))) {
            continue;
        }
        let written = streamed(Dialect::Responses, &deltas);
        let again = meaning([written.as_bytes()]);
        // Pieces that came in one are told in one; what counts is what they add up to.
        assert_eq!(folded(Dialect::Responses, &again), folded(Dialect::Responses, &deltas), "{name}");
    }
}

/// A transcript with other line ends: the line ends within JSON are escaped, so every LF is one of the stream's.
fn with_ends(bytes: &[u8], end: &str) -> Vec<u8> {
    String::from_utf8(bytes.to_vec()).unwrap().replace('\n', end).into_bytes()
}

#[test]
fn a_transcript_cut_at_every_byte_is_forwarded_the_same() {
    for (name, bytes) in fixtures("responses/streams", "sse") {
        let sent = forwarded([&bytes[..]]);
        for cut in 0..=bytes.len() {
            assert_eq!(forwarded([&bytes[..cut], &bytes[cut..]]), sent, "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_transcript_in_any_pieces_and_with_any_line_ends_means_the_same() {
    for (name, bytes) in fixtures("responses/streams", "sse") {
        let said = shown(&meaning([&bytes[..]]));
        for end in ["\n", "\r\n", "\r"] {
            let bytes = with_ends(&bytes, end);
            for size in [1, 2, 3, 7, 64, 500] {
                assert_eq!(shown(&meaning(bytes.chunks(size))), said, "{name} in pieces of {size}");
            }
        }
        // Both lanes have one shell, so one short transcript at every byte tells of all.
        if name == "whole_items" {
            for cut in 0..=bytes.len() {
                assert_eq!(shown(&meaning([&bytes[..cut], &bytes[cut..]])), said, "cut at {cut}");
            }
        }
    }
}

#[test]
fn a_transcript_that_stops_early_never_looks_complete() {
    for (name, bytes) in fixtures("responses/streams", "sse") {
        let text = std::str::from_utf8(&bytes).unwrap();
        let last = text.rfind("\"response.completed\"").or_else(|| text.rfind("\"response.incomplete\""));
        // The data of the last event is its proof; its blank line is not.
        let proof = last.map_or(usize::MAX, |last| last + text[last..].find('\n').unwrap());
        for cut in 0..bytes.len() {
            let told = forwarded([&bytes[..cut]]).1.join("\n");
            assert_eq!(!told.contains("Failed"), cut >= proof, "{name} stopped at {cut}");
        }
        for cut in (0..bytes.len()).step_by(61) {
            let told = shown(&meaning([&bytes[..cut]]));
            assert_eq!(!told.contains("Failed"), cut >= proof, "{name} stopped at {cut}");
        }
    }
}

#[test]
fn the_last_event_may_be_as_large_as_the_answer_that_it_repeats() {
    let text = "x".repeat(2 << 20);
    let events = streamed(Dialect::Responses, &[Delta::Text { choice: 0, text, logprobs: Vec::new() }]);
    let (sent, notes) = forwarded(events.as_bytes().chunks(64 << 10));
    assert!(sent == events && !notes.join(" ").contains("Failed"), "{notes:?}");
}

#[test]
fn a_failure_before_anything_began_is_an_error_event_and_afterwards_a_failed_response() {
    let error = || Delta::Failed(Error::new(Code::UpstreamTimeout, "too late"));
    let early = streamed(Dialect::Responses, &[error()]);
    check_events("early", &early);
    assert!(
        early.starts_with("event: error\n") && early.contains("\"code\":\"upstream_timeout\""),
        "{early}"
    );
    let text = Delta::Text { choice: 0, text: "half".to_owned(), logprobs: Vec::new() };
    let late =
        streamed(Dialect::Responses, &[text, error(), Delta::Failed(Error::new(Code::InternalError, "x"))]);
    check_events("late", &late);
    assert_eq!(late.matches("event: response.failed\n").count(), 1);
    assert!(late.contains("half") && late.contains("\"status\":\"failed\""), "{late}");
}

#[test]
fn a_vendors_events_that_break_off_are_ended_as_a_failed_response_of_the_vendors_id() {
    let (_, bytes) = fixtures("responses/streams", "sse")
        .into_iter()
        .find(|(name, _)| name == "cut_before_the_end")
        .unwrap();
    let mut encoder = stream::StreamEncoder::new(&asked(), 7);
    let mut out = BytesMut::new();
    for delta in read(&mut RawLane::new(), [&bytes[..]]) {
        encoder.encode(delta, &mut out);
    }
    encoder.finish(&mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let event: Value = serde_json::from_str(last.split_once("\ndata: ").unwrap().1).unwrap();
    Schemas::read().check("ResponseStreamEvent", &event).unwrap();
    assert_eq!(event["sequence_number"], text.matches("\ndata: ").count() - 1, "numbers go on");
    assert!(last.starts_with("event: response.failed\n") && last.contains("\"id\":\"resp_68af\""), "{last}");
}

#[test]
fn a_call_of_a_custom_tool_is_told_as_one() {
    let call = |arguments: &str, name: Option<&str>| Delta::ToolCall {
        choice: 0,
        index: 0,
        id: name.map(|_| "call_1".to_owned()),
        name: name.map(str::to_owned),
        arguments: arguments.to_owned(),
    };
    let deltas = [call("{\"input\":\"a", Some("patch")), call("\\nb\"}", None)];
    let events = streamed(Dialect::Responses, &deltas);
    check_events("custom", &events);
    assert!(events.contains("\"type\":\"response.custom_tool_call_input.done\""), "{events}");
    let body = folded(Dialect::Responses, &deltas);
    check_response("custom", &body);
    let value: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(value["output"][0]["input"], "a\nb");
}

#[test]
fn pieces_of_parallel_calls_may_come_mixed() {
    let call = |index: u32, name: Option<&str>, arguments: &str| Delta::ToolCall {
        choice: 0,
        index,
        id: name.map(|_| format!("call_{index}")),
        name: name.map(str::to_owned),
        arguments: arguments.to_owned(),
    };
    let deltas =
        [call(0, Some("f"), "{\"a\""), call(1, Some("g"), "{"), call(0, None, ":1}"), call(1, None, "}")];
    check_events("mixed", &streamed(Dialect::Responses, &deltas));
    let value: Value = serde_json::from_str(&folded(Dialect::Responses, &deltas)).unwrap();
    let arguments: Vec<&str> =
        value["output"].as_array().unwrap().iter().map(|call| call["arguments"].as_str().unwrap()).collect();
    assert_eq!(arguments, ["{\"a\":1}", "{}"]);
}

#[test]
fn reasoning_is_a_summary_for_those_who_asked_for_one() {
    let deltas = [
        Delta::Reasoning { choice: 0, text: "hm".to_owned() },
        Delta::Signature { choice: 0, text: "EqQB".to_owned() },
        Delta::Sealed { choice: 0, text: "EmwK".to_owned() },
        Delta::Text { choice: 0, text: "yes".to_owned(), logprobs: Vec::new() },
    ];
    let request = decoded(br#"{"model":"m","input":"x","reasoning":{"summary":"auto"}}"#);
    let mut folder = response::Folder::new(&request, 7);
    deltas.iter().for_each(|delta| folder.push(delta.clone()).unwrap());
    let body = Box::new(folder).finish().unwrap();
    check_response("summary", std::str::from_utf8(&body).unwrap());
    let output = serde_json::from_slice::<Value>(&body).unwrap()["output"].clone();
    assert_eq!(output[0]["summary"][0]["text"], "hm");
    assert_eq!(output[1]["type"], "reasoning");
    // What came with it comes back to its vendor as it was.
    let again = serde_json::json!({"model": "m", "input": output});
    let content = decoder::decode_content(again.to_string().as_bytes(), Task::Chat).unwrap();
    let body = anthropic::chat::encode_body(content.chat().unwrap(), "claude", false, 9).unwrap().body;
    let blocks = serde_json::from_slice::<Value>(&body).unwrap()["messages"][0]["content"].clone();
    assert_eq!(blocks[0]["signature"], "EqQB");
    assert_eq!(blocks[1]["data"], "EmwK");
    // And to nobody else.
    let dropped = chat::encode_body(content.chat().unwrap(), "gpt-5", false).unwrap().dropped;
    assert!(dropped.contains(&"messages.thinking.signature".to_owned()), "{dropped:?}");
}
