//! What the fast lane looks at in a chunk or a whole answer: borrowed, without allocation in the common case.

use std::fmt;

use penstock_domain::{FinishReason, Task, Usage};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{json, said};

/// Choices above this index are garbage: 128 choices of 2,048 prompts is what the protocol allows, nobody sends it.
pub(crate) const MAX_CHOICE: u32 = 4096;

/// The top level of a chunk (`chat.completion.chunk`, `text_completion`) or of a whole answer.
#[derive(Default)]
pub(crate) struct View<'a> {
    pub(crate) choices: Choices,
    pub(crate) usage: Option<&'a RawValue>,
    /// The model that the vendor says has answered.
    pub(crate) model: Option<&'a RawValue>,
    /// Present and not null.
    pub(crate) error: Option<&'a RawValue>,
    /// The vectors of an embedding answer.
    pub(crate) data: Option<&'a RawValue>,
}

/// All choices of one chunk, folded.
#[derive(Default)]
pub(crate) struct Choices {
    pub(crate) count: u32,
    pub(crate) content: bool,
    /// Bytes of generated text.
    pub(crate) text: u32,
    pub(crate) finish: Option<FinishReason>,
    /// A choice ended because the vendor broke.
    pub(crate) broke: bool,
    /// A choice had neither `message` nor `delta` nor `text`.
    pub(crate) hollow: bool,
    pub(crate) ended: ChoiceSet,
    pub(crate) seen: ChoiceSet,
}

/// A set of choice numbers; allocates only above 127.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChoiceSet {
    low: u128,
    high: std::collections::BTreeSet<u32>,
}

impl ChoiceSet {
    /// Adds a number; `false` when it was there.
    pub(crate) fn insert(&mut self, index: u32) -> bool {
        if index >= 128 {
            return self.high.insert(index);
        }
        let bit = 1_u128 << index;
        let new = self.low & bit == 0;
        self.low |= bit;
        new
    }

    pub(crate) fn extend(&mut self, other: &ChoiceSet) {
        self.low |= other.low;
        self.high.extend(&other.high);
    }

    pub(crate) fn len(&self) -> u32 {
        self.low.count_ones() + u32::try_from(self.high.len()).unwrap_or(u32::MAX)
    }
}

/// Reads the view of a JSON object; `None` when the text is none.
pub(crate) fn view(data: &[u8]) -> Option<View<'_>> {
    let text = std::str::from_utf8(data).ok()?;
    serde_json::from_str(text).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for View<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            Choices,
            Usage,
            Model,
            Error,
            Data,
            #[serde(other)]
            Other,
        }
        impl<'de> Visitor<'de> for V {
            type Value = View<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<View<'de>, A::Error> {
                let mut view = View::default();
                let mut choices = None;
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Choices => once(&mut choices, map.next_value()?)?,
                        Field::Usage => once(&mut view.usage, map.next_value()?)?,
                        Field::Model => view.model = Some(map.next_value()?),
                        Field::Error => once(&mut view.error, map.next_value()?)?,
                        Field::Data => once(&mut view.data, map.next_value()?)?,
                        Field::Other => drop(map.next_value::<de::IgnoredAny>()?),
                    }
                }
                view.choices = choices.unwrap_or_default();
                view.error = view.error.filter(|raw| !json::is_null(raw));
                Ok(view)
            }
        }
        d.deserialize_map(V)
    }
}

/// A member that stands twice has no meaning that all readers agree on.
fn once<T, E: de::Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a member stands twice")),
    }
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Choices;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of choices")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Choices, E> {
                Ok(Choices::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Choices, A::Error> {
                let mut all = Choices::default();
                while let Some(one) = seq.next_element::<Choice>()? {
                    all.count += 1;
                    all.content |= one.content;
                    all.text = all.text.saturating_add(one.text);
                    all.hollow |= !one.body;
                    all.seen.insert(one.index);
                    match one.end {
                        End::No => {}
                        End::Broke => all.broke = true,
                        End::Finished(reason) => {
                            all.content = true;
                            all.finish = Some(reason);
                            all.ended.insert(one.index);
                        }
                    }
                }
                Ok(all)
            }
        }
        d.deserialize_any(V)
    }
}

struct Choice {
    index: u32,
    /// It has a delta, a message or a text.
    body: bool,
    content: bool,
    text: u32,
    end: End,
}

/// Whether and how a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    No,
    Finished(FinishReason),
    Broke,
}

