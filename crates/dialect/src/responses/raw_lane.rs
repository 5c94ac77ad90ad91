//! The fast lane of one upstream stream: a responses vendor's events for a responses asker.
//!
//! What it promises: only whole, well-formed events leave, each as the vendor wrote it, those of one chunk together as a
//! slice of it; `response.completed` and `response.incomplete` alone make an answer complete; every cut, error or garbage
//! becomes one `Failed` at its own place. What it refuses to know: the content of the events.

use penstock_domain::{Dialect, FinishReason, Notes};
use serde_json::value::RawValue;

use super::wire::{self, Head, View};
use crate::openai::error::{bad_response, in_band_error};
use crate::sse::lane::{EventLane, Forward, Rules, Seen};

/// Turns the chunks of a body into [`penstock_domain::Delta::Raw`].
pub type RawLane = EventLane<Forward<Events>>;

impl RawLane {
    /// A lane at the start of a stream.
    pub fn new() -> Self {
        Self::over(Forward::by(Events::default()))
    }
}

impl Default for RawLane {
    fn default() -> Self {
        Self::new()
    }
}

/// The rules of a stream of typed events.
#[derive(Debug, Default)]
pub struct Events {
    /// The model that answers was told.
    versioned: bool,
    /// The model called a function.
    called: bool,
}

impl Rules for Events {
    const DIALECT: Dialect = Dialect::Responses;

    fn look<'d>(&mut self, _name: &[u8], data: &'d [u8], notes: &mut Notes) -> Seen<'d> {
        if data == b"[DONE]" {
            // Some vendors end every stream so; here the end was another event, or it is missing.
            return Seen::Skip;
        }
        let Some(view) = wire::view(data) else {
            return Seen::Wrong(bad_response("has an event that is not JSON of its dialect", data));
        };
        match view.kind.as_ref() {
            "error" => return Seen::Wrong(in_band_error(data)),
            "response.failed" => return Seen::Wrong(wire::failure(view.response, data)),
            "response.completed" | "response.incomplete" => return self.end(view, data, notes),
            "response.created" | "response.queued" | "response.in_progress" => self.version(&view, notes),
            // Signs of life and frames: without what stands in them the answer may still fail over.
            "keepalive" | "response.content_part.added" | "response.reasoning_summary_part.added" => {}
            "response.output_item.added" => {
                let kind = wire::item_kind(view.item);
                self.called |= kind.as_deref() == Some("function_call");
                notes.content |= !matches!(kind.as_deref(), Some("message" | "reasoning"));
            }
            "response.output_item.done" => {
                self.called |= wire::item_kind(view.item).as_deref() == Some("function_call");
                notes.content = true;
            }
            _ => notes.content = true,
        }
        let said = view.delta.map_or(0, |raw| raw.get().len().saturating_sub(2));
        notes.text = notes.text.saturating_add(u32::try_from(said).unwrap_or(u32::MAX));
        notes.events += 1;
        Seen::Pass(Some(view.kind))
    }

    fn is_whole(&self, data: &[u8]) -> bool {
        wire::view(data).is_some()
    }
}

impl Events {
    fn version(&mut self, view: &View<'_>, notes: &mut Notes) {
        if self.versioned {
            return;
        }
        let model = view.response.and_then(wire::head).and_then(|head| head.model);
        self.versioned = model.is_some();
        notes.version = model.map(|model| model.as_ref().into());
    }

    fn end<'d>(&mut self, view: View<'d>, data: &[u8], notes: &mut Notes) -> Seen<'d> {
        let Some(head) = view.response.and_then(wire::head) else {
            return Seen::Wrong(bad_response("has an end without its response", data));
        };
        notes.events += 1;
        notes.content = true;
        notes.usage = head.usage.and_then(wire::usage);
        notes.finish = Some(self.finish(&view.kind, &head));
        self.version(&view, notes);
        Seen::Last(Some(view.kind))
    }

    /// Why the answer ended.
    pub(super) fn finish(&self, kind: &str, head: &Head<'_>) -> FinishReason {
        match kind {
            "response.incomplete" => wire::incomplete(head.incomplete_details),
            _ if self.called => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }
    }
}

/// Whether a response's output holds a call of a function.
pub(super) fn calls(output: &[&RawValue]) -> bool {
    output.iter().any(|raw| wire::item_kind(Some(raw)).as_deref() == Some("function_call"))
}
