//! The script engine: directives and a question become an answer, step by step.
//!
//! What it promises: the same directives and the same question give the same answer, in process and over HTTP, whole
//! and streamed. What it refuses to know: wires, sockets and clocks. It says how long to wait; somebody else waits.

use std::sync::Arc;
use std::time::Duration;

use penstock_domain::{Delta, FinishReason, Started, TokenLogprob, Usage};
use serde_json::Value;

use crate::asked::{Asked, bounded};
use crate::script::{Directives, Finish};
use crate::tokens;

/// Vector length when neither script nor request names one.
const DIMENSIONS: u32 = 16;
/// How much of the question the friendly answer repeats, in bytes.
const QUOTED: usize = 200;
/// Words of a generated answer; each is one token.
const WORDS: [&str; 8] = [" the", " mock", " says", " one", " more", " word", " and", " then"];

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Time passes since the step before.
    Pause(Duration),
    /// A delta.
    Say(Delta),
    /// Nothing more, ever.
    Hang,
}

/// One answer on its way. Iterating gives its steps; `produced` counts the tokens that were said so far.
pub(crate) struct Answer {
    directives: Arc<Directives>,
    asked: Asked,
    id: u64,
    /// The id that clients see.
    shown_id: String,
    reasoning: Vec<String>,
    /// The tokens of the text, which is said again from its start when more are wanted.
    pieces: Vec<Box<str>>,
    /// How many tokens each choice says.
    length: usize,
    reason: FinishReason,
    hang_at: Option<usize>,
    state: State,
    produced: u64,
    paused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Start,
    Reasoning { at: usize },
    Prefix { choice: u32 },
    Content { at: usize, choice: u32 },
    Tool { choice: u32, index: u32, half: bool },
    Finish { choice: u32 },
    Usage,
    Done,
}

/// Milliseconds as a duration; a script's number was checked to be finite and small.
pub(crate) fn millis(ms: f64) -> Duration {
    Duration::from_secs_f64(ms.max(0.0) / 1000.0)
}

impl Answer {
    /// The answer to a chat or a completion; `id` numbers the answers of one mock.
    pub(crate) fn new(directives: Arc<Directives>, asked: Asked, id: u64) -> Self {
        let pieces = pieces(&directives, &asked);
        let mut length = match directives.tokens {
            Some(wanted) if !pieces.is_empty() => wanted as usize,
            _ => pieces.len(),
        };
        let mut reason =
            if directives.tool_calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
        if let Some(max) = asked.max_tokens
            && (length as u64) > max
        {
            length = usize::try_from(max).unwrap_or(usize::MAX);
            reason = FinishReason::Length;
        }
        if let Some(finish) = directives.finish_reason {
            reason = finish.into();
        }
        let reasoning = directives.reasoning.as_deref().map(tokens::tokens).into_iter().flatten();
        let mid = directives.hang == Some(crate::script::Hang::MidStream)
            || directives.panic == Some(crate::script::Panic::Stream);
        Self {
            reasoning: reasoning.map(str::to_owned).collect(),
            shown_id: format!("mock-{id:06}"),
            hang_at: mid.then_some(length / 2),
            pieces,
            length,
            reason,
            directives,
            asked,
            id,
            state: State::Start,
            produced: 0,
            paused: false,
        }
    }

    /// Tokens that were said so far, all choices together, reasoning included.
    pub(crate) fn produced(&self) -> u64 {
        self.produced
    }

    /// What the answer reports as its cost up to here, if it says anything about it.
    pub(crate) fn reported(&self) -> Option<Usage> {
        (!self.directives.omit_usage).then(|| self.usage())
    }

    fn usage(&self) -> Usage {
        if let Some(usage) = self.directives.usage {
            return Usage {
                input: usage.prompt_tokens,
                output: usage.completion_tokens,
                cached_input: usage.cached_tokens,
                reasoning: usage.reasoning_tokens,
                ..Usage::default()
            };
        }
        let mut usage = Usage {
            input: self.asked.prompt_tokens,
            output: self.produced,
            reasoning: (!self.reasoning.is_empty())
                .then_some(self.reasoning.len() as u64 * u64::from(self.asked.choices)),
            ..Usage::default()
        };
        if self.directives.wrong_usage {
            // Contradicts the answer, and itself: more cached than sent, more reasoned than said.
            usage = Usage {
                input: usage.input + 1_000,
                output: 0,
                cached_input: Some(usage.input + 5_000),
                reasoning: Some(usage.output + 1_000),
                ..Usage::default()
            };
        }
        usage
    }

