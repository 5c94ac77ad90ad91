//! Borrowed walks over JSON text with the path of every value at hand.
//!
//! What it promises: values stay text until somebody asks for their type; every complaint names the member at fault;
//! counts are bounded while reading, so that a body of a million empty objects costs no more than its bytes. What it
//! refuses to know: any dialect's member names.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use penstock_domain::{Code, Error, Json};
use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Most members that one object may have where we read it.
pub(crate) const MAX_MEMBERS: usize = 256;

/// Where a value stands, for `Error::param`. Written out only when something is wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Root,
    Member(&'p str),
    Item(usize),
}

impl<'p> Path<'p> {
    pub(crate) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    pub(crate) fn member(&'p self, name: &'p str) -> Path<'p> {
        Path { parent: Some(self), step: Step::Member(name) }
    }

    pub(crate) fn item(&'p self, index: usize) -> Path<'p> {
        Path { parent: Some(self), step: Step::Item(index) }
    }

    /// An error about the value here; `say` goes on after the path.
    pub(crate) fn error(&self, code: Code, say: impl fmt::Display) -> Error {
        match self.to_string() {
            path if path.is_empty() => Error::new(code, format!("the body {say}")),
            path => Error::new(code, format!("`{path}` {say}")).with_param(path),
        }
    }

    /// The value here has the wrong type.
    pub(crate) fn mistyped(&self, expected: &str, found: &RawValue) -> Error {
        self.error(Code::InvalidRequest, format_args!("must be {expected}, found {}", kind(found)))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Item(index) => write!(f, "[{index}]"),
            Step::Member(name) => {
                let root = self.parent.is_none_or(|p| matches!(p.step, Step::Root));
                write!(f, "{}{name}", if root { "" } else { "." })
            }
        }
    }
}

/// What a value is, in words.
pub(crate) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

pub(crate) fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// Whether a value is neither null nor an empty string, array or object. Numbers and booleans count as empty.
pub(crate) fn has_content(raw: &RawValue) -> bool {
    let text = raw.get().as_bytes();
    match text.first() {
        Some(b'"') => text.len() > 2,
        Some(b'[' | b'{') => text[1..text.len() - 1].iter().any(|b| !b.is_ascii_whitespace()),
        _ => false,
    }
}

/// An object's members in order, values untouched.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// A member that is there and not null: to every dialect here, null is absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value).filter(|v| !is_null(v))
    }
}

/// Reads an object: at most [`MAX_MEMBERS`] members, none of them twice.
pub(crate) fn object<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Object<'a>, Error> {
    if !raw.get().starts_with('{') {
        return Err(path.mistyped("an object", raw));
    }
    object_of(raw.get(), path)
}

/// Reads the text of an object.
pub(crate) fn object_of<'a>(text: &'a str, path: &Path<'_>) -> Result<Object<'a>, Error> {
    let mut twice = None;
    let mut parser = serde_json::Deserializer::from_str(text);
    let members = parser
        .deserialize_map(Members { twice: &mut twice })
        .and_then(|members| parser.end().map(|()| members))
        .map_err(|e| match twice {
            Some(name) => path.member(&name).error(
                Code::InvalidRequest,
                "stands twice in one object; readers disagree about which one counts, send it once",
            ),
            None => syntax(&e, path),
        })?;
    Ok(Object(members))
}

fn syntax(e: &serde_json::Error, path: &Path<'_>) -> Error {
    if e.is_data() {
        return path.error(Code::InvalidRequest, format_args!("cannot be read: {e}"));
    }
    path.error(Code::InvalidJson, format_args!("is not valid JSON: {e}"))
}

struct Members<'t> {
    twice: &'t mut Option<String>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Self::Value = Vec::with_capacity(16);
        while let Some(name) = map.next_key_seed(Name)? {
            if members.len() == MAX_MEMBERS {
                return Err(de::Error::custom(format_args!("more than {MAX_MEMBERS} members in one object")));
            }
            if members.iter().any(|(key, _)| *key == name) {
                *self.twice = Some(name.chars().filter(|c| !c.is_control()).take(64).collect());
                return Err(de::Error::custom("a member stands twice"));
            }
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

/// A member name, borrowed unless it has escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }
    fn visit_borrowed_str<E: de::Error>(self, v: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(v))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(v.to_owned()))
    }
}

