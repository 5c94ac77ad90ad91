//! What a script may say: directives, rules, and the sentence for a bad one.
//!
//! The same structure is read from a request header, a request member, a script file and the configuration. A text from
//! a request is hostile: its size, depth and numbers are bounded here, before anything acts on them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Bytes of one script in a request.
pub(crate) const MAX_INLINE_SCRIPT: usize = 64 * 1024;
/// The most tokens a scripted answer has.
const MAX_TOKENS: u32 = 1_000_000;
/// The longest vector.
const MAX_DIMENSIONS: u32 = 8_192;
/// The longest pause, one hour in milliseconds.
const MAX_PAUSE_MS: f64 = 3_600_000.0;
/// How many `then` may follow one another.
const MAX_CHAIN: usize = 64;

/// How one answer is given. Every member is optional; the empty script is a friendly, deterministic answer.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Directives {
    /// Milliseconds before the status line.
    pub latency_ms: Option<f64>,
    /// Milliseconds between the headers and the first token.
    pub first_token_ms: Option<f64>,
    /// Milliseconds between two tokens, held against the clock so that delays do not add up.
    pub inter_token_ms: Option<f64>,
    /// How many tokens the answer has; a fixed `text` is repeated or cut to fit.
    pub tokens: Option<u32>,
    /// The answer's text.
    pub text: Option<String>,
    /// The answer repeats the last text of the user.
    pub echo: bool,
    /// Answers with this error status, 400 to 599.
    pub status: Option<u16>,
    /// The body of the error reply: a text is sent as it is, anything else as JSON. Without it the asker's dialect decides.
    pub body: Option<Value>,
    /// Additional response headers.
    pub headers: BTreeMap<String, String>,
    /// Asks the caller to come back later.
    pub retry_after: Option<RetryAfter>,
    /// Falls silent at this point, with the connection open.
    pub hang: Option<Hang>,
    /// Breaks the connection after this many bytes of the body.
    pub cut_at_byte: Option<u64>,
    /// Breaks the connection before the event of this index, counted from 0; a whole answer is not changed.
    pub cut_at_event: Option<u32>,
    /// How the connection breaks; without `cut_at_byte` and `cut_at_event` it breaks before the status line.
    pub cut: Option<Cut>,
    /// A defect in the provider itself, in process alone. No request may ask for it, only who writes the script.
    pub panic: Option<Panic>,
    /// The event of this index, counted from 0, is broken JSON.
    pub malformed_event: Option<u32>,
    /// The event of this index, counted from 0, is an error, and the stream ends there.
    pub error_event: Option<u32>,
    /// Says nothing about usage.
    pub omit_usage: bool,
    /// Reports usage that contradicts the answer and itself.
    pub wrong_usage: bool,
    /// Reports this usage.
    pub usage: Option<ReportedUsage>,
    /// The stream ends without its end marker.
    pub omit_done: bool,
    /// The answer calls these tools instead of saying something.
    pub tool_calls: Vec<ScriptedCall>,
    /// Why the answer ends; otherwise what happened decides.
    pub finish_reason: Option<Finish>,
    /// Log probabilities even when nobody asked.
    pub logprobs: bool,
    /// The content type of a successful answer.
    pub content_type: Option<String>,
    /// The body, sent as it is.
    pub raw_body: Option<String>,
    /// Cuts the body into frames of this many bytes, whatever they split.
    pub chunk_bytes: Option<NonZeroU32>,
    /// Lines of events end in CR LF.
    pub crlf: bool,
    /// A comment before every event.
    pub comments: bool,
    /// The answer is this refusal.
    pub refusal: Option<String>,
    /// Reasoning that is shown before the answer.
    pub reasoning: Option<String>,
    /// The length of embedding vectors, unless the request asks for another.
    pub embedding_dimensions: Option<u32>,
    /// How many requests these directives apply to; afterwards `then` does, or nothing.
    pub repeat: Option<u32>,
    /// What applies when `repeat` is used up.
    pub then: Option<Box<Directives>>,
    /// Tells apart two equal scripts in requests that are counted by `repeat`.
    pub key: Option<String>,
}

/// When to come back.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RetryAfter {
    /// `retry-after` with this many seconds.
    Seconds(u64),
    /// One of the three forms.
    Form(RetryForm),
}

/// How the time to come back is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryForm {
    /// `retry-after` with this many seconds.
    Seconds(u64),
    /// `retry-after-ms` with this many milliseconds.
    Ms(u64),
    /// `retry-after` with the date that lies this many seconds ahead.
    Date(u32),
}