    fn say_text(&self, choice: u32, piece: &str) -> Delta {
        let text = piece.to_owned();
        if self.directives.refusal.is_some() {
            return Delta::Refusal { choice, text };
        }
        let wanted = self.asked.logprobs.or(self.directives.logprobs.then_some(0));
        let logprobs = wanted.map(|top| vec![logprob(piece, top)]).unwrap_or_default();
        Delta::Text { choice, text, logprobs }
    }

    /// The pause before a token, once per token: the first has its own.
    fn pause(&mut self, first: bool) -> Option<Step> {
        if std::mem::replace(&mut self.paused, true) {
            return None;
        }
        let ms = if first { self.directives.first_token_ms } else { self.directives.inter_token_ms }?;
        (ms > 0.0).then(|| Step::Pause(millis(ms)))
    }

    fn content(&mut self, at: usize, choice: u32) -> Option<Step> {
        if self.hang_at == Some(at) && choice == 0 {
            return Some(Step::Hang);
        }
        if at >= self.length {
            let none = self.directives.tool_calls.is_empty();
            self.state = if none {
                State::Finish { choice: 0 }
            } else {
                State::Tool { choice: 0, index: 0, half: false }
            };
            return None;
        }
        if choice == 0 {
            let first = at == 0 && self.reasoning.is_empty();
            if let Some(pause) = self.pause(first) {
                return Some(pause);
            }
            self.paused = false;
        }
        let delta = self.say_text(choice, &self.pieces[at % self.pieces.len()]);
        self.produced += 1;
        self.state = match choice + 1 {
            next if next < self.asked.choices => State::Content { at, choice: next },
            _ => State::Content { at: at + 1, choice: 0 },
        };
        Some(Step::Say(delta))
    }

    fn tool(&mut self, choice: u32, index: u32, half: bool) -> Step {
        let call = &self.directives.tool_calls[index as usize];
        let arguments = match &call.arguments {
            Value::String(text) => text.clone(),
            Value::Null => "{}".to_owned(),
            value => value.to_string(),
        };
        let middle = arguments.floor_char_boundary(arguments.len() / 2);
        if half {
            let last = index as usize + 1 == self.directives.tool_calls.len();
            self.state = match last {
                false => State::Tool { choice, index: index + 1, half: false },
                true if choice + 1 < self.asked.choices => {
                    State::Tool { choice: choice + 1, index: 0, half: false }
                }
                true => State::Finish { choice: 0 },
            };
            let arguments = arguments[middle..].to_owned();
            return Step::Say(Delta::ToolCall { choice, index, id: None, name: None, arguments });
        }
        self.produced += tokens::count(&call.name) + tokens::count(&arguments);
        let id = call.id.clone().unwrap_or_else(|| format!("call_mock_{}_{choice}_{index}", self.id));
        let name = Some(call.name.clone());
        self.state = State::Tool { choice, index, half: true };
        Step::Say(Delta::ToolCall {
            choice,
            index,
            id: Some(id),
            name,
            arguments: arguments[..middle].to_owned(),
        })
    }

    fn reasoning(&mut self, at: usize) -> Option<Step> {
        let Some(text) = self.reasoning.get(at).cloned() else {
            self.state = State::Prefix { choice: 0 };
            return None;
        };
        if let Some(pause) = self.pause(at == 0) {
            return Some(pause);
        }
        self.paused = false;
        self.produced += u64::from(self.asked.choices);
        self.state = State::Reasoning { at: at + 1 };
        Some(Step::Say(Delta::Reasoning { choice: 0, text }))
    }

    fn prefix(&mut self, choice: u32) -> Option<Step> {
        if self.asked.repeated.is_empty() || choice == self.asked.choices {
            self.state = State::Content { at: 0, choice: 0 };
            return None;
        }
        self.state = State::Prefix { choice: choice + 1 };
        let each = self.asked.choices as usize / self.asked.repeated.len();
        let text = self.asked.repeated.get(choice as usize / each.max(1)).cloned().unwrap_or_default();
        Some(Step::Say(Delta::Text { choice, text, logprobs: Vec::new() }))
    }
}

