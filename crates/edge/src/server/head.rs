//! Looks at the raw bytes of request heads for what the HTTP parser forgives and a proxy in front of us may read
//! otherwise: bare line feeds, and `content-length` beside `transfer-encoding` (RFC 9112, 2.2 and 6.3). Requests that
//! two parties can cut in two ways are how requests are smuggled.
//!
//! It follows heads only: a head that a client sends before the answer to the request before (pipelining) is left to
//! the parser, which reads it like any other; no proxy in front of us pipelines.

/// The names that matter are at most this long, colon included.
const START: usize = 18;

/// One head on its way, in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    start: [u8; START],
    /// Length of the current line so far.
    length: usize,
    last: u8,
    lines: u32,
    content_length: bool,
    transfer_encoding: bool,
    bare: bool,
}

/// What a piece ended in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The head goes on.
    Part,
    /// The head is complete; whether it is ambiguous.
    Whole(bool),
}

impl HeadScan {
    /// Whether nothing of a head has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0 && self.length == 0
    }

    /// Takes the next piece. After [`Seen::Whole`] the rest of the piece is body and not looked at.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Seen {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.take(&rest[..end]);
            rest = &rest[end + 1..];
            let crlf = self.length > 0 && self.last == b'\r';
            self.bare |= !crlf;
            let empty = self.length == usize::from(crlf);
            if empty && self.lines > 0 {
                let ambiguous = self.bare || (self.content_length && self.transfer_encoding);
                *self = Self::default();
                return Seen::Whole(ambiguous);
            }
            if !empty {
                self.lines += 1;
                self.content_length |= self.begins_with(b"content-length:");
                self.transfer_encoding |= self.begins_with(b"transfer-encoding:");
            }
            self.length = 0;
        }
        self.take(rest);
        Seen::Part
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.length < START {
            let room = (START - self.length).min(bytes.len());
            self.start[self.length..self.length + room].copy_from_slice(&bytes[..room]);
        }
        self.length += bytes.len();
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn begins_with(&self, name: &[u8]) -> bool {
        self.length >= name.len() && self.start[..name.len()].eq_ignore_ascii_case(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(head: &str) -> Seen {
        let whole = HeadScan::default().feed(head.as_bytes());
        // However the bytes are cut, the verdict is the same.
        let mut scan = HeadScan::default();
        let mut cut = Seen::Part;
        for byte in head.as_bytes() {
            cut = scan.feed(std::slice::from_ref(byte));
            if cut != Seen::Part {
                break;
            }
        }
        assert_eq!(whole, cut, "{head:?}");
        whole
    }

    #[test]
    fn plain_heads_are_plain() {
        assert_eq!(verdict("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab\n"), Seen::Whole(false));
        assert_eq!(verdict("\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), Seen::Whole(false));
        assert_eq!(verdict("GET / HTTP/1.1\r\nhost: a\r\n"), Seen::Part);
    }

    #[test]
    fn bare_line_feeds_and_double_framing_are_ambiguous() {
        for head in [
            "GET / HTTP/1.1\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
            "GET / HTTP/1.1\n\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:3\r\n\r\n",
        ] {
            assert_eq!(verdict(head), Seen::Whole(true), "{head:?}");
        }
    }
}
