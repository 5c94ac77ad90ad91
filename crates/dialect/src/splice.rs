//! The vendor's request as the asker's bytes with a few members exchanged.
//!
//! What it promises: unknown members, their order, spelling and white space survive byte for byte; one allocation, and
//! none when nothing changes. What it refuses to know: everything but `model`, `stream_options`, `store`, `penstock` and
//! the bound of the answer where another one holds.

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;
use penstock_domain::{Dialect, Request, Span, Task};

use crate::json::{self, Path};
use crate::vendor::Chats;

const ASK_USAGE: &str = r#"{"include_usage":true}"#;

/// The original body with the vendor's model name, with `stream_options.include_usage` when the answer streams and
/// `ask_usage` says that the vendor knows it, with `store` off where the dialect has it, with the bound of the answer where
/// [`penstock_domain::Body::bound`] has one, and without the `penstock` member.
pub fn upstream_body(request: &Request, model: &str, ask_usage: bool) -> Bytes {
    upstream_body_for(Chats::OPENAI, request, model, ask_usage)
}

/// The same for a vendor of which is known what it understands: a bound that is new takes the name that it knows.
pub fn upstream_body_for(chats: Chats, request: &Request, model: &str, ask_usage: bool) -> Bytes {
    let bytes = request.body.bytes();
    let members = request.body.members();
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.clone() };
    let mut edits = Edits::default();
    if model != &*request.model {
        edits.replace(range(members.model), quoted(model));
    }
    if ask_usage && request.stream && request.body.dialect() == Dialect::OpenAi {
        match members.stream_options.map(range) {
            Some(at) => options(text, at, &mut edits),
            None => edits.insert(range(members.model).end, format!(r#","stream_options":{ASK_USAGE}"#)),
        }
    }
    if request.body.dialect() == Dialect::Responses && request.task != Task::CountTokens {
        // What a vendor keeps, everybody behind this gateway's credential could read; who stores answers is the edge.
        match members.store.map(range) {
            Some(at) if &text[at.clone()] == "false" => {}
            Some(at) => edits.replace(at, "false".to_owned()),
            None => edits.insert(range(members.model).end, r#","store":false"#.to_owned()),
        }
    }
    if let Some(most) = request.body.bound() {
        bound(text, (request, chats), most, &mut edits);
    }
    if let Some(at) = members.penstock.map(range) {
        let cut = json::member_range(text.as_bytes(), at.clone()).unwrap_or(at);
        edits.replace(cut, String::new());
    }
    edits.apply(bytes)
}

/// Bounds the answer: in place of every bound that stands there, else behind the model's name.
fn bound(text: &str, (request, chats): (&Request, Chats), most: u32, edits: &mut Edits) {
    let names: &[&str] = match (request.body.dialect(), request.task) {
        (Dialect::Responses, _) => &["max_output_tokens"],
        (Dialect::OpenAi, Task::Chat) if chats.max_completion_tokens => {
            &["max_completion_tokens", "max_tokens"]
        }
        (Dialect::OpenAi, Task::Chat) => &["max_tokens", "max_completion_tokens"],
        _ => &["max_tokens"],
    };
    let Ok(object) = json::object_of(text, &Path::ROOT) else { return };
    let before = edits.0.len();
    for (_, raw) in object.0.iter().filter(|(name, _)| names.contains(&name.as_ref())) {
        edits.replace(json::place_of(text, raw.get()), most.to_string());
    }
    if edits.0.len() == before {
        let model = range(request.body.members().model);
        edits.insert(model.end, format!(r#","{}":{most}"#, names[0]));
    }
}

/// Makes the vendor's `stream_options` ask for usage, keeping what else stands in it.
fn options(text: &str, at: Range<usize>, edits: &mut Edits) {
    let value = &text[at.clone()];
    let Ok(object) = json::object_of(value, &Path::ROOT) else {
        return edits.replace(at, ASK_USAGE.to_owned());
    };
    match object.0.iter().find(|(name, _)| name == "include_usage") {
        Some((_, raw)) if raw.get() == "true" => {}
        Some((_, raw)) => edits.replace(json::place_of(text, raw.get()), "true".to_owned()),
        None if object.0.is_empty() => edits.replace(at, ASK_USAGE.to_owned()),
        None => edits.insert(at.start + 1, r#""include_usage":true,"#.to_owned()),
    }
}

fn range(span: Span) -> Range<usize> {
    span.start as usize..span.end as usize
}

/// Text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// Replacements of disjoint ranges, at most one per rewritable member.
#[derive(Default)]
struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    fn replace(&mut self, range: Range<usize>, with: String) {
        self.0.push((range, with));
    }

    fn insert(&mut self, at: usize, text: String) {
        self.0.push((at..at, text));
    }

    fn apply(mut self, bytes: &Bytes) -> Bytes {
        if self.0.is_empty() {
            return bytes.clone();
        }
        // By start, then by end: an insertion comes before a cut that starts where it stands.
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let more: usize = self.0.iter().map(|(_, with)| with.len()).sum();
        let mut out = Vec::with_capacity(bytes.len() + more);
        let mut at = 0;
        for (range, with) in &self.0 {
            out.extend_from_slice(bytes.get(at..range.start).unwrap_or_default());
            out.extend_from_slice(with.as_bytes());
            at = range.end;
        }
        out.extend_from_slice(bytes.get(at..).unwrap_or_default());
        Bytes::from(out)
    }
}
