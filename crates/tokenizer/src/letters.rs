//! What a character beyond ASCII is to OpenAI's patterns.
//!
//! What it promises: the answer of the pattern itself, which is asked once for each character that somebody writes; so there is no
//! table of Unicode here that could be of another year than the pattern's. Then one look-up in a table of a megabyte.

use std::sync::atomic::{AtomicU8, Ordering};

use bpe_openai::Tokenizer;

use crate::pieces::{BLANK, CALM, LOWER, MARK, NUMBER, SIGN, UPPER};

/// What there is to know about every character, as far as somebody asked.
pub(crate) struct Letters {
    /// With the pattern of `o200k_base`, which tells all kinds apart.
    pattern: &'static Tokenizer,
    /// By character; 0 is not known yet.
    kinds: Box<[AtomicU8]>,
}

impl Letters {
    pub(crate) fn new() -> Self {
        let all = char::MAX as usize + 1;
        Self { pattern: bpe_openai::o200k_base(), kinds: (0..all).map(|_| AtomicU8::new(0)).collect() }
    }

    /// The kind of a character.
    #[inline]
    pub(crate) fn kind(&self, letter: char) -> u8 {
        let kept = &self.kinds[letter as usize];
        match kept.load(Ordering::Relaxed) {
            0 => {
                let kind = self.ask(letter);
                kept.store(kind, Ordering::Relaxed);
                kind
            }
            kind => kind,
        }
    }

    /// Asks the pattern, by texts that it cuts otherwise for each kind.
    #[cold]
    fn ask(&self, letter: char) -> u8 {
        let is_one = |before: &str, behind: &str| {
            let text = format!("{before}{letter}{behind}");
            self.pattern.split(&text).next().is_some_and(|piece| piece.len() == text.len())
        };
        if letter.is_whitespace() {
            // As the pattern has it: `White_Space` is the same in all years of Unicode since 2013.
            return BLANK;
        }
        if is_one("1", "") {
            return NUMBER;
        }
        // A word begins before a capital and ends before a sign.
        match (is_one("A", "a"), is_one("a", "")) {
            (false, _) => SIGN,
            (true, false) => UPPER,
            // Only a mark follows signs; only a letter without case stands before a capital.
            (true, true) if is_one("!!", "") => MARK,
            (true, true) if is_one("", "Aa") => CALM,
            (true, true) => LOWER,
        }
    }
}
