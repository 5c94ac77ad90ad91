//! The fast lane of one upstream stream: an Anthropic vendor's events for an Anthropic asker.
//!
//! What it promises: only whole, well-formed events leave, each as the vendor wrote it, those of one chunk together as a
//! slice of it; `message_stop` alone makes an answer complete; every cut, error or garbage becomes one `Failed` at its
//! own place. What it refuses to know: the content of the events.

use penstock_domain::{Dialect, FinishReason, Notes};

use super::wire::{self, End, Message, Tokens, View};
use crate::openai::error::{bad_response, in_band_error};
use crate::said;
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

/// The rules of a stream of message events.
#[derive(Debug, Default)]
pub struct Events {
    started: bool,
    tokens: Tokens,
}

impl Rules for Events {
    const DIALECT: Dialect = Dialect::Anthropic;

    fn look<'d>(&mut self, _name: &[u8], data: &'d [u8], notes: &mut Notes) -> Seen<'d> {
        let Some(view) = wire::view(data) else {
            return Seen::Wrong(bad_response("has an event that is not JSON of its dialect", data));
        };
        match view.kind.as_ref() {
            "error" => return Seen::Wrong(in_band_error(data)),
            "message_start" => {
                self.started = true;
                let opening: Option<Message<'_>> =
                    view.message.and_then(|raw| serde_json::from_str(raw.get()).ok());
                if let Some(opening) = opening {
                    self.tokens = opening.tokens();
                    notes.version = opening.model.as_deref().map(Into::into);
                }
                // So that a stream that is cut has its prompt counted.
                notes.usage = self.tokens.usage().or(notes.usage);
            }
            "content_block_delta" => {
                notes.content = true;
                notes.text = notes.text.saturating_add(view.delta.map_or(0, said::inside));
            }
            "content_block_start" => notes.content |= opens_with_content(&view),
            "message_delta" => {
                notes.content = true;
                notes.finish = end(&view).or(notes.finish);
                if let Some(later) = view.tokens() {
                    self.tokens.update(&later);
                    notes.usage = self.tokens.usage();
                }
            }
            "message_stop" if !self.started => {
                return Seen::Wrong(bad_response("is a stream that ends before it begins", data));
            }
            "message_stop" => {
                notes.events += 1;
                return Seen::Last(Some(view.kind));
            }
            _ => {}
        }
        notes.events += 1;
        Seen::Pass(Some(view.kind))
    }

    fn is_whole(&self, data: &[u8]) -> bool {
        wire::view(data).is_some()
    }
}

/// Text and thinking open empty; whatever else a block is, its opening already says something.
fn opens_with_content(view: &View<'_>) -> bool {
    let block: Option<wire::Block<'_>> =
        view.content_block.and_then(|raw| serde_json::from_str(raw.get()).ok());
    block.is_none_or(|block| !matches!(block.kind.as_ref(), "text" | "thinking"))
}

/// Why the answer ended, if this `message_delta` says it.
fn end(view: &View<'_>) -> Option<FinishReason> {
    let end: End<'_> = serde_json::from_str(view.delta?.get()).ok()?;
    end.stop_reason.map(|reason| wire::finish(&reason))
}
