//! A stream of Converse events in words of every dialect.
//!
//! What it promises: `messageStop` alone makes an answer complete; a stream that is cut, garbled or ends with an
//! exception ends with one `Failed`. What it refuses to know: who asked.

use std::collections::VecDeque;

use bytes::Bytes;
use penstock_domain::{Code, Delta, Error, FinishReason, Started};
use serde::Deserialize;

use super::answer::{self, Reading};
use super::frame::FrameDecoder;
use crate::openai::error::bad_response;
use crate::vendor::Lane;

/// Reads a vendor's event stream.
#[derive(Debug, Default)]
pub(crate) struct FrameLane {
    frames: FrameDecoder,
    blocks: Reading,
    started: bool,
    /// `messageStop` came: what may follow is usage.
    finished: bool,
    /// `metadata` came: nothing follows.
    told: bool,
    failed: bool,
    queue: VecDeque<Delta>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start<'a> {
    content_block_index: u32,
    #[serde(borrow)]
    start: answer::Opening<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    content_block_index: u32,
    #[serde(borrow)]
    delta: answer::Piece<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stop {
    stop_reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    usage: Option<super::Usage>,
}

impl Lane for FrameLane {
    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.frames.push(&chunk);
        while !self.failed {
            match self.frames.next() {
                Ok(None) => break,
                Ok(Some(frame)) if frame.exception => {
                    self.fail(super::exception(&frame.kind, &frame.payload))
                }
                Ok(Some(frame)) => {
                    if self.event(&frame.kind, &frame.payload).is_none() {
                        let error =
                            bad_response("has an event that is not what its dialect says", &frame.payload);
                        self.fail(error);
                    }
                }
                Err(bad) => {
                    self.failed = true;
                    let say = format!("the provider's stream cannot be read: it {}", bad.0);
                    return Err(Error::new(Code::UpstreamBadResponse, say));
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Delta> {
        self.queue.pop_front()
    }

    fn finish(&mut self) -> Option<Delta> {
        if !self.failed && (!self.finished || self.frames.is_inside()) {
            let say = "the provider's stream ended before the answer was complete";
            self.fail(Error::new(Code::UpstreamStreamCut, say));
        }
        self.queue.pop_front()
    }

    fn is_over(&self) -> bool {
        // Usage comes after the end of the answer, so the end alone is not the end of the stream.
        self.failed || (self.finished && self.told)
    }
}

impl FrameLane {
    /// Reads one event; `None` when it makes no sense. Kinds that we do not know are nobody's here.
    fn event(&mut self, kind: &str, payload: &[u8]) -> Option<()> {
        if self.finished && kind != "metadata" {
            return Some(());
        }
        match kind {
            "messageStart" if !std::mem::replace(&mut self.started, true) => {
                self.queue.push_back(Delta::Started(Started::default()));
            }
            "contentBlockStart" => {
                let Start { content_block_index, start } = serde_json::from_slice(payload).ok()?;
                self.blocks.open(content_block_index, start, &mut self.queue)?;
            }
            "contentBlockDelta" => {
                let Piece { content_block_index, delta } = serde_json::from_slice(payload).ok()?;
                self.blocks.piece(content_block_index, delta, &mut self.queue)?;
            }
            "messageStop" => {
                let Stop { stop_reason } = serde_json::from_slice(payload).ok()?;
                self.finished = true;
                let reason: FinishReason = super::finish(&stop_reason);
                self.queue.push_back(Delta::Finished { choice: 0, reason, stop: None });
            }
            "metadata" => {
                self.told = true;
                // Usage that cannot be read is nobody's usage, and no failure.
                let told =
                    serde_json::from_slice::<Metadata>(payload).ok().and_then(|metadata| metadata.usage);
                self.queue.extend(told.map(|usage| Delta::Usage(usage.read())));
            }
            _ => {}
        }
        Some(())
    }

    fn fail(&mut self, error: Error) {
        self.failed = true;
        self.queue.push_back(Delta::Failed(error));
    }
}
