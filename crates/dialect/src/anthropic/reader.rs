//! A vendor's messages in words of every dialect.
//!
//! What it promises: [`MessageReader`] never takes a cut stream for a complete one; [`read_whole`] accepts a message and
//! nothing that only looks like one. What it refuses to know: blocks that other dialects have no word for.

use std::collections::VecDeque;

use bytes::Bytes;
use penstock_domain::{Delta, Dialect, Error, FinishReason, Notes, RawBody};
use serde_json::value::RawValue;

use super::raw_lane::{self, RawLane};
use super::wire::{self, Blocks, Message, Tokens, View};
use crate::openai::error::{bad_response, in_band_error};
use crate::sse::{Frame, SseDecoder};
use crate::vendor::Lane;

/// Reads a vendor's stream into semantic deltas, for askers of another dialect.
#[derive(Debug, Default)]
pub struct MessageReader {
    /// Knows when a stream is complete: the lane's rules hold for both readings.
    lane: RawLane,
    blocks: Blocks,
    started: bool,
    tokens: Tokens,
    finish: Option<FinishReason>,
    queue: VecDeque<Delta>,
    over: bool,
}

impl MessageReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    fn drain(&mut self, more: fn(&mut RawLane) -> Option<Delta>) {
        while !self.over {
            let Some(delta) = more(&mut self.lane) else { return };
            match delta {
                Delta::Raw(raw) => {
                    if let Err(error) = self.events(raw.bytes) {
                        self.fail(error);
                    }
                }
                Delta::Failed(error) => self.fail(error),
                other => self.queue.push_back(other),
            }
        }
    }

    fn events(&mut self, bytes: Bytes) -> Result<(), Error> {
        let mut sse = SseDecoder::new(usize::MAX);
        // Without a bound nothing can be too large; the lane has bounded these events before.
        let _ = sse.push(bytes);
        while let Some(frame) = sse.next() {
            let Frame::Event(event) = frame else { continue };
            let mut deltas = Vec::new();
            let read = wire::view(&event.data).and_then(|view| self.event(&view, &mut deltas));
            self.queue.extend(deltas);
            read.ok_or_else(|| bad_response("has an event that is not what its dialect says", &event.data))?;
        }
        Ok(())
    }

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
                self.finish = raw_lane::end(view).or(self.finish);
                if let Some(later) = view.tokens() {
                    self.tokens.update(&later);
                }
            }
            "message_stop" => {
                let reason = self.finish.unwrap_or(FinishReason::Stop);
                out.push(Delta::Finished { choice: 0, reason, stop: None });
                out.extend(self.tokens.usage().map(Delta::Usage));
            }
            _ => {}
        }
        Some(())
    }

    fn fail(&mut self, error: Error) {
        self.over = true;
        self.queue.push_back(Delta::Failed(error));
    }
}

impl Lane for MessageReader {
    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        let pushed = self.lane.push(chunk);
        self.drain(RawLane::next);
        if pushed.is_err() {
            self.over = true;
        }
        pushed
    }

    fn next(&mut self) -> Option<Delta> {
        self.queue.pop_front()
    }

    fn finish(&mut self) -> Option<Delta> {
        self.drain(RawLane::finish);
        self.queue.pop_front()
    }

    fn is_over(&self) -> bool {
        self.over || self.lane.is_over()
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
        ..Notes::default()
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
    deltas.push(Delta::Finished { choice: 0, reason, stop: None });
    deltas.extend(usage.map(Delta::Usage));
    Ok(deltas)
}
