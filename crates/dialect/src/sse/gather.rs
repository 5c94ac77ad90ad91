//! Whole events on their way through, gathered so that those of one chunk leave as one slice of it.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr2;

use super::encode_event;

/// Where an event's bytes are.
pub(crate) enum Place {
    /// In the present chunk.
    Inside(Range<usize>),
    /// It began in an earlier chunk.
    Own(Bytes),
}

/// Events that leave together.
#[derive(Debug, Default)]
pub(crate) enum Gather {
    /// Nothing yet.
    #[default]
    Empty,
    /// A slice of the present chunk.
    Slice(Range<usize>),
    /// One event that began in an earlier chunk.
    Own(Bytes),
    /// Put together, because something was written anew.
    Built(BytesMut),
}

impl Gather {
    /// Adds one event as it was sent.
    pub(crate) fn keep(&mut self, place: Place, chunk: &Bytes) {
        *self = match (std::mem::take(self), place) {
            (Gather::Empty, Place::Inside(range)) => Gather::Slice(range),
            (Gather::Empty, Place::Own(bytes)) => Gather::Own(bytes),
            (Gather::Slice(run), Place::Inside(range)) if run.end == range.start => {
                Gather::Slice(run.start..range.end)
            }
            (run, place) => {
                let mut built = run.build(chunk);
                match place {
                    Place::Inside(range) => built.put_slice(&chunk[range]),
                    Place::Own(bytes) => built.put_slice(&bytes),
                }
                Gather::Built(built)
            }
        };
    }

    /// Writes one event anew; its data are the pieces together.
    pub(crate) fn write(&mut self, name: Option<&str>, pieces: &[&[u8]], chunk: &Bytes) {
        let mut built = std::mem::take(self).build(chunk);
        // Valid JSON may hold line ends between its tokens, and SSE may not: they become further data lines.
        if name.is_some() || pieces.iter().any(|piece| memchr2(b'\n', b'\r', piece).is_some()) {
            encode_event(&mut built, name, &pieces.concat());
        } else {
            built.put_slice(b"data: ");
            pieces.iter().for_each(|piece| built.put_slice(piece));
            built.put_slice(b"\n\n");
        }
        *self = Gather::Built(built);
    }

    /// What has been gathered, if anything; `chunk` is the chunk that it was gathered from.
    pub(crate) fn take(&mut self, chunk: &Bytes) -> Option<Bytes> {
        match std::mem::take(self) {
            Gather::Empty => None,
            Gather::Slice(range) => Some(chunk.slice(range)),
            Gather::Own(bytes) => Some(bytes),
            Gather::Built(built) => Some(built.freeze()),
        }
    }

    fn build(self, chunk: &Bytes) -> BytesMut {
        match self {
            Gather::Built(built) => built,
            Gather::Empty => BytesMut::with_capacity(chunk.len() + 64),
            Gather::Slice(range) => {
                let mut built = BytesMut::with_capacity(chunk.len() + 64);
                built.put_slice(&chunk[range]);
                built
            }
            Gather::Own(bytes) => {
                let mut built = BytesMut::with_capacity(bytes.len() + chunk.len() + 64);
                built.put_slice(&bytes);
                built
            }
        }
    }
}
