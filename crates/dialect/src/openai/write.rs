//! The pieces of JSON that streams and whole answers share on their way out.

use bytes::{BufMut, BytesMut};
use memchr::memmem;
use penstock_domain::{Citation, FinishReason, Request, Started, Task, TokenLogprob, Usage};
use serde::Serialize;
use serde_json::Value;

use crate::json::{self, Path};

/// Appends a value as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    let mark = out.len();
    if serde_json::to_writer(out.writer(), value).is_err() {
        // Memory cannot refuse bytes and no value of ours refuses to be written; null keeps the text well formed.
        out.truncate(mark);
        out.put_slice(b"null");
    }
}

/// The id of an answer: the vendor's, or one made from the request's.
pub(crate) fn answer_id(started: &Started, request: &Request) -> String {
    if !started.id.is_empty() {
        return started.id.clone();
    }
    let tail = request.id.as_str().trim_start_matches("req_");
    format!("{}-{tail}", if request.task == Task::Chat { "chatcmpl" } else { "cmpl" })
}

/// The model of an answer as the vendor names it, or as it was asked for.
pub(crate) fn answer_model<'a>(started: &'a Started, request: &'a Request) -> &'a str {
    if started.model.is_empty() { &request.model } else { &started.model }
}

/// Whether a chat was asked in the old words for functions alone: its asker would not find calls in the new ones.
pub(crate) fn is_legacy(request: &Request) -> bool {
    let bytes = request.body.bytes();
    if request.task != Task::Chat || memmem::find(bytes, b"\"functions\"").is_none() {
        return false;
    }
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let object = json::object_of(text, &Path::ROOT);
    object.is_ok_and(|object| object.get("functions").is_some() && object.get("tools").is_none())
}

/// OpenAI's `finish_reason`.
pub(crate) fn finish(reason: FinishReason, legacy: bool) -> &'static str {
    match reason {
        FinishReason::ToolCalls if legacy => "function_call",
        reason => reason.name(),
    }
}

/// Appends a function's name, where it is told, and a piece of its arguments.
pub(crate) fn function(out: &mut BytesMut, name: Option<&str>, arguments: &str) {
    out.put_u8(b'{');
    if let Some(name) = name {
        out.put_slice(b"\"name\":");
        json(out, name);
        out.put_u8(b',');
    }
    out.put_slice(b"\"arguments\":");
    json(out, arguments);
    out.put_u8(b'}');
}

/// A citation as an annotation; `None` for sources without an address, which this dialect has no word for.
pub(crate) fn annotation(citation: &Citation) -> Option<Value> {
    let url = citation.url.as_ref()?;
    let (start, end) = citation.of.unwrap_or_default();
    Some(serde_json::json!({
        "type": "url_citation",
        "url_citation": {
            "url": url, "title": citation.title.as_deref().unwrap_or_default(),
            "start_index": start, "end_index": end,
        },
    }))
}

/// A number that JSON can hold: a probability of zero has a logarithm that JSON has not.
fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}

#[derive(Serialize)]
struct Token<'a> {
    token: &'a str,
    logprob: f32,
    bytes: &'a [u8],
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<Token<'a>>>,
}

/// Appends the `logprobs` member's value of a chat choice.
pub(crate) fn chat_logprobs(out: &mut BytesMut, tokens: &[TokenLogprob]) {
    if tokens.is_empty() {
        return out.put_slice(b"null");
    }
    let bare = |(token, bytes, logprob): &'_ (String, Vec<u8>, f32)| -> (String, Vec<u8>, f32) {
        (token.clone(), bytes.clone(), finite(*logprob))
    };
    out.put_slice(b"{\"content\":[");
    for (i, token) in tokens.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        let top: Vec<_> = token.top.iter().map(bare).collect();
        let top = top.iter().map(|(token, bytes, logprob)| Token {
            token,
            bytes,
            logprob: *logprob,
            top_logprobs: None,
        });
        let wire = Token {
            token: &token.token,
            bytes: &token.bytes,
            logprob: finite(token.logprob),
            top_logprobs: Some(top.collect()),
        };
        json(out, &wire);
    }
    out.put_slice(b"],\"refusal\":null}");
}

/// Appends the `logprobs` member's value of a completion choice; `offset` is the first token's place in the text, in
/// characters.
pub(crate) fn completion_logprobs(out: &mut BytesMut, tokens: &[TokenLogprob], mut offset: usize) {
    if tokens.is_empty() {
        return out.put_slice(b"null");
    }
    #[derive(Serialize)]
    struct Wire<'a> {
        tokens: Vec<&'a str>,
        token_logprobs: Vec<f32>,
        top_logprobs: Vec<serde_json::Map<String, serde_json::Value>>,
        text_offset: Vec<usize>,
    }
    let mut wire = Wire { tokens: vec![], token_logprobs: vec![], top_logprobs: vec![], text_offset: vec![] };
    for token in tokens {
        wire.tokens.push(&token.token);
        wire.token_logprobs.push(finite(token.logprob));
        let top = token.top.iter().map(|(token, _, p)| (token.clone(), serde_json::json!(finite(*p))));
        wire.top_logprobs.push(top.collect());
        wire.text_offset.push(offset);
        offset += token.token.chars().count();
    }
    json(out, &wire);
}

/// Appends the member of a call that carries Google's thought signature, in the shape of Google's own OpenAI endpoint.
pub(crate) fn thought_signature(out: &mut BytesMut, signature: Option<&str>) {
    if let Some(signature) = signature {
        out.put_slice(b",\"extra_content\":{\"google\":{\"thought_signature\":");
        json(out, signature);
        out.put_slice(b"}}");
    }
}

/// Appends a usage object.
pub(crate) fn usage(out: &mut BytesMut, usage: &Usage, task: Task) {
    #[derive(Serialize)]
    struct Input {
        #[serde(skip_serializing_if = "Option::is_none")]
        cached_tokens: Option<u64>,
        /// OpenRouter's name: OpenAI itself has none, because it does not charge for writing.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_write_tokens: Option<u64>,
    }
    #[derive(Serialize)]
    struct Output {
        reasoning_tokens: u64,
    }
    #[derive(Serialize)]
    struct Wire {
        prompt_tokens: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        completion_tokens: Option<u64>,
        total_tokens: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt_tokens_details: Option<Input>,
        #[serde(skip_serializing_if = "Option::is_none")]
        completion_tokens_details: Option<Output>,
    }
    let wire = Wire {
        prompt_tokens: usage.input,
        completion_tokens: (task != Task::Embedding).then_some(usage.output),
        total_tokens: usage.total(),
        prompt_tokens_details: (usage.cached_input.or(usage.cache_write))
            .map(|_| Input { cached_tokens: usage.cached_input, cache_write_tokens: usage.cache_write }),
        completion_tokens_details: usage.reasoning.map(|reasoning_tokens| Output { reasoning_tokens }),
    };
    json(out, &wire);
}
