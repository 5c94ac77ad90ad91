//! A vendor's responses in words of every dialect.
//!
//! What it promises: [`ResponseReader`] never takes a cut stream for a complete one; [`read_whole`] accepts a finished
//! response and nothing that only looks like one; what a vendor told only in the whole item is told as well. What it
//! refuses to know: items that other dialects have no word for.

use std::collections::BTreeMap;

use bytes::Bytes;
use penstock_domain::{Delta, Dialect, Error, FinishReason, Notes, RawBody, Started};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::raw_lane::{self, Events};
use super::wire::{self, Annotation, Head, Item, MAX_ITEMS, Part, Token, View};
use crate::openai::error::{bad_response, in_band_error};
use crate::sse::lane::{EventLane, Meaning, Read};

/// Reads a vendor's stream into semantic deltas, for askers of another dialect.
pub type ResponseReader = EventLane<Read<Events, Said>>;

impl ResponseReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::over(Read::by(Events::default(), Said::default())).up_to(raw_lane::MAX_EVENT)
    }
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self::new()
    }
}

/// What typed events say.
#[derive(Debug, Default)]
pub struct Said {
    started: bool,
    calls: u32,
    /// Items that have begun, by their place in the output.
    items: BTreeMap<u32, Begun>,
}

/// What is known of an item that has begun.
#[derive(Debug, Clone, Copy, Default)]
struct Begun {
    /// Which call it is.
    call: Option<u32>,
    /// Pieces of it came.
    told: bool,
}

impl Meaning for Said {
    fn read(&mut self, data: &[u8], out: &mut Vec<Delta>) -> Result<(), Error> {
        let read = wire::view(data).and_then(|view| self.event(&view, out));
        read.ok_or_else(|| bad_response("has an event that is not what its dialect says", data))
    }
}

impl Said {
    /// Reads one event; `None` when it makes no sense.
    fn event(&mut self, view: &View<'_>, out: &mut Vec<Delta>) -> Option<()> {
        match view.kind.as_ref() {
            "response.created" | "response.queued" | "response.in_progress" => {
                self.start(&wire::head(view.response?)?, out);
            }
            "response.output_text.delta" => {
                self.begun(view)?.told = true;
                let logprobs: Vec<Token> = read(view.logprobs).unwrap_or_default();
                text(read(view.delta)?, logprobs, out);
            }
            "response.output_text.annotation.added" => {
                let source: Option<Annotation> = read(view.annotation);
                cite(source, out);
            }
            "response.refusal.delta" => {
                self.begun(view)?.told = true;
                let text = read::<String>(view.delta)?;
                out.push(Delta::Refusal { choice: 0, text });
            }
            "response.reasoning_summary_part.added" if view.summary_index.is_some_and(|at| at > 0) => {
                out.push(Delta::Reasoning { choice: 0, text: "\n\n".to_owned() });
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.begun(view)?.told = true;
                reason(read(view.delta)?, out);
            }
            "response.output_item.added" => {
                let item: Item = read(view.item)?;
                if item.kind == "function_call" {
                    self.call(view, item, out)?;
                }
            }
            "response.function_call_arguments.delta" => {
                let begun = self.begun(view)?;
                begun.told = true;
                let index = begun.call?;
                let arguments = read(view.delta)?;
                out.push(Delta::ToolCall { choice: 0, index, id: None, name: None, arguments });
            }
            "response.output_item.done" => self.done(view, out)?,
            kind @ ("response.completed" | "response.incomplete") => self.end(kind, view, out)?,
            _ => {}
        }
        Some(())
    }

    fn start(&mut self, head: &Head<'_>, out: &mut Vec<Delta>) {
        if !std::mem::replace(&mut self.started, true) {
            out.push(started(head));
        }
    }

    /// The item that an event is about.
    fn begun(&mut self, view: &View<'_>) -> Option<&mut Begun> {
        let at = view.output_index.unwrap_or_default();
        (at < MAX_ITEMS).then(|| self.items.entry(at).or_default())
    }