/// Where the server falls silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hang {
    /// Before the status line.
    BeforeHeaders,
    /// After the headers.
    AfterHeaders,
    /// After half of the answer.
    MidStream,
}

/// Where the provider in process panics: the fail point of tests that prove panics to be contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Panic {
    /// Instead of beginning an answer.
    Call,
    /// After half of the answer.
    Stream,
}

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// An orderly end of the connection in the middle of the answer.
    Fin,
    /// A connection reset.
    #[default]
    Reset,
}

/// Usage as a vendor would report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportedUsage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Part of the prompt that was cached.
    pub cached_tokens: Option<u64>,
    /// Part of the answer that was reasoning.
    pub reasoning_tokens: Option<u64>,
}

/// A tool call of the answer.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptedCall {
    /// The tool.
    pub name: String,
    /// The arguments: a text is sent as it is, anything else as JSON.
    #[serde(default)]
    pub arguments: Value,
    /// The call's id; otherwise one is counted.
    pub id: Option<String>,
}

/// Why an answer ends, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// By itself.
    Stop,
    /// The token limit was reached.
    Length,
    /// Tools are wanted.
    ToolCalls,
    /// Content was withheld.
    ContentFilter,
}

/// A whole script: what happens by default, and rules that are tried in order.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Directives for requests that nothing else speaks for.
    pub default: Directives,
    /// The first rule that matches a request decides.
    pub rules: Vec<Rule>,
    /// The names that the list of models shows; any name is answered. Empty is one model, `mock`.
    pub models: Vec<String>,
}

/// One rule of a script.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests it speaks for.
    #[serde(default)]
    pub when: When,
    /// What happens to them.
    #[serde(rename = "do")]
    pub act: Directives,
}

/// Which requests a rule speaks for: all that is said must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The path, exactly.
    pub path: Option<String>,
    /// The model, where `*` stands for any text.
    pub model: Option<String>,
    /// Only the nth request, counted from 1, of those that match the rest.
    pub nth: Option<u64>,
    /// A text that the last message of the user contains.
    pub text_contains: Option<String>,
    /// The credential, exactly, whichever header carried it. Requests in process have none.
    pub key: Option<String>,
    /// Only this share, 0 to 1, of the requests that match the rest: drawn by `seed` and the request's number, so that
    /// every run draws the same.
    pub share: Option<f64>,
    /// What the draws of `share` begin with.
    pub seed: u64,
}

/// A script that cannot be followed: which directive, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// The directive at fault; empty when the text is not JSON at all.
    pub directive: String,
    /// What is wrong and how to mend it.
    pub say: String,
}

impl std::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.say)
    }
}

impl std::error::Error for ScriptError {}

impl Script {
    /// Reads a script file's JSON.
    ///
    /// # Errors
    /// When the text is not JSON, names something unknown, or holds a value out of range.
    pub fn from_json(text: &str) -> Result<Self, ScriptError> {
        let script: Self = serde_json::from_str(text).map_err(|error| explain("script", &error))?;
        script.check()?;
        Ok(script)
    }

    /// Checks a script for a server, which has no way to panic that anybody could see.
    pub(crate) fn check_served(&self) -> Result<(), ScriptError> {
        self.check()?;
        let mut acts = self.rules.iter().map(|rule| &rule.act).chain([&self.default]);
        if acts.any(|act| act.chain().any(|link| link.panic.is_some())) {
            return Err(out_of_range(
                "panic",
                "a provider of kind `mock` in the configuration, not a server",
            ));
        }
        Ok(())
    }

    /// Checks what the types cannot: ranges, header names, the length of chains.
    ///
    /// # Errors
    /// Names the first directive at fault.
    pub fn check(&self) -> Result<(), ScriptError> {
        self.default.check()?;
        self.rules.iter().try_for_each(|rule| {
            if rule.when.share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return Err(out_of_range("share", "0 to 1"));
            }
            rule.act.check()
        })
    }
}

