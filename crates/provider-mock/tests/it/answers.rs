//! What good answers say.

use penstock_provider_mock::tokens;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn the_default_answer_quotes_the_question_streamed_and_whole() {
    let mock = plain().await;
    let streamed = stream(&mock, json!({})).await;
    let whole = whole(&mock, json!({})).await;
    let said = "Hello from the mock. You said: how are you";
    assert_eq!(streamed.said(), said);
    assert_eq!(whole.json()["choices"][0]["message"]["content"], said);
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
    assert_eq!(streamed.data().last().unwrap(), "[DONE]");
    assert_eq!(whole.header("content-type"), Some("application/json"));
    assert_eq!(whole.json()["model"], "m1");
    let stats = mock.stats();
    assert_eq!(stats.completion_tokens, 2 * tokens::count(said));
    assert_eq!(stats.prompt_tokens, 2 * 3);
    assert_eq!(whole.json()["usage"]["completion_tokens"], tokens::count(said));
    assert_eq!((stats.streams_started, stats.streams_completed, stats.in_flight), (1, 1, 0));
    assert_eq!(stats.by_path[CHAT][&200], 2);
}

#[tokio::test]
async fn text_echo_and_tokens_set_the_answer() {
    let mock = plain().await;
    assert_eq!(stream(&mock, json!({"text": "fixed answer"})).await.said(), "fixed answer");
    assert_eq!(stream(&mock, json!({"echo": true})).await.said(), "how are you");
    let counted = whole(&mock, json!({"tokens": 5})).await.json();
    assert_eq!(counted["choices"][0]["message"]["content"], " the mock says one more");
    assert_eq!(counted["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn usage_comes_when_asked_for_and_as_the_script_says() {
    let mock = plain().await;
    let mut body = question(true);
    body["stream_options"] = json!({"include_usage": true});
    let usage =
        |answer: &Answer| answer.events().iter().find_map(|event| event["usage"].as_object().cloned());
    let right = ask(&mock, CHAT, json!({"text": "a b"}), &body).await;
    assert_eq!(usage(&right).unwrap()["completion_tokens"], 2);
    assert_eq!(usage(&ask(&mock, CHAT, json!({"omit_usage": true}), &body).await), None);
    let wrong = usage(&ask(&mock, CHAT, json!({"text": "a b", "wrong_usage": true}), &body).await).unwrap();
    assert_eq!((&wrong["completion_tokens"], &wrong["prompt_tokens"]), (&json!(0), &json!(1003)));
    let given = json!({"usage": {"prompt_tokens": 70, "completion_tokens": 5, "cached_tokens": 64}});
    let given = usage(&ask(&mock, CHAT, given, &body).await).unwrap();
    assert_eq!(
        (&given["prompt_tokens"], &given["prompt_tokens_details"]["cached_tokens"]),
        (&json!(70), &json!(64))
    );
    let billed = mock.stats().completion_tokens;
    assert!(billed > 5, "the mock bills what it said, not what it reported: {billed}");
}

#[tokio::test]
async fn tool_calls_refusals_reasoning_and_reasons_are_said() {
    let mock = plain().await;
    let script = json!({"tool_calls": [{"name": "weather", "arguments": {"city": "Ulm"}}]});
    let choice = whole(&mock, script).await.json()["choices"][0].clone();
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["name"], "weather");
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], r#"{"city":"Ulm"}"#);
    assert_eq!(choice["finish_reason"], "tool_calls");
    let refused = whole(&mock, json!({"refusal": "no"})).await.json();
    assert_eq!(refused["choices"][0]["message"]["refusal"], "no");
    let reasoned = stream(&mock, json!({"reasoning": "hmm", "text": "yes"})).await;
    assert!(reasoned.text().contains("hmm") && reasoned.said() == "yes", "{}", reasoned.text());
    let filtered = whole(&mock, json!({"finish_reason": "content_filter"})).await.json();
    assert_eq!(filtered["choices"][0]["finish_reason"], "content_filter");
}

#[tokio::test]
async fn choices_limits_and_log_probabilities_are_respected() {
    let mock = plain().await;
    let mut body = question(false);
    body["n"] = json!(3);
    body["max_tokens"] = json!(2);
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    let answer = ask(&mock, CHAT, json!({"text": "one two three"}), &body).await.json();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for choice in choices {
        assert_eq!(choice["message"]["content"], "one two");
        assert_eq!(choice["finish_reason"], "length");
        let probabilities = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(probabilities.len(), 2);
        assert_eq!(probabilities[0]["top_logprobs"].as_array().unwrap().len(), 2);
    }
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    let unasked = whole(&mock, json!({"text": "one", "logprobs": true})).await.json();
    assert!(
        unasked["choices"][0]["logprobs"]["content"][0]["logprob"].is_number()
            || unasked["choices"][0]["logprobs"].is_null()
    );
}

