//! What an answer used: the vendor's word where it makes sense, our own count where it does not.
//!
//! What it promises: a vendor's usage is taken as it is when the answer came to its end and the numbers are sound.
//! Otherwise what is missing is estimated and the whole is called estimated. Seeing a piece of an answer costs additions:
//! no clock, no allocation, no look at its bytes where they are only passed on.

use penstock_domain::{Delta, Notes, Task, Usage};
use penstock_tokenizer::Estimator;

/// Bytes of JSON text that make a token, times ten: measured on English and Chinese, and low for most others.
const BYTES_PER_TEN_TOKENS: u64 = 43;

/// Events of a stream that carry no text: its opening, its end, its usage.
const FRAME: u64 = 3;

/// Tokens of one answer, as told and as seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    told: Option<Usage>,
    /// A later word of the vendor took something back.
    shrank: bool,
    /// The vendor said how the answer ended, so what it told last is final.
    ended: bool,
    /// Bytes of generated text that were passed on, and the events that held them.
    passed: u64,
    events: u64,
    /// Generated text that we read.
    read: Estimator,
}

/// What an answer used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) usage: Usage,
    pub(crate) estimated: bool,
}

impl Tally {
    /// Learns what a delta tells in passing.
    pub(crate) fn see(&mut self, delta: &Delta) {
        match delta {
            Delta::Raw(raw) => self.note(&raw.notes),
            Delta::Whole(whole) => self.note(&whole.notes),
            Delta::Text { text, .. } | Delta::Reasoning { text, .. } | Delta::Refusal { text, .. } => {
                self.read.feed(text.as_bytes());
            }
            Delta::ToolCall { name, arguments, .. } => {
                self.read.feed(name.as_deref().unwrap_or_default().as_bytes());
                self.read.feed(arguments.as_bytes());
            }
            Delta::Finished { .. } => self.ended = true,
            Delta::Usage(usage) => self.told(*usage),
            _ => {}
        }
    }

    fn note(&mut self, notes: &Notes) {
        self.passed = self.passed.saturating_add(u64::from(notes.text));
        self.events = self.events.saturating_add(u64::from(notes.events));
        self.ended |= notes.finish.is_some();
        if let Some(usage) = notes.usage {
            self.told(usage);
        }
    }

    /// Totals so far: each word of the vendor replaces the one before, and none may be less.
    fn told(&mut self, usage: Usage) {
        self.shrank |= self.told.is_some_and(|told| usage.input < told.input || usage.output < told.output);
        self.told = Some(usage);
    }

    /// What was generated, by our own count.
    pub(crate) fn generated(&self) -> u64 {
        let by_bytes = self.passed.saturating_mul(10).div_ceil(BYTES_PER_TEN_TOKENS);
        // No event that has text has less than a token of it, and many vendors send them one by one.
        let by_events = if self.passed == 0 { 0 } else { self.events.saturating_sub(FRAME) };
        by_bytes.max(by_events).saturating_add(self.read.tokens())
    }

