//! What has been said so far, what of it was shown, and whether what comes continues it.

use std::collections::VecDeque;
use std::sync::Arc;

use penstock_domain::{Content, Delta, Error, Logprobs, Message, Part, Request, ResponseFormat, Role, Task};

use crate::stage::call::terms::within;

/// Characters at the end of the text that are held back: what a continuation has to begin with.
const HELD_BACK: usize = 60;
/// The fewest characters that prove a continuation.
const LEAST: usize = 12;
/// The longest text that is kept, in bytes; longer answers are not continued.
const LONGEST: usize = 256 << 10;
/// Bytes of text of which no model makes more than a token each, for what is left of a bound.
const BYTES_PER_TOKEN: usize = 4;

/// A text answer as far as it has come.
#[derive(Default)]
pub(super) struct Script {
    said: String,
    /// Bytes of it that have left.
    shown: usize,
    /// Something other than plain text came, or the text is complete or too long: it cannot be continued any more.
    closed: bool,
    /// What the continuation has to begin with, and what has come of it.
    expected: Option<Expected>,
}

struct Expected {
    anchor: String,
    came: String,
    /// Why there is a continuation.
    broke: Error,
}

impl Script {
    /// Takes what a provider gave; what may leave goes to `out`.
    ///
    /// # Errors
    /// The error that broke the answer, when this does not continue it.
    pub(super) fn give(&mut self, delta: Delta, out: &mut VecDeque<Delta>) -> Result<(), Error> {
        let delta = match delta {
            Delta::Text { choice: 0, text, logprobs } if logprobs.is_empty() && !self.closed => {
                return self.text(&text, out);
            }
            delta => delta,
        };
        if let Some(expected) = &self.expected {
            return match delta {
                // Whoever continues may think first; that was not asked for.
                Delta::Reasoning { .. } | Delta::Signature { .. } | Delta::Sealed { .. } => Ok(()),
                delta if !delta.is_content() => {
                    out.push_back(delta);
                    Ok(())
                }
                _ => Err(expected.broke.clone()),
            };
        }
        let opening =
            matches!(delta, Delta::Reasoning { .. } | Delta::Signature { .. } | Delta::Sealed { .. });
        if delta.is_content() && !(opening && self.said.is_empty()) {
            self.release(out);
            self.closed = true;
        }
        out.push_back(delta);
        Ok(())
    }

    fn text(&mut self, text: &str, out: &mut VecDeque<Delta>) -> Result<(), Error> {
        if let Some(expected) = &mut self.expected {
            expected.came.push_str(text);
            let Expected { anchor, came, broke } = expected;
            let Some(more) = came.strip_prefix(anchor.as_str()) else {
                let may_come = anchor.starts_with(came.as_str());
                return if may_come { Ok(()) } else { Err(broke.clone()) };
            };
            self.said.push_str(more);
            self.expected = None;
            out.push_back(Delta::Resumed);
        } else {
            self.said.push_str(text);
        }
        let until = match self.said.char_indices().rev().nth(HELD_BACK - 1) {
            _ if self.said.len() > LONGEST => {
                self.closed = true;
                self.said.len()
            }
            Some((at, _)) => at,
            None => 0,
        };
        self.show(until, out);
        if self.closed {
            self.said = String::new();
            self.shown = 0;
        }
        Ok(())
    }

    fn show(&mut self, until: usize, out: &mut VecDeque<Delta>) {
        if let Some(text) = self.said.get(self.shown..until).filter(|text| !text.is_empty()) {
            out.push_back(Delta::Text { choice: 0, text: text.to_owned(), logprobs: Vec::new() });
            self.shown = until;
        }
    }

    /// Lets go of what was held back.
    pub(super) fn release(&mut self, out: &mut VecDeque<Delta>) {
        self.show(self.said.len(), out);
    }

    /// The end of the provider's stream.
    ///
    /// # Errors
    /// As [`Script::give`].
    pub(super) fn finish(&mut self, out: &mut VecDeque<Delta>) -> Result<(), Error> {
        if let Some(expected) = &self.expected {
            return Err(expected.broke.clone());
        }
        self.release(out);
        Ok(())
    }

