//! One answer being made: its tokens so far, how the next one is drawn, and what of it has left.

use llama_cpp_2::token::LlamaToken;
use penstock_domain::{Code, Delta, Error, FinishReason, TokenLogprob};
use tokio::sync::mpsc;

use super::{Plan, Tools};
use crate::answer::{Calls, Drawn, Found, Matcher, Sampler, Scratch, Text};
use crate::loaded::Loaded;
use crate::vocabulary::Vocabulary;

/// One answer.
pub(super) struct Sequence {
    /// The request it belongs to.
    pub(super) job: u64,
    /// Which prompt of the request; answers to one prompt share its beginning.
    pub(super) prompt: usize,
    pub(super) choice: u32,
    /// Whether it is the first answer to its prompt.
    pub(super) leads: bool,
    /// The prompt and what was generated.
    pub(super) tokens: Vec<LlamaToken>,
    /// How many tokens were generated.
    pub(super) generated: u32,
    /// The number in memory, while it runs.
    pub(super) slot: Option<usize>,
    /// Whether it ever had a place.
    pub(super) begun: bool,
    /// Where its logits will be after the next step.
    pub(super) row: Option<i32>,
    most: u32,
    sampler: Sampler,
    shape: Option<Matcher>,
    text: Text,
    calls: Option<Calls>,
    /// The stop sequence that ended it.
    stop: Option<Box<str>>,
    replies: mpsc::Sender<Delta>,
}

/// What an answer starts from.
pub(super) struct Prompt {
    pub(super) job: u64,
    pub(super) index: usize,
    pub(super) leads: bool,
    pub(super) tokens: Vec<LlamaToken>,
}

/// How a step left the answer.
#[derive(Debug)]
pub(super) enum Progress {
    Going,
    Finished,
    /// The receiver is gone.
    Abandoned,
    Broken(Error),
}

impl Sequence {
    /// The answer number `choice` to a prompt.
    pub(super) fn new(prompt: Prompt, choice: u32, plan: &Plan, replies: mpsc::Sender<Delta>) -> Self {
        Self {
            job: prompt.job,
            prompt: prompt.index,
            choice,
            leads: prompt.leads,
            tokens: prompt.tokens,
            generated: 0,
            slot: None,
            begun: false,
            row: None,
            most: plan.most,
            sampler: Sampler::new(plan.rules.clone(), choice),
            shape: plan.shape.as_ref().map(Matcher::deep_clone),
            text: Text::new(&plan.stops),
            calls: match &plan.tools {
                Tools::Ignored => None,
                Tools::Free(known) => Some(Calls::free(known.clone())),
                Tools::Forced => Some(Calls::forced()),
            },
            stop: None,
            replies,
        }
    }

    /// Whether nobody waits for the answer any more.
    pub(super) fn abandoned(&self) -> bool {
        self.replies.is_closed()
    }

    /// Draws the next token from its logits and sends what may leave.
    pub(super) fn advance(&mut self, loaded: &Loaded, logits: &[f32], scratch: &mut Scratch) -> Progress {
        let drawn = match self.draw(logits, scratch) {
            Ok(drawn) => drawn,
            Err(error) => return Progress::Broken(error),
        };
        self.generated += 1;
        let vocabulary = &loaded.vocabulary;
        if vocabulary.ends_answer(drawn.token) {
            return self.end(FinishReason::Stop);
        }
        self.tokens.push(drawn.token);
        let report = drawn.logprobs.as_ref().map(|(own, top)| report(vocabulary, drawn.token, *own, top));
        let release = self.text.push(self.bytes(vocabulary, drawn.token), report);
        if !self.emit(&release.text, release.logprobs) {
            return Progress::Abandoned;
        }
        if release.stopped.is_some() || self.shape.as_ref().is_some_and(Matcher::is_stopped) {
            self.stop = release.stopped;
            return self.end(FinishReason::Stop);
        }
        if self.generated >= self.most || self.tokens.len() >= loaded.context as usize {
            return self.end(FinishReason::Length);
        }
        Progress::Going
    }

