//! Whole answers as one message.

use bytes::Bytes;
use penstock_domain::{Code, Delta, Dialect, Error, Request, Started, Usage};
use serde::Serialize;
use serde_json::Value;

use super::{Ending, block, citation};
use crate::asker::Fold;

/// Most bytes that are folded into one message.
const MAX_MESSAGE: usize = 64 << 20;
/// Most blocks of one message.
const MAX_BLOCKS: usize = 4096;

/// Folds deltas into one message. Of several choices only the first is kept: the dialect knows one.
#[derive(Debug)]
pub struct Folder {
    request: Request,
    started: Started,
    whole: Option<Bytes>,
    blocks: Vec<Block>,
    usage: Usage,
    ending: Ending,
    /// The count of a request that was only counted.
    counted: Option<u64>,
    size: usize,
}

#[derive(Debug)]
enum Block {
    /// What is said after a citation is said in another block: it cites the whole of its own.
    Text {
        text: String,
        citations: Vec<Value>,
    },
    Sealed(String),
    Thinking {
        text: String,
        signature: String,
    },
    Call {
        index: u32,
        id: String,
        name: String,
        arguments: String,
    },
}

#[derive(Serialize)]
struct Message<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<block::Block<'a>>,
    stop_reason: &'a str,
    stop_sequence: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_details: Option<Value>,
    usage: Value,
}

impl Folder {
    /// A folder for the answer to this request.
    pub fn new(request: &Request) -> Self {
        Self {
            request: request.clone(),
            started: Started::default(),
            whole: None,
            blocks: Vec::new(),
            usage: Usage::default(),
            ending: Ending::of(request),
            counted: None,
            size: 0,
        }
    }

    fn call(&mut self, at: u32, new_id: Option<String>, new_name: Option<String>, more: &str) {
        for block in self.blocks.iter_mut().rev() {
            if let Block::Call { index, id, name, arguments } = block
                && *index == at
            {
                id.push_str(&new_id.unwrap_or_default());
                name.push_str(&new_name.unwrap_or_default());
                return arguments.push_str(more);
            }
        }
        self.blocks.push(Block::Call {
            index: at,
            id: new_id.unwrap_or_default(),
            name: new_name.unwrap_or_default(),
            arguments: more.to_owned(),
        });
    }

    fn grow(&mut self, more: usize) -> Result<(), Error> {
        self.size = self.size.saturating_add(more);
        if self.size > MAX_MESSAGE || self.blocks.len() > MAX_BLOCKS {
            return Err(Error::new(
                Code::UpstreamBadResponse,
                "the provider's answer is larger than 64 MiB or 4096 blocks",
            ));
        }
        Ok(())
    }
}

impl Fold for Folder {
    fn push(&mut self, delta: Delta) -> Result<(), Error> {
        self.ending.refused |= matches!(delta, Delta::Refusal { choice: 0, .. });
        match delta {
            Delta::Started(started) => self.started = started,
            Delta::Text { choice: 0, text, .. } | Delta::Refusal { choice: 0, text } => {
                self.grow(text.len())?;
                match self.blocks.last_mut() {
                    Some(Block::Text { text: before, citations }) if citations.is_empty() => {
                        before.push_str(&text);
                    }
                    _ => self.blocks.push(Block::Text { text, citations: Vec::new() }),
                }
            }
            Delta::Reasoning { choice: 0, text } => {
                self.grow(text.len())?;
                match self.blocks.last_mut() {
                    // A signature ends the reasoning that it signs.
                    Some(Block::Thinking { text: before, signature }) if signature.is_empty() => {
                        before.push_str(&text);
                    }
                    _ => self.blocks.push(Block::Thinking { text, signature: String::new() }),
                }
            }
            Delta::Signature { choice: 0, text } => {
                self.grow(text.len())?;
                match self.blocks.last_mut() {
                    Some(Block::Thinking { signature, .. }) => signature.push_str(&text),
                    _ => self.blocks.push(Block::Thinking { text: String::new(), signature: text }),
                }
            }
            Delta::Sealed { choice: 0, text } => {
                self.grow(text.len())?;
                self.blocks.push(Block::Sealed(text));
            }
            Delta::Citation { choice: 0, citation } => {
                self.grow(256 + citation.quote.as_ref().map_or(0, String::len))?;
                if let Some(Block::Text { citations, .. }) = self.blocks.last_mut() {
                    citations.extend(citation::write(&citation));
                }
            }
            Delta::Counted { input, .. } => self.counted = Some(input),
            Delta::ToolCall { choice: 0, index, id, name, arguments } => {
                self.grow(arguments.len())?;
                self.call(index, id, name, &arguments);
            }
            Delta::Finished { choice: 0, reason, stop } => {
                self.ending.finish = Some(reason);
                self.ending.stop = stop;
            }
            Delta::Usage(usage) => self.usage = usage,
            Delta::Whole(whole) if whole.dialect == Dialect::Anthropic => self.whole = Some(whole.bytes),
            Delta::Raw(_) | Delta::Whole(_) | Delta::Vectors(_) | Delta::Relayed(_) => {
                return Err(Error::new(
                    Code::InternalError,
                    "these bytes are no message; they have to be read first",
                ));
            }
            Delta::Failed(error) => return Err(error),
            Delta::Dropped(_)
            | Delta::Resumed
            | Delta::Signature { .. }
            | Delta::Sealed { .. }
            | Delta::Citation { .. }
            | Delta::Text { .. }
            | Delta::Refusal { .. }
            | Delta::Reasoning { .. }
            | Delta::ToolCall { .. }
            | Delta::Finished { .. } => {}
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Bytes, Error> {
        if let Some(whole) = self.whole {
            return Ok(whole);
        }
        if let Some(input_tokens) = self.counted {
            return Ok(Bytes::from(serde_json::json!({"input_tokens": input_tokens}).to_string()));
        }
        if self.blocks.is_empty() && self.ending.finish.is_none() {
            return Err(Error::new(Code::UpstreamBadResponse, "the provider's answer has no content"));
        }
        let content: Option<Vec<_>> = self.blocks.iter().map(Block::wire).collect();
        let Some(content) = content else {
            let say = "the model wrote tool arguments that are no JSON object";
            return Err(Error::new(Code::UpstreamBadResponse, say));
        };
        let (stop_reason, stop_sequence) = self.ending.told();
        let message = Message {
            id: super::message_id(&self.started, &self.request),
            kind: "message",
            role: "assistant",
            model: super::model(&self.started, &self.request),
            content,
            stop_reason,
            stop_sequence,
            stop_details: super::stop_details(stop_reason),
            usage: super::usage(&self.usage),
        };
        serde_json::to_vec(&message)
            .map(Bytes::from)
            .map_err(|e| Error::new(Code::InternalError, "the answer could not be written").with_source(e))
    }
}

impl Block {
    /// `None` when a call's arguments are no JSON object.
    fn wire(&self) -> Option<block::Block<'_>> {
        match self {
            Block::Text { text, citations } => Some(block::Block::cited(text, citations)),
            Block::Sealed(data) => Some(block::Block::sealed(data)),
            Block::Thinking { text, signature } => Some(block::Block::thinking(text, signature)),
            Block::Call { id, name, arguments, .. } => {
                Some(block::Block::tool_use(id, name, block::arguments(arguments)?))
            }
        }
    }
}
