//! The fields of one block of lines.

use std::ops::Range;

use memchr::{memchr, memchr2};

/// The data lines of a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// No data line: nothing to dispatch.
    None,
    /// One line, where it stands.
    One(Range<usize>),
    /// Several lines, joined by LF.
    Many(Vec<u8>),
}

/// What a block says.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Where the value of the last `event` line stands.
    pub(crate) event: Option<Range<usize>>,
    /// The data.
    pub(crate) data: Data,
    /// It has a comment line.
    pub(crate) comment: bool,
    /// Nothing but one line `data: …`, ended by LF LF: the bytes can be forwarded as they are.
    pub(crate) canonical: bool,
    /// As `canonical`, with one line `event: …` before the data.
    pub(crate) named: bool,
}

/// Reads a block. `id`, `retry` and unknown fields are ignored: no vendor of ours resumes a stream by them.
pub(crate) fn parse_block(block: &[u8]) -> Fields {
    let mut fields = Fields { event: None, data: Data::None, comment: false, canonical: false, named: false };
    let mut at = 0;
    let mut lines = 0;
    let mut others = false;
    while at < block.len() {
        let length = memchr2(b'\n', b'\r', &block[at..]).unwrap_or(block.len() - at);
        let line = at..at + length;
        at = line.end + 1 + usize::from(block[line.end..].starts_with(b"\r\n"));
        if line.is_empty() {
            continue;
        }
        let (name, value) = split(block, line);
        match &block[name] {
            b"data" => {
                lines += 1;
                add_line(&mut fields.data, block, value);
            }
            b"event" => {
                others = true;
                fields.event = Some(value);
            }
            b"" => {
                others = true;
                fields.comment = true;
            }
            _ => others = true,
        }
    }
    if let Data::One(value) = &fields.data {
        let bounds = value.start == b"data: ".len() && block.len() == value.end + 2;
        let ended = block.ends_with(b"\n\n");
        fields.canonical = lines == 1 && !others && bounds && ended;
        fields.named = ended
            && block.len() == value.end + 2
            && fields.event.as_ref().is_some_and(|name| {
                name.start == b"event: ".len()
                    && block[..value.start].get(name.end..) == Some(&b"\ndata: "[..])
            });
    }
    fields
}

/// Name and value of a line; one space after the colon belongs to neither. A comment has an empty name.
fn split(block: &[u8], line: Range<usize>) -> (Range<usize>, Range<usize>) {
    match memchr(b':', &block[line.clone()]) {
        None => (line.clone(), line.end..line.end),
        Some(colon) => {
            let colon = line.start + colon;
            let value = colon + 1 + usize::from(colon + 1 < line.end && block[colon + 1] == b' ');
            (line.start..colon, value..line.end)
        }
    }
}

fn add_line(data: &mut Data, block: &[u8], value: Range<usize>) {
    match data {
        Data::None => *data = Data::One(value),
        Data::One(first) => {
            let mut joined = Vec::with_capacity(block.len());
            joined.extend_from_slice(&block[first.clone()]);
            joined.push(b'\n');
            joined.extend_from_slice(&block[value]);
            *data = Data::Many(joined);
        }
        Data::Many(joined) => {
            joined.push(b'\n');
            joined.extend_from_slice(&block[value]);
        }
    }
}
