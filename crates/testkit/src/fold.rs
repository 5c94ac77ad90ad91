//! An answer gathered from its deltas, with the order of the deltas checked on the way.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::StreamExt;
use penstock_dialect::Lane as _;
use penstock_dialect::openai::response::unfold;
use penstock_dialect::openai::stream::ChunkReader;
use penstock_domain::{Delta, Dialect, Error, FinishReason, Request, Usage};
use penstock_provider::Deltas;

/// Everything that an answer said.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Text by choice.
    pub text: BTreeMap<u32, String>,
    /// Refusals by choice.
    pub refusal: BTreeMap<u32, String>,
    /// Reasoning by choice.
    pub reasoning: BTreeMap<u32, String>,
    /// Tool calls by choice and index: id, name, arguments.
    pub tool_calls: BTreeMap<(u32, u32), (String, String, String)>,
    /// Why each choice ended.
    pub finished: BTreeMap<u32, FinishReason>,
    /// Tokens whose log probabilities came, by choice.
    pub logprobs: BTreeMap<u32, usize>,
    /// Vectors.
    pub vectors: Vec<Vec<f32>>,
    /// The usage.
    pub usage: Option<Usage>,
    /// How many deltas came, before wire bytes were read.
    pub deltas: usize,
    /// How the answer broke, if it did.
    pub failed: Option<Error>,
}

/// Takes a stream to its end.
pub async fn collect(deltas: Deltas) -> Vec<Delta> {
    deltas.collect().await
}

/// Gathers the answer to a request. Wire bytes in OpenAI's dialect are read first, as a translating gateway would.
///
/// # Panics
/// When the deltas are in an order that [`Delta`] forbids: content before the start or after a choice's end, a choice
/// that ends twice, usage twice or before the end, anything after a failure, a tool call without its name.
pub fn fold(request: &Request, deltas: Vec<Delta>) -> Seen {
    let mut seen = Seen { deltas: deltas.len(), ..Seen::default() };
    for delta in semantic(request, deltas) {
        seen.take(delta);
    }
    seen
}

fn semantic(request: &Request, deltas: Vec<Delta>) -> Vec<Delta> {
    let mut out = Vec::new();
    let mut reader: Option<ChunkReader> = None;
    for delta in deltas {
        match delta {
            Delta::Raw(raw) => {
                assert_eq!(
                    raw.dialect,
                    Dialect::OpenAi,
                    "the suite reads wire bytes of OpenAI's dialect only"
                );
                let reader = reader.get_or_insert_with(|| ChunkReader::new(request.task, request.choices));
                reader.push(raw.bytes).expect("the back end's own events can be read");
                out.extend(std::iter::from_fn(|| reader.next()));
            }
            Delta::Whole(whole) => {
                assert_eq!(
                    whole.dialect,
                    Dialect::OpenAi,
                    "the suite reads wire bytes of OpenAI's dialect only"
                );
                out.extend(unfold(request.task, &whole.bytes).expect("the back end's own body can be read"));
            }
            other => out.push(other),
        }
    }
    if let Some(mut reader) = reader {
        // The end marker is never part of a delta, so the reader is told that the stream is whole.
        reader.push(Bytes::from_static(penstock_dialect::sse::DONE)).expect("the end marker can be read");
        out.extend(std::iter::from_fn(|| reader.next()));
        out.extend(reader.finish());
    }
    out
}

impl Seen {
    fn take(&mut self, delta: Delta) {
        assert!(self.failed.is_none(), "`Failed` must be the last delta, then came {delta:?}");
        if let Some(choice) = choice_of(&delta) {
            assert!(self.usage.is_none(), "usage must come after all content, then came {delta:?}");
            assert!(!self.finished.contains_key(&choice), "choice {choice} had ended, then came {delta:?}");
        }
        match delta {
            Delta::Started(_) => assert!(
                self.text.is_empty() && self.finished.is_empty() && self.vectors.is_empty(),
                "`Started` must come before content"
            ),
            Delta::Text { choice, text, logprobs } => {
                self.text.entry(choice).or_default().push_str(&text);
                *self.logprobs.entry(choice).or_default() += logprobs.len();
            }
            Delta::Dropped(_)
            | Delta::Signature { .. }
            | Delta::Sealed { .. }
            | Delta::Citation { .. }
            | Delta::Counted { .. }
            | Delta::Resumed
            | Delta::Relayed(_) => {}
            Delta::Reasoning { choice, text } => self.reasoning.entry(choice).or_default().push_str(&text),
            Delta::Refusal { choice, text } => self.refusal.entry(choice).or_default().push_str(&text),
            Delta::ToolCall { choice, index, id, name, arguments } => {
                let known = self.tool_calls.contains_key(&(choice, index));
                assert!(
                    known || (id.is_some() && name.is_some()),
                    "the first piece of a tool call has id and name"
                );
                let call = self.tool_calls.entry((choice, index)).or_default();
                call.0.push_str(id.as_deref().unwrap_or_default());
                call.1.push_str(name.as_deref().unwrap_or_default());
                call.2.push_str(&arguments);
            }
            Delta::Finished { choice, reason, .. } => {
                self.finished.insert(choice, reason);
            }
            Delta::Vectors(vectors) => self.vectors.extend(vectors),
            Delta::Usage(usage) => {
                assert!(self.usage.is_none(), "usage must come once");
                self.usage = Some(usage);
            }
            Delta::Failed(error) => self.failed = Some(error),
            Delta::Raw(_) | Delta::Whole(_) => unreachable!("wire bytes were read before"),
        }
    }
}

fn choice_of(delta: &Delta) -> Option<u32> {
    match delta {
        Delta::Text { choice, .. }
        | Delta::Reasoning { choice, .. }
        | Delta::Signature { choice, .. }
        | Delta::Sealed { choice, .. }
        | Delta::Citation { choice, .. }
        | Delta::Refusal { choice, .. }
        | Delta::ToolCall { choice, .. }
        | Delta::Finished { choice, .. } => Some(*choice),
        _ => None,
    }
}
