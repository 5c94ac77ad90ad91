//! What conversation state needs to know of bodies: which answer a request goes on from, the items that both leave
//! behind, and a body that says everything itself.
//!
//! What it promises: members that it does not mean keep their bytes; counts are bounded. What it refuses to know: where
//! items are kept, for how long and for whom.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use penstock_domain::{Code, Error, Json};
use serde_json::value::RawValue;

use super::item;
use crate::json::{self, Object, Path};
use crate::openai::error::bad_response;
use crate::openai::request::top_level;
use crate::sse::{Frame, SseDecoder};

/// Most items of one conversation, earlier turns included.
pub const MAX_ITEMS: usize = 65_536;

/// What a request says about state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Whether the answer is to be kept; `None` when the asker did not say, which OpenAI takes for yes.
    pub store: Option<bool>,
    /// The answer that this request goes on from.
    pub previous_response_id: Option<String>,
    /// The id of a conversation object.
    pub conversation: Option<String>,
    /// Whether the answer is made while nobody waits.
    pub background: bool,
}

/// An input or output item with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The item's id.
    pub id: String,
    /// The whole item, `id` included.
    pub json: Json,
}

/// Reads what a request says about state. The body is one that was decoded before.
///
/// # Errors
/// As [`super::request::decode`].
pub fn head(body: &[u8]) -> Result<Head, Error> {
    let object = top_level(text(body)?)?;
    let flag = |name| object.get(name).map(|raw| json::boolean(raw, &Path::ROOT.member(name))).transpose();
    let previous = object.get("previous_response_id");
    Ok(Head {
        store: flag("store")?,
        previous_response_id: previous
            .map(|raw| json::string(raw, &Path::ROOT.member("previous_response_id")))
            .transpose()?,
        conversation: object.get("conversation").map(conversation).transpose()?,
        background: flag("background")?.unwrap_or(false),
    })
}

/// The id of a conversation: a string, or an object that has it.
fn conversation(raw: &RawValue) -> Result<String, Error> {
    let path = Path::ROOT.member("conversation");
    if !raw.get().starts_with('{') {
        return json::string(raw, &path);
    }
    match json::object(raw, &path)?.get("id") {
        Some(raw) => json::string(raw, &path.member("id")),
        None => Err(path.member("id").error(Code::InvalidRequest, "is missing; name the conversation")),
    }
}

/// The body with everything before its input: `previous_response_id` is cut, `input` is the earlier items and its own.
///
/// Ids of earlier items go, because no vendor knows them: what a vendor has kept belongs to everybody behind this
/// gateway's credential, so it is told to keep nothing. Earlier reasoning that it did not seal goes for the same reason.
///
/// # Errors
/// `invalid_request` for an input that is no text and no list of items, or too long a list.
pub fn merge(body: &[u8], earlier: &[Json]) -> Result<Bytes, Error> {
    let object = top_level(text(body)?)?;
    let own = input(&object)?;
    if own.len().saturating_add(earlier.len()) > MAX_ITEMS {
        return Err(Path::ROOT.member("input").error(
            Code::InvalidValue,
            format_args!("makes the conversation longer than {MAX_ITEMS} items; begin a new one"),
        ));
    }
    let before: usize = earlier.iter().map(|item| item.as_str().len() + 1).sum();
    let mut items = String::with_capacity(before + body.len() / 2);
    for item in earlier.iter().filter_map(|item| item::again(item.as_str())).chain(own) {
        items.push(if items.is_empty() { '[' } else { ',' });
        items.push_str(&item);
    }
    items.push_str(if items.is_empty() { "[]" } else { "]" });
    let mut members: Vec<(&str, &str)> = Vec::with_capacity(object.0.len() + 1);
    members.extend(
        object
            .0
            .iter()
            .filter(|(name, _)| name != "previous_response_id" && name != "input")
            .map(|(name, raw)| (name.as_ref(), raw.get())),
    );
    members.push(("input", &items));
    Ok(Bytes::from(item::object_text(members)))
}

/// Ids of the items that the input only names (`item_reference`), in order.
///
/// # Errors
/// As [`merge`].
pub fn references(body: &[u8]) -> Result<Vec<String>, Error> {
    let object = top_level(text(body)?)?;
    let Some(raw) = object.get("input").filter(|raw| raw.get().starts_with('[')) else {
        return Ok(Vec::new());
    };
    let items = json::items(raw, MAX_ITEMS, &Path::ROOT.member("input"))?;
    Ok(items.into_iter().filter_map(item::reference).collect())
}

