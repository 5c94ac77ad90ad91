//! Everything that the two chat dialects say, through both of them: golden files of requests and answers, and the round that
//! a signed thought must survive.
//!
//! To accept a change of a golden file, look at it and run the tests once with `INSTA_UPDATE=always`.

use bytes::{Bytes, BytesMut};
use penstock_dialect::anthropic::reader::MessageReader;
use penstock_dialect::openai::stream::ChunkReader;
use penstock_dialect::{Ask, Chats, Encode, Fold, Lane, asker, vendor};
use penstock_domain::{Content, Conversation, Delta, Dialect, Part, Request, Task};
use serde_json::{Value, json};

use crate::support::{fixtures, request};

const FOLDER: &str = "messages/fidelity";

fn settled() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../fixtures/{FOLDER}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

fn other(name: &str) -> Dialect {
    if name.contains("anthropic") { Dialect::OpenAi } else { Dialect::Anthropic }
}

/// A request as a vendor of this dialect gets it, and what was lost.
fn encoded(request: &Request, dialect: Dialect, model: &str) -> (String, Vec<String>) {
    let ask = Ask {
        task: request.task,
        model,
        stream: request.stream,
        ask_usage: true,
        max_tokens: 4096,
        chats: Chats::OPENAI,
    };
    let encoded = vendor(dialect).unwrap().encode(request.body.content().unwrap(), &ask).unwrap();
    let pretty: Value = serde_json::from_slice(&encoded.body).unwrap();
    (format!("{pretty:#}"), encoded.dropped)
}