    /// Whether somebody else could go on from here.
    pub(super) fn can_be_continued(&self) -> bool {
        !self.closed && !self.said.is_empty() && (self.shown == 0 || self.anchor().is_some())
    }

    /// The last characters that were said, which have not been shown. They begin with something that can be seen: models
    /// leave spaces out at the beginning.
    fn anchor(&self) -> Option<&str> {
        let tail = self.said.get(self.shown..)?.trim_start();
        (tail.chars().count() >= LEAST).then_some(tail)
    }

    /// From now on a continuation is awaited, because of this error.
    pub(super) fn expect(&mut self, broke: Error) {
        let anchor = if self.shown == 0 { None } else { self.anchor().map(str::to_owned) };
        match anchor {
            Some(anchor) => self.expected = Some(Expected { anchor, came: String::new(), broke }),
            // Nothing was shown: the answer begins anew, and nobody has to prove anything.
            None => self.said.clear(),
        }
    }

    /// The request of whoever continues; the one before as it is while nothing was shown.
    pub(super) fn request(&self, request: &Arc<Request>) -> Option<Arc<Request>> {
        if self.shown == 0 {
            return Some(Arc::clone(request));
        }
        let anchor = self.anchor()?;
        let Ok(Content::Chat(chat)) = request.body.content() else { return None };
        let mut chat = chat.clone();
        chat.messages.push(turn(Role::Assistant, self.said.clone()));
        chat.messages.push(turn(Role::User, go_on(anchor)));
        let continued =
            Request { body: request.body.rewritten(Content::Chat(chat)), ..Request::clone(request) };
        let Some(most) = request.max_output_tokens else { return Some(Arc::new(continued)) };
        // What was said counts, what is repeated does not.
        let said = self.said.len().div_ceil(BYTES_PER_TOKEN);
        let left = most.saturating_sub(u32::try_from(said).unwrap_or(u32::MAX));
        if left == 0 {
            return None;
        }
        let repeated = u32::try_from(anchor.len().div_ceil(BYTES_PER_TOKEN)).unwrap_or(0);
        Some(Arc::new(within(&continued, left.saturating_add(repeated).min(most))))
    }
}

fn turn(role: Role, text: String) -> Message {
    Message { role, name: None, parts: vec![Part::Text(text)] }
}

/// What whoever continues is told.
fn go_on(anchor: &str) -> String {
    format!(
        "Your answer was cut off on its way. Continue it as if nothing had happened. First repeat its last characters, \
         exactly as they stand between the two lines of dashes, without the lines and without anything before them; then \
         go on with the very next character. Do not explain, do not apologise, do not begin again.\n-----\n{anchor}\n-----"
    )
}

/// Whether the answer to a request is plain text: no tools, no shape, no probabilities.
pub(super) fn is_plain(request: &Request) -> bool {
    let Task::Chat = request.task else { return false };
    let Ok(Content::Chat(chat)) = request.body.content() else { return false };
    let one = chat.sampling.choices.is_none_or(|choices| choices <= 1);
    one && chat.tools.is_empty()
        && chat.response_format == ResponseFormat::Text
        && chat.sampling.logprobs == Logprobs::Off
}

#[cfg(test)]
mod tests {
    use penstock_domain::Code;

    use super::*;

    fn text(text: &str) -> Delta {
        Delta::Text { choice: 0, text: text.into(), logprobs: Vec::new() }
    }

    fn shown(out: &mut VecDeque<Delta>) -> String {
        let piece = |delta| match delta {
            Delta::Text { text, .. } => text,
            Delta::Resumed => "|".to_owned(),
            other => format!("<{other:?}>"),
        };
        out.drain(..).map(piece).collect()
    }

    fn cut() -> Error {
        Error::new(Code::UpstreamStreamCut, "cut")
    }

    /// A hundred characters of text, and what is shown of them.
    fn broken() -> (Script, String) {
        let (mut script, mut out) = (Script::default(), VecDeque::new());
        for word in 0..20 {
            script.give(text(&format!("w{word:03} ")), &mut out).unwrap();
        }
        (script, shown(&mut out))
    }