/// The body with every `item_reference` replaced by what `find` gives for its id.
///
/// # Errors
/// As [`merge`]; `not_found` for an id that `find` does not know.
pub fn resolve(body: &[u8], find: impl Fn(&str) -> Option<Json>) -> Result<Bytes, Error> {
    let object = top_level(text(body)?)?;
    let path = Path::ROOT.member("input");
    let Some(raw) = object.get("input").filter(|raw| raw.get().starts_with('[')) else {
        return Ok(Bytes::copy_from_slice(body));
    };
    let mut items = Vec::new();
    for (i, raw) in json::items(raw, MAX_ITEMS, &path)?.into_iter().enumerate() {
        let Some(id) = item::reference(raw) else {
            items.push(raw.get().to_owned());
            continue;
        };
        let found = find(&id).ok_or_else(|| {
            let say = "names an item that does not exist, was not stored, or belongs to somebody else";
            path.item(i).error(Code::NotFound, say)
        })?;
        items.extend(item::again(found.as_str()));
    }
    let items = format!("[{}]", items.join(","));
    let members = object.0.iter().map(|(name, raw)| match name.as_ref() {
        "input" => ("input", items.as_str()),
        name => (name, raw.get()),
    });
    Ok(Bytes::from(item::object_text(members)))
}

/// The items of a request's own input as `GET …/input_items` lists them: full messages, each with an id. `tail` makes
/// new ids unique (`msg_TAIL_0`): the request id without its prefix does.
///
/// # Errors
/// As [`merge`].
pub fn items_of_request(body: &[u8], tail: &str) -> Result<Vec<Item>, Error> {
    let object = top_level(text(body)?)?;
    let own = input(&object)?;
    own.enumerate().map(|(i, text)| item::listed(&text, tail, i)).collect()
}

/// The output items of a response, each with its id.
///
/// # Errors
/// `upstream_bad_response` for what is no response.
pub fn output_items(response: &[u8]) -> Result<Vec<Item>, Error> {
    let broken = || bad_response("is no response", response);
    let text = std::str::from_utf8(response).map_err(|_| broken())?;
    let object = json::object_of(text, &Path::ROOT).map_err(|_| broken())?;
    let output = object.get("output").ok_or_else(broken)?;
    let items = json::items(output, MAX_ITEMS, &Path::ROOT).map_err(|_| broken())?;
    let id = response_id(response).unwrap_or_default();
    let tail = id.trim_start_matches("resp_");
    items.into_iter().enumerate().map(|(i, raw)| item::kept(raw.get(), tail, i)).collect()
}

/// The id of a response.
pub fn response_id(response: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(response).ok()?;
    let object = json::object_of(text, &Path::ROOT).ok()?;
    json::string(object.get("id")?, &Path::ROOT).ok()
}

/// The id of the response that these events are about, where one of them has it.
pub(super) fn response_id_of_events(events: &[u8]) -> Option<String> {
    let mut decoder = SseDecoder::new(usize::MAX);
    // Without a bound nothing can be too large; the lane has bounded these events before.
    let _ = decoder.push(Bytes::copy_from_slice(events));
    while let Some(Frame::Event(event)) = decoder.next() {
        let view = super::wire::view(&event.data)?;
        if let Some(id) = view.response.and_then(super::wire::head).and_then(|head| head.id) {
            return Some(id.into_owned());
        }
    }
    None
}

/// The final response in events that go out, where the terminal one is among them: what to keep of a stream, whether it
/// was passed on or written here. A whole body is its own final response.
///
/// Costs one search over the bytes when there is none.
pub fn final_response(events: &[u8]) -> Option<Bytes> {
    if !TERMINAL.iter().any(|kind| memchr::memmem::find(events, kind.as_bytes()).is_some()) {
        return None;
    }
    let mut decoder = SseDecoder::new(usize::MAX);
    // Without a bound nothing can be too large; these are whole events of ours.
    let _ = decoder.push(Bytes::copy_from_slice(events));
    while let Some(frame) = decoder.next() {
        let Frame::Event(event) = frame else { continue };
        let named = |kind: &&str| event.event.as_deref() == Some(kind.as_bytes());
        if !TERMINAL.iter().any(|kind| named(kind)) {
            continue;
        }
        let text = std::str::from_utf8(&event.data).ok()?;
        let raw = json::object_of(text, &Path::ROOT).ok()?.get("response")?;
        return Some(Bytes::copy_from_slice(raw.get().as_bytes()));
    }
    None
}

/// Events after which nothing follows, and which have the whole response.
pub(super) const TERMINAL: &[&str] = &["response.completed", "response.incomplete", "response.failed"];

fn text(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map_err(|_| Error::new(Code::InvalidJson, "the body is not UTF-8"))
}

/// The items of the input; a text is one message.
fn input<'a>(object: &Object<'a>) -> Result<Box<dyn ExactSizeIterator<Item = String> + 'a>, Error> {
    let path = Path::ROOT.member("input");
    match object.get("input") {
        None => Ok(Box::new(std::iter::empty())),
        Some(raw) if raw.get().starts_with('"') => Ok(Box::new(std::iter::once(item::message(raw.get())))),
        Some(raw) if raw.get().starts_with('[') => {
            let items = json::items(raw, MAX_ITEMS, &path)?;
            Ok(Box::new(items.into_iter().map(|raw| raw.get().to_owned())))
        }
        Some(raw) => Err(path.mistyped("a string or an array of items", raw)),
    }
}
