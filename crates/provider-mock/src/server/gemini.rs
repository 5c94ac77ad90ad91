//! Google's `generateContent`, its token count and its embeddings, read and written by the mock itself.
//!
//! A fake, made from Google's public API description and proven by Google's own Python SDK, which drives it in
//! `tests/gemini`; no Google server was ever asked. It shares no code with the gateway's dialect, on purpose. It is as
//! strict as the description: unknown members, results that do not match the calls before them, a turn that mixes results
//! with anything else, calls without a thought signature at models of the third generation, and signatures that the mock
//! did not give out are refused.

mod request;

use bytes::{BufMut, Bytes, BytesMut};
use penstock_domain::{Delta, FinishReason, TokenLogprob, Usage};
use serde_json::{Value, json};

pub(crate) use request::{count, embed, generate, vectors};

/// The signature of the mock's thoughts.
const SIGNATURE: &str = "bW9jaw==";
/// What is asked of a model, after the colon of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Generate,
    Stream,
    Count,
    Embed,
}

impl Verb {
    /// The verb and the model of a path; `None` when it is no path of this API.
    pub(crate) fn of(path: &str) -> Option<(Self, &str)> {
        let (model, verb) = path.rsplit_once("/models/")?.1.rsplit_once(':')?;
        let verb = match verb {
            "generateContent" => Self::Generate,
            "streamGenerateContent" => Self::Stream,
            "countTokens" => Self::Count,
            "batchEmbedContents" => Self::Embed,
            _ => return None,
        };
        Some((verb, model))
    }

    /// The path in statistics and for rules.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Generate => "/v1beta/models:generateContent",
            Self::Stream => "/v1beta/models:streamGenerateContent",
            Self::Count => "/v1beta/models:countTokens",
            Self::Embed => "/v1beta/models:batchEmbedContents",
        }
    }
}

fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::ToolCalls => "STOP",
        FinishReason::Length => "MAX_TOKENS",
        FinishReason::ContentFilter => "SAFETY",
    }
}

/// Usage in Google's arithmetic, where the answer leaves out the thoughts.
fn usage_json(usage: Usage) -> Value {
    let thoughts = usage.reasoning.unwrap_or(0);
    let mut wire = json!({
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output.saturating_sub(thoughts),
        "totalTokenCount": usage.total(),
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
    });
    if let Some(cached) = usage.cached_input {
        wire["cachedContentTokenCount"] = json!(cached);
    }
    if thoughts > 0 {
        wire["thoughtsTokenCount"] = json!(thoughts);
    }
    wire
}

fn logprobs_json(tokens: &[TokenLogprob]) -> Value {
    let one = |token: &str, logprob: f32| json!({"token": token, "tokenId": token.len(), "logProbability": logprob});
    let chosen: Vec<Value> = tokens.iter().map(|token| one(&token.token, token.logprob)).collect();
    let top = tokens.iter().map(|token| {
        let all: Vec<Value> = token.top.iter().map(|(token, _, logprob)| one(token, *logprob)).collect();
        json!({"candidates": all})
    });
    json!({"chosenCandidates": chosen, "topCandidates": top.collect::<Vec<_>>()})
}

/// Turns deltas into responses, one for each piece that is said.
pub(crate) struct Speaker {
    id: String,
    model: String,
    usage: Option<Usage>,
    /// The call whose arguments are on their way: choice, id, name, arguments.
    call: Option<(u32, String, String, String)>,
    /// Thoughts were told: what comes next is signed.
    thought: bool,
    spoken: bool,
    finished: Vec<(u32, FinishReason)>,
}

impl Speaker {
    /// `usage` is what is known at the start; `None` says nothing about usage.
    pub(crate) fn new(usage: Option<Usage>) -> Self {
        let (id, model) = (String::new(), String::new());
        Self { id, model, usage, call: None, thought: false, spoken: false, finished: Vec::new() }
    }

    fn push(&mut self, delta: Delta, out: &mut Vec<Value>) {
        if !matches!(delta, Delta::ToolCall { id: None, .. }) {
            self.close(out);
        }
        match delta {
            Delta::Started(started) => (self.id, self.model) = (started.id, started.model),
            Delta::Reasoning { choice, text } => {
                self.thought = true;
                self.say(choice, json!({"text": text, "thought": true}), None, out);
            }
            Delta::Text { choice, text, logprobs } => {
                let logprobs = (!logprobs.is_empty()).then(|| logprobs_json(&logprobs));
                self.say(choice, json!({"text": text}), logprobs, out);
            }
            Delta::Refusal { choice, text } => self.say(choice, json!({"text": text}), None, out),
            Delta::ToolCall { choice, id: Some(id), name, arguments, .. } => {
                self.call = Some((choice, id, name.unwrap_or_default(), arguments));
            }
            Delta::ToolCall { arguments, .. } => {
                if let Some(call) = &mut self.call {
                    call.3.push_str(&arguments);
                }
            }
            Delta::Finished { choice, reason, .. } => self.finished.push((choice, reason)),
            Delta::Usage(usage) => self.usage = Some(usage),
            _ => {}
        }
    }