impl Iterator for Answer {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let step = match self.state {
                State::Start => {
                    self.state = State::Reasoning { at: 0 };
                    let (id, model) = (self.shown_id.clone(), self.asked.model.clone());
                    Some(Step::Say(Delta::Started(Started { id, model })))
                }
                State::Reasoning { at } => self.reasoning(at),
                State::Prefix { choice } => self.prefix(choice),
                State::Content { at, choice } => self.content(at, choice),
                State::Tool { choice, index, half } => Some(self.tool(choice, index, half)),
                State::Finish { choice } if choice < self.asked.choices => {
                    self.state = State::Finish { choice: choice + 1 };
                    Some(Step::Say(Delta::Finished { choice, reason: self.reason, stop: None }))
                }
                State::Finish { .. } => {
                    self.state = State::Usage;
                    None
                }
                State::Usage => {
                    self.state = State::Done;
                    self.reported().map(|usage| Step::Say(Delta::Usage(usage)))
                }
                State::Done => return None,
            };
            if step.is_some() {
                return step;
            }
        }
    }
}

/// The tokens of the text that is answered.
fn pieces(directives: &Directives, asked: &Asked) -> Vec<Box<str>> {
    let cut = |text: &str| -> Vec<Box<str>> { tokens::tokens(text).map(Box::from).collect() };
    if let Some(refusal) = &directives.refusal {
        cut(refusal)
    } else if let Some(text) = &directives.text {
        cut(text)
    } else if directives.echo {
        cut(&asked.text)
    } else if directives.tokens.is_some() {
        WORDS.into_iter().map(Box::from).collect()
    } else if !directives.tool_calls.is_empty() {
        Vec::new()
    } else {
        cut(&friendly(&asked.text))
    }
}

fn friendly(text: &str) -> String {
    if text.is_empty() {
        return "Hello from the mock. You said nothing, and I heard every word of it.".to_owned();
    }
    let quoted = bounded(text, QUOTED);
    let more = if quoted.len() < text.len() { "…" } else { "" };
    format!("Hello from the mock. You said: {quoted}{more}")
}

/// A log probability that only depends on the token, with its alternatives.
fn logprob(piece: &str, top: u8) -> TokenLogprob {
    let own = -0.125 - (piece.len() % 8) as f32 / 16.0;
    let alternatives = (0..top.min(20)).map(|rank| match rank {
        0 => (piece.to_owned(), piece.as_bytes().to_vec(), own),
        _ => {
            let other = WORDS[usize::from(rank) % WORDS.len()];
            (other.to_owned(), other.as_bytes().to_vec(), own - f32::from(rank))
        }
    });
    TokenLogprob {
        token: piece.to_owned(),
        bytes: piece.as_bytes().to_vec(),
        logprob: own,
        top: alternatives.collect(),
    }
}

/// One unit vector per input; equal inputs have equal vectors.
pub(crate) fn vectors(directives: &Directives, asked: &Asked) -> Vec<Vec<f32>> {
    let dimensions =
        asked.dimensions.or(directives.embedding_dimensions).unwrap_or(DIMENSIONS).clamp(1, 8_192);
    asked.inputs.iter().map(|seed| unit_vector(*seed, dimensions)).collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014) drives the components.
fn unit_vector(mut seed: u64, dimensions: u32) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..dimensions)
        .map(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

/// The usage of an embedding.
pub(crate) fn embedding_usage(directives: &Directives, asked: &Asked) -> Option<Usage> {
    if directives.omit_usage {
        return None;
    }
    let input = match (directives.usage, directives.wrong_usage) {
        (Some(usage), _) => usage.prompt_tokens,
        (None, true) => asked.prompt_tokens + 1_000,
        (None, false) => asked.prompt_tokens,
    };
    Some(Usage { input, ..Usage::default() })
}

impl From<Finish> for FinishReason {
    fn from(finish: Finish) -> Self {
        match finish {
            Finish::Stop => FinishReason::Stop,
            Finish::Length => FinishReason::Length,
            Finish::ToolCalls => FinishReason::ToolCalls,
            Finish::ContentFilter => FinishReason::ContentFilter,
        }
    }
}

#[cfg(test)]
mod tests;