#[test]
fn requests_become_the_reviewed_bodies_of_the_other_dialect() {
    settled().bind(|| {
        for (name, body) in fixtures(FOLDER, "json") {
            let request = request(&name, &body).unwrap();
            let models: &[&str] = match other(&name) {
                Dialect::OpenAi => &["gpt-5.1", "gpt-4o"],
                _ => &["claude-sonnet-4-5", "claude-opus-4-6"],
            };
            let mut told = String::new();
            for model in models {
                let (body, dropped) = encoded(&request, other(&name), model);
                told.push_str(&format!("{model} without {dropped:?}\n{body}\n\n"));
            }
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

fn read(name: &str, chunks: &[&[u8]]) -> Vec<Delta> {
    let mut lane: Box<dyn Lane> = match other(name) {
        Dialect::OpenAi => Box::new(MessageReader::new()),
        _ => Box::new(ChunkReader::new(Task::Chat, 1)),
    };
    let mut deltas = Vec::new();
    for chunk in chunks {
        lane.push(Bytes::copy_from_slice(chunk)).unwrap();
        deltas.extend(std::iter::from_fn(|| lane.next()));
    }
    deltas.extend(std::iter::from_fn(|| lane.finish()));
    deltas
}

fn asked(dialect: Dialect) -> Request {
    match dialect {
        Dialect::OpenAi => request(
            "chat",
            br#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        _ => request(
            "anthropic",
            br#"{"model":"m","max_tokens":9,"stop_sequences":["END"],"messages":[{"role":"user","content":"x"}],"stream":true}"#,
        ),
    }
    .unwrap()
}

fn streamed(asked: &Request, deltas: &[Delta]) -> String {
    let mut encoder: Box<dyn Encode> = asker(asked.body.dialect()).unwrap().encoder(asked, 7);
    let mut out = BytesMut::new();
    deltas.iter().for_each(|delta| encoder.encode(delta.clone(), &mut out));
    encoder.finish(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn folded(asked: &Request, deltas: &[Delta]) -> String {
    let mut folder: Box<dyn Fold> = asker(asked.body.dialect()).unwrap().folder(asked, 7);
    let pushed = deltas.iter().try_for_each(|delta| folder.push(delta.clone()));
    match pushed.and_then(|()| folder.finish()) {
        Ok(body) => String::from_utf8(body.to_vec()).unwrap(),
        Err(error) => error.to_string(),
    }
}

fn shown(deltas: &[Delta]) -> String {
    let told = |delta: &Delta| match delta {
        Delta::Failed(error) => format!("Failed({error})"),
        other => format!("{other:?}"),
    };
    deltas.iter().map(told).collect::<Vec<_>>().join("\n")
}

#[test]
fn answers_become_the_reviewed_answers_of_both_dialects() {
    let (chat, message) = (asked(Dialect::OpenAi), asked(Dialect::Anthropic));
    settled().bind(|| {
        for (name, bytes) in fixtures(FOLDER, "sse") {
            let deltas = read(&name, &[&bytes]);
            let told = format!(
                "{}\n\nas chunks\n{}\nas a completion\n{}\n\nas events\n{}\nas a message\n{}",
                shown(&deltas),
                streamed(&chat, &deltas),
                folded(&chat, &deltas),
                streamed(&message, &deltas),
                folded(&message, &deltas),
            );
            insta::assert_snapshot!(name.as_str(), told);
        }
    });
}

#[test]
fn an_answer_cut_at_every_byte_says_the_same() {
    for (name, bytes) in fixtures(FOLDER, "sse") {
        let whole = shown(&read(&name, &[&bytes]));
        for cut in 0..=bytes.len() {
            assert_eq!(shown(&read(&name, &[&bytes[..cut], &bytes[cut..]])), whole, "{name} cut at {cut}");
        }
    }
}

/// Where a text stands is counted from the blocks of its vendor, and nobody's blocks survive another dialect.
fn without_ranges(deltas: &[Delta]) -> String {
    let plain = |delta: &Delta| match delta.clone() {
        Delta::Citation { choice, mut citation } => {
            citation.of = None;
            Delta::Citation { choice, citation }
        }
        other => other,
    };
    shown(&deltas.iter().map(plain).collect::<Vec<_>>())
}

#[test]
fn what_is_written_again_in_its_own_dialect_means_the_same() {
    for (name, bytes) in fixtures(FOLDER, "sse") {
        let own = if name.contains("anthropic") { Dialect::Anthropic } else { Dialect::OpenAi };
        let deltas = read(&name, &[&bytes]);
        // A bare stop sequence is no member of OpenAI's; what vLLM says of it is read, not written.
        // Nor is the explanation of a refusal ours to give: another vendor's is told as text.
        if matches!(name.as_str(), "openai_reasoning_details" | "anthropic_refusal_explained") {
            continue;
        }
        let again = read(&name, &[streamed(&asked(own), &deltas).as_bytes()]);
        // The words that were cited are no member of OpenAI's annotations.
        let plain =
            |deltas: &[Delta]| without_ranges(deltas).replace("quote: Some(\"quoted\")", "quote: None");
        assert_eq!(plain(&again), plain(&deltas), "{name}");
    }
}

#[test]
fn broken_arguments_end_an_anthropic_stream_with_an_error_and_no_stop() {
    for (name, bytes) in fixtures(FOLDER, "sse") {
        if !name.contains("arguments") {
            continue;
        }
        let deltas = read(&name, &[&bytes]);
        let events = streamed(&asked(Dialect::Anthropic), &deltas);
        let last = events.trim_end().rsplit("\n\n").next().unwrap();
        assert!(
            last.starts_with("event: error\n") && last.contains("upstream_bad_response"),
            "{name}: {events}"
        );
        assert!(!events.contains("message_stop") && events.matches("event: error").count() == 1, "{name}");
        assert!(folded(&asked(Dialect::Anthropic), &deltas).contains("upstream_bad_response"), "{name}");
        assert!(
            streamed(&asked(Dialect::OpenAi), &deltas).ends_with("data: [DONE]\n\n"),
            "OpenAI's clients parse"
        );
    }
}

/// The parts of a conversation's last turn of the assistant.
fn thoughts(conversation: &Conversation) -> Vec<&Part> {
    let parts = conversation.messages.iter().flat_map(|message| &message.parts);
    parts.filter(|part| matches!(part, Part::Reasoning(_) | Part::Signature(_) | Part::Sealed(_))).collect()
}

#[test]
fn a_tool_loop_keeps_signed_thinking_through_an_openai_client() {
    let (_, bytes) =
        fixtures(FOLDER, "sse").into_iter().find(|(name, _)| name == "anthropic_signed_call").unwrap();
    let deltas = read("anthropic", &[&bytes]);
    // What Anthropic said, as an OpenAI client keeps it, and as it comes back.
    let answer: Value = serde_json::from_str(&folded(&asked(Dialect::OpenAi), &deltas)).unwrap();
    let turn = &answer["choices"][0]["message"];
    let result = json!({"role": "tool", "tool_call_id": "toolu_1", "content": "7"});
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let messages = json!([{"role": "user", "content": "x"}, turn, result]);
    let body = json!({"model": "m", "messages": messages, "tools": tools, "reasoning_effort": "low"});
    let next = request("chat", body.to_string().as_bytes()).unwrap();
    let Content::Chat(conversation) = next.body.content().unwrap() else { panic!("a chat") };
    assert_eq!(
        format!("{:?}", thoughts(conversation)),
        r#"[Reasoning("hm"), Signature("EqQB"), Reasoning("more"), Signature("ErAC")]"#
    );
    let (sent, dropped) = encoded(&next, Dialect::Anthropic, "claude-sonnet-4-5");
    let sent: Value = serde_json::from_str(&sent).unwrap();
    assert_eq!(
        sent["messages"][1]["content"],
        json!([
            {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
            {"type": "thinking", "thinking": "more", "signature": "ErAC"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
        ])
    );
    assert_eq!((&sent["thinking"]["type"], dropped), (&json!("enabled"), vec![]));
}

#[test]
fn a_client_of_the_old_functions_gets_calls_in_the_old_shape() {
    let (_, bytes) =
        fixtures(FOLDER, "sse").into_iter().find(|(name, _)| name == "anthropic_signed_call").unwrap();
    let deltas = read("anthropic", &[&bytes]);
    let old = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"functions":[{"name":"f"}],"stream":true}"#;
    let old = request("chat", old).unwrap();
    let answer: Value = serde_json::from_str(&folded(&old, &deltas)).unwrap();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["function_call"], json!({"name": "f", "arguments": "{\"a\": 1}"}));
    assert_eq!(
        (&choice["finish_reason"], choice["message"].get("tool_calls")),
        (&json!("function_call"), None)
    );
    let chunks = streamed(&old, &deltas);
    assert!(chunks.contains(r#""function_call":{"name":"f","arguments":""}"#), "{chunks}");
    assert!(
        chunks.contains(r#""finish_reason":"function_call""#) && !chunks.contains("tool_calls"),
        "{chunks}"
    );
}
