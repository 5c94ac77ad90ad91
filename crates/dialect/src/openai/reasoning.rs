//! Signed and sealed reasoning in this dialect: the member `reasoning_details` of a message.
//!
//! OpenAI has no word for it; the shape is OpenRouter's ("Preserving reasoning blocks" of its documentation): a list of
//! `{"type": "reasoning.text", "text", "signature"}`, `{"type": "reasoning.encrypted", "data"}` and
//! `{"type": "reasoning.summary", "summary"}`, which a client sends back as it came. LiteLLM's `thinking_blocks` is read
//! likewise, and never written.

use penstock_domain::{Code, Delta, Error, Part};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json::{self, Object, Path};

/// Most pieces of one message.
const MAX_PIECES: usize = 4096;
/// Most bytes of reasoning that wait for a signature.
const MAX_OPEN: usize = 4 << 20;

/// One piece as it is written.
#[derive(Debug, Serialize)]
pub(super) struct Detail<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    index: u32,
}

/// A piece of reasoning with what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Signed { text: String, signature: String },
    Sealed(String),
}

impl Piece {
    pub(super) fn detail(&self, index: u32) -> Detail<'_> {
        match self {
            Piece::Signed { text, signature } => Detail {
                kind: "reasoning.text",
                text: Some(text),
                signature: Some(signature),
                data: None,
                index,
            },
            Piece::Sealed(data) => {
                Detail { kind: "reasoning.encrypted", text: None, signature: None, data: Some(data), index }
            }
        }
    }
}

/// Collects the pieces of one choice: reasoning that nobody signs leaves no trace here.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    open: String,
    /// The open piece outgrew what is kept: its signature would sign something else.
    lost: bool,
    count: u32,
}

impl Pieces {
    /// Takes reasoning text that may yet be signed.
    pub(super) fn text(&mut self, text: &str) {
        self.lost |= self.open.len() + text.len() > MAX_OPEN;
        if !self.lost {
            self.open.push_str(text);
        }
    }

    /// The piece that a signature closes, and its number.
    pub(super) fn signed(&mut self, signature: String) -> Option<(Piece, u32)> {
        let text = std::mem::take(&mut self.open);
        (!std::mem::take(&mut self.lost)).then(|| (Piece::Signed { text, signature }, self.next()))
    }

    /// A sealed piece and its number.
    pub(super) fn sealed(&mut self, data: String) -> (Piece, u32) {
        (Piece::Sealed(data), self.next())
    }

    fn next(&mut self) -> u32 {
        let index = self.count;
        self.count = self.count.saturating_add(1);
        index
    }
}

/// Reads the reasoning of an assistant's turn: its signed pieces where it has any, else its bare text.
pub(super) fn read(object: &Object<'_>, path: &Path<'_>, out: &mut Vec<Part>) -> Result<(), Error> {
    let signed =
        ["reasoning_details", "thinking_blocks"].into_iter().find_map(|name| Some((name, object.get(name)?)));
    if let Some((name, raw)) = signed {
        let path = path.member(name);
        for (i, raw) in json::items(raw, MAX_PIECES, &path)?.iter().enumerate() {
            let path = path.item(i);
            piece(&json::object(raw, &path)?, &path, out)?;
        }
        return Ok(());
    }
    for name in ["reasoning_content", "reasoning"] {
        if let Some(raw) = object.get(name) {
            out.push(Part::Reasoning(json::string(raw, &path.member(name))?));
            return Ok(());
        }
    }
    Ok(())
}

fn piece(piece: &Object<'_>, path: &Path<'_>, out: &mut Vec<Part>) -> Result<(), Error> {
    let kind = path.member("type");
    let text = |name: &'static str| match piece.get(name) {
        Some(raw) => json::string(raw, &path.member(name)),
        None => Ok(String::new()),
    };
    let name = match piece.get("type") {
        Some(raw) => json::cow(raw, &kind)?,
        None => return Err(kind.error(Code::InvalidRequest, "is missing")),
    };
    match name.as_ref() {
        "reasoning.text" => out.push(Part::Reasoning(text("text")?)),
        "thinking" => out.push(Part::Reasoning(text("thinking")?)),
        "reasoning.summary" => out.push(Part::Reasoning(text("summary")?)),
        "reasoning.encrypted" | "redacted_thinking" => out.push(Part::Sealed(text("data")?)),
        // A kind of reasoning that came after this was written cannot be sent to another vendor anyway.
        _ => {}
    }
    let signature = text("signature")?;
    out.extend((!signature.is_empty()).then_some(Part::Signature(signature)));
    Ok(())
}

/// A piece as a vendor sends it, whole or in part.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default, alias = "thinking", alias = "summary")]
    text: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    data: Option<String>,
}

/// Appends what pieces say. `bare` is the text of the member beside them, which says the same; so does a signed piece that
/// repeats the `said` bytes that came before it in bare members.
pub(super) fn tell(
    pieces: Vec<&RawValue>,
    bare: Option<String>,
    said: &mut usize,
    (choice, out): (u32, &mut Vec<Delta>),
) {
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let pieces: Vec<Told> =
        pieces.into_iter().take(MAX_PIECES).filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect();
    let texts = pieces.iter().any(|piece| piece.text.as_ref().is_some_and(|text| !text.is_empty()));
    if let Some(text) = some(bare).filter(|_| !texts) {
        *said += text.len();
        out.push(Delta::Reasoning { choice, text });
    }
    for piece in pieces {
        if matches!(piece.kind.as_str(), "reasoning.encrypted" | "redacted_thinking") {
            out.extend(some(piece.data).map(|text| Delta::Sealed { choice, text }));
            continue;
        }
        let signature = some(piece.signature);
        let repeats = |text: &String| signature.is_some() && *said > 0 && *said == text.len();
        if let Some(text) = some(piece.text).filter(|text| !repeats(text)) {
            *said += text.len();
            out.push(Delta::Reasoning { choice, text });
        }
        if let Some(text) = signature {
            *said = 0;
            out.push(Delta::Signature { choice, text });
        }
    }
}
