//! Bytes of tokens to text that may leave: whole characters only, and nothing that could still turn into a stop sequence.

use std::collections::VecDeque;

use penstock_domain::TokenLogprob;

/// The text of one answer on its way out.
#[derive(Debug, Default)]
pub(crate) struct Text {
    stops: Vec<String>,
    /// Bytes of a character that is not complete.
    partial: Vec<u8>,
    /// Decoded and not yet let go.
    held: String,
    /// How many bytes were let go.
    gone: usize,
    /// Reports of tokens, each with the place where its text begins.
    reports: VecDeque<(usize, TokenLogprob)>,
}

/// What may leave now.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Release {
    pub(crate) text: String,
    pub(crate) logprobs: Vec<TokenLogprob>,
    /// The stop sequence that was met: the answer is over.
    pub(crate) stopped: Option<Box<str>>,
}

impl Text {
    pub(crate) fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(), ..Self::default() }
    }

    /// Takes the bytes of one token.
    pub(crate) fn push(&mut self, bytes: &[u8], report: Option<TokenLogprob>) -> Release {
        if let Some(report) = report {
            self.reports.push_back((self.gone + self.held.len(), report));
        }
        let searched = self.held.len();
        if self.partial.is_empty() {
            decode(bytes, &mut self.held, &mut self.partial);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            decode(&joined, &mut self.held, &mut self.partial);
        }
        if let Some((at, stop)) = self.first_stop(searched) {
            self.held.truncate(at);
            self.partial.clear();
            return Release { stopped: Some(stop), ..self.release(at) };
        }
        self.release(self.held.len() - self.at_risk())
    }

    /// The answer is over: lets everything go that was held back.
    pub(crate) fn finish(&mut self) -> Release {
        if !self.partial.is_empty() {
            self.partial.clear();
            self.held.push(char::REPLACEMENT_CHARACTER);
        }
        let mut last = self.release(self.held.len());
        last.logprobs.extend(self.reports.drain(..).map(|(_, report)| report));
        last
    }

    fn release(&mut self, upto: usize) -> Release {
        let rest = self.held.split_off(upto);
        let text = std::mem::replace(&mut self.held, rest);
        self.gone += text.len();
        let mut logprobs = Vec::new();
        while self.reports.front().is_some_and(|(start, _)| *start < self.gone) {
            logprobs.extend(self.reports.pop_front().map(|(_, report)| report));
        }
        Release { text, logprobs, stopped: None }
    }

    /// Where the earliest stop sequence begins, and which it is. What was searched before cannot hold a whole one.
    fn first_stop(&self, searched: usize) -> Option<(usize, Box<str>)> {
        let places = self.stops.iter().filter_map(|stop| {
            let mut from = searched.saturating_sub(stop.len());
            while !self.held.is_char_boundary(from) {
                from -= 1;
            }
            self.held[from..].find(stop.as_str()).map(|at| (from + at, stop))
        });
        places.min_by_key(|(at, _)| *at).map(|(at, stop)| (at, stop.as_str().into()))
    }

    /// How many bytes at the end could be the beginning of a stop sequence.
    fn at_risk(&self) -> usize {
        let longest = |stop: &String| {
            let most = (stop.len() - 1).min(self.held.len());
            (1..=most)
                .rev()
                .find(|length| stop.is_char_boundary(*length) && self.held.ends_with(&stop[..*length]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

/// Appends whole characters; invalid bytes become the replacement character, an unfinished character stays in `partial`.
fn decode(mut bytes: &[u8], text: &mut String, partial: &mut Vec<u8>) {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(valid) => return text.push_str(valid),
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                match error.error_len() {
                    Some(length) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        bytes = &rest[length..];
                    }
                    None => return partial.extend_from_slice(rest),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], bytes: &[u8], size: usize) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut text = Text::new(&stops);
        let mut out = Vec::new();
        for piece in bytes.chunks(size) {
            let release = text.push(piece, None);
            out.push(release.text);
            if release.stopped.is_some() {
                return (out, true);
            }
        }
        out.push(text.finish().text);
        (out, false)
    }

    #[test]
    fn the_cut_of_tokens_never_shows() {
        let whole = "grüße 👋🏽 done\nEND not shown";
        for size in 1..whole.len() {
            let (out, stopped) = run(&["\nEND"], whole.as_bytes(), size);
            assert!(stopped);
            assert_eq!(out.concat(), "grüße 👋🏽 done", "{size}");
            let (out, stopped) = run(&["nothing", "xyz"], whole.as_bytes(), size);
            assert!(!stopped);
            assert_eq!(out.concat(), whole, "{size}");
        }
    }

    #[test]
    fn the_earliest_stop_wins_and_partial_ones_are_held() {
        let (out, stopped) = run(&["bc", "abcd"], b"xabcd", 1);
        assert_eq!((out.concat().as_str(), stopped), ("xa", true));
        let (out, stopped) = run(&["bc", "abcd"], b"xabcd", 5);
        assert_eq!((out.concat().as_str(), stopped), ("x", true));
        let (out, stopped) = run(&["</s>"], b"a</b", 1);
        assert_eq!((out.concat().as_str(), stopped), ("a</b", false));
    }

    #[test]
    fn broken_bytes_become_replacement_characters() {
        assert_eq!(run(&[], b"a\xffb\xe2\x82", 1).0.concat(), "a\u{FFFD}b\u{FFFD}");
    }

    #[test]
    fn reports_leave_with_their_text() {
        let report = |token: &str| {
            Some(TokenLogprob { token: token.into(), bytes: Vec::new(), logprob: 0.0, top: Vec::new() })
        };
        let mut text = Text::new(&["STOP".to_owned()]);
        assert_eq!(text.push(b"a", report("a")).logprobs.len(), 1);
        assert_eq!(text.push(b"ST", report("ST")).logprobs.len(), 0);
        let freed = text.push(b"ay", report("ay"));
        assert_eq!((freed.text.as_str(), freed.logprobs.len()), ("STay", 2));
        assert_eq!(text.push(b"ST", report("ST")).logprobs.len(), 0);
        let stopped = text.push(b"OP", report("OP"));
        assert_eq!((stopped.text.as_str(), stopped.logprobs.len()), ("", 0));
        assert_eq!(stopped.stopped.as_deref(), Some("STOP"));
    }
}
