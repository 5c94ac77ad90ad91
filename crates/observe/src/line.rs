//! The one log line of a request: text for people or JSON for machines, in the shape of every other log line.
//!
//! What it promises: a batch of records is one write. Nothing that a client or vendor sent can begin a new line or
//! leave its quotes. The level of the target `penstock::request` decides, as for any other target.
//!
//! What it refuses to know: where the lines go.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_domain::{Blame, Error, FinishReason, RequestId, Task, calendar};
use tracing::Level;

use crate::{Outcome, Record};

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `name=value`, for people.
    Text,
    /// One flat JSON object, for machines.
    Json,
}

/// A buffer above this many bytes is not kept for the next batch.
const KEEP: usize = 256 << 10;

/// Writes log lines to `out`, a batch at a time.
pub struct Lines {
    format: Format,
    out: Box<dyn Write + Send>,
    buffer: Vec<u8>,
    /// The second that was written last, and its text: a batch has few different ones.
    second: (u64, [u8; 19]),
}

impl Lines {
    /// Writes to `out`, which is flushed after each batch.
    pub fn new(format: Format, out: Box<dyn Write + Send>) -> Self {
        Self { format, out, buffer: Vec::new(), second: (0, *b"1970-01-01T00:00:00") }
    }

    /// Writes the lines of a batch.
    ///
    /// # Errors
    /// What the output says; the batch is lost then.
    pub(crate) fn write(&mut self, records: &[Record]) -> io::Result<()> {
        for record in records {
            if let Some(level) = level(record) {
                self.line(record, level);
            }
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        self.buffer.clear();
        self.buffer.shrink_to(KEEP);
        written
    }

    fn line(&mut self, record: &Record, level: &'static str) {
        self.time(record.at + record.duration);
        let out = &mut self.buffer;
        match self.format {
            Format::Text => {
                // As wide as the longest level, like the lines around it.
                out.extend_from_slice(b" ");
                out.extend_from_slice(&b"     "[..5 - level.len().min(5)]);
                out.extend_from_slice(level.as_bytes());
                out.extend_from_slice(b" penstock::request: request");
            }
            Format::Json => {
                out.extend_from_slice(b"\",\"level\":\"");
                out.extend_from_slice(level.as_bytes());
                out.extend_from_slice(b"\",\"message\":\"request\"");
            }
        }
        fields(record, &mut Fields { out, format: self.format });
        match self.format {
            Format::Text => out.push(b'\n'),
            Format::Json => out.extend_from_slice(b",\"target\":\"penstock::request\"}\n"),
        }
    }

    /// The instant in RFC 3339 with microseconds.
    fn time(&mut self, at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second.0 != since.as_secs() {
            self.second = (since.as_secs(), second(since.as_secs()));
        }
        if self.format == Format::Json {
            self.buffer.extend_from_slice(b"{\"timestamp\":\"");
        }
        self.buffer.extend_from_slice(&self.second.1);
        self.buffer.push(b'.');
        padded(&mut self.buffer, since.subsec_micros(), 6);
        self.buffer.push(b'Z');
    }
}

/// The level, where it is wanted. Errors that the operator must act on are `error`, the vendor's are `warn`.
fn level(record: &Record) -> Option<&'static str> {
    let blame = match &record.outcome {
        Outcome::Refused(error) | Outcome::Failed(error) => error.blame(),
        Outcome::Complete | Outcome::Replayed | Outcome::Cancelled => Blame::Client,
    };
    match blame {
        Blame::Client => tracing::enabled!(target: "penstock::request", Level::INFO).then_some("INFO"),
        Blame::Vendor => tracing::enabled!(target: "penstock::request", Level::WARN).then_some("WARN"),
        Blame::Gateway => tracing::enabled!(target: "penstock::request", Level::ERROR).then_some("ERROR"),
    }
}

fn fields(record: &Record, to: &mut Fields<'_>) {
    to.text("request", Some(RequestId::as_str(&record.id)));
    to.text("operation", Some(record.task.map_or("unknown", Task::name)));
    to.plain("stream", if record.stream { b"true" } else { b"false" });
    to.text("key", record.key.as_deref());
    to.text("team", record.team.as_deref());
    to.text("model", record.model.as_deref());
    to.text("provider", record.provider.as_deref());
    to.text("upstream_model", record.upstream_model.as_deref());
    to.number("attempts", u64::from(record.attempts));
    if let Some(usage) = record.usage {
        to.number("input_tokens", usage.input);
        to.number("output_tokens", usage.output);
    }
    to.text("finish", record.finish.map(FinishReason::name));
    to.millis("duration_ms", record.duration);
    if let Some(first) = record.first_token {
        to.millis("first_token_ms", first);
    }
    to.text("code", Some(record.outcome.code()));
    let Some(error) = record.outcome.error() else { return };
    to.text("stage", error.stage().map(|stage| stage.name()));
    to.text("error", Some(error.say()));
    to.text("cause", causes(error).as_deref());
}

/// The chain of causes on one line.
fn causes(error: &Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    let mut text = String::new();
    while let Some(inner) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    (!text.is_empty()).then_some(text)
}

/// Writes fields in either format.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    format: Format,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        match self.format {
            Format::Text => {
                self.out.push(b' ');
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b'=');
            }
            Format::Json => {
                self.out.extend_from_slice(b",\"");
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
        }
    }

    /// A text in quotes; nothing when there is none.
    fn text(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        self.out.push(b'"');
        escape(self.out, value);
        self.out.push(b'"');
    }

    fn plain(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.out.extend_from_slice(value);
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        digits(self.out, value);
    }

    /// Milliseconds with three digits after the point: microseconds.
    fn millis(&mut self, name: &str, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.name(name);
        digits(self.out, micros / 1_000);
        self.out.push(b'.');
        padded(self.out, (micros % 1_000) as u32, 3);
    }
}

/// JSON's escapes (RFC 8259, 7), which text lines share.
fn escape(out: &mut Vec<u8>, text: &str) {
    let special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f);
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(special) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => {
                let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn digits(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return out.extend_from_slice(&text[at..]);
        }
    }
}

/// Exactly `width` digits.
fn padded(out: &mut Vec<u8>, mut value: u32, width: usize) {
    let from = out.len();
    out.resize(from + width, b'0');
    for digit in out[from..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// `2026-11-23T13:42:05`.
fn second(since: u64) -> [u8; 19] {
    let ((year, month, day), rest) = (calendar::civil(since / 86_400), since % 86_400);
    let mut text = Vec::with_capacity(19);
    let parts = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (rest / 3_600, 2, b':'),
        (rest / 60 % 60, 2, b':'),
        (rest % 60, 2, b'.'),
    ];
    for (value, width, end) in parts {
        padded(&mut text, value as u32, width);
        text.push(end);
    }
    let mut fixed = [0; 19];
    fixed.copy_from_slice(&text[..19]);
    fixed
}

#[cfg(test)]
mod tests;
