//! One content block as it is written, in requests and answers alike: schemas and arguments keep their text.

use penstock_domain::Media;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub(super) use crate::json::arguments;

#[derive(Serialize, Default)]
pub(super) struct Block<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Cited::is_nothing")]
    citations: Cited<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_use_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Vec<Block<'a>>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_error: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<&'a RawValue>,
}

impl<'a> Block<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        Self { kind: "text", text: Some(text), ..Self::default() }
    }

    pub(super) fn cited(text: &'a str, citations: &'a [Value]) -> Self {
        Self { citations: Cited::By(citations), ..Self::text(text) }
    }

    pub(super) fn thinking(thinking: &'a str, signature: &'a str) -> Self {
        Self { kind: "thinking", thinking: Some(thinking), signature: Some(signature), ..Self::default() }
    }

    pub(super) fn sealed(data: &'a str) -> Self {
        Self { kind: "redacted_thinking", data: Some(data), ..Self::default() }
    }

    pub(super) fn is_thinking(&self) -> bool {
        matches!(self.kind, "thinking" | "redacted_thinking")
    }

    pub(super) fn image(source: Value) -> Self {
        Self { kind: "image", source: Some(source), ..Self::default() }
    }

    /// A document whose bytes are at `source`.
    pub(super) fn document(source: Value, media: &'a Media) -> Self {
        let (title, context) = (media.note.as_deref(), media.context.as_deref());
        let citations = if media.cited { Cited::Wanted { enabled: true } } else { Cited::default() };
        Self { kind: "document", source: Some(source), title, context, citations, ..Self::default() }
    }

    /// `input` must be an object.
    pub(super) fn tool_use(id: &'a str, name: &'a str, input: &'a RawValue) -> Self {
        Self { kind: "tool_use", id: Some(id), name: Some(name), input: Some(input), ..Self::default() }
    }

    pub(super) fn tool_result(id: &'a str, content: Vec<Block<'a>>, is_error: bool) -> Self {
        Self {
            kind: "tool_result",
            tool_use_id: Some(id),
            content: Some(content),
            is_error,
            ..Self::default()
        }
    }
}

/// The member `citations`: of a text, what it cites; of a document, whether it is to be cited.
#[derive(Serialize)]
#[serde(untagged)]
enum Cited<'a> {
    By(&'a [Value]),
    Wanted { enabled: bool },
}

impl Cited<'_> {
    fn is_nothing(&self) -> bool {
        matches!(self, Cited::By([]))
    }
}

impl Default for Cited<'_> {
    fn default() -> Self {
        Cited::By(&[])
    }
}
