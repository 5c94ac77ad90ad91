//! The fast lane of one upstream stream: an OpenAI vendor's events for an OpenAI asker.
//!
//! What it promises: only whole, well-formed events leave, each as the vendor wrote it; a chunk's events leave together,
//! as a slice of the chunk where nothing has to be cut out; every cut, error or garbage becomes one `Failed` at its own
//! place. What it refuses to know: the content of the events.

mod shape;
#[cfg(test)]
mod tests;

use std::ops::Range;

use penstock_domain::{Dialect, Notes, Request, Task};
use serde_json::value::RawValue;

use super::error::{bad_response, in_band_error};
use super::view::{self, ChoiceSet};
use crate::sse::lane::{EventLane, Forward, Rules, Seen};
use crate::{json, said};
use shape::Shape;

/// Turns the chunks of a body into [`penstock_domain::Delta::Raw`].
pub type RawLane = EventLane<Forward<Chunks>>;

impl RawLane {
    /// A lane at the start of a stream. `strip_usage`: the asker did not ask for usage, so the usage-only event and the
    /// `usage` members are cut out; what they say is in the notes, or in a [`penstock_domain::Delta::Usage`] of its own.
    pub fn new(task: Task, strip_usage: bool) -> Self {
        Self::over(Forward::by(Chunks { strip_usage, ..Chunks::new(task, 1) }))
    }

    /// A lane for the answer to this request.
    pub fn for_request(request: &Request) -> Self {
        Self::new(request.task, !request.stream_usage).expecting(request.choices)
    }

    /// How many choices must finish at least for a stream without `[DONE]` to be complete; 1 unless told.
    #[must_use]
    pub fn expecting(mut self, choices: u32) -> Self {
        self.events().rules.expected = choices;
        self
    }
}

/// The rules of a stream of chunks: `[DONE]`, or the end of every choice, makes an answer complete.
#[derive(Debug)]
pub struct Chunks {
    task: Task,
    strip_usage: bool,
    expected: u32,
    ended: ChoiceSet,
    seen: ChoiceSet,
    events: u64,
    /// The model that answers was told.
    versioned: bool,
    /// What the events look like now.
    shape: Option<Box<Shape>>,
    /// How many more shapes are learnt that no event has.
    patience: u8,
}

/// Shapes learnt in vain before a stream is taken for one whose events are never alike.
const PATIENCE: u8 = 8;

impl Chunks {
    /// The rules of a stream of which `expected` choices are expected.
    pub(super) fn new(task: Task, expected: u32) -> Self {
        let (ended, seen) = (ChoiceSet::default(), ChoiceSet::default());
        Self {
            task,
            strip_usage: false,
            expected,
            ended,
            seen,
            events: 0,
            versioned: false,
            shape: None,
            patience: PATIENCE,
        }
    }
}

impl Rules for Chunks {
    const DIALECT: Dialect = Dialect::OpenAi;

    fn look<'d>(&mut self, name: &[u8], data: &'d [u8], notes: &mut Notes) -> Seen<'d> {
        if name != b"error"
            && let Some(reading) = self.shape.as_ref().and_then(|shape| shape.read(data))
        {
            self.patience = PATIENCE;
            self.events += 1;
            notes.events += 1;
            notes.content |= reading.content;
            notes.text = notes.text.saturating_add(reading.text);
            return reading.cut.map_or(Seen::Pass(None), Seen::Without);
        }
        if data == b"[DONE]" {
            if self.events == 0 {
                return Seen::Wrong(bad_response("is a stream without a single event", b""));
            }
            return Seen::Done;
        }
        let Some(view) = view::view(data) else {
            return match name {
                b"" | b"message" | b"error" => {
                    Seen::Wrong(bad_response("has an event that is not JSON", data))
                }
                // A kind of event that we do not know and that is no chunk: nobody here waits for it.
                _ => Seen::Skip,
            };
        };
        if view.error.is_some() || name == b"error" || view.choices.broke {
            return Seen::Wrong(in_band_error(data));
        }
        self.events += 1;
        self.seen.extend(&view.choices.seen);
        self.ended.extend(&view.choices.ended);
        let usage = view.usage.and_then(|raw| view::usage(raw, self.task));
        let bare = view.choices.count == 0;
        let cut = view.usage.filter(|_| self.strip_usage).and_then(|raw| cut_of(data, raw));
        if let (Some(usage), true, true) = (usage, bare, self.strip_usage) {
            return Seen::Usage(usage);
        }
        notes.events += 1;
        notes.content |= view.choices.content;
        notes.text = notes.text.saturating_add(view.choices.text);
        if !self.versioned {
            self.versioned = view.model.is_some();
            notes.version = view.model.and_then(said::name);
        }
        notes.finish = view.choices.finish.or(notes.finish);
        notes.usage = usage.or(notes.usage);
        let plain = view.choices.count == 1 && view.choices.finish.is_none() && usage.is_none();
        if plain && self.patience > 0 {
            self.patience -= 1;
            self.shape = Shape::of(data, cut.as_ref()).map(Box::new).or(self.shape.take());
        }
        cut.map_or(Seen::Pass(None), Seen::Without)
    }

    fn is_complete(&self) -> bool {
        self.ended.len() >= self.expected.max(1) && self.ended == self.seen
    }

    fn is_whole(&self, data: &[u8]) -> bool {
        data == b"[DONE]" || view::view(data).is_some()
    }
}

/// The `usage` member's bytes in an event's data.
fn cut_of(data: &[u8], raw: &RawValue) -> Option<Range<usize>> {
    let text = std::str::from_utf8(data).ok()?;
    json::member_range(data, json::place_of(text, raw.get()))
}
