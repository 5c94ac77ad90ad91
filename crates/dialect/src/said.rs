//! How much was said: bytes of generated text, found without reading it. What an estimate goes by when a vendor counts
//! nothing; it need not be exact, and it costs a look at a name.

use std::sync::Arc;

use memchr::memmem;
use serde_json::value::RawValue;

/// Members that hold generated text inside a larger value: text, thinking, and the arguments of calls.
const NAMES: [&[u8]; 4] = [b"\"text\":\"", b"\"thinking\":\"", b"\"partial_json\":\"", b"\"arguments\":\""];

/// The bytes of a value that is generated text, as JSON writes it, without quotes.
pub(crate) fn text(raw: &RawValue) -> u32 {
    match raw.get().as_bytes() {
        [b'"', inside @ .., b'"'] => bytes(inside.len()),
        [b'{' | b'[', ..] => inside(raw),
        _ => 0,
    }
}

/// The bytes of generated text in an object or a list.
pub(crate) fn inside(raw: &RawValue) -> u32 {
    let text = raw.get().as_bytes();
    let found = NAMES.iter().flat_map(|name| memmem::find_iter(text, name).map(|at| at + name.len()));
    found.fold(0, |sum: u32, from| sum.saturating_add(bytes(string(&text[from..]))))
}

/// How long the string is whose inside begins here.
fn string(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at += 2;
    }
    text.len()
}

fn bytes(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A name that a vendor gives as a JSON string.
pub(crate) fn name(raw: &RawValue) -> Option<Arc<str>> {
    serde_json::from_str::<std::borrow::Cow<'_, str>>(raw.get()).ok().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> u32 {
        text(&RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn text_is_counted_as_it_is_written_and_frames_are_not() {
        assert_eq!(said("\"\""), 0);
        assert_eq!(said("\"a\\n\\\"b\""), 6);
        assert_eq!(said("null"), 0);
        assert_eq!(said(r#"{"type":"text_delta","text":"say \"it\""}"#), 10);
        assert_eq!(said(r#"[{"index":0,"id":"call_1","function":{"name":"f","arguments":"{\"a\""}}]"#), 6);
        assert_eq!(said(r#"{"type":"input_json_delta","partial_json":"{}"}"#), 2);
        assert_eq!(said(r#"{"type":"signature_delta","signature":"abc"}"#), 0);
        assert_eq!(said(r#"{"text":"cut"#.replace("cut", "x\\\\\"}").as_str()), 3);
    }
}
