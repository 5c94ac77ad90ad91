//! What an answer and its request say about state, where somebody else has written it otherwise: a vendor that is told to
//! keep nothing answers `store: false`, though the gateway keeps the answer.
//!
//! What it promises: nothing else changes, byte for byte; bytes without a response in them cost one search. What it refuses
//! to know: who keeps what.

use std::ops::Range;

use bytes::Bytes;
use penstock_domain::Error;

use crate::json::{self, Path};
use crate::openai::request::top_level;

/// Events that have the whole response as it stands.
const LIFECYCLE: &[&str] = &[
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
];

/// The wish for reasoning that its vendor can read again.
const SEALS: &str = "reasoning.encrypted_content";

/// What a response says about state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<'a> {
    /// Whether it can be asked for again.
    pub store: bool,
    /// The response that it continues.
    pub previous: Option<&'a str>,
}

impl Told<'_> {
    /// A whole response that says so.
    pub fn in_body(&self, body: &Bytes) -> Bytes {
        let edited = std::str::from_utf8(body).ok().and_then(|text| self.edited(text));
        edited.map_or_else(|| body.clone(), Bytes::from)
    }

    /// Whole events whose responses say so.
    pub fn in_events(&self, events: &Bytes) -> Bytes {
        if memchr::memmem::find(events, b"\"response\"").is_none() {
            return events.clone();
        }
        let Ok(text) = std::str::from_utf8(events) else { return events.clone() };
        let mut out = String::with_capacity(text.len() + 64);
        let mut block = 0;
        for line in lines(text) {
            // A blank line ends an event.
            if text[line.clone()].trim_end_matches(['\r', '\n']).is_empty() {
                self.event(&text[block..line.end], &mut out);
                block = line.end;
            }
        }
        self.event(&text[block..], &mut out);
        Bytes::from(out)
    }

    /// Writes one event, its data changed where it has a response.
    fn event(&self, event: &str, out: &mut String) {
        let mut data: Vec<&str> = Vec::new();
        for line in lines(event) {
            let line = event[line].trim_end_matches(['\r', '\n']);
            data.extend(line.strip_prefix("data:").map(|value| value.strip_prefix(' ').unwrap_or(value)));
        }
        let Some(data) = self.data(&data.join("\n")) else { return out.push_str(event) };
        for line in lines(event).filter(|line| !event[line.clone()].starts_with("data:")) {
            let line = &event[line];
            if line.trim_end_matches(['\r', '\n']).is_empty() {
                for piece in data.split('\n') {
                    out.push_str("data: ");
                    out.push_str(piece);
                    out.push('\n');
                }
            }
            out.push_str(line);
        }
    }

    /// An event's data, if it has a response.
    fn data(&self, data: &str) -> Option<String> {
        let event = json::object_of(data, &Path::ROOT).ok()?;
        let kind = json::cow(event.get("type")?, &Path::ROOT).ok()?;
        let response = event.get("response").filter(|_| LIFECYCLE.contains(&kind.as_ref()))?;
        let edited = self.edited(response.get())?;
        let place = json::place_of(data, response.get());
        Some([&data[..place.start], &edited, &data[place.end..]].concat())
    }

    fn edited(&self, response: &str) -> Option<String> {
        let object = json::object_of(response, &Path::ROOT).ok()?;
        let store = if self.store { "true" } else { "false" };
        let previous = self.previous.map_or_else(|| "null".to_owned(), quoted);
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        let mut missing = String::new();
        for (name, value) in [("store", store), ("previous_response_id", previous.as_str())] {
            match object.0.iter().find(|(known, _)| known == name) {
                Some((_, raw)) => edits.push((json::place_of(response, raw.get()), value.to_owned())),
                None => missing.push_str(&format!(r#""{name}":{value},"#)),
            }
        }
        if object.0.is_empty() {
            missing.pop();
        }
        let start = response.find('{')? + 1;
        edits.push((start..start, missing));
        edits.sort_by_key(|(range, _)| range.start);
        let mut out = String::with_capacity(response.len() + 64);
        let mut at = 0;
        for (range, with) in edits {
            out.push_str(response.get(at..range.start)?);
            out.push_str(&with);
            at = range.end;
        }
        out.push_str(response.get(at..)?);
        Some(out)
    }
}

/// The body with the wish that reasoning comes back sealed, so that a later request can bring it along: no vendor keeps it.
/// `None` when the wish is there already, or the request does not speak of reasoning: vendors refuse the wish for models
/// that do none.
///
/// # Errors
/// As [`super::request::decode`].
pub fn seals_wanted(body: &[u8]) -> Result<Option<Bytes>, Error> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let object = top_level(text)?;
    if object.get("reasoning").is_none() {
        return Ok(None);
    }
    let path = Path::ROOT.member("include");
    let asked = object.get("include").map(|raw| json::items(raw, 64, &path)).transpose()?.unwrap_or_default();
    let wish = quoted(SEALS);
    if asked.iter().any(|raw| raw.get() == wish) {
        return Ok(None);
    }
    let all: Vec<&str> = asked.iter().map(|raw| raw.get()).chain(Some(wish.as_str())).collect();
    let include = format!("[{}]", all.join(","));
    let others = object.0.iter().filter(|(name, _)| name != "include");
    let mut out = String::with_capacity(body.len() + include.len() + 16);
    for (name, value) in others.map(|(name, raw)| (name.as_ref(), raw.get())).chain([("include", &*include)])
    {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(&quoted(name));
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
    Ok(Some(Bytes::from(out)))
}

/// The status that a whole response tells.
pub fn status(response: &[u8]) -> Option<String> {
    let object = json::object_of(std::str::from_utf8(response).ok()?, &Path::ROOT).ok()?;
    json::string(object.get("status")?, &Path::ROOT).ok()
}

/// The lines of a text, each with its end.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        at += line.len();
        at - line.len()..at
    })
}

