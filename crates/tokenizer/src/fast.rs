//! Counting with a vocabulary, quickly: most pieces of a text are one token, and a table says which.
//!
//! What it promises: the count of `bpe-openai`, which is that of `tiktoken`; linear time. A piece that is not one short token is
//! counted by `bpe-openai` itself (van Antwerpen and Neubeck, "So many tokens, so little time", GitHub 2024).

use std::cell::RefCell;
use std::sync::LazyLock;

use bpe_openai::Tokenizer;

use crate::letters::Letters;
use crate::pieces::{Cut, Cutter};

/// The longest token that the table knows.
const SHORT: usize = 15;

/// The longest piece that is remembered: a word of Cyrillic has two bytes for each letter.
const LONG: usize = 31;

/// Pieces that each thread remembers the tokens of: most words of most texts, in what a core has at hand.
const SEEN: usize = 8_192;

struct Memo {
    /// 0 is no key.
    keys: Box<[u128]>,
    tokens: Box<[u8]>,
    /// Of pieces longer than a short token: the beginning, and the rest as a key of its own.
    long: Box<[([u8; 16], u128, u8)]>,
}

impl Memo {
    fn new() -> Self {
        Self {
            keys: vec![0; SEEN].into_boxed_slice(),
            tokens: vec![0; SEEN].into_boxed_slice(),
            long: vec![([0; 16], 0, 0); SEEN].into_boxed_slice(),
        }
    }
}

thread_local! {
    /// One for each way to cut.
    static MEMO: RefCell<[Memo; 2]> = RefCell::new([Memo::new(), Memo::new()]);
}

/// For both vocabularies.
static LETTERS: LazyLock<Letters> = LazyLock::new(Letters::new);

/// A vocabulary with the table of its short tokens.
pub(crate) struct Fast {
    tokenizer: &'static Tokenizer,
    cut: Cut,
    /// Keys of tokens, at the place that their hash says or behind it; 0 is no key. Three quarters are taken.
    table: Box<[u128]>,
    shift: u32,
}

impl Fast {
    pub(crate) fn new(tokenizer: &'static Tokenizer, cut: Cut) -> Self {
        let ids = || 0..u32::try_from(tokenizer.bpe.num_tokens()).unwrap_or(u32::MAX);
        let short = ids().filter(|id| tokenizer.bpe.token_len(*id) <= SHORT).count();
        let places = (short * 5 / 4).next_power_of_two();
        let mut fast = Self {
            tokenizer,
            cut,
            table: vec![0; places].into_boxed_slice(),
            shift: u64::BITS - places.trailing_zeros(),
        };
        for id in ids() {
            let bytes = tokenizer.bpe.token_bytes(id);
            if bytes.len() <= SHORT {
                let key = key(bytes, 0, bytes.len());
                let place = fast.place(key, mix(key));
                fast.table[place] = key;
            }
        }
        fast
    }

    pub(crate) fn count(&self, text: &str) -> u64 {
        MEMO.with_borrow_mut(|memos| {
            let memo = &mut memos[self.cut as usize];
            let bytes = text.as_bytes();
            let cutter = Cutter { cut: self.cut, letters: &LETTERS, text };
            let (mut at, mut tokens) = (0, 0);
            while at < bytes.len() {
                let end = cutter.end(at);
                tokens += self.piece(memo, bytes, (at, end));
                at = end;
            }
            tokens
        })
    }

    /// The tokens of a piece.
    fn piece(&self, memo: &mut Memo, text: &[u8], (at, end): (usize, usize)) -> u64 {
        if end - at > SHORT {
            return self.long(memo, text, (at, end));
        }
        let key = key(text, at, end);
        let mixed = mix(key);
        let seen = mixed as usize % SEEN;
        if memo.keys[seen] != key {
            let known = self.table[self.place(key, mixed)] == key;
            let tokens = if known { 1 } else { self.tokenizer.bpe.count(&text[at..end]) };
            // A token has a byte at least.
            memo.tokens[seen] = tokens as u8;
            memo.keys[seen] = key;
        }
        u64::from(memo.tokens[seen])
    }

    /// The tokens of a piece that is longer than the tokens of the table.
    fn long(&self, memo: &mut Memo, text: &[u8], (at, end): (usize, usize)) -> u64 {
        let count = || self.tokenizer.bpe.count(&text[at..end]);
        let Some(first) = text[at..end].first_chunk::<16>().filter(|_| end - at <= LONG) else {
            return count() as u64;
        };
        // The length of the rest is in its key, so that nothing shorter is taken for it; 0 tokens is a free place.
        let rest = key(text, at + 16, end);
        let mixed = mix(u128::from_le_bytes(*first)) ^ mix(rest).rotate_left(23);
        let seen = &mut memo.long[mixed as usize % SEEN];
        if seen.2 == 0 || seen.0 != *first || seen.1 != rest {
            // A token has a byte at least.
            *seen = (*first, rest, count() as u8);
        }
        u64::from(seen.2)
    }

