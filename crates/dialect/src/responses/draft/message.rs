//! The message item: texts with their sources, and refusals.

use penstock_domain::{Citation, TokenLogprob};
use serde_json::{Value, json};

use super::output::Head;
use crate::responses::logprobs;
use crate::responses::tell::{Piece, Tell};

/// A message of the model.
#[derive(Debug, Default)]
pub(super) struct Message {
    parts: Vec<Part>,
}

/// A part of a message.
#[derive(Debug)]
pub(super) enum Part {
    Text { text: String, logprobs: Vec<TokenLogprob>, sources: Vec<Source> },
    Refusal(String),
}

/// A source, and the characters of the text that it is the source of.
#[derive(Debug)]
pub(super) struct Source {
    citation: Citation,
    of: (u32, u32),
}

impl Part {
    /// Text that says nothing yet.
    pub(super) fn text() -> Self {
        Self::Text { text: String::new(), logprobs: Vec::new(), sources: Vec::new() }
    }

    /// A refusal that says nothing yet.
    pub(super) fn refusal() -> Self {
        Self::Refusal(String::new())
    }

    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn json(&self) -> Value {
        match self {
            Self::Text { text, logprobs, sources } => json!({
                "type": "output_text", "text": text, "annotations": sources.iter().map(Source::json).collect::<Vec<_>>(),
                "logprobs": logprobs::json(logprobs),
            }),
            Self::Refusal(text) => json!({"type": "refusal", "refusal": text}),
        }
    }
}

impl Source {
    fn json(&self) -> Value {
        let Citation { url, title, document, .. } = &self.citation;
        let title = title.as_deref().unwrap_or_default();
        match url {
            Some(url) => json!({
                "type": "url_citation", "url": url, "start_index": self.of.0, "end_index": self.of.1, "title": title,
            }),
            // A document of the request has a place in it and no id.
            None => json!({
                "type": "file_citation", "file_id": document.map_or_else(String::new, |n| format!("document_{n}")),
                "index": document.unwrap_or(0), "filename": title,
            }),
        }
    }
}

impl Message {
    pub(super) fn json(&self) -> Vec<Value> {
        self.parts.iter().map(Part::json).collect()
    }

    /// Where the last part stands.
    fn index(&self) -> (&'static str, Piece<'static>) {
        let last = self.parts.len().saturating_sub(1);
        ("content_index", Piece::Number(u32::try_from(last).unwrap_or(u32::MAX)))
    }

    /// Makes sure that the last part is like this one.
    pub(super) fn enter(&mut self, part: Part, head: &Head, tell: &mut impl Tell) {
        if self.parts.last().is_some_and(|last| last.is_like(&part)) {
            return;
        }
        self.end(head, tell);
        self.parts.push(part);
        self.tell_part("response.content_part.added", head, tell);
    }

    /// Adds to the last part.
    pub(super) fn say(
        &mut self,
        piece: &str,
        mut more: Vec<TokenLogprob>,
        head: &Head,
        tell: &mut impl Tell,
    ) {
        let index = self.index();
        match self.parts.last_mut() {
            Some(Part::Text { text, logprobs: before, .. }) => {
                text.push_str(piece);
                if tell.listens() {
                    // Nearly always there are none.
                    let spelt =
                        if more.is_empty() { "[]".to_owned() } else { logprobs::json(&more).to_string() };
                    let said = [head.id(), head.place(), index, ("delta", Piece::Text(piece))];
                    let [id, place, index, delta] = said;
                    let members = [id, place, index, delta, ("logprobs", Piece::Raw(&spelt))];
                    tell.tell("response.output_text.delta", &members);
                }
                before.append(&mut more);
            }
            Some(Part::Refusal(text)) => {
                text.push_str(piece);
                let members = [head.id(), head.place(), index, ("delta", Piece::Text(piece))];
                tell.tell("response.refusal.delta", &members);
            }
            None => {}
        }
    }

    /// Names a source of the text before it.
    pub(super) fn cite(&mut self, citation: &Citation, head: &Head, tell: &mut impl Tell) {
        let index = self.index();
        let Some(Part::Text { text, sources, .. }) = self.parts.last_mut() else { return };
        let of = citation.of.unwrap_or_else(|| {
            let now = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
            match sources.last() {
                // Several sources in a row are of the same words.
                Some(last) if last.of.1 == now => last.of,
                Some(last) => (last.of.1, now),
                None => (0, now),
            }
        });
        let source = Source { citation: citation.clone(), of };
        if tell.listens() {
            let at = u32::try_from(sources.len()).unwrap_or(u32::MAX);
            let members = [
                head.id(),
                head.place(),
                index,
                ("annotation_index", Piece::Number(at)),
                ("annotation", Piece::Json(source.json())),
            ];
            tell.tell("response.output_text.annotation.added", &members);
        }
        sources.push(source);
    }

    /// Tells that the last part is whole, if there is one.
    pub(super) fn end(&self, head: &Head, tell: &mut impl Tell) {
        if !tell.listens() {
            return;
        }
        match self.parts.last() {
            Some(Part::Text { text, logprobs, .. }) => {
                let spelt = Piece::Json(logprobs::json(logprobs));
                let text = ("text", Piece::Text(text));
                let members = [head.id(), head.place(), self.index(), text, ("logprobs", spelt)];
                tell.tell("response.output_text.done", &members);
            }
            Some(Part::Refusal(text)) => {
                let refusal = ("refusal", Piece::Text(text));
                tell.tell("response.refusal.done", &[head.id(), head.place(), self.index(), refusal]);
            }
            None => return,
        }
        self.tell_part("response.content_part.done", head, tell);
    }

    fn tell_part(&self, kind: &str, head: &Head, tell: &mut impl Tell) {
        if let (true, Some(part)) = (tell.listens(), self.parts.last()) {
            let part = ("part", Piece::Json(part.json()));
            tell.tell(kind, &[head.id(), head.place(), self.index(), part]);
        }
    }
}