/// Reads a `finish_reason`, with the spellings that OpenAI-like vendors are known to use.
pub(crate) fn end(reason: &str) -> End {
    match reason {
        "" => End::No,
        "length" | "max_tokens" | "model_length" => End::Finished(FinishReason::Length),
        "tool_calls" | "function_call" => End::Finished(FinishReason::ToolCalls),
        "content_filter" => End::Finished(FinishReason::ContentFilter),
        "error" | "abort" | "insufficient_system_resource" => End::Broke,
        // Also "eos", "stop_sequence", "end_turn" and whatever comes next: the model ended by itself.
        _ => End::Finished(FinishReason::Stop),
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            Index,
            Delta,
            Message,
            Text,
            FinishReason,
            #[serde(other)]
            Other,
        }
        impl<'de> Visitor<'de> for V {
            type Value = Choice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a choice")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Choice, A::Error> {
                let mut choice = Choice { index: 0, body: false, content: false, text: 0, end: End::No };
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Index => choice.index = map.next_value()?,
                        Field::Delta | Field::Message => {
                            let said: Said = map.next_value()?;
                            choice.body |= said.present;
                            choice.content |= said.content;
                            choice.text = choice.text.saturating_add(said.text);
                        }
                        Field::Text => {
                            let text: &RawValue = map.next_value()?;
                            choice.body |= text.get().starts_with('"');
                            choice.content |= json::has_content(text);
                            choice.text = choice.text.saturating_add(said::text(text));
                        }
                        Field::FinishReason => {
                            let reason: &RawValue = map.next_value()?;
                            choice.end =
                                end(reason.get().strip_prefix('"').map_or("", |r| r.trim_end_matches('"')));
                        }
                        Field::Other => drop(map.next_value::<de::IgnoredAny>()?),
                    }
                }
                if choice.index >= MAX_CHOICE {
                    return Err(de::Error::custom("a choice number out of range"));
                }
                Ok(choice)
            }
        }
        d.deserialize_map(V)
    }
}

/// A `delta` or `message`: whether it is there and says anything besides its role.
struct Said {
    present: bool,
    content: bool,
    text: u32,
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            Role,
            #[serde(other)]
            Other,
        }
        impl<'de> Visitor<'de> for V {
            type Value = Said;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a delta or a message")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Said, E> {
                Ok(Said { present: false, content: false, text: 0 })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
                let (mut content, mut text) = (false, 0u32);
                while let Some(field) = map.next_key()? {
                    let value: &RawValue = map.next_value()?;
                    if matches!(field, Field::Other) && json::has_content(value) {
                        content = true;
                        text = text.saturating_add(said::text(value));
                    }
                }
                Ok(Said { present: true, content, text })
            }
        }
        d.deserialize_any(V)
    }
}

/// Reads a usage object; `None` when it is null or does not say what we ask.
pub(crate) fn usage(raw: &RawValue, task: Task) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Details {
        cached_tokens: Option<u64>,
        cache_write_tokens: Option<u64>,
        reasoning_tokens: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Wire {
        prompt_tokens: u64,
        completion_tokens: Option<u64>,
        total_tokens: Option<u64>,
        prompt_tokens_details: Option<Details>,
        completion_tokens_details: Option<Details>,
    }
    // In nearly every chunk; serde would write an error about it first.
    if json::is_null(raw) {
        return None;
    }
    let wire: Wire = serde_json::from_str(raw.get()).ok()?;
    let output = match task {
        Task::Embedding => wire.completion_tokens.unwrap_or(0),
        Task::Chat | Task::Completion | Task::CountTokens | Task::Relay => wire.completion_tokens?,
    };
    let mut usage = Usage {
        input: wire.prompt_tokens,
        output,
        cached_input: wire.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens),
        cache_write: wire.prompt_tokens_details.and_then(|d| d.cache_write_tokens),
        reasoning: wire.completion_tokens_details.and_then(|d| d.reasoning_tokens),
        ..Usage::default()
    };
    let Some(total) = wire.total_tokens.filter(|total| *total != usage.total()) else { return Some(usage) };
    // xAI, and Gemini's OpenAI endpoint, leave reasoning out of `completion_tokens` and have it in the total.
    let whole = output.saturating_add(usage.reasoning.unwrap_or(0));
    if usage.input.saturating_add(whole) == total {
        usage.output = whole;
    } else {
        usage.doubtful = true;
    }
    Some(usage)
}
