//! The turns of a conversation as contents.
//!
//! What it promises: `user` and `model` turns, neighbours of one kind in one turn; the results of parallel calls together
//! in a turn that holds nothing else, in the order of their calls (newer models refuse any other grouping); each thought
//! signature on the part on which it was given out. What it refuses to know: anything beside the turns.

use std::collections::HashMap;

use penstock_domain::{Code, Error, Media, Message, Part, Role, ToolCall};
use serde::Serialize;
use serde_json::value::RawValue;

use super::media::{self, Blob, FileData, Place};
use crate::request::Lost;

/// What Google documents for calls that no Gemini model made, so that models which demand signatures take them.
const UNSIGNED: &str = "skip_thought_signature_validator";

/// A turn.
#[derive(Serialize)]
pub(super) struct Turn<'a> {
    role: &'static str,
    parts: Vec<Piece<'a>>,
    #[serde(skip)]
    kind: Kind,
}

/// What a turn holds; turns of one kind that follow each other are one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Results,
    Model,
}

/// A part. Exactly one member besides `thought` and `thoughtSignature` is there.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<FileData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<Answer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
    /// Which call a result answers, counted through the conversation.
    #[serde(skip)]
    order: usize,
}

#[derive(Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: &'a RawValue,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: Response<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Piece<'a>>,
}

/// A result: an object as it is, anything else wrapped into one; what a call failed of, under the name that the API has
/// for it.
#[derive(Serialize)]
#[serde(untagged)]
enum Response<'a> {
    Object(&'a RawValue),
    Text { result: String },
    Failed { error: String },
}

impl<'a> Piece<'a> {
    fn text(text: &'a str) -> Self {
        Self { text: Some(text), ..Self::default() }
    }

    fn media(place: Place<'a>) -> Self {
        match place {
            Place::Inline(blob) => Self { inline_data: Some(blob), ..Self::default() },
            Place::Elsewhere(file) => Self { file_data: Some(file), ..Self::default() },
        }
    }
}

/// The instruction of a conversation.
#[derive(Serialize)]
pub(super) struct Instruction<'a> {
    parts: Vec<Piece<'a>>,
}

/// The instruction, if there is one, and the turns.
///
/// # Errors
/// `invalid_request` for results of calls that nobody made and arguments that are no object; `unsupported` for media that
/// do not say what they are.
pub(super) fn turns<'a>(
    messages: &'a [Message],
    model: &str,
    lost: &mut Lost,
) -> Result<(Option<Instruction<'a>>, Vec<Turn<'a>>), Error> {
    let mut gather = Gather {
        lost,
        recent: super::demands_signatures(model),
        instruction: Vec::new(),
        turns: Vec::new(),
        calls: HashMap::new(),
        signature: None,
        beside: Vec::new(),
    };
    for message in messages {
        gather.message(message)?;
    }
    gather.close();
    let Gather { instruction, mut turns, lost, .. } = gather;
    if turns.is_empty() && !instruction.is_empty() {
        // The API wants at least one turn: whoever sent instructions alone waits for an answer to them.
        lost.note(true, "messages.role.system");
        turns.push(Turn { role: "user", parts: instruction, kind: Kind::User });
        return Ok((None, turns));
    }
    Ok(((!instruction.is_empty()).then_some(Instruction { parts: instruction }), turns))
}

struct Gather<'a, 'l> {
    lost: &'l mut Lost,
    /// The model is of the generation that demands signatures and takes media inside of results.
    recent: bool,
    instruction: Vec<Piece<'a>>,
    turns: Vec<Turn<'a>>,
    /// The calls so far by id: which it was, and its name.
    calls: HashMap<&'a str, (usize, &'a str)>,
    /// A signature that belongs to the model's next part.
    signature: Option<&'a str>,
    /// Media of results that have to stand in a turn of their own after them.
    beside: Vec<Piece<'a>>,
}

