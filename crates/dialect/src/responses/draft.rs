//! An answer on its way to becoming a response: deltas become output items, and what happens is told as events.
//!
//! What it promises: a streamed answer and a folded one are one and the same, because both are made here; items never
//! mix; memory is bounded. What it refuses to know: how events are written, and what surrounds the output.

mod message;
mod output;

use std::collections::BTreeMap;

use penstock_domain::{Code, Delta, Error, FinishReason, Usage};
use serde_json::Value;

use self::message::{Message, Part};
use self::output::{Call, Item, Kind, Reasoning, Status};
use super::sealed::Seal;
use super::tell::Tell;
use crate::openai::error::bad_response;

/// Most bytes that one answer may have.
const MAX_ANSWER: usize = 64 << 20;
/// Most items that one answer may have.
const MAX_OUTPUT: usize = 4096;

/// The output so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// What makes ids of items unique.
    tail: String,
    /// Whether reasoning is shown as a summary, which the asker wished for, or as what it is.
    summary: bool,
    /// Functions that the asker knows as custom tools.
    custom: Vec<String>,
    items: Vec<Item>,
    /// The message or the reasoning that goes on.
    open: Option<usize>,
    /// Calls that have not ended, by the vendor's number: their pieces may come mixed.
    calls: BTreeMap<u32, usize>,
    pub(super) finish: Option<FinishReason>,
    pub(super) usage: Option<Usage>,
    size: usize,
}

impl Draft {
    pub(super) fn new(tail: &str, summary: bool, custom: Vec<String>) -> Self {
        Self { tail: tail.to_owned(), summary, custom, ..Self::default() }
    }

    /// The output items as they are now.
    pub(super) fn output(&self) -> Vec<Value> {
        self.items.iter().map(Item::json).collect()
    }