    /// A call begins, with the arguments that it has by now.
    fn call(&mut self, view: &View<'_>, item: Item, out: &mut Vec<Delta>) -> Option<()> {
        let index = self.calls;
        let begun = self.begun(view)?;
        let arguments = item.arguments.unwrap_or_default();
        (begun.call, begun.told) = (Some(index), !arguments.is_empty());
        self.calls += 1;
        out.push(Delta::ToolCall { choice: 0, index, id: item.call_id, name: item.name, arguments });
        Some(())
    }

    /// The whole of an item: what was not told in pieces is told now.
    fn done(&mut self, view: &View<'_>, out: &mut Vec<Delta>) -> Option<()> {
        let Begun { call, told } = *self.begun(view)?;
        let item: Item = read(view.item)?;
        match (item.kind.as_str(), call) {
            ("function_call", None) => self.call(view, item, out)?,
            ("function_call", Some(index)) if !told => {
                let arguments = item.arguments.unwrap_or_default();
                out.push(Delta::ToolCall { choice: 0, index, id: None, name: None, arguments });
            }
            ("message", _) if !told => message(item, out),
            ("reasoning", _) => reasoning(item, !told, out),
            _ => {}
        }
        Some(())
    }

    fn end(&mut self, kind: &str, view: &View<'_>, out: &mut Vec<Delta>) -> Option<()> {
        let head = wire::head(view.response?)?;
        self.start(&head, out);
        let reason = match kind {
            "response.incomplete" => wire::incomplete(head.incomplete_details),
            _ if self.calls > 0 => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        };
        out.push(Delta::Finished { choice: 0, reason, stop: None });
        out.extend(head.usage.and_then(wire::usage).map(Delta::Usage));
        Some(())
    }
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn started(head: &Head<'_>) -> Delta {
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
    Delta::Started(Started { id: text(&head.id), model: text(&head.model) })
}

fn text(text: String, logprobs: Vec<Token>, out: &mut Vec<Delta>) {
    if !text.is_empty() || !logprobs.is_empty() {
        let logprobs = logprobs.into_iter().map(Into::into).collect();
        out.push(Delta::Text { choice: 0, text, logprobs });
    }
}

fn reason(text: String, out: &mut Vec<Delta>) {
    if !text.is_empty() {
        out.push(Delta::Reasoning { choice: 0, text });
    }
}

fn cite(source: Option<Annotation>, out: &mut Vec<Delta>) {
    let citation = source.and_then(Annotation::citation);
    out.extend(citation.map(|citation| Delta::Citation { choice: 0, citation }));
}

fn message(item: Item, out: &mut Vec<Delta>) {
    for Part { kind, text: said, refusal, annotations, logprobs } in item.content.unwrap_or_default() {
        match kind.as_str() {
            "output_text" => {
                text(said.unwrap_or_default(), logprobs.unwrap_or_default(), out);
                annotations.unwrap_or_default().into_iter().for_each(|source| cite(Some(source), out));
            }
            "refusal" => out.extend(refusal.map(|text| Delta::Refusal { choice: 0, text })),
            _ => {}
        }
    }
}

/// Reasoning in the clear where it was not told yet, and its seal.
fn reasoning(item: Item, untold: bool, out: &mut Vec<Delta>) {
    if untold {
        let texts = |parts: Option<Vec<Part>>| -> Vec<String> {
            parts.into_iter().flatten().filter_map(|part| part.text).collect()
        };
        let text = texts(item.content).concat();
        reason(if text.is_empty() { texts(item.summary).join("\n\n") } else { text }, out);
    }
    if let Some(sealed) = item.encrypted_content.filter(|text| !text.is_empty()) {
        // A vendor of this dialect wants its own id back with it.
        let text = format!("{}:{sealed}", item.id.unwrap_or_default());
        out.push(Delta::Sealed { choice: 0, text });
    }
}

/// Reads a 200 that is no stream: its head and why it ended.
fn response(body: &[u8]) -> Result<(Head<'_>, FinishReason), Error> {
    let text = std::str::from_utf8(body).ok();
    let head = text.and_then(|text| serde_json::from_str::<Head<'_>>(text).ok());
    let Some(head) = head else {
        return Err(bad_response("is not JSON of its dialect", body));
    };
    if head.error.is_some() {
        return Err(in_band_error(body));
    }
    let Some(output) = &head.output else { return Err(bad_response("is no response", body)) };
    let finish = match head.status.as_deref() {
        Some("incomplete") => wire::incomplete(head.incomplete_details),
        // Vendors that know no other status leave it out.
        Some("completed") | None if raw_lane::calls(output) => FinishReason::ToolCalls,
        Some("completed") | None => FinishReason::Stop,
        Some(_) => return Err(bad_response("is a response that is not finished", body)),
    };
    Ok((head, finish))
}

/// Checks a vendor's non-streaming 200 and gives it as [`Delta::Whole`], bytes untouched.
///
/// # Errors
/// The error that the body carries, mapped as a vendor's; `upstream_bad_response` for everything else that is no finished
/// response.
pub fn read_whole(body: Bytes) -> Result<Delta, Error> {
    let (head, finish) = response(&body)?;
    let notes = Notes {
        content: true,
        events: 0,
        usage: head.usage.and_then(wire::usage),
        finish: Some(finish),
        version: head.model.as_deref().map(Into::into),
        ..Notes::default()
    };
    Ok(Delta::Whole(RawBody { dialect: Dialect::Responses, bytes: body, notes }))
}

/// The semantic deltas of a whole response, in order: for askers of another dialect, and for streams from vendors that
/// answer in one piece.
///
/// # Errors
/// As [`read_whole`].
pub fn unfold(body: &[u8]) -> Result<Vec<Delta>, Error> {
    let (head, reason) = response(body)?;
    let mut out = vec![started(&head)];
    let mut calls = 0;
    for raw in head.output.unwrap_or_default() {
        let item: Item = read(Some(raw))
            .ok_or_else(|| bad_response("has an item that is not what its dialect says", body))?;
        match item.kind.as_str() {
            "message" => message(item, &mut out),
            "reasoning" => reasoning(item, true, &mut out),
            "function_call" => {
                let arguments = item.arguments.unwrap_or_default();
                let index = calls;
                out.push(Delta::ToolCall { choice: 0, index, id: item.call_id, name: item.name, arguments });
                calls += 1;
            }
            _ => {}
        }
    }
    out.push(Delta::Finished { choice: 0, reason, stop: None });
    out.extend(head.usage.and_then(wire::usage).map(Delta::Usage));
    Ok(out)
}

/// Checks a vendor's count of a request: its bytes untouched where the asker speaks the dialect, else the number.
///
/// # Errors
/// The error that the body carries; `upstream_bad_response` for what is no count.
pub fn counted(body: Bytes, alike: bool) -> Result<Delta, Error> {
    #[derive(Deserialize)]
    struct Count {
        #[serde(default)]
        input_tokens: Option<u64>,
        #[serde(default)]
        error: Option<serde::de::IgnoredAny>,
    }
    let text = std::str::from_utf8(&body).ok();
    match text.and_then(|text| serde_json::from_str::<Count>(text).ok()) {
        Some(Count { error: Some(_), .. }) => Err(in_band_error(&body)),
        Some(Count { input_tokens: Some(_), .. }) if alike => {
            let notes = Notes { content: true, ..Notes::default() };
            Ok(Delta::Whole(RawBody { dialect: Dialect::Responses, bytes: body, notes }))
        }
        Some(Count { input_tokens: Some(input), .. }) => Ok(Delta::Counted { input, estimated: false }),
        _ => Err(bad_response("is no count of tokens", &body)),
    }
}