impl<'a> Gather<'a, '_> {
    fn message(&mut self, message: &'a Message) -> Result<(), Error> {
        self.lost.note(message.name.is_some(), "messages.name");
        match message.role {
            Role::System | Role::Developer => {
                // Instructions have one place here, before everything else.
                self.lost.note(!self.turns.is_empty(), "messages.role.system");
                for part in &message.parts {
                    self.instruct(part);
                }
                Ok(())
            }
            Role::User | Role::Tool => message.parts.iter().try_for_each(|part| self.user(part)),
            Role::Assistant => {
                for (i, part) in message.parts.iter().enumerate() {
                    self.model(part, message.parts.get(i + 1))?;
                }
                Ok(())
            }
        }
    }

    fn instruct(&mut self, part: &'a Part) {
        match part {
            Part::Text(text) if !text.is_empty() => self.instruction.push(Piece::text(text)),
            Part::CacheMark(_) => self.lost.note(true, "messages.cache_control"),
            // Instructions are text here.
            Part::Image(_) | Part::Audio(_) | Part::File(_) => self.lost.note(true, "messages.role.system"),
            _ => {}
        }
    }

    fn user(&mut self, part: &'a Part) -> Result<(), Error> {
        match part {
            Part::Text(text) | Part::Refusal(text) if !text.is_empty() => {
                self.push(Kind::User, Piece::text(text));
            }
            Part::Image(_) | Part::Audio(_) | Part::File(_) => {
                if let Some(piece) = self.media(part)? {
                    self.push(Kind::User, piece);
                }
            }
            Part::ToolResult { call_id, parts, failed } => {
                let piece = self.result((call_id, *failed), parts)?;
                self.push(Kind::Results, piece);
            }
            Part::CacheMark(_) => self.lost.note(true, "messages.cache_control"),
            _ => {}
        }
        Ok(())
    }

    fn model(&mut self, part: &'a Part, next: Option<&Part>) -> Result<(), Error> {
        match part {
            Part::Text(text) | Part::Refusal(text) if !text.is_empty() => self.said(Piece::text(text)),
            Part::Reasoning(text) => {
                let ours = matches!(next, Some(Part::Signature(s) | Part::Sealed(s)) if super::unsealed(s).is_some());
                if !ours {
                    // Reasoning of another vendor's model means nothing to this one.
                    self.lost.note(!text.is_empty(), "messages.reasoning_content");
                } else if !text.is_empty() {
                    self.push(Kind::Model, Piece { thought: Some(true), ..Piece::text(text) });
                }
            }
            Part::Signature(carried) => self.sign(carried, "messages.thinking.signature"),
            Part::Sealed(carried) => self.sign(carried, "messages.redacted_thinking"),
            Part::ToolCall(call) => {
                let piece = self.call(call)?;
                self.said(piece);
            }
            Part::Image(_) | Part::Audio(_) | Part::File(_) => {
                if let Some(piece) = self.media(part)? {
                    self.said(piece);
                }
            }
            Part::CacheMark(_) => self.lost.note(true, "messages.cache_control"),
            _ => {}
        }
        Ok(())
    }

    fn sign(&mut self, carried: &'a str, name: &str) {
        let Some(signature) = super::unsealed(carried) else { return self.lost.note(true, name) };
        // Some askers carry it twice: with the reasoning and with the call.
        if self.signature != Some(signature) {
            self.unsign();
            self.signature = Some(signature);
        }
    }

    /// A signature without a part to stand on came on an empty text.
    fn unsign(&mut self) {
        if let Some(signature) = self.signature.take() {
            self.push(Kind::Model, Piece { thought_signature: Some(signature), ..Piece::text("") });
        }
    }

    /// Appends what the model said, with the signature that waits for it.
    fn said(&mut self, piece: Piece<'a>) {
        let signature = self.signature.take();
        let first_call = piece.function_call.is_some() && !self.called();
        let thought_signature = signature.or((self.recent && first_call).then_some(UNSIGNED));
        self.push(Kind::Model, Piece { thought_signature, ..piece });
    }

    /// Whether the model's open turn has a call already: one signature stands for parallel calls.
    fn called(&self) -> bool {
        let open = self.turns.last().filter(|turn| turn.kind == Kind::Model);
        open.is_some_and(|turn| turn.parts.iter().any(|piece| piece.function_call.is_some()))
    }

    fn call(&mut self, call: &'a ToolCall) -> Result<Piece<'a>, Error> {
        let args = arguments(&call.arguments).ok_or_else(|| {
            let say = "the arguments of an earlier tool call are no JSON object, which this provider demands; mend them or leave the call out";
            Error::new(Code::InvalidRequest, say).with_param("messages")
        })?;
        let order = self.calls.len();
        self.calls.insert(&call.id, (order, &call.name));
        let function_call = Some(Call { id: told_id(&call.id), name: &call.name, args });
        Ok(Piece { function_call, ..Piece::default() })
    }

    fn result(&mut self, (call_id, failed): (&'a str, bool), parts: &'a [Part]) -> Result<Piece<'a>, Error> {
        let Some(&(order, name)) = self.calls.get(call_id) else {
            let say = "a tool result answers a call that no earlier turn of the model made; send the call before it";
            return Err(Error::new(Code::InvalidRequest, say).with_param("messages"));
        };
        let mut texts: Vec<&'a str> = Vec::new();
        let mut media = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) | Part::Refusal(text) => texts.push(text),
                Part::CacheMark(_) => self.lost.note(true, "messages.cache_control"),
                part => media.extend(self.media(part)?),
            }
        }
        let parts = if self.recent { media } else { self.aside(media) };
        let response = if failed { Response::Failed { error: texts.join("\n") } } else { response(&texts) };
        let function_response = Some(Answer { id: told_id(call_id), name, response, parts });
        Ok(Piece { function_response, order, ..Piece::default() })
    }

    /// Puts media where they follow the results.
    fn aside(&mut self, media: Vec<Piece<'a>>) -> Vec<Piece<'a>> {
        self.beside.extend(media);
        Vec::new()
    }

    fn media(&mut self, part: &'a Part) -> Result<Option<Piece<'a>>, Error> {
        let (media, kind): (&'a Media, _) = match part {
            Part::Image(media) => {
                let detail = media.note.as_deref().is_some_and(|detail| detail != "auto");
                self.lost.note(detail, "messages.image_url.detail");
                (media, "image")
            }
            Part::File(media) => {
                self.lost.note(media.note.is_some(), "messages.document.name");
                self.lost.note(media.context.is_some(), "messages.document.context");
                self.lost.note(media.cited, "messages.document.citations");
                (media, "document")
            }
            Part::Audio(media) => (media, "audio"),
            _ => return Ok(None),
        };
        Ok(media::place(media, kind, self.lost)?.map(Piece::media))
    }

    fn push(&mut self, kind: Kind, piece: Piece<'a>) {
        if self.turns.last().is_none_or(|turn| turn.kind != kind) {
            self.close();
            let role = if kind == Kind::Model { "model" } else { "user" };
            // Closing may have left what this belongs to.
            if self.turns.last().is_none_or(|turn| turn.kind != kind) {
                self.turns.push(Turn { role, parts: Vec::new(), kind });
            }
        }
        if let Some(turn) = self.turns.last_mut() {
            turn.parts.push(piece);
        }
    }

    /// Ends the open turn: a signature that waits, results in the order of their calls, their media after them.
    fn close(&mut self) {
        if self.turns.last().is_some_and(|turn| turn.kind == Kind::Model) {
            self.unsign();
        }
        if let Some(turn) = self.turns.last_mut().filter(|turn| turn.kind == Kind::Results) {
            turn.parts.sort_by_key(|piece| piece.order);
            let beside = std::mem::take(&mut self.beside);
            if !beside.is_empty() {
                self.turns.push(Turn { role: "user", parts: beside, kind: Kind::User });
            }
        }
    }
}

/// The id of a call, unless it is one that we gave it because the model gave none.
fn told_id(id: &str) -> Option<&str> {
    Some(id).filter(|id| !id.is_empty() && !id.starts_with(super::OWN_ID))
}

/// A call's arguments, if they are the object that the dialect demands; none at all are an empty one.
fn arguments(text: &str) -> Option<&RawValue> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    object(text)
}

fn object(text: &str) -> Option<&RawValue> {
    serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get().starts_with('{'))
}

fn response<'a>(texts: &[&'a str]) -> Response<'a> {
    match texts {
        [one] => object(one).map_or_else(|| Response::Text { result: (*one).to_owned() }, Response::Object),
        several => Response::Text { result: several.join("\n") },
    }
}