    /// Whether nothing has come that an answer consists of.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.finish.is_none()
    }

    /// Takes the next delta. Of several choices only the first is kept: the dialect knows one.
    ///
    /// # Errors
    /// Of an answer that broke or grew beyond what is kept, and of bytes that somebody should have read before.
    pub(super) fn push(&mut self, delta: Delta, tell: &mut impl Tell) -> Result<(), Error> {
        match delta {
            Delta::Text { choice: 0, text, logprobs } => {
                self.grow(text.len().saturating_add(logprobs.len() * 64))?;
                let at = self.part(Part::text(), tell);
                self.in_message(at, |message, head| message.say(&text, logprobs, head, tell));
            }
            Delta::Refusal { choice: 0, text } => {
                self.grow(text.len())?;
                let at = self.part(Part::refusal(), tell);
                self.in_message(at, |message, head| message.say(&text, Vec::new(), head, tell));
            }
            Delta::Citation { choice: 0, citation } => {
                self.grow(256)?;
                let at = self.part(Part::text(), tell);
                self.in_message(at, |message, head| message.cite(&citation, head, tell));
            }
            Delta::Reasoning { choice: 0, text } => {
                self.grow(text.len())?;
                self.reason(&text, tell);
            }
            Delta::Signature { choice: 0, text } => {
                self.grow(text.len())?;
                self.seal(Seal::Signature(text), tell);
            }
            Delta::Sealed { choice: 0, text } => {
                self.grow(text.len())?;
                self.seal(Seal::Sealed(text), tell);
            }
            Delta::ToolCall { choice: 0, index, id, name, arguments } => {
                let named = id.as_ref().map_or(0, String::len) + name.as_ref().map_or(0, String::len);
                self.grow(arguments.len().saturating_add(named))?;
                self.call(index, (id, name), &arguments, tell);
            }
            Delta::Finished { choice: 0, reason, .. } => self.finish = Some(reason),
            Delta::Usage(usage) => self.usage = Some(usage),
            Delta::Raw(_) | Delta::Whole(_) | Delta::Vectors(_) | Delta::Relayed(_) => {
                let say = "these bytes are no response; they have to be read first";
                return Err(Error::new(Code::InternalError, say));
            }
            Delta::Failed(error) => return Err(error),
            Delta::Started(_)
            | Delta::Dropped(_)
            | Delta::Counted { .. }
            | Delta::Resumed
            | Delta::Text { .. }
            | Delta::Refusal { .. }
            | Delta::Citation { .. }
            | Delta::Reasoning { .. }
            | Delta::Signature { .. }
            | Delta::Sealed { .. }
            | Delta::ToolCall { .. }
            | Delta::Finished { .. } => {}
        }
        Ok(())
    }

    /// Ends every item. An answer that says nothing is an empty message, which clients wait for.
    pub(super) fn close(&mut self, tell: &mut impl Tell) {
        if self.items.is_empty() {
            self.part(Part::text(), tell);
        }
        let cut = matches!(self.finish, Some(FinishReason::Length | FinishReason::ContentFilter));
        let status = if cut { Status::Incomplete } else { Status::Completed };
        self.leave(status, tell);
        for at in std::mem::take(&mut self.calls).into_values() {
            self.end(at, status, tell);
        }
    }

    fn grow(&mut self, more: usize) -> Result<(), Error> {
        self.size = self.size.saturating_add(more);
        if self.size > MAX_ANSWER || self.items.len() > MAX_OUTPUT {
            return Err(bad_response("is larger than 64 MiB or 4096 items", b""));
        }
        Ok(())
    }

    /// Begins an item; `own` is the vendor's id of it.
    fn begin(&mut self, own: Option<&str>, kind: Kind, tell: &mut impl Tell) -> usize {
        let at = self.items.len();
        let id = own.map_or_else(|| format!("{}_{}_{at}", kind.prefix(), self.tail), str::to_owned);
        self.items.push(Item::begin(id, at, kind, tell));
        at
    }

    /// Ends the message or the reasoning that goes on.
    fn leave(&mut self, status: Status, tell: &mut impl Tell) {
        if let Some(at) = self.open.take() {
            self.end(at, status, tell);
        }
    }

    fn end(&mut self, at: usize, status: Status, tell: &mut impl Tell) {
        if let Some(item) = self.items.get_mut(at) {
            item.end(status, tell);
        }
    }

    /// Makes sure that a message is open and that its last part is like this one; gives its place.
    fn part(&mut self, part: Part, tell: &mut impl Tell) -> usize {
        let is_message = |at: &usize| matches!(self.items[*at].kind, Kind::Message(_));
        let at = match self.open.filter(is_message) {
            Some(at) => at,
            None => {
                self.leave(Status::Completed, tell);
                self.begin(None, Kind::Message(Message::default()), tell)
            }
        };
        self.open = Some(at);
        self.in_message(at, |message, head| message.enter(part, head, tell));
        at
    }

    fn in_message(&mut self, at: usize, act: impl FnOnce(&mut Message, &output::Head)) {
        if let Some(Item { head, kind: Kind::Message(message), .. }) = self.items.get_mut(at) {
            act(message, head);
        }
    }

    /// The reasoning that goes on, or new reasoning.
    fn reasoning(&mut self, own: Option<&str>, tell: &mut impl Tell) -> usize {
        let is_reasoning = |at: &usize| matches!(self.items[*at].kind, Kind::Reasoning(_));
        match self.open.filter(is_reasoning) {
            Some(at) => at,
            None => {
                self.leave(Status::Completed, tell);
                let at = self.begin(own, Kind::Reasoning(Reasoning::new(self.summary)), tell);
                self.open = Some(at);
                at
            }
        }
    }

    fn reason(&mut self, text: &str, tell: &mut impl Tell) {
        let at = self.reasoning(None, tell);
        if let Some(Item { head, kind: Kind::Reasoning(reasoning), .. }) = self.items.get_mut(at) {
            reasoning.say(text, head, tell);
        }
    }

    /// Seals the reasoning before it: what comes next is other reasoning.
    fn seal(&mut self, seal: Seal, tell: &mut impl Tell) {
        let (own, sealed) = seal.write();
        // Only a seal of this dialect belongs to the reasoning before it; another vendor's is reasoning of its own.
        if matches!(seal, Seal::Sealed(_)) && own.is_none() {
            self.leave(Status::Completed, tell);
        }
        let at = self.reasoning(own, tell);
        if let Some(Item { kind: Kind::Reasoning(reasoning), .. }) = self.items.get_mut(at) {
            reasoning.sealed = Some(sealed);
        }
        self.leave(Status::Completed, tell);
    }

    fn call(
        &mut self,
        index: u32,
        (id, name): (Option<String>, Option<String>),
        arguments: &str,
        tell: &mut impl Tell,
    ) {
        let at = match self.calls.get(&index) {
            Some(at) => *at,
            None => {
                self.leave(Status::Completed, tell);
                let name = name.unwrap_or_default();
                let id = id.unwrap_or_else(|| format!("call_{}_{index}", self.tail));
                let custom = self.custom.contains(&name);
                let at = self.begin(None, Kind::Call(Call::new(id, name, custom)), tell);
                self.calls.insert(index, at);
                at
            }
        };
        if let Some(Item { head, kind: Kind::Call(call), .. }) = self.items.get_mut(at) {
            call.say(arguments, head, tell);
        }
    }
}