    /// Where a key is, or would be.
    fn place(&self, key: u128, mixed: u64) -> usize {
        let mut place = (mixed >> self.shift) as usize;
        let mask = self.table.len() - 1;
        while self.table[place] != 0 && self.table[place] != key {
            place = (place + 1) & mask;
        }
        place
    }
}

fn mix(key: u128) -> u64 {
    let mixed = (key as u64 ^ ((key >> 64) as u64).rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

/// The bytes of a piece of 15 at most, and their number.
fn key(text: &[u8], at: usize, end: usize) -> u128 {
    let length = end - at;
    let bytes = match text.get(at..at + 16).and_then(|window| window.first_chunk::<16>()) {
        Some(window) => u128::from_le_bytes(*window) & ((1 << (8 * length)) - 1),
        None => {
            let mut window = [0; 16];
            window[..length].copy_from_slice(&text[at..end]);
            u128::from_le_bytes(window)
        }
    };
    bytes | ((length as u128) << 120)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use crate::Vocabulary;

    /// Bytes of a text that is written to be slow.
    const BYTES: usize = 1 << 20;

    fn slow(vocabulary: Vocabulary, text: &str) -> u64 {
        let tokenizer = match vocabulary {
            Vocabulary::O200k => bpe_openai::o200k_base(),
            Vocabulary::Cl100k => bpe_openai::cl100k_base(),
        };
        tokenizer.count(text) as u64
    }

    fn agree(text: &str) {
        for vocabulary in [Vocabulary::O200k, Vocabulary::Cl100k] {
            assert_eq!(vocabulary.count(text), slow(vocabulary, text), "{vocabulary:?}: {text:?}");
        }
    }

    #[test]
    fn ordinary_texts_count_as_by_the_patterns() {
        agree(include_str!("fast.rs"));
        agree(include_str!("../Cargo.toml"));
        agree("Die Straße führt über die Brücke; 東京は大きい。 Где выход? 🙂🙂 12,345.67 €");
        agree("");
    }

    #[test]
    fn what_is_written_to_be_slow_takes_linear_time() {
        for unit in [
            "a",
            " ",
            "\n",
            "!",
            "aB",
            " \n",
            "'s",
            "1",
            "é",
            "a\u{301}",
            "\u{a0}",
            "中",
            " a",
            "🙂",
            "A",
            "/",
            "A中",
            "\u{301}A",
            "\u{301}",
            "\u{3000}",
            "👩\u{200d}",
            "ǅ",
            "क्",
            "½",
            "の。",
        ] {
            for tail in ["", "é", "x"] {
                let text = unit.repeat(BYTES / unit.len()) + tail;
                let clock = Instant::now();
                assert!(Vocabulary::O200k.count(&text) > 0);
                // A square of this length takes hours; linear time takes a tenth of a second, on a busy machine more.
                assert!(clock.elapsed() < Duration::from_secs(10), "{unit:?}{tail:?}: {:?}", clock.elapsed());
            }
        }
    }

    #[test]
    fn hostile_texts_count_as_by_the_patterns() {
        for unit in
            ["a", "Z", "9", "!", " ", "中", "é", "a\u{301}", "👩\u{200d}👧🏽", "A中", "\u{301}A", "の。", "xyz"]
        {
            for length in [15_usize, 16, 17, 31, 32, 33, 4_096] {
                let text = unit.repeat(length.div_ceil(unit.len()));
                agree(&text);
                agree(&format!("x {text}\u{3000}{text}'ſ"));
            }
        }
    }

    #[test]
    fn what_is_remembered_of_long_pieces_is_never_taken_for_another() {
        // Words that begin or end alike, of every length about the bounds; each is counted twice.
        for length in 14..36 {
            let word = "unübertrefflichkeitsbescheinigungen".chars().cycle();
            let text: String = word.clone().take(length).collect();
            for changed in 0..length {
                let other: String = word
                    .clone()
                    .take(length)
                    .enumerate()
                    .map(|(n, c)| if n == changed { 'q' } else { c })
                    .collect();
                agree(&format!("{text} {other} {text} {other}"));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn any_text_counts_as_by_the_patterns(text in r"(\PC|[a-z ]{1,8}|[\x00-\x7f]){0,60}") {
            agree(&text);
        }
    }
}