/// Reads an array of at most `max` items.
pub(crate) fn items<'a>(raw: &'a RawValue, max: usize, path: &Path<'_>) -> Result<Vec<&'a RawValue>, Error> {
    struct Items(usize);
    impl<'de> Visitor<'de> for Items {
        type Value = Vec<&'de RawValue>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == self.0 {
                    return Err(de::Error::custom(format_args!("more than {} items", self.0)));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    if !raw.get().starts_with('[') {
        return Err(path.mistyped("an array", raw));
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Items(max)).map_err(|e| syntax(&e, path))
}

/// Reads a string.
pub(crate) fn string(raw: &RawValue, path: &Path<'_>) -> Result<String, Error> {
    if !raw.get().starts_with('"') {
        return Err(path.mistyped("a string", raw));
    }
    serde_json::from_str(raw.get()).map_err(|e| syntax(&e, path))
}

/// Reads a string that is borrowed where it can be.
pub(crate) fn cow<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Cow<'a, str>, Error> {
    if !raw.get().starts_with('"') {
        return Err(path.mistyped("a string", raw));
    }
    Name.deserialize(&mut serde_json::Deserializer::from_str(raw.get())).map_err(|e| syntax(&e, path))
}

/// Reads a boolean.
pub(crate) fn boolean(raw: &RawValue, path: &Path<'_>) -> Result<bool, Error> {
    match raw.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(path.mistyped("true or false", raw)),
    }
}

/// Reads a whole number between two bounds.
pub(crate) fn integer(raw: &RawValue, min: i64, max: i64, path: &Path<'_>) -> Result<i64, Error> {
    if kind(raw) != "a number" {
        return Err(path.mistyped(&format!("a whole number between {min} and {max}"), raw));
    }
    match raw.get().parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(out_of_range(raw, &format!("a whole number between {min} and {max}"), path)),
    }
}

/// Reads a whole number between two bounds that fit 32 bits.
pub(crate) fn count(raw: &RawValue, min: u32, max: u32, path: &Path<'_>) -> Result<u32, Error> {
    let value = integer(raw, i64::from(min), i64::from(max), path)?;
    u32::try_from(value).map_err(|_| out_of_range(raw, "a count", path))
}

/// Reads a number between two bounds.
pub(crate) fn number(raw: &RawValue, min: f32, max: f32, path: &Path<'_>) -> Result<f32, Error> {
    if kind(raw) != "a number" {
        return Err(path.mistyped(&format!("a number between {min} and {max}"), raw));
    }
    match raw.get().parse::<f32>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(out_of_range(raw, &format!("a number between {min} and {max}"), path)),
    }
}

fn out_of_range(raw: &RawValue, expected: &str, path: &Path<'_>) -> Error {
    let text = raw.get();
    let found = if text.len() > 24 { format!("{}…", &text[..24]) } else { text.to_owned() };
    path.error(Code::InvalidValue, format_args!("must be {expected}, found {found}"))
}

/// Keeps a value as text; it must be an object.
pub(crate) fn json(raw: &RawValue, path: &Path<'_>) -> Result<Json, Error> {
    if !raw.get().starts_with('{') {
        return Err(path.mistyped("an object", raw));
    }
    Ok(Json::from_valid(raw.get()))
}

/// The members of an object that are not among those known here, null ones excepted, safe to show.
pub(crate) fn unknown(object: &Object<'_>, known: &[&str]) -> Vec<String> {
    let strange = object.0.iter().filter(|(name, raw)| !is_null(raw) && !known.contains(&name.as_ref()));
    strange.map(|(name, _)| bounded(name, 64)).collect()
}

/// The nearest of `known` to `name`, if one is near enough to be meant.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let name: String = name.chars().take(64).collect();
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(&name, k), *k))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// Bytes the size of which is bounded and the control characters of which are gone: safe to show and to log.
pub(crate) fn bounded(text: &str, max_chars: usize) -> String {
    let mut clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = clean.by_ref().take(max_chars).collect();
    if clean.next().is_some() {
        out.push('…');
    }
    out.trim().to_owned()
}

/// The bytes to cut so that the member whose value stands at `value` is gone, one comma included.
///
/// `None` when no member name stands before the value.
pub(crate) fn member_range(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let back = |at: usize| text[..at].iter().rposition(|b| !b.is_ascii_whitespace());
    let colon = back(value.start).filter(|&at| text[at] == b':')?;
    let close = back(colon).filter(|&at| text[at] == b'"')?;
    // The names that are cut have no quote in them, so the nearest quote opens the name, escapes or not.
    let open = memchr::memrchr(b'"', &text[..close])?;
    let before = back(open)?;
    if text[before] == b',' {
        return Some(before..value.end);
    }
    let after = text[value.end..].iter().position(|b| !b.is_ascii_whitespace()).map(|n| value.end + n);
    match after {
        Some(comma) if text[comma] == b',' => Some(open..comma + 1),
        _ => Some(open..value.end),
    }
}

/// Where a slice that borrows from `text` stands in it.
pub(crate) fn place_of(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

/// A tool's arguments, if they are the object that some dialects demand; none at all are an empty one.
pub(crate) fn arguments(text: &str) -> Option<&RawValue> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get().starts_with('{'))
}
