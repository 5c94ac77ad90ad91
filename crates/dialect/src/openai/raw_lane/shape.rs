//! Chunks of one answer are alike but for their text, so what was learnt of one tells the next.
//!
//! What it promises: an event that differs from the learnt one only inside strings, and has valid strings there, is JSON
//! of the same structure; it is read by comparing bytes, with the outcome that the parser would have given. Whatever else
//! comes is left to the parser. What it refuses to know: events that end something or count tokens.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{json, said};

/// Strings that may differ: the text, OpenAI's padding (`obfuscation`), and some for vendors with texts of more kinds.
const HOLES: usize = 4;
/// Events above this size are not learnt: a stream keeps what it learns.
const LARGEST: usize = 2048;

/// What two events have in common.
#[derive(Debug)]
pub(super) struct Shape {
    /// What stands between the strings that may differ, one piece after the other.
    fixed: Box<[u8]>,
    /// Where each piece ends.
    ends: [u16; HOLES + 1],
    holes: usize,
    /// Which of the strings are generated text.
    said: [bool; HOLES],
    /// What the fixed part says by itself.
    content: bool,
    text: u32,
    /// Bytes of the fixed part that are to be cut out, and the piece that they are in.
    cut: Option<(usize, Range<usize>)>,
}

/// What an event says that has the shape.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) content: bool,
    /// Bytes of generated text.
    pub(super) text: u32,
    /// What is to be cut out.
    pub(super) cut: Option<Range<usize>>,
}

#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    choices: [Choice<'a>; 1],
    #[serde(borrow)]
    obfuscation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl Shape {
    /// Learns from an event that the parser has read: one choice, no end, no usage. `cut` is what is cut out of it.
    pub(super) fn of(data: &[u8], cut: Option<&Range<usize>>) -> Option<Self> {
        let text = std::str::from_utf8(data).ok().filter(|text| text.len() <= LARGEST)?;
        let outline: Outline<'_> = serde_json::from_str(text).ok()?;
        let [choice] = outline.choices;
        let mut shape = Self {
            fixed: Box::default(),
            ends: [0; HOLES + 1],
            holes: 0,
            said: [false; HOLES],
            content: false,
            text: 0,
            cut: None,
        };
        let mut holes = Vec::with_capacity(HOLES);
        let delta = choice.delta.filter(|delta| !json::is_null(delta));
        let delta = delta.map(|delta| json::object_of(delta.get(), &json::Path::ROOT)).transpose().ok()?;
        for (name, value) in delta.unwrap_or_default().0 {
            if name != "role" {
                shape.says(value, text, &mut holes);
            }
        }
        if let Some(value) = choice.text {
            shape.says(value, text, &mut holes);
        }
        let padding = outline.obfuscation.and_then(inside);
        holes.extend(padding.map(|padding| (json::place_of(text, padding), false)));
        holes.sort_unstable_by_key(|(hole, _)| hole.start);
        shape.fill(data, &holes, cut)
    }

    /// Notes a member of what was said.
    fn says<'a>(&mut self, value: &'a RawValue, text: &'a str, holes: &mut Vec<(Range<usize>, bool)>) {
        if let Some(inside) = inside(value) {
            holes.push((json::place_of(text, inside), true));
        } else if json::has_content(value) {
            self.content = true;
            self.text = self.text.saturating_add(said::text(value));
        }
    }

    fn fill(
        mut self,
        data: &[u8],
        holes: &[(Range<usize>, bool)],
        cut: Option<&Range<usize>>,
    ) -> Option<Self> {
        self.holes = Some(holes.len()).filter(|count| (1..=HOLES).contains(count))?;
        let mut fixed = Vec::with_capacity(data.len());
        let mut at = 0;
        for piece in 0..=holes.len() {
            let end = holes.get(piece).map_or(data.len(), |(hole, _)| hole.start);
            if let Some(cut) = cut.filter(|cut| at <= cut.start && cut.end <= end) {
                let gone = at - fixed.len();
                self.cut = Some((piece, cut.start - gone..cut.end - gone));
            }
            fixed.extend_from_slice(&data[at..end]);
            self.ends[piece] = u16::try_from(fixed.len()).ok()?;
            if let Some((hole, said)) = holes.get(piece) {
                self.said[piece] = *said;
                at = hole.end;
            }
        }
        if self.cut.is_some() != cut.is_some() {
            return None;
        }
        self.fixed = fixed.into();
        Some(self)
    }

    /// Reads an event; `None` when it has another shape.
    pub(super) fn read(&self, data: &[u8]) -> Option<Reading> {
        let mut reading = Reading { content: self.content, text: self.text, cut: None };
        let (mut at, mut from) = (0, 0);
        for piece in 0..=self.holes {
            let end = usize::from(self.ends[piece]);
            let rest = data[at..].strip_prefix(self.fixed.get(from..end)?)?;
            if let Some((_, cut)) = self.cut.as_ref().filter(|(there, _)| *there == piece) {
                reading.cut = Some(cut.start - from + at..cut.end - from + at);
            }
            at = data.len() - rest.len();
            from = end;
            if piece < self.holes {
                let length = string(rest)?;
                if self.said[piece] && length > 0 {
                    reading.content = true;
                    reading.text = reading.text.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
                }
                at += length;
            }
        }
        (at == data.len()).then_some(reading)
    }
}