    #[test]
    fn the_end_of_the_text_is_held_back_until_the_answer_is_complete() {
        let (mut script, before) = broken();
        assert_eq!(before.len(), 100 - HELD_BACK);
        let mut out = VecDeque::new();
        script.finish(&mut out).unwrap();
        assert_eq!((before + &shown(&mut out)).len(), 100);
    }

    #[test]
    fn a_continuation_that_begins_with_what_was_held_back_leaves_no_seam() {
        for size in [1, 3, 7, 200] {
            let (mut script, before) = broken();
            let anchor = script.anchor().expect("enough").to_owned();
            script.expect(cut());
            let (mut out, more) = (VecDeque::new(), format!("{anchor}and the end."));
            for piece in more.as_bytes().chunks(size) {
                script.give(text(std::str::from_utf8(piece).unwrap()), &mut out).unwrap();
            }
            script.finish(&mut out).unwrap();
            let all = before + &shown(&mut out);
            let expected: String = (0..20).map(|word| format!("w{word:03} ")).collect();
            assert_eq!(all.replace('|', ""), format!("{expected}and the end."), "in pieces of {size}");
            assert_eq!(all.matches('|').count(), 1);
        }
    }

    #[test]
    fn a_continuation_that_says_anything_else_is_refused_at_its_first_wrong_character() {
        for wrong in ["Sure! w008", "x", "w009 "] {
            let (mut script, _) = broken();
            script.expect(cut());
            let refused = script.give(text(wrong), &mut VecDeque::new()).expect_err("not the anchor");
            assert_eq!(refused.code(), Code::UpstreamStreamCut, "{wrong}");
        }
        let (mut script, _) = broken();
        script.expect(cut());
        assert!(script.finish(&mut VecDeque::new()).is_err(), "one that says nothing continues nothing");
    }

    #[test]
    fn an_answer_of_which_nothing_was_shown_begins_anew() {
        let (mut script, mut out) = (Script::default(), VecDeque::new());
        script.give(text("Too short to show."), &mut out).unwrap();
        assert!(out.is_empty() && script.can_be_continued());
        script.expect(cut());
        script.give(text("Something else altogether."), &mut out).unwrap();
        script.finish(&mut out).unwrap();
        assert_eq!(shown(&mut out), "Something else altogether.");
    }

    #[test]
    fn tool_calls_reasoning_after_text_and_other_choices_close_an_answer() {
        let call = Delta::ToolCall { choice: 0, index: 0, id: None, name: None, arguments: "{".into() };
        let thought = Delta::Reasoning { choice: 0, text: "hm".into() };
        let other = Delta::Text { choice: 1, text: "b".into(), logprobs: Vec::new() };
        for closing in [call, thought, other] {
            let (mut script, before) = broken();
            let mut out = VecDeque::new();
            script.give(closing.clone(), &mut out).unwrap();
            assert!(!script.can_be_continued(), "{closing:?}");
            assert_eq!(out.len(), 2, "what was held back leaves before it");
            let Some(Delta::Text { text, .. }) = out.pop_front() else { panic!("text first") };
            assert_eq!(before.len() + text.len(), 100);
        }
        let mut script = Script::default();
        script.give(Delta::Reasoning { choice: 0, text: "hm".into() }, &mut VecDeque::new()).unwrap();
        assert!(!script.can_be_continued(), "nobody continues a thought");
        script.give(text("So:"), &mut VecDeque::new()).unwrap();
        assert!(script.can_be_continued(), "the thought is over");
    }

    #[test]
    fn a_text_that_grows_too_long_is_passed_on_and_forgotten() {
        let (mut script, mut out) = (Script::default(), VecDeque::new());
        let long = "x".repeat(LONGEST + 1);
        script.give(text(&long), &mut out).unwrap();
        script.give(text("more"), &mut out).unwrap();
        assert_eq!(shown(&mut out).len(), LONGEST + 5);
        assert!(!script.can_be_continued() && script.said.is_empty());
    }
}
