//! Items as text: what state reads and writes of them.
//!
//! What it refuses to know: what items mean.

use std::borrow::Cow;

use penstock_domain::{Error, Json};
use serde_json::value::RawValue;

use super::state::Item;
use crate::json::{self, Object, Path};

/// A user's message of this text, which is a JSON string.
pub(super) fn message(text: &str) -> String {
    format!(r#"{{"type":"message","role":"user","content":[{{"type":"input_text","text":{text}}}]}}"#)
}

/// An object of these members, whose values are JSON.
pub(super) fn object_text<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in members {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&quoted(name));
        text.push(':');
        text.push_str(value);
    }
    text.push_str(if text.is_empty() { "{}" } else { "}" });
    text
}

/// Text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn member<'a>(object: &Object<'a>, name: &str) -> Option<Cow<'a, str>> {
    object.get(name).and_then(|raw| json::cow(raw, &Path::ROOT).ok())
}

/// What an item is; a message may leave its type out.
fn kind<'a>(object: &Object<'a>) -> Cow<'a, str> {
    member(object, "type").unwrap_or(Cow::Borrowed("message"))
}

/// The id that an `item_reference` names; one may leave its type out.
pub(super) fn reference(raw: &RawValue) -> Option<String> {
    let object = json::object(raw, &Path::ROOT).ok()?;
    let bare = object.get("type").is_none() && object.get("role").is_none();
    let named = member(&object, "type").is_some_and(|kind| kind == "item_reference");
    (bare || named).then(|| member(&object, "id")).flatten().map(Cow::into_owned)
}

/// An earlier item as it is sent again: without its id, and `None` for reasoning that no vendor would know again.
pub(super) fn again(text: &str) -> Option<String> {
    let object = json::object_of(text, &Path::ROOT).ok()?;
    if kind(&object) == "reasoning" {
        return object.get("encrypted_content").map(|_| text.to_owned());
    }
    let members = object.0.iter().filter(|(name, _)| name != "id");
    Some(object_text(members.map(|(name, raw)| (name.as_ref(), raw.get()))))
}

/// An input item as it is listed: its type and id spelt out, a text of a message as a part.
pub(super) fn listed(text: &str, tail: &str, at: usize) -> Result<Item, Error> {
    let object = json::object_of(text, &Path::ROOT.member("input").item(at))?;
    let kind = kind(&object);
    let (id, quoted_id) = id(&object, &kind, tail, at);
    let quoted_kind = quoted(&kind);
    let mut members = vec![("id", quoted_id.as_str()), ("type", quoted_kind.as_str())];
    let part = object.get("content").filter(|raw| kind == "message" && raw.get().starts_with('"'));
    let part = part.map(|raw| {
        let said = member(&object, "role").is_some_and(|role| role == "assistant");
        let part = if said { r#""output_text","annotations":[],"logprobs":[]"# } else { r#""input_text""# };
        format!(r#"[{{"type":{part},"text":{}}}]"#, raw.get())
    });
    for (name, raw) in &object.0 {
        match (name.as_ref(), &part) {
            ("id" | "type", _) => {}
            ("content", Some(part)) => members.push(("content", part)),
            (name, _) => members.push((name, raw.get())),
        }
    }
    if kind == "message" && object.get("status").is_none() {
        members.push(("status", "\"completed\""));
    }
    Ok(Item { id, json: Json::from_valid(object_text(members)) })
}

/// An output item as it is kept: with an id.
pub(super) fn kept(text: &str, tail: &str, at: usize) -> Result<Item, Error> {
    let object = json::object_of(text, &Path::ROOT.member("output").item(at))?;
    let (id, quoted_id) = id(&object, &kind(&object), tail, at);
    if object.get("id").is_some() {
        return Ok(Item { id, json: Json::from_valid(text) });
    }
    let others = object.0.iter().filter(|(name, _)| name != "id");
    let members = std::iter::once(("id", quoted_id.as_str()))
        .chain(others.map(|(name, raw)| (name.as_ref(), raw.get())));
    Ok(Item { id, json: Json::from_valid(object_text(members)) })
}

/// The id of an item, as text and as JSON: its own, or one made from `tail` and its place.
fn id(object: &Object<'_>, kind: &str, tail: &str, at: usize) -> (String, String) {
    let id = member(object, "id").filter(|id| !id.is_empty()).map_or_else(
        || {
            let prefix = match kind {
                "message" => "msg",
                "reasoning" => "rs",
                "function_call" => "fc",
                "function_call_output" => "fco",
                "custom_tool_call" => "ctc",
                "custom_tool_call_output" => "ctco",
                _ => "item",
            };
            format!("{prefix}_{tail}_{at}")
        },
        Cow::into_owned,
    );
    let quoted = quoted(&id);
    (id, quoted)
}
