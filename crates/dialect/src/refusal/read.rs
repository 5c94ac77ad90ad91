//! What can be read from a vendor's error body, whatever its shape.

use std::time::Duration;

use serde_json::Value;

use super::wait::wait_of;

/// Most bytes of an error body that are read.
const MAX_BODY: usize = 64 * 1024;
/// Most words that are kept, and the longest one, in bytes.
const MAX_WORDS: usize = 32;
const MAX_WORD: usize = 128;

/// What could be read.
#[derive(Default)]
pub(super) struct Said {
    pub(super) message: String,
    /// Codes, types, statuses and reasons, as they stand.
    pub(super) words: Vec<String>,
    pub(super) param: Option<String>,
    /// A status inside the body, as OpenRouter, vLLM and Google send it.
    pub(super) status: Option<u16>,
    /// `RetryInfo.retryDelay` of Google's errors.
    pub(super) wait: Option<Duration>,
    pub(super) json: bool,
}

/// Reads the shapes that vendors use: `{"error":{…}}`, `{"error":"…"}`, `{"message":…}`, `{"detail":…}`,
/// `{"response":{"error":{…}}}`, and a list of one of them.
pub(super) fn read(body: &[u8]) -> Said {
    let Ok(value) = serde_json::from_slice::<Value>(body.get(..MAX_BODY).unwrap_or(body)) else {
        return Said::default();
    };
    let value = match value {
        Value::Array(mut items) if !items.is_empty() => items.swap_remove(0),
        value => value,
    };
    if !value.is_object() {
        return Said::default();
    }
    let error = value.get("error").filter(|e| !e.is_null()).unwrap_or(&value);
    let text = |name: &str| error.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    let message = match error {
        Value::String(message) => Some(message.clone()),
        _ => text("message")
            .or_else(|| text("Message"))
            .map(str::to_owned)
            .or_else(|| error.get("detail").map(detail)),
    };
    let status = error.get("code").or_else(|| error.get("status")).and_then(Value::as_u64);
    let mut said = Said {
        message: message.unwrap_or_default(),
        words: Vec::new(),
        param: text("param").map(str::to_owned),
        status: status.and_then(|s| u16::try_from(s).ok()),
        wait: None,
        json: true,
    };
    for name in ["code", "type", "status", "__type"] {
        said.word(error.get(name));
    }
    // TGI names its kinds beside the error.
    said.word(value.get("error_type"));
    said.word(error.get("innererror").and_then(|inner| inner.get("code")));
    said.details(error);
    said
}

impl Said {
    fn word(&mut self, value: Option<&Value>) {
        let word = value.and_then(Value::as_str).filter(|word| !word.is_empty() && word.len() <= MAX_WORD);
        if self.words.len() < MAX_WORDS {
            self.words.extend(word.map(str::to_owned));
        }
    }

    /// `google.rpc` details: `ErrorInfo`, `RetryInfo`, `QuotaFailure`
    /// (<https://cloud.google.com/apis/design/errors#error_details>).
    fn details(&mut self, error: &Value) {
        for detail in error.get("details").and_then(Value::as_array).into_iter().flatten() {
            self.word(detail.get("reason"));
            for violation in detail.get("violations").and_then(Value::as_array).into_iter().flatten() {
                self.word(violation.get("quotaId"));
            }
            let delay = detail.get("retryDelay").and_then(Value::as_str);
            self.wait = self.wait.or_else(|| delay.and_then(wait_of));
        }
    }
}

fn detail(detail: &Value) -> String {
    match detail {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