    fn close(&mut self, out: &mut Vec<Value>) {
        let Some((choice, id, name, arguments)) = self.call.take() else { return };
        // Google parses the arguments itself; what is no JSON cannot be said.
        let args: Value = serde_json::from_str(&arguments).unwrap_or_else(|_| json!({}));
        let mut call = json!({"name": name, "args": args});
        // Most models give no ids: the mock gives those that the script names.
        if !id.starts_with("call_mock_") {
            call["id"] = json!(id);
        }
        let mut part = json!({"functionCall": call});
        if std::mem::take(&mut self.thought) {
            part["thoughtSignature"] = json!(SIGNATURE);
        }
        self.say(choice, part, None, out);
    }

    fn say(&mut self, choice: u32, part: Value, logprobs: Option<Value>, out: &mut Vec<Value>) {
        self.spoken = true;
        let mut candidate = json!({"content": {"parts": [part], "role": "model"}, "index": choice});
        if let Some(logprobs) = logprobs {
            candidate["logprobsResult"] = logprobs;
        }
        out.push(self.response(Some(candidate)));
    }

    fn response(&self, candidate: Option<Value>) -> Value {
        let mut response = json!({"modelVersion": self.model, "responseId": self.id});
        if let Some(candidate) = candidate {
            response["candidates"] = json!([candidate]);
        }
        if let Some(usage) = self.usage {
            response["usageMetadata"] = usage_json(usage);
        }
        response
    }

    /// The responses that end the answer; one without a word that was withheld is a prompt that was blocked.
    fn end(&mut self, out: &mut Vec<Value>) {
        self.close(out);
        let blocked = self.finished.iter().all(|(_, reason)| *reason == FinishReason::ContentFilter);
        if blocked && !self.spoken {
            let mut response = self.response(None);
            response["promptFeedback"] = json!({"blockReason": "PROHIBITED_CONTENT"});
            return out.push(response);
        }
        for (choice, reason) in std::mem::take(&mut self.finished) {
            let mut part = json!({"text": ""});
            if self.thought {
                part["thoughtSignature"] = json!(SIGNATURE);
            }
            let content = json!({"parts": [part], "role": "model"});
            let candidate =
                json!({"content": content, "finishReason": finish_reason(reason), "index": choice});
            out.push(self.response(Some(candidate)));
        }
    }
}

/// Writes an answer as events.
pub(crate) struct Encoder(Speaker);

impl Encoder {
    pub(crate) fn new(usage: Option<Usage>) -> Self {
        Self(Speaker::new(usage))
    }

    pub(crate) fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        let mut responses = Vec::new();
        self.0.push(delta, &mut responses);
        events(&responses, out);
    }

    pub(crate) fn finish(&mut self, out: &mut BytesMut) {
        let mut responses = Vec::new();
        self.0.end(&mut responses);
        events(&responses, out);
    }
}

fn events(responses: &[Value], out: &mut BytesMut) {
    for response in responses {
        out.put_slice(b"data: ");
        out.put_slice(response.to_string().as_bytes());
        out.put_slice(b"\n\n");
    }
}

/// Gathers an answer into one body.
pub(crate) struct Folder {
    speaker: Speaker,
    responses: Vec<Value>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { speaker: Speaker::new(None), responses: Vec::new() }
    }

    pub(crate) fn push(&mut self, delta: Delta) {
        self.speaker.push(delta, &mut self.responses);
    }

    /// The body, over many lines as Google writes it.
    pub(crate) fn finish(mut self) -> Bytes {
        let Self { speaker, responses } = &mut self;
        speaker.end(responses);
        let mut whole = responses.pop().unwrap_or_else(|| speaker.response(None));
        let mut candidates: Vec<Value> = Vec::new();
        let first = |response: &mut Value| response.pointer_mut("/candidates/0").map(Value::take);
        let last = first(&mut whole);
        for candidate in responses.iter_mut().filter_map(first).chain(last) {
            match candidates.iter_mut().find(|known| known["index"] == candidate["index"]) {
                Some(known) => merge(known, candidate),
                None => candidates.push(candidate),
            }
        }
        if !candidates.is_empty() {
            whole["candidates"] = Value::Array(candidates);
        }
        format!("{whole:#}\n").into()
    }
}

/// Appends what a later response says of a candidate.
fn merge(known: &mut Value, mut later: Value) {
    let parts = later["content"]["parts"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let Some(all) = known["content"]["parts"].as_array_mut() else { return };
    for part in parts {
        let thought = part.get("thought").cloned();
        match all
            .last_mut()
            .filter(|last| last.get("text").is_some() && last.get("thought") == thought.as_ref())
        {
            Some(last) if part.get("text").is_some() => {
                let text = format!("{}{}", text(&last["text"]), text(&part["text"]));
                last["text"] = json!(text);
                if let Some(signature) = part.get("thoughtSignature") {
                    last["thoughtSignature"] = signature.clone();
                }
            }
            // An empty text ends a stream; a whole answer has none.
            _ if part.get("text").is_some_and(|text| text == "")
                && part.get("thoughtSignature").is_none() => {}
            _ => all.push(part),
        }
    }
    for name in ["chosenCandidates", "topCandidates"] {
        let place = format!("/logprobsResult/{name}");
        let more = later.pointer(&place).and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(known) = known.pointer_mut(&place).and_then(Value::as_array_mut) {
            known.extend(more);
        }
    }
    if let Some(reason) = later.get("finishReason") {
        known["finishReason"] = reason.clone();
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
