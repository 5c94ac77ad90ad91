//! What the operator may say about the embedded engine, and what holds when they say nothing.

use std::path::PathBuf;

use penstock_config::Problem;
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
    /// Sequences beyond `parallel` that the engine takes in: prompts and choices of one request that asks for several.
    /// Requests wait before, in the queue that every provider has.
    #[serde(skip)]
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

impl penstock_config::Settings for Settings {
    const KIND: &'static str = "local";
}

impl Settings {
    /// Says what is out of range, every problem at once, with paths inside the section.
    pub fn problems(&self) -> Vec<Problem> {
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
        found.into_iter().map(|(field, said)| Problem::error(field, format!("{field} {said}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        assert!(Settings::default().problems().is_empty());
        let wrong = Settings {
            parallel: 0,
            threads: 1000,
            context: Some(1),
            top_p: Some(2.0),
            ..Settings::default()
        };
        let paths: Vec<String> = wrong.problems().into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["parallel", "threads", "context", "top_p"]);
    }

    #[test]
    fn unknown_settings_are_refused() {
        assert!(serde_json::from_str::<Settings>("{\"treads\": 2}").is_err());
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
    }
}
