//! What the operator may say about the embedded engine, and what holds when they say nothing.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// The section of a provider of kind `local`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The model that is loaded at start: `smollm2-135m`, `minilm`, or with `path` any name that `models` then use.
    /// The two catalogue models can be used in any case; they are loaded when they are first asked for.
    pub model: String,
    /// A GGUF file of the operator's own, served under the name in `model`.
    pub path: Option<PathBuf>,
    /// Longest prompt and answer of one request together, in tokens. Default: what the model was trained for, at most
    /// 8192.
    pub context: Option<u32>,
    /// Tokens of all sequences together that the engine keeps in memory, remembered prefixes included. Sequences share
    /// this pool; none has a fixed part. Default: twice `context`.
    pub memory: Option<u32>,
    /// Requests that generate at the same time. Default 8.
    pub parallel: u32,
    /// Requests that may wait for a place before further ones are refused as `overloaded`. Default 64.
    pub queue: u32,
    /// Threads of the engine. 1 is best unless requests come one at a time and cores are idle. Default 1.
    pub threads: u32,
    /// Prompt tokens decoded in one step. Smaller steps let other requests' tokens and cancellations through sooner,
    /// larger ones read long prompts a little faster. Default 128.
    pub prompt_chunk: u32,
    /// Temperature for requests that name none. Default: 0.2 for `smollm2-135m`, 0.7 for a model from `path`.
    pub temperature: Option<f32>,
    /// Nucleus for requests that name none. Default 0.9.
    pub top_p: Option<f32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: "smollm2-135m".to_owned(),
            path: None,
            context: None,
            memory: None,
            parallel: 8,
            queue: 64,
            threads: 1,
            prompt_chunk: 128,
            temperature: None,
            top_p: None,
        }
    }
}

impl Settings {
    /// The kind in the configuration.
    pub const KIND: &'static str = "local";

    /// Says what is out of range: field and sentence, every problem at once.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u32, low: u32, high: u32| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must be between {low} and {high}, found {value}")));
            }
        };
        range("parallel", self.parallel, 1, 64);
        range("queue", self.queue, 0, 10_000);
        range("threads", self.threads, 1, 256);
        range("prompt_chunk", self.prompt_chunk, 16, 2048);
        if let Some(context) = self.context {
            range("context", context, 64, 1 << 20);
        }
        if let Some(memory) = self.memory {
            range("memory", memory, self.context.unwrap_or(64), 1 << 24);
        }
        if self.model.trim().is_empty() {
            found.push(("model", "must name a model, found nothing".to_owned()));
        }
        if self.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            found.push(("temperature", "must be between 0 and 2".to_owned()));
        }
        if self.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            found.push(("top_p", "must be above 0 and at most 1".to_owned()));
        }
        found
    }
}