/// What stands between the quotes of a string.
fn inside(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"')
}

/// How long the string is whose inside begins here, up to its closing quote; `None` where JSON does not allow it.
fn string(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut ascii = true;
    loop {
        match *text.get(at)? {
            b'"' => break,
            b'\\' => match *text.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                b'u' if text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                _ => return None,
            },
            0..0x20 => return None,
            byte => {
                ascii &= byte < 0x80;
                at += 1;
            }
        }
    }
    (ascii || std::str::from_utf8(&text[..at]).is_ok()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}],"usage":null,"obfuscation":"x7"}"#;

    fn shape() -> Shape {
        let at = FIRST.find(r#","usage":null"#).unwrap();
        Shape::of(FIRST.as_bytes(), Some(&(at..at + 13))).unwrap()
    }

    fn read(from: &str, to: &str) -> Option<(bool, u32, String)> {
        let data = FIRST.replace(from, to);
        let reading = shape().read(data.as_bytes())?;
        let cut = reading.cut.map(|cut| data[cut].to_owned()).unwrap_or_default();
        Some((reading.content, reading.text, cut))
    }

    #[test]
    fn an_event_that_differs_inside_its_strings_is_read() {
        let cut = || r#","usage":null"#.to_owned();
        assert_eq!(read("Hi", "Hi"), Some((true, 2, cut())));
        assert_eq!(read("Hi", ""), Some((false, 0, cut())));
        assert_eq!(read("Hi", r#"a \"b\" é\u00e9 \\"#), Some((true, 19, cut())));
        assert_eq!(read("x7", "padding of another length"), Some((true, 2, cut())));
    }

    #[test]
    fn an_event_of_another_shape_is_left_to_the_parser() {
        for (from, to) in [
            (r#""finish_reason":null"#, r#""finish_reason":"stop""#),
            (r#""index":0"#, r#""index":1"#),
            ("null,\"obf", "{},\"obf"),
            (r#""Hi""#, "null"),
            (r#""Hi""#, r#""Hi","refusal":"no""#),
            (r#""id":"c""#, r#""id":"d""#),
            ("\"x7\"}", "\"x7\"} "),
            ("Hi", "a\u{1}"),
            ("Hi", r"\x"),
            ("Hi", r"\u12"),
        ] {
            assert_eq!(read(from, to), None, "{to}");
        }
        let mut data = FIRST.as_bytes().to_vec();
        let at = FIRST.find("Hi").unwrap();
        data[at] = 0xff;
        assert_eq!(shape().read(&data), None, "no UTF-8");
        assert_eq!(shape().read(&FIRST.as_bytes()[..at + 1]), None, "cut off");
    }

    #[test]
    fn what_has_no_text_or_is_too_large_is_not_learnt() {
        assert!(Shape::of(br#"{"choices":[{"index":0,"delta":{"content":null}}]}"#, None).is_none());
        assert!(Shape::of(br#"{"choices":[]}"#, None).is_none());
        let large = FIRST.replace("Hi", &"a".repeat(LARGEST));
        assert!(Shape::of(large.as_bytes(), None).is_none());
    }
}