    /// What the answer used. `complete`: it came to its end; `prompt` estimates the request, which is done only if needed.
    pub(crate) fn settle(&self, task: Task, complete: bool, prompt: impl FnOnce() -> u64) -> Used {
        let generates = matches!(task, Task::Chat | Task::Completion);
        let generated = if generates { self.generated() } else { 0 };
        let sound = self.told.filter(|usage| !self.shrank && !usage.is_contradictory());
        match sound {
            // Nothing can be answered without a prompt, and nothing said without a token.
            Some(usage) if usage.input == 0 || (generates && usage.output == 0 && generated > 0) => {
                let input = if usage.input == 0 { prompt() } else { usage.input };
                let output = if usage.output == 0 { generated } else { usage.output };
                Used { usage: Usage { input, output, ..usage }, estimated: true }
            }
            Some(usage) if complete || self.ended => Used { usage, estimated: false },
            // What was told on the way is true of the prompt, and of as much of the answer as there was then.
            Some(usage) => {
                let output = usage.output.max(generated);
                Used { usage: Usage { output, ..usage }, estimated: true }
            }
            None => {
                let usage = Usage { input: prompt(), output: generated, ..Usage::default() };
                Used { usage, estimated: true }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use penstock_domain::{Dialect, FinishReason, RawEvents};

    use super::*;

    fn raw(notes: Notes) -> Delta {
        Delta::Raw(RawEvents { dialect: Dialect::OpenAi, bytes: Bytes::new(), notes })
    }

    fn text(text: &str) -> Delta {
        Delta::Text { choice: 0, text: text.into(), logprobs: Vec::new() }
    }

    fn settled(deltas: &[Delta], complete: bool) -> Used {
        let mut tally = Tally::default();
        deltas.iter().for_each(|delta| tally.see(delta));
        tally.settle(Task::Chat, complete, || 77)
    }

    const SOUND: Usage = Usage {
        input: 10,
        output: 5,
        cached_input: Some(4),
        cache_write: None,
        cache_write_hour: None,
        reasoning: None,
        doubtful: false,
    };

    #[test]
    fn sound_usage_of_a_whole_answer_is_taken_as_it_is() {
        let used = settled(&[text("Hello there"), Delta::Usage(SOUND)], true);
        assert_eq!(used, Used { usage: SOUND, estimated: false });
        let notes = Notes { text: 40, events: 9, usage: Some(SOUND), ..Notes::default() };
        assert_eq!(settled(&[raw(notes)], true), Used { usage: SOUND, estimated: false });
    }

    #[test]
    fn missing_usage_is_estimated_from_what_was_seen() {
        let used = settled(&[text("The answer is "), text("forty-two.")], true);
        assert!(used.estimated && used.usage.input == 77, "{used:?}");
        assert!((5..=8).contains(&used.usage.output), "{used:?}");
        let notes = Notes { text: 430, events: 10, ..Notes::default() };
        assert_eq!(settled(&[raw(notes)], true).usage.output, 100, "by its bytes");
        let notes = Notes { text: 43, events: 103, ..Notes::default() };
        assert_eq!(settled(&[raw(notes)], true).usage.output, 100, "by its events");
    }

    #[test]
    fn contradictory_usage_is_not_believed() {
        let said = text("Something was said here.");
        for wrong in [
            Usage { doubtful: true, ..SOUND },
            Usage { cached_input: Some(11), ..SOUND },
            Usage { reasoning: Some(6), ..SOUND },
            Usage { output: 1 << 50, ..SOUND },
        ] {
            let used = settled(&[said.clone(), Delta::Usage(wrong)], true);
            assert!(used.estimated && used.usage.input == 77 && used.usage.output < 10, "{used:?}");
            assert_eq!(used.usage.cached_input, None, "nothing of it is kept");
        }
        let used = settled(&[said, Delta::Usage(Usage { output: 0, ..SOUND })], true);
        assert!(used.estimated && used.usage.input == 10 && used.usage.output > 0, "the sound half stays");
    }

    #[test]
    fn usage_that_shrinks_is_not_believed() {
        let later = Usage { output: 3, ..SOUND };
        assert!(settled(&[text("a b c"), Delta::Usage(SOUND), Delta::Usage(later)], true).estimated);
        let grown = Usage { output: 9, ..SOUND };
        let used = settled(&[text("a b c"), Delta::Usage(SOUND), Delta::Usage(grown)], true);
        assert_eq!(used, Used { usage: grown, estimated: false });
    }

    #[test]
    fn a_broken_answer_counts_what_came_unless_the_vendor_had_told_its_end() {
        let opening = Notes { usage: Some(Usage { output: 1, ..SOUND }), ..Notes::default() };
        let more = Notes { text: 430, events: 50, ..Notes::default() };
        let used = settled(&[raw(opening.clone()), raw(more.clone())], false);
        assert_eq!((used.usage.input, used.usage.output, used.estimated), (10, 100, true));
        let last = Notes { usage: Some(SOUND), finish: Some(FinishReason::Stop), ..Notes::default() };
        let used = settled(&[raw(opening), raw(more), raw(last)], false);
        assert_eq!(used, Used { usage: SOUND, estimated: false });
    }

    #[test]
    fn vectors_have_no_output_to_estimate() {
        let tally = Tally::default();
        let used = tally.settle(Task::Embedding, true, || 12);
        assert_eq!((used.usage.input, used.usage.output, used.estimated), (12, 0, true));
    }
}
