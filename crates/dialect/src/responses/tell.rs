//! What is heard of an answer while it is made: typed events, or nothing.
//!
//! What it promises: event numbers are dense; one event is one write, without a document in between where its members
//! are texts and numbers.

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use crate::openai::write;

/// Who hears what happens.
pub(super) trait Tell {
    /// One event of this kind with these members, besides its type and number.
    fn tell(&mut self, kind: &str, members: &[(&str, Piece<'_>)]);

    /// Whether anybody listens: what is told is not made for nobody.
    fn listens(&self) -> bool {
        true
    }
}

/// The value of an event's member.
pub(super) enum Piece<'a> {
    Text(&'a str),
    Number(u32),
    /// JSON text without line ends.
    Raw(&'a str),
    Json(Value),
}

/// For answers that are not streamed.
pub(super) struct Silent;

impl Tell for Silent {
    fn tell(&mut self, _kind: &str, _members: &[(&str, Piece<'_>)]) {}

    fn listens(&self) -> bool {
        false
    }
}

/// Writes events.
pub(super) struct Written<'o> {
    pub(super) out: &'o mut BytesMut,
    /// The number of the next event.
    pub(super) next: &'o mut u64,
}

impl Tell for Written<'_> {
    fn tell(&mut self, kind: &str, members: &[(&str, Piece<'_>)]) {
        let out = &mut *self.out;
        out.reserve(256);
        out.put_slice(b"event: ");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\ndata: {\"type\":\"");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\",\"sequence_number\":");
        write::json(out, &*self.next);
        *self.next += 1;
        for (name, piece) in members {
            out.put_slice(b",\"");
            out.put_slice(name.as_bytes());
            out.put_slice(b"\":");
            match piece {
                Piece::Text(text) => write::json(out, *text),
                Piece::Number(number) => write::json(out, number),
                Piece::Raw(text) => out.put_slice(text.as_bytes()),
                Piece::Json(value) => write::json(out, value),
            }
        }
        out.put_slice(b"}\n\n");
    }
}