#[tokio::test]
async fn completions_continue_prompts() {
    let mock = plain().await;
    let body = json!({"model": "m", "prompt": ["a", "b"], "n": 2, "echo": true});
    let answer = ask(&mock, "/v1/completions", json!({"text": "!"}), &body).await.json();
    let said: Vec<_> =
        answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].clone()).collect();
    assert_eq!(said, ["a!", "a!", "b!", "b!"]);
    let streamed = json!({"model": "m", "prompt": "a", "stream": true});
    let streamed = ask(&mock, "/v1/completions", json!({"text": "x y"}), &streamed).await;
    let text: String =
        streamed.events().iter().map(|e| e["choices"][0]["text"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(text, "x y");
}

#[tokio::test]
async fn embeddings_have_the_asked_length_and_repeat_for_equal_inputs() {
    let mock = plain().await;
    let body = json!({"model": "e", "input": ["a", "b", "a"]});
    let answer = ask(&mock, "/v1/embeddings", json!({"embedding_dimensions": 4}), &body).await.json();
    let rows = answer["data"].as_array().unwrap();
    assert_eq!(rows[0]["embedding"].as_array().unwrap().len(), 4);
    assert_eq!(rows[0]["embedding"], rows[2]["embedding"]);
    assert_ne!(rows[0]["embedding"], rows[1]["embedding"]);
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    let asked = json!({"model": "e", "input": "a", "dimensions": 7});
    let asked = ask(&mock, "/v1/embeddings", json!({}), &asked).await.json();
    assert_eq!(asked["data"][0]["embedding"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn the_messages_dialect_answers_whole_streamed_and_counts() {
    let mock = plain().await;
    let whole = ask(&mock, MESSAGES, json!({"text": "good day"}), &question(false)).await.json();
    assert_eq!(whole["type"], "message");
    assert_eq!(whole["content"][0]["text"], "good day");
    assert_eq!(whole["usage"]["output_tokens"], 2);
    let streamed = ask(&mock, MESSAGES, json!({"text": "good day"}), &question(true)).await;
    let events = streamed.events();
    assert_eq!(events[0]["type"], "message_start");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    let said: String = events.iter().map(|e| e["delta"]["text"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(said, "good day");
    let counted = ask(&mock, "/v1/messages/count_tokens", json!({}), &question(false)).await.json();
    assert_eq!(counted, json!({"input_tokens": 3}));
}

#[tokio::test]
async fn the_messages_dialect_thinks_calls_tools_and_says_why_it_stopped() {
    let mock = plain().await;
    let script =
        json!({"reasoning": "hmm", "tool_calls": [{"name": "f", "arguments": {"a": [1, 2]}}, {"name": "g"}]});
    let whole = ask(&mock, MESSAGES, script.clone(), &question(false)).await.json();
    let kinds: Vec<_> =
        whole["content"].as_array().unwrap().iter().map(|block| block["type"].clone()).collect();
    assert_eq!(kinds, ["thinking", "tool_use", "tool_use"]);
    assert_eq!(
        (&whole["content"][1]["input"], &whole["stop_reason"]),
        (&json!({"a": [1, 2]}), &json!("tool_use"))
    );
    let streamed = ask(&mock, MESSAGES, script, &question(true)).await.events();
    let of = |kind: &str| streamed.iter().filter(|event| event["type"] == kind).cloned().collect::<Vec<_>>();
    let starts = of("content_block_start");
    assert_eq!(starts.iter().map(|event| event["index"].clone()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(of("content_block_stop").len(), 3);
    let arguments = of("content_block_delta").into_iter().filter(|event| event["index"] == 1);
    let arguments: String =
        arguments.map(|e| e["delta"]["partial_json"].as_str().unwrap().to_owned()).collect();
    assert_eq!(arguments, r#"{"a":[1,2]}"#);
    assert_eq!(of("message_delta")[0]["delta"]["stop_reason"], "tool_use");
    let cached = json!({"usage": {"prompt_tokens": 70, "completion_tokens": 5, "cached_tokens": 64}});
    let usage = ask(&mock, MESSAGES, cached, &question(false)).await.json()["usage"].clone();
    assert_eq!((&usage["input_tokens"], &usage["cache_read_input_tokens"]), (&json!(6), &json!(64)));
    let mut short = question(false);
    short["max_tokens"] = json!(1);
    assert_eq!(
        ask(&mock, MESSAGES, json!({"text": "a b"}), &short).await.json()["stop_reason"],
        "max_tokens"
    );
}

#[tokio::test]
async fn models_are_listed_and_any_name_is_known() {
    let mock = server(json!({"models": ["a", "b"]})).await;
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n").into_bytes();
    let list = raw(mock.addr(), &get("/v1/models")).await.json();
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b"]);
    let one = raw(mock.addr(), &get("/v1/models/whatever")).await.json();
    assert_eq!((&one["id"], &one["object"]), (&json!("whatever"), &json!("model")));
}

#[tokio::test]
async fn what_arrived_can_be_seen_but_no_credential() {
    let mock = plain().await;
    whole(&mock, json!({})).await;
    let seen = mock.requests().pop().unwrap();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", CHAT));
    assert_eq!(seen.header("authorization"), Some("redacted"));
    assert_eq!(seen.key_digest, Some(penstock_provider_mock::key_digest("sk-test")));
    assert_eq!(seen.body, question(false).to_string());
    let get = |verb: &str, path: &str| {
        format!("{verb} {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n").into_bytes()
    };
    let stats = raw(mock.addr(), &get("GET", "/mock/stats")).await.json();
    assert_eq!((&stats["requests"], &stats["by_path"][CHAT]["200"]), (&json!(1), &json!(1)));
    let shown = raw(mock.addr(), &get("GET", "/mock/requests")).await;
    assert!(!shown.text().contains("sk-test") && shown.text().contains("how are you"));
    raw(mock.addr(), &get("POST", "/mock/reset")).await;
    assert_eq!(mock.stats().requests, 0);
    assert!(mock.requests().is_empty());
}
