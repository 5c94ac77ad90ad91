//! Requests of Google's API, read as strictly as its description and its servers' complaints allow.

use bytes::Bytes;
use penstock_domain::{Code, Error};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::{SIGNATURE, Verb};
use crate::asked::{Asked, MAX_INPUTS, MAX_TEXT, bounded, seed};
use crate::server::Head;
use crate::tokens;

/// What the description allows instead of a signature.
const UNSIGNED: &str = "skip_thought_signature_validator";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Generate {
    model: Option<String>,
    contents: Vec<Content>,
    system_instruction: Option<Content>,
    #[serde(default)]
    generation_config: Generation,
    #[serde(rename = "tools")]
    _tools: Option<Vec<Tools>>,
    #[serde(rename = "toolConfig")]
    _tool_config: Option<ToolConfig>,
    #[serde(rename = "safetySettings")]
    _safety_settings: Option<IgnoredAny>,
    #[serde(rename = "cachedContent")]
    _cached_content: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    role: Option<String>,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Part {
    text: Option<String>,
    thought: Option<bool>,
    thought_signature: Option<String>,
    inline_data: Option<Blob>,
    file_data: Option<FileData>,
    function_call: Option<Call>,
    function_response: Option<Answer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Blob {
    mime_type: String,
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileData {
    #[serde(rename = "mimeType")]
    _mime_type: Option<String>,
    file_uri: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    id: Option<String>,
    name: String,
    #[serde(rename = "args")]
    _args: Option<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    id: Option<String>,
    name: String,
    response: serde_json::Map<String, Value>,
    #[serde(rename = "parts")]
    _parts: Option<Vec<Part>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tools {
    #[serde(rename = "functionDeclarations")]
    _function_declarations: Vec<Declaration>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Declaration {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "parameters")]
    _parameters: Option<serde_json::Map<String, Value>>,
    // Google reads both spellings of every name; its SDK writes this one so.
    #[serde(rename = "parametersJsonSchema", alias = "parameters_json_schema")]
    _parameters_json_schema: Option<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ToolConfig {
    #[serde(rename = "functionCallingConfig")]
    _function_calling_config: Calling,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Calling {
    #[serde(rename = "mode")]
    _mode: Mode,
    #[serde(rename = "allowedFunctionNames")]
    _allowed_function_names: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Mode {
    Auto,
    Any,
    None,
    Validated,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Generation {
    candidate_count: Option<u32>,
    max_output_tokens: Option<u32>,
    #[serde(rename = "temperature")]
    _temperature: Option<f32>,
    #[serde(rename = "topP")]
    _top_p: Option<f32>,
    #[serde(rename = "topK")]
    _top_k: Option<f32>,
    #[serde(rename = "seed")]
    _seed: Option<i32>,
    #[serde(rename = "presencePenalty")]
    _presence_penalty: Option<f32>,
    #[serde(rename = "frequencyPenalty")]
    _frequency_penalty: Option<f32>,
    stop_sequences: Vec<String>,
    response_logprobs: Option<bool>,
    logprobs: Option<u8>,
    response_mime_type: Option<String>,
    response_json_schema: Option<serde_json::Map<String, Value>>,
    response_schema: Option<serde_json::Map<String, Value>>,
    thinking_config: Option<Thinking>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Thinking {
    #[serde(rename = "includeThoughts", alias = "include_thoughts")]
    _include_thoughts: Option<bool>,
    #[serde(alias = "thinking_budget")]
    thinking_budget: Option<i32>,
    #[serde(alias = "thinking_level")]
    thinking_level: Option<Level>,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Level {
    Minimal,
    Low,
    Medium,
    High,
}

fn wrong(say: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, say)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|error| wrong(format!("Invalid JSON payload received. {error}: Cannot find field.")))
}

/// Reads a request for an answer.
pub(crate) fn generate(body: &[u8], verb: Verb, model: &str) -> Result<(Head, Asked), Error> {
    let request: Generate = read(body)?;
    let asked = request.check(model)?;
    let head = Head {
        model: model.to_owned(),
        stream: verb == Verb::Stream,
        choices: asked.choices,
        max_tokens: request.generation_config.max_output_tokens,
    };
    Ok((head, asked))
}

/// Reads a request for a count: what the SDK sends, or a whole request as it would be asked.
pub(crate) fn count(body: &[u8], model: &str) -> Result<u64, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Count {
        contents: Option<Vec<Content>>,
        generate_content_request: Option<Generate>,
    }
    let count: Count = read(body)?;
    match (count.contents, count.generate_content_request) {
        (Some(contents), None) => Ok(contents.iter().map(Content::tokens).sum()),
        (None, Some(request)) if request.model.as_deref() == Some(format!("models/{model}").as_str()) => {
            request.check(model).map(|asked| asked.prompt_tokens)
        }
        (None, Some(_)) => Err(wrong("the model of generateContentRequest is not that of the path")),
        _ => Err(wrong("either contents or generateContentRequest must be set")),
    }
}

/// Reads a request for vectors.
pub(crate) fn embed(body: &[u8], model: &str) -> Result<(Head, Asked), Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Embed {
        requests: Vec<One>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct One {
        model: String,
        content: Content,
        output_dimensionality: Option<u32>,
        #[serde(rename = "taskType")]
        _task_type: Option<String>,
    }
    let request: Embed = read(body)?;
    let known = |one: &One| one.model == format!("models/{model}");
    if request.requests.is_empty()
        || request.requests.len() > MAX_INPUTS
        || !request.requests.iter().all(known)
    {
        return Err(wrong("requests must have 1 to 2048 items, each of the path's model"));
    }
    let asked = Asked {
        model: model.to_owned(),
        prompt_tokens: request.requests.iter().map(|one| one.content.tokens()).sum(),
        inputs: request.requests.iter().map(|one| seed(&one.content.text())).collect(),
        dimensions: request.requests.iter().find_map(|one| one.output_dimensionality),
        ..Asked::default()
    };
    Ok((Head { model: model.to_owned(), stream: false, choices: 1, max_tokens: None }, asked))
}

/// The body of vectors.
pub(crate) fn vectors(vectors: &[Vec<f32>]) -> Bytes {
    let rows: Vec<Value> = vectors.iter().map(|values| json!({"values": values})).collect();
    json!({"embeddings": rows}).to_string().into()
}

impl Content {
    fn text(&self) -> String {
        let texts: Vec<&str> = self.parts.iter().filter_map(|part| part.text.as_deref()).collect();
        texts.join("\n")
    }

    fn tokens(&self) -> u64 {
        let results = self.parts.iter().filter_map(|part| part.function_response.as_ref());
        tokens::count(&self.text())
            + results
                .map(|answer| tokens::count(&Value::from(answer.response.clone()).to_string()))
                .sum::<u64>()
    }

    fn calls(&self) -> Vec<&Call> {
        self.parts.iter().filter_map(|part| part.function_call.as_ref()).collect()
    }

    fn check(&self, before: Option<&Content>, recent: bool) -> Result<(), Error> {
        let (model, user) = (self.role.as_deref() == Some("model"), self.role.as_deref() == Some("user"));
        if !model && !user {
            return Err(wrong("Please use a valid role: user, model."));
        }
        if self.parts.is_empty() {
            return Err(wrong("contents.parts must not be empty."));
        }
        self.parts.iter().try_for_each(Part::check)?;
        let results: Vec<&Answer> = self.parts.iter().filter_map(|p| p.function_response.as_ref()).collect();
        let calls = before.map(Content::calls).unwrap_or_default();
        if results.len() != calls.len() {
            return Err(wrong(
                "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.",
            ));
        }
        if !results.is_empty() && results.len() != self.parts.len() {
            return Err(wrong("Requests ending with a model turn are not supported."));
        }
        let matched = |(answer, call): (&&Answer, &&Call)| answer.name == call.name && answer.id == call.id;
        if !results.iter().zip(&calls).all(matched) {
            return Err(wrong("a function response does not match its function call"));
        }
        if !model && self.parts.iter().any(|part| part.function_call.is_some() || part.thought == Some(true))
        {
            return Err(wrong("Please ensure that function calls stand in turns of the model."));
        }
        let first = self.parts.iter().find(|part| part.function_call.is_some());
        if recent && first.is_some_and(|part| part.thought_signature.is_none()) {
            return Err(wrong("Function call is missing a thought_signature in functionCall parts."));
        }
        Ok(())
    }
}

impl Part {
    fn check(&self) -> Result<(), Error> {
        let data = [
            self.text.is_some(),
            self.inline_data.is_some(),
            self.file_data.is_some(),
            self.function_call.is_some(),
            self.function_response.is_some(),
        ];
        if data.iter().filter(|data| **data).count() != 1 {
            return Err(wrong("contents.parts must have one initialized field."));
        }
        let blank =
            self.inline_data.as_ref().is_some_and(|blob| blob.mime_type.is_empty() || blob.data.is_empty())
                || self.file_data.as_ref().is_some_and(|file| file.file_uri.is_empty());
        if blank {
            return Err(wrong("Unable to process input image."));
        }
        match self.thought_signature.as_deref() {
            None | Some(SIGNATURE | UNSIGNED) => Ok(()),
            Some(_) => Err(wrong("Thought signature is not valid.")),
        }
    }
}

impl Generate {
    fn check(&self, model: &str) -> Result<Asked, Error> {
        if self.contents.is_empty() {
            return Err(wrong("contents is not specified"));
        }
        let recent = model.starts_with("gemini-3");
        let mut before = None;
        for content in &self.contents {
            content.check(before, recent)?;
            before = Some(content);
        }
        let config = &self.generation_config;
        let schema = config.response_json_schema.is_some() || config.response_schema.is_some();
        if schema && config.response_mime_type.as_deref() != Some("application/json") {
            return Err(wrong("response_schema is only supported with the mime type application/json"));
        }
        if config.stop_sequences.len() > 5 || !(1..=8).contains(&config.candidate_count.unwrap_or(1)) {
            return Err(wrong("at most 5 stop sequences and 8 candidates are supported"));
        }
        let both = |t: &Thinking| t.thinking_budget.is_some() && t.thinking_level.is_some();
        if config.thinking_config.as_ref().is_some_and(both) {
            return Err(wrong("You can only set one of thinking budget and thinking level."));
        }
        let system = self.system_instruction.as_ref().map_or(0, Content::tokens);
        let user = self.contents.iter().rev().find(|content| {
            content.role.as_deref() == Some("user") && content.parts.iter().any(|part| part.text.is_some())
        });
        Ok(Asked {
            model: model.to_owned(),
            text: user.map(|user| bounded(&user.text(), MAX_TEXT).to_owned()).unwrap_or_default(),
            prompt_tokens: system + self.contents.iter().map(Content::tokens).sum::<u64>(),
            choices: config.candidate_count.unwrap_or(1),
            max_tokens: config.max_output_tokens.map(u64::from),
            logprobs: (config.response_logprobs == Some(true)).then_some(config.logprobs.unwrap_or(0)),
            ..Asked::default()
        })
    }
}
