//! Counting a request's tokens: both dialects that ask for it, every vendor's dialect that can.

use bytes::Bytes;
use penstock_dialect::splice::upstream_body;
use penstock_dialect::{Ask, Chats, DecodeLimits, asker, vendor};
use penstock_domain::{Delta, Dialect, Error, Origin, Request, RequestId, Task};
use serde_json::{Value, json};

fn decoded(dialect: Dialect, body: &Value) -> Result<Request, Error> {
    let bytes = Bytes::from(body.to_string());
    let decoded = asker(dialect).unwrap().decode(Task::CountTokens, bytes, &DecodeLimits::default())?;
    Ok(decoded.into_request(RequestId::new("req_count"), Origin::Http, None))
}

/// The same question in both dialects, with everything that has no tokens.
fn asked(dialect: Dialect) -> Request {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let body = match dialect {
        Dialect::Responses => json!({
            "model": "m", "input": "Weather?", "instructions": "Be kind.", "truncation": "disabled",
            "parallel_tool_calls": true, "reasoning": {"effort": "low"}, "text": {"verbosity": "low"},
            "tools": [{"type": "function", "name": "weather", "parameters": schema, "strict": false}],
            "penstock": {"tags": {"a": "b"}},
        }),
        _ => json!({
            "model": "m", "messages": [{"role": "user", "content": "Weather?"}], "system": "Be kind.",
            "tools": [{"name": "weather", "input_schema": schema}], "penstock": {"tags": {"a": "b"}},
        }),
    };
    decoded(dialect, &body).unwrap()
}

fn told(request: &Request, deltas: Vec<Delta>) -> Value {
    let mut folder = asker(request.body.dialect()).unwrap().folder(request, 7);
    deltas.into_iter().try_for_each(|delta| folder.push(delta)).unwrap();
    serde_json::from_slice(&folder.finish().unwrap()).unwrap()
}

#[test]
fn every_vendor_that_counts_is_asked_for_what_has_tokens_and_its_number_is_told() {
    let answers = [
        (Dialect::Anthropic, r#"{"input_tokens":31}"#),
        (Dialect::Responses, r#"{"object":"response.input_tokens","input_tokens":31}"#),
        (Dialect::Gemini, r#"{"totalTokens":31}"#),
        (Dialect::Bedrock, r#"{"inputTokens":31}"#),
    ];
    for from in [Dialect::Anthropic, Dialect::Responses] {
        let request = asked(from);
        assert!(!request.stream);
        let expected = match from {
            Dialect::Anthropic => json!({"input_tokens": 31}),
            _ => json!({"object": "response.input_tokens", "input_tokens": 31}),
        };
        for (to, answer) in answers {
            let wires = vendor(to).unwrap();
            let body = if from == to {
                upstream_body(&request, "upstream", false)
            } else {
                let (task, chats) = (Task::CountTokens, Chats::OPENAI);
                let ask =
                    Ask { task, model: "upstream", stream: false, ask_usage: true, max_tokens: 4096, chats };
                wires.encode(request.body.content().unwrap(), &ask).unwrap().body
            };
            let body = String::from_utf8(body.to_vec()).unwrap();
            for part in ["Weather?", "Be kind.", "city"] {
                assert!(body.contains(part), "{from:?} to {to:?} lost {part}: {body}");
            }
            for part in ["max_tokens", "maxTokens", "\"store\"", "\"stream\"", "penstock"] {
                assert!(!body.contains(part), "{from:?} to {to:?} sends {part}: {body}");
            }
            let deltas = wires.whole(&request, Bytes::from_static(answer.as_bytes())).unwrap();
            assert_eq!(told(&request, deltas), expected, "{from:?} to {to:?}");
        }
        let estimated = vec![Delta::Counted { input: 31, estimated: true }];
        assert_eq!(told(&request, estimated), expected);
    }
}

#[test]
fn what_is_no_count_is_no_answer() {
    let request = asked(Dialect::Responses);
    for (body, code) in [
        (&br#"{"object":"response.input_tokens"}"#[..], "upstream_bad_response"),
        (br#"{"input_tokens":-1}"#, "upstream_bad_response"),
        (b"{\"input_tokens\":1,\"x\":\"\xff\"}", "upstream_bad_response"),
        (br#"{"error":{"message":"boom","type":"server_error","code":null}}"#, "upstream_error"),
        (b"<html>", "upstream_bad_response"),
    ] {
        let answer = vendor(Dialect::Responses).unwrap().whole(&request, Bytes::from_static(body));
        assert_eq!(answer.unwrap_err().code().name(), code, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_count_has_the_faults_of_its_request() {
    let fault = |body: &Value| decoded(Dialect::Responses, body).unwrap_err().param().map(str::to_owned);
    assert_eq!(fault(&json!({"model": "m"})).as_deref(), Some("input"));
    assert_eq!(fault(&json!({"input": "x"})).as_deref(), Some("model"));
    assert_eq!(fault(&json!({"model": "m", "input": 1})).as_deref(), Some("input"));
}
