//! A vendor's messages in words of every dialect.
//!
//! What it promises: [`MessageReader`] never takes a cut stream for a complete one; [`read_whole`] accepts a message and
//! nothing that only looks like one. What it refuses to know: blocks that other dialects have no word for.

use bytes::Bytes;
use penstock_domain::{Delta, Dialect, Error, FinishReason, Notes, RawBody};
use serde_json::value::RawValue;

use super::raw_lane::Events;
use super::wire::{self, Blocks, End, Message, Tokens, View};
use crate::openai::error::{bad_response, in_band_error};
use crate::said;
use crate::sse::lane::{EventLane, Meaning, Read};

/// Reads a vendor's stream into semantic deltas, for askers of another dialect.
pub type MessageReader = EventLane<Read<Events, Said>>;

impl MessageReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::over(Read::by(Events::default(), Said::default()))
    }
}

impl Default for MessageReader {
    fn default() -> Self {
        Self::new()
    }
}

/// What message events say.
#[derive(Debug, Default)]
pub struct Said {
    blocks: Blocks,
    started: bool,
    tokens: Tokens,
    finish: Option<FinishReason>,
    stop: Option<Box<str>>,
}

impl Meaning for Said {
    fn read(&mut self, data: &[u8], out: &mut Vec<Delta>) -> Result<(), Error> {
        let read = wire::view(data).and_then(|view| self.event(&view, out));
        read.ok_or_else(|| bad_response("has an event that is not what its dialect says", data))
    }
}

impl Said {
    /// Reads one event; `None` when it makes no sense.
    fn event(&mut self, view: &View<'_>, out: &mut Vec<Delta>) -> Option<()> {
        match view.kind.as_ref() {
            "message_start" if !std::mem::replace(&mut self.started, true) => {
                let mut message: Message<'_> = serde_json::from_str(view.message?.get()).ok()?;
                self.tokens = message.tokens();
                out.push(message.started());
            }
            "content_block_start" => self.blocks.start(view.index?, block(view.content_block)?, out)?,
            "content_block_delta" => self.blocks.piece(view.index?, block(view.delta)?, out)?,
            "content_block_stop" => self.blocks.stop(view.index?, out),
            "message_delta" => {
                let end: Option<End<'_>> = view.delta.and_then(|raw| serde_json::from_str(raw.get()).ok());
                if let Some(end) = end {
                    self.finish = end.stop_reason.as_deref().map(wire::finish).or(self.finish);
                    self.stop = end.stop_sequence.or(self.stop.take());
                    out.extend(wire::refusal(end.stop_details));
                }
                if let Some(later) = view.tokens() {
                    self.tokens.update(&later);
                }
            }
            "message_stop" => {
                let reason = self.finish.unwrap_or(FinishReason::Stop);
                out.push(Delta::Finished { choice: 0, reason, stop: self.stop.take() });
                out.extend(self.tokens.usage().map(Delta::Usage));
            }
            _ => {}
        }
        Some(())
    }
}

fn block(raw: Option<&RawValue>) -> Option<wire::Block<'_>> {
    serde_json::from_str(raw?.get()).ok()
}

/// Reads a 200 that is no stream.
fn message(body: &[u8]) -> Result<Message<'_>, Error> {
    let Some(view) = wire::view(body) else {
        return Err(bad_response("is not JSON of its dialect", body));
    };
    if view.kind == "error" {
        return Err(in_band_error(body));
    }
    let message = serde_json::from_slice::<Message<'_>>(body).ok();
    message
        .filter(|message| view.kind == "message" && message.content.is_some())
        .ok_or_else(|| bad_response("is no message", body))
}

/// Checks a vendor's non-streaming 200 and gives it as [`Delta::Whole`], bytes untouched.
///
/// # Errors
/// The error that the body carries, mapped as a vendor's; `upstream_bad_response` for everything else that is no message.
pub fn read_whole(body: Bytes) -> Result<Delta, Error> {
    let message = message(&body)?;
    let notes = Notes {
        content: true,
        events: 0,
        usage: message.tokens().usage(),
        finish: message.stop_reason.as_deref().map(wire::finish),
        text: message.content.iter().flatten().fold(0, |sum: u32, raw| sum.saturating_add(said::inside(raw))),
        version: message.model.as_deref().map(Into::into),
    };
    Ok(Delta::Whole(RawBody { dialect: Dialect::Anthropic, bytes: body, notes }))
}

/// The semantic deltas of a whole message, in order: for askers of another dialect, and for streams from vendors that
/// answer in one piece.
///
/// # Errors
/// As [`read_whole`].
pub fn unfold(body: &[u8]) -> Result<Vec<Delta>, Error> {
    let mut message = message(body)?;
    let mut deltas = vec![message.started()];
    let usage = message.tokens().usage();
    let mut blocks = Blocks::default();
    for (index, raw) in (0..).zip(message.content.unwrap_or_default()) {
        let read = block(Some(raw)).and_then(|block| blocks.start(index, block, &mut deltas));
        read.ok_or_else(|| bad_response("has a block that is not what its dialect says", body))?;
        blocks.stop(index, &mut deltas);
    }
    let reason = message.stop_reason.as_deref().map_or(FinishReason::Stop, wire::finish);
    deltas.extend(wire::refusal(message.stop_details));
    deltas.push(Delta::Finished { choice: 0, reason, stop: message.stop_sequence.take() });
    deltas.extend(usage.map(Delta::Usage));
    Ok(deltas)
}

/// Checks a vendor's count of a request: its bytes untouched where the asker speaks the dialect, else the number.
///
/// # Errors
/// The error that the body carries; `upstream_bad_response` for what is no count.
pub fn counted(body: Bytes, alike: bool) -> Result<Delta, Error> {
    #[derive(serde::Deserialize)]
    struct Count {
        input_tokens: u64,
    }
    let text = std::str::from_utf8(&body).unwrap_or_default();
    match serde_json::from_str::<Count>(text) {
        Ok(_) if alike => {
            let notes = Notes { content: true, ..Notes::default() };
            Ok(Delta::Whole(RawBody { dialect: Dialect::Anthropic, bytes: body, notes }))
        }
        Ok(Count { input_tokens }) => Ok(Delta::Counted { input: input_tokens, estimated: false }),
        Err(_) if wire::view(&body).is_some_and(|view| view.kind == "error") => Err(in_band_error(&body)),
        Err(_) => Err(bad_response("is no count of tokens", &body)),
    }
}
