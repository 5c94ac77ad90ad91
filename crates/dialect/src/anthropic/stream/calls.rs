//! The calls of one stream: which have begun, which wait.
//!
//! OpenAI's chunks may mix the pieces of parallel calls; Anthropic's blocks follow one another. What comes of a later call
//! before the open one is finished waits here.
//!
//! What it promises: at most [`MAX_WAITING`] bytes wait; calls leave in the order in which they came. What it refuses to
//! know: events.

use std::collections::{BTreeSet, VecDeque};

/// Most bytes of later calls that wait for the open one.
const MAX_WAITING: usize = 1 << 20;
/// What a call costs that waits, besides its texts, in bytes.
const EACH: usize = 64;
/// Most calls of one answer.
const MAX_CALLS: usize = 4096;

/// A call, or what has come of it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) index: u32,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: String,
}

/// What of an answer's calls was told, and what waits.
#[derive(Debug, Default)]
pub(super) struct Calls {
    begun: BTreeSet<u32>,
    waiting: VecDeque<Call>,
    size: usize,
}

impl Calls {
    /// Whether the block of this call was begun: if it is not the open one, it cannot be entered again.
    pub(super) fn has_begun(&self, index: u32) -> bool {
        self.begun.contains(&index)
    }

    /// Notes that the block of this call begins; `false` when there are too many.
    pub(super) fn begin(&mut self, index: u32) -> bool {
        self.begun.insert(index);
        self.begun.len() <= MAX_CALLS
    }

    /// Whether any call waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Keeps a piece of a call for later; `false` when it is too much.
    pub(super) fn wait(&mut self, piece: Call) -> bool {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let more = piece.arguments.len() + length(&piece.id) + length(&piece.name);
        match self.waiting.iter_mut().find(|call| call.index == piece.index) {
            Some(call) => {
                call.id = call.id.take().or(piece.id);
                call.name = call.name.take().or(piece.name);
                call.arguments.push_str(&piece.arguments);
                self.size += more;
            }
            None => {
                self.waiting.push_back(piece);
                self.size += more + EACH;
            }
        }
        self.size <= MAX_WAITING
    }

    /// The call that has waited longest.
    pub(super) fn next(&mut self) -> Option<Call> {
        let call = self.waiting.pop_front()?;
        if self.waiting.is_empty() {
            self.size = 0;
        }
        Some(call)
    }
}

/// The arguments of the open call as they come.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) text: String,
    depth: u32,
    quoted: bool,
    escaped: bool,
    whole: bool,
}

impl Arguments {
    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &str) {
        self.text.push_str(piece);
        for byte in piece.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.quoted => self.escaped = true,
                b'"' => self.quoted = !self.quoted,
                _ if self.quoted => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.whole |= self.depth == 0;
                }
                _ => {}
            }
        }
    }

    /// Whether the brace that opened them was closed: nothing but white space can follow.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_whole_with_their_last_brace_however_they_are_cut() {
        let text = r#" {"a":"}\"}","b":[{},"\\"]} "#;
        let last = text.rfind('}').unwrap();
        for cut in 0..=text.len() {
            let mut arguments = Arguments::default();
            arguments.push(&text[..cut]);
            assert_eq!(arguments.is_whole(), cut > last, "cut at {cut}");
            arguments.push(&text[cut..]);
            assert!(arguments.is_whole());
        }
    }

    #[test]
    fn what_waits_is_bounded_and_leaves_in_order() {
        let piece = |index: u32, text: &str| Call {
            index,
            id: Some(format!("c{index}")),
            name: None,
            arguments: text.to_owned(),
        };
        let mut calls = Calls::default();
        assert!(calls.wait(piece(2, "{")) && calls.wait(piece(1, "{}")) && calls.wait(piece(2, "}")));
        let first = calls.next().unwrap();
        assert_eq!((first.index, first.id.as_deref(), &*first.arguments), (2, Some("c2"), "{}"));
        assert_eq!(calls.next().map(|call| call.index), Some(1));
        assert!(!calls.is_waiting());
        assert!(calls.wait(piece(3, &"x".repeat(MAX_WAITING - EACH - 2))), "what left is not counted");
        assert!(!calls.wait(piece(3, "x")));
    }
}
