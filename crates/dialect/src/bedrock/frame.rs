//! The frames of `application/vnd.amazon.eventstream`.
//!
//! What it promises: a frame leaves only whole and with both checksums right; a length above the bound is refused before
//! anything of it is kept. What it refuses to know: what the payloads mean.
//!
//! Layout (Amazon's event stream encoding): total length, headers' length, CRC-32 of the two; headers; payload; CRC-32 of
//! everything before. Numbers are big-endian.

use bytes::{Buf, Bytes, BytesMut};

/// Largest frame that is read, in bytes.
pub(super) const MAX_FRAME: usize = 1 << 20;

const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Whether it tells an exception instead of an event.
    pub(super) exception: bool,
    /// The event's or the exception's name.
    pub(super) kind: String,
    /// Its JSON.
    pub(super) payload: Bytes,
}

/// What is wrong with a stream of frames; nothing more can be read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadFrame(
    /// What was found.
    pub(super) &'static str,
);

/// Cuts chunks into frames.
#[derive(Debug, Default)]
pub(super) struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// Feeds a chunk of the body.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Whether a part of a frame is waiting for its rest.
    pub(super) fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// [`BadFrame`] for lengths that cannot be, wrong checksums and headers that make no sense.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, BadFrame> {
        let Some(prelude) = self.buffer.first_chunk::<PRELUDE>() else { return Ok(None) };
        let word =
            |at: usize| u32::from_be_bytes([prelude[at], prelude[at + 1], prelude[at + 2], prelude[at + 3]]);
        let (total, headers) = (word(0) as usize, word(4) as usize);
        if crc32fast::hash(&prelude[..8]) != word(8) {
            return Err(BadFrame("has a frame whose lengths do not match their checksum"));
        }
        if total > MAX_FRAME {
            return Err(BadFrame("has a frame above 1 MiB"));
        }
        if total < PRELUDE + CHECKSUM || headers > total - PRELUDE - CHECKSUM {
            return Err(BadFrame("has a frame with impossible lengths"));
        }
        if self.buffer.len() < total {
            self.buffer.reserve(total - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(total).freeze();
        let mut checksum = frame.split_off(total - CHECKSUM);
        if crc32fast::hash(&frame) != checksum.get_u32() {
            return Err(BadFrame("has a frame whose bytes do not match their checksum"));
        }
        frame.advance(PRELUDE);
        let head = frame.split_to(headers);
        let (exception, kind) = names(head).ok_or(BadFrame("has a frame without a readable type"))?;
        Ok(Some(Frame { exception, kind, payload: frame }))
    }
}

/// The message's type and name out of its headers. `:message-type` is `event`, `exception` or `error`.
fn names(mut head: Bytes) -> Option<(bool, String)> {
    let (mut message, mut kind) = (None, None);
    while head.has_remaining() {
        let length = usize::from(head.try_get_u8().ok()?);
        let name = take(&mut head, length)?;
        let size = match head.try_get_u8().ok()? {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            9 => 16,
            6 | 7 => usize::from(head.try_get_u16().ok()?),
            _ => return None,
        };
        let value = take(&mut head, size)?;
        match &*name {
            b":message-type" => message = Some(value),
            b":event-type" | b":exception-type" | b":error-code" => {
                kind = Some(std::str::from_utf8(&value).ok()?.to_owned());
            }
            _ => {}
        }
    }
    Some((message? != "event", kind.unwrap_or_default()))
}

fn take(from: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= from.len()).then(|| from.split_to(length))
}