impl Directives {
    /// Reads the script of one request.
    ///
    /// # Errors
    /// When the text is too long, is not JSON, names an unknown directive, or a value is of the wrong type or size.
    pub fn from_json(text: &str) -> Result<Self, ScriptError> {
        if text.len() > MAX_INLINE_SCRIPT {
            let say =
                format!("the mock script has {} bytes, at most {MAX_INLINE_SCRIPT} are read", text.len());
            return Err(ScriptError { directive: String::new(), say });
        }
        if !text.trim_ascii_start().starts_with('{') {
            // A list would be read as the members in order.
            let say = "the mock script is not a JSON object of directives".to_owned();
            return Err(ScriptError { directive: String::new(), say });
        }
        let directives: Self = serde_json::from_str(text).map_err(|error| culprit(text, &error))?;
        directives.check()?;
        if directives.chain().any(|link| link.panic.is_some()) {
            return Err(out_of_range(
                "panic",
                "to stand in a script or in the configuration, not in a request",
            ));
        }
        Ok(directives)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the first directive at fault.
    pub fn check(&self) -> Result<(), ScriptError> {
        let mut link = Some(self);
        for _ in 0..MAX_CHAIN {
            let Some(directives) = link else { return Ok(()) };
            directives.check_link()?;
            link = directives.then.as_deref();
        }
        Err(out_of_range("then", &format!("at most {MAX_CHAIN} steps")))
    }

    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |link| link.then.as_deref())
    }

    fn check_link(&self) -> Result<(), ScriptError> {
        for (name, pause) in [
            ("latency_ms", self.latency_ms),
            ("first_token_ms", self.first_token_ms),
            ("inter_token_ms", self.inter_token_ms),
        ] {
            if pause.is_some_and(|ms| !(0.0..=MAX_PAUSE_MS).contains(&ms)) {
                return Err(out_of_range(name, "0 to 3600000 milliseconds"));
            }
        }
        if self.status.is_some_and(|status| !(400..=599).contains(&status)) {
            return Err(out_of_range("status", "400 to 599"));
        }
        if self.tokens.is_some_and(|tokens| tokens > MAX_TOKENS) {
            return Err(out_of_range("tokens", "0 to 1000000"));
        }
        if self.embedding_dimensions.is_some_and(|n| !(1..=MAX_DIMENSIONS).contains(&n)) {
            return Err(out_of_range("embedding_dimensions", "1 to 8192"));
        }
        if self.then.is_some() && self.repeat.is_none() {
            return Err(out_of_range("then", "`repeat` beside it, or `then` is never reached"));
        }
        for (name, value) in &self.headers {
            let named = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
            if !named || http::HeaderValue::from_str(value).is_err() || framing(name) {
                let wanted = format!("names and values that HTTP allows and no framing, found `{name}`");
                return Err(out_of_range("headers", &wanted));
            }
        }
        if self.content_type.as_deref().is_some_and(|value| http::HeaderValue::from_str(value).is_err()) {
            return Err(out_of_range("content_type", "a header value"));
        }
        Ok(())
    }

    /// The directives for the use of this number, counted from 0; `None` when `repeat` is used up and nothing follows.
    pub(crate) fn at_use(&self, mut used: u64) -> Option<&Directives> {
        let mut link = self;
        loop {
            match link.repeat {
                Some(repeat) if used >= u64::from(repeat) => used -= u64::from(repeat),
                _ => return Some(link),
            }
            link = link.then.as_deref()?;
        }
    }
}

/// Headers that frame the body belong to the server.
fn framing(name: &str) -> bool {
    ["content-length", "transfer-encoding", "connection", "upgrade", "te"]
        .iter()
        .any(|framing| name.eq_ignore_ascii_case(framing))
}

fn out_of_range(directive: &str, wanted: &str) -> ScriptError {
    ScriptError {
        directive: directive.to_owned(),
        say: format!("the mock directive `{directive}` wants {wanted}"),
    }
}

/// Finds the member at fault by offering the members one at a time, because a type error does not name its member.
fn culprit(text: &str, error: &serde_json::Error) -> ScriptError {
    if error.is_data()
        && let Ok(members) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text)
    {
        for (name, value) in members {
            let one = format!("{{{}:{}}}", Value::from(name.as_str()), value.get());
            if let Err(error) = serde_json::from_str::<Directives>(&one) {
                return explain(&name, &error);
            }
        }
    }
    explain("", error)
}