    fn draw(&mut self, logits: &[f32], scratch: &mut Scratch) -> Result<Drawn, Error> {
        let costly = |error: String| {
            Error::new(
                Code::InvalidValue,
                "the schema is too costly to enforce: make it smaller or less ambiguous",
            )
            .with_param("response_format")
            .with_source(error)
        };
        let mask = match &mut self.shape {
            Some(shape) => Some(shape.compute_mask_or_eos().map_err(|error| costly(error.to_string()))?),
            None => None,
        };
        let drawn = self.sampler.draw(logits, mask.as_ref(), scratch);
        let drawn = drawn.ok_or_else(|| costly("no token was allowed".to_owned()))?;
        if let Some(shape) = &mut self.shape {
            shape.consume_token(drawn.token.0 as u32).map_err(|error| costly(error.to_string()))?;
        }
        Ok(drawn)
    }

    /// The token's bytes; where tools are watched for, control tokens such as `<tool_call>` count as text.
    fn bytes<'v>(&self, vocabulary: &'v Vocabulary, token: LlamaToken) -> &'v [u8] {
        match vocabulary.piece(token) {
            [] if self.calls.is_some() => vocabulary.control_text(token).as_bytes(),
            piece => piece,
        }
    }

    /// Sends text; `false` when nobody listens.
    fn emit(&mut self, text: &str, logprobs: Vec<TokenLogprob>) -> bool {
        if text.is_empty() && logprobs.is_empty() {
            return true;
        }
        match &mut self.calls {
            None => self.send_text(text.to_owned(), logprobs),
            Some(calls) => {
                let found = calls.push(text);
                self.send_found(found, logprobs)
            }
        }
    }

    fn send_found(&self, found: Vec<Found>, mut logprobs: Vec<TokenLogprob>) -> bool {
        let choice = self.choice;
        found.into_iter().all(|found| match found {
            Found::Text(text) => self.send_text(text, std::mem::take(&mut logprobs)),
            Found::Call { index, name, arguments } => {
                self.send(Delta::ToolCall { choice, index, id: Some(call_id()), name: Some(name), arguments })
            }
            Found::Arguments { index, arguments } => {
                self.send(Delta::ToolCall { choice, index, id: None, name: None, arguments })
            }
        })
    }

    fn send_text(&self, text: String, logprobs: Vec<TokenLogprob>) -> bool {
        self.send(Delta::Text { choice: self.choice, text, logprobs })
    }

    /// The channel has room for every delta that the token limit allows, so a full one means a fault, not a slow reader.
    fn send(&self, delta: Delta) -> bool {
        self.replies.try_send(delta).is_ok()
    }

    fn end(&mut self, reason: FinishReason) -> Progress {
        let last = self.text.finish();
        let mut listening = self.emit(&last.text, last.logprobs);
        let mut reason = reason;
        if let Some(calls) = &mut self.calls {
            let found = calls.finish();
            // A call that the limit cut is still "length": its arguments are not whole.
            if calls.any() && reason == FinishReason::Stop {
                reason = FinishReason::ToolCalls;
            }
            listening &= self.send_found(found, Vec::new());
        }
        let stop = self.stop.take();
        listening &= self.send(Delta::Finished { choice: self.choice, reason, stop });
        if listening { Progress::Finished } else { Progress::Abandoned }
    }
}

fn report(
    vocabulary: &Vocabulary,
    token: LlamaToken,
    logprob: f32,
    top: &[(LlamaToken, f32)],
) -> TokenLogprob {
    let written = |token: LlamaToken| {
        let bytes = match vocabulary.piece(token) {
            [] => vocabulary.control_text(token).as_bytes().to_vec(),
            piece => piece.to_vec(),
        };
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    };
    let (text, bytes) = written(token);
    let top = top.iter().map(|(token, logprob)| {
        let (text, bytes) = written(*token);
        (text, bytes, *logprob)
    });
    TokenLogprob { token: text, bytes, logprob, top: top.collect() }
}

/// An id as OpenAI's look: `call_` and 24 letters or digits.
fn call_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = "call_".to_owned();
    for part in 0..2_u8 {
        let mut number = RandomState::new().hash_one(part);
        for _ in 0..12 {
            id.push(char::from(LETTERS[(number % 36) as usize]));
            number /= 36;
        }
    }
    id
}