/// Text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Told<'_> = Told { store: true, previous: Some("resp_1") };

    #[test]
    fn a_whole_response_is_changed_in_two_places_and_nowhere_else() {
        let body = Bytes::from_static(
            br#"{ "id":"resp_2",  "store" : false,"x":{"store":false}, "previous_response_id":null , "n":1e2}"#,
        );
        let expected = r#"{ "id":"resp_2",  "store" : true,"x":{"store":false}, "previous_response_id":"resp_1" , "n":1e2}"#;
        assert_eq!(KEPT.in_body(&body), expected);
        let back = Told { store: false, previous: None };
        assert_eq!(back.in_body(&Bytes::from_static(expected.as_bytes())), body);
    }

    #[test]
    fn what_a_response_does_not_say_is_added() {
        let told = |text: &'static str| KEPT.in_body(&Bytes::from_static(text.as_bytes()));
        assert_eq!(told(r#"{"id":"r"}"#), r#"{"store":true,"previous_response_id":"resp_1","id":"r"}"#);
        assert_eq!(told("{}"), r#"{"store":true,"previous_response_id":"resp_1"}"#);
        assert_eq!(told("[1]"), "[1]");
    }

    #[test]
    fn events_are_changed_where_they_have_a_response() {
        let delta = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"response\\\" \"}\n\n";
        let created = |store: &str, previous: &str| {
            format!(
                ": hello\nevent: response.created\ndata: {{\"type\": \"response.created\", \"response\": {{\"store\": {store}, \
                 \"previous_response_id\": {previous}}}}}\n\n"
            )
        };
        let events = Bytes::from(format!("{}{delta}{}", created("false", "null"), created("null", "\"x\"")));
        let expected = format!("{0}{delta}{0}", created("true", "\"resp_1\""));
        assert_eq!(KEPT.in_events(&events), expected);
        let alone = Bytes::from_static(delta.as_bytes());
        assert_eq!(KEPT.in_events(&alone).as_ptr(), alone.as_ptr(), "not even copied");
    }

    #[test]
    fn every_legal_shape_of_an_event_is_read() {
        for events in [
            "event: response.failed\r\ndata:{\"type\":\"response.failed\",\"response\":{\"store\":false,\"previous_response_id\":null}}\r\n\r\n",
            "data: {\"type\":\"response.failed\",\ndata: \"response\":{\"store\":false,\"previous_response_id\":null}}\nid: 1\n\n",
        ] {
            let told = KEPT.in_events(&Bytes::from_static(events.as_bytes()));
            let text = std::str::from_utf8(&told).unwrap();
            assert!(
                text.contains("\"store\":true") && text.contains("\"previous_response_id\":\"resp_1\""),
                "{text}"
            );
            let mut decoder = crate::sse::SseDecoder::new(1 << 20);
            decoder.push(told.clone()).unwrap();
            let Some(crate::sse::Frame::Event(event)) = decoder.next() else { panic!("no event in {text}") };
            assert!(serde_json::from_slice::<serde_json::Value>(&event.data).is_ok(), "{text}");
        }
    }

    #[test]
    fn seals_are_asked_for_where_somebody_reasons() {
        let wanted = |text: &str| {
            seals_wanted(text.as_bytes()).unwrap().map(|b| String::from_utf8(b.to_vec()).unwrap())
        };
        assert_eq!(wanted(r#"{"model":"m","input":"x"}"#), None);
        assert_eq!(wanted(r#"{"reasoning":null}"#), None);
        assert_eq!(wanted(r#"{"reasoning":{},"include":["reasoning.encrypted_content"]}"#), None);
        assert_eq!(
            wanted(r#"{"reasoning":{"effort":"low"}}"#).unwrap(),
            r#"{"reasoning":{"effort":"low"},"include":["reasoning.encrypted_content"]}"#
        );
        assert_eq!(
            wanted(r#"{"include":["message.output_text.logprobs"],"reasoning":{}}"#).unwrap(),
            r#"{"reasoning":{},"include":["message.output_text.logprobs","reasoning.encrypted_content"]}"#
        );
    }
}