/// Turns serde's sentence into ours. An unknown member is named with its nearest known one.
fn explain(directive: &str, error: &serde_json::Error) -> ScriptError {
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    if let Some(rest) = said.strip_prefix("unknown field `") {
        let mut quoted = rest.split('`').step_by(2);
        let unknown: String = quoted.next().unwrap_or_default().chars().take(64).collect();
        let nearest = quoted
            .max_by(|a, b| strsim::jaro_winkler(&unknown, a).total_cmp(&strsim::jaro_winkler(&unknown, b)));
        let hint = nearest.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
        return ScriptError {
            directive: unknown.clone(),
            say: format!("there is no mock directive `{unknown}`{hint}"),
        };
    }
    let said: String = said.chars().take(200).collect();
    let say = if directive.is_empty() {
        format!("the mock script is not a JSON object of directives: {said}")
    } else {
        format!("the mock directive `{directive}` cannot be read: {said}")
    };
    ScriptError { directive: directive.to_owned(), say }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(text: &str) -> String {
        Directives::from_json(text).map(|_| String::new()).unwrap_or_else(|error| error.say)
    }

    #[test]
    fn an_unknown_directive_is_named_with_its_nearest_neighbour() {
        assert_eq!(
            say(r#"{"latencyms": 3}"#),
            "there is no mock directive `latencyms`; did you mean `latency_ms`?"
        );
        let error = Directives::from_json(r#"{"finish": "stop"}"#).unwrap_err();
        assert_eq!(error.directive, "finish");
        assert!(error.say.contains("`finish_reason`"), "{}", error.say);
    }

    #[test]
    fn a_value_of_the_wrong_type_or_size_names_its_directive() {
        for (text, name) in [
            (r#"{"text": 3}"#, "text"),
            (r#"{"echo": true, "hang": "sometimes"}"#, "hang"),
            (r#"{"status": 200}"#, "status"),
            (r#"{"tokens": 99999999}"#, "tokens"),
            (r#"{"latency_ms": -1}"#, "latency_ms"),
            (r#"{"headers": {"content-length": "3"}}"#, "headers"),
            (r#"{"headers": {"x-a": "b\nc"}}"#, "headers"),
            (r#"{"then": {}}"#, "then"),
            (r#"{"panic": "call"}"#, "panic"),
            (r#"{"repeat": 1, "then": {"panic": "stream"}}"#, "panic"),
            (r#"{"repeat": 1, "then": {"status": 99}}"#, "status"),
        ] {
            let error = Directives::from_json(text).unwrap_err();
            assert_eq!(error.directive, name, "{text}: {}", error.say);
        }
        assert!(say("[]").starts_with("the mock script is not a JSON object"), "{}", say("[]"));
        assert!(say("{").starts_with("the mock script is not a JSON object"));
    }

    #[test]
    fn a_long_or_deep_script_is_refused() {
        let long = format!(r#"{{"text": "{}"}}"#, "x".repeat(MAX_INLINE_SCRIPT));
        assert!(say(&long).contains("at most"));
        let deep = format!("{}{}", r#"{"repeat":1,"then":"#.repeat(5_000), "}".repeat(5_000));
        assert!(!say(&deep[..MAX_INLINE_SCRIPT.min(deep.len())]).is_empty());
        let chain = format!("{}{{}}{}", r#"{"repeat":1,"then":"#.repeat(70), "}".repeat(70));
        assert!(say(&chain).contains("then"), "{}", say(&chain));
    }

    #[test]
    fn repeat_and_then_form_a_chain() {
        let script = Directives::from_json(
            r#"{"status": 503, "repeat": 2, "then": {"status": 429, "repeat": 1, "then": {"text": "ok"}}}"#,
        )
        .unwrap();
        let seen: Vec<_> = (0..5).map(|used| script.at_use(used).unwrap().status).collect();
        assert_eq!(seen, [Some(503), Some(503), Some(429), None, None]);
        let once = Directives::from_json(r#"{"status": 503, "repeat": 1}"#).unwrap();
        assert_eq!(once.at_use(1), None);
    }

    #[test]
    fn retry_after_has_three_forms_and_a_short_one() {
        let read = |text: &str| Directives::from_json(text).unwrap().retry_after.unwrap();
        assert_eq!(read(r#"{"retry_after": 3}"#), RetryAfter::Seconds(3));
        assert_eq!(read(r#"{"retry_after": {"ms": 1500}}"#), RetryAfter::Form(RetryForm::Ms(1500)));
        assert_eq!(read(r#"{"retry_after": {"date": 30}}"#), RetryAfter::Form(RetryForm::Date(30)));
    }

    #[test]
    fn a_script_file_names_what_it_does_not_know() {
        let script = Script::from_json(
            r#"{"default": {"echo": true}, "rules": [{"when": {"model": "a*"}, "do": {"status": 429}}], "models": ["a1"]}"#,
        );
        assert_eq!(script.unwrap().rules[0].act.status, Some(429));
        let error = Script::from_json(r#"{"rules": [{"when": {"modle": "a"}, "do": {}}]}"#).unwrap_err();
        assert!(error.say.contains("did you mean `model`?"), "{}", error.say);
        let error = Script::from_json(r#"{"rules": [{"when": {"share": 1.5}, "do": {}}]}"#).unwrap_err();
        assert_eq!(error.directive, "share", "{}", error.say);
    }
}
