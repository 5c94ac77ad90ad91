//! The automaton. A byte's class and the run that it stands in decide what it adds; the sum of what the bytes add is the
//! estimate. Letters after letters are nearly free, a new word costs about one, three digits cost one, and so on; the
//! numbers were learned (see `examples/fit.rs`).

use crate::weights::WEIGHTS;

/// Weights are kept in this fraction of a token.
pub const UNIT: u64 = 1024;

/// Kinds of byte. The first byte of a character decides; those that follow it add nothing.
pub const CLASSES: usize = 18;

const LOWER: u8 = 0;
const UPPER: u8 = 1;
const DIGIT: u8 = 2;
const SPACE: u8 = 3;
const BREAK: u8 = 4;
const TAB: u8 = 5;
const POINT: u8 = 6;
const SIGN: u8 = 7;
const LATIN: u8 = 8;
const CYRILLIC: u8 = 9;
const SEMITIC: u8 = 10;
const INDIC: u8 = 11;
const GENERAL: u8 = 12;
const KANA: u8 = 13;
const HAN: u8 = 14;
const HANGUL: u8 = 15;
const WIDE: u8 = 16;
const EMOJI: u8 = 17;
/// Not a class: the byte goes on with the character before it.
const INSIDE: u8 = 18;

/// How many places in a run of one class are told apart.
const RUNS: [u8; CLASSES] = [12, 5, 3, 3, 2, 3, 3, 4, 2, 8, 6, 4, 2, 4, 3, 3, 2, 2];

/// The states: the beginning, then every place of every class.
pub const STATES: usize = {
    let mut sum = 1;
    let mut class = 0;
    while class < CLASSES {
        sum += RUNS[class] as usize;
        class += 1;
    }
    sum
};

const CLASS: [u8; 256] = {
    let mut table = [INSIDE; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => DIGIT,
            b' ' => SPACE,
            b'\n' | b'\r' => BREAK,
            b'.' | b',' | b';' | b':' | b'!' | b'?' | b'\'' | b'-' => POINT,
            0x21..=0x7e => SIGN,
            0..=0x20 | 0x7f => TAB,
            0x80..=0xc1 => INSIDE,
            // Latin with marks and Greek, two bytes each.
            0xc2..=0xcf => LATIN,
            0xd0..=0xd4 => CYRILLIC,
            0xd5..=0xdf => SEMITIC,
            0xe0 | 0xe1 => INDIC,
            // Dashes, quotation marks, arrows, boxes.
            0xe2 => GENERAL,
            0xe3 => KANA,
            0xe4..=0xe9 => HAN,
            0xea..=0xed => HANGUL,
            0xee | 0xef => WIDE,
            0xf0..=0xff => EMOJI,
        };
        byte += 1;
    }
    table
};

/// The state in which the first byte of each class leaves the automaton.
const FIRST: [u8; CLASSES] = {
    let mut table = [0; CLASSES];
    let mut next = 1;
    let mut class = 0;
    while class < CLASSES {
        table[class] = next;
        next += RUNS[class];
        class += 1;
    }
    table
};

/// Where the automaton goes.
const NEXT: [[u8; CLASSES]; STATES] = {
    let mut table = [FIRST; STATES];
    let mut class = 0;
    while class < CLASSES {
        let mut place = 0;
        while place < RUNS[class] {
            let last = place + 1 == RUNS[class];
            let next = match last {
                false => place + 1,
                // Digits go by threes; other runs stay where they are.
                true if class as u8 == DIGIT => 0,
                true => place,
            };
            table[(FIRST[class] + place) as usize][class] = FIRST[class] + next;
            place += 1;
        }
        class += 1;
    }
    table
};

/// Columns of a row of [`STEPS`]: a power of two, so that finding a step is an addition.
const WIDTH: usize = 32;

/// What a byte of a class does in a state: the row of the next state in the upper half, the weight in the lower.
const STEPS: [u32; STATES * WIDTH] = {
    let mut table = [0; STATES * WIDTH];
    let mut state = 0;
    while state < STATES {
        let mut class = 0;
        while class < CLASSES {
            let next = NEXT[state][class] as u32 * WIDTH as u32;
            table[state * WIDTH + class] = (next << 16) | WEIGHTS[state][class] as u32;
            class += 1;
        }
        table[state * WIDTH + INSIDE as usize] = ((state * WIDTH) as u32) << 16;
        state += 1;
    }
    table
};

/// Estimates a text that comes in pieces. Characters may be cut between two pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimator {
    units: u64,
    /// The state's row in [`STEPS`].
    row: u16,
}

impl Estimator {
    /// Adds a piece of text, as UTF-8; other bytes do no harm.
    pub fn feed(&mut self, bytes: &[u8]) {
        let (mut units, mut row) = (self.units, usize::from(self.row));
        for byte in bytes {
            let step = STEPS[row + CLASS[usize::from(*byte)] as usize];
            units += u64::from(step & 0xffff);
            row = (step >> 16) as usize;
        }
        self.units = units;
        self.row = row as u16;
    }

    /// The tokens so far, rounded up: a text that is not empty has at least one.
    pub fn tokens(&self) -> u64 {
        match self.units.div_ceil(UNIT) {
            0 if self.row != 0 => 1,
            tokens => tokens,
        }
    }
}

/// The estimate for a whole text.
pub fn estimate(text: &str) -> u64 {
    let mut estimator = Estimator::default();
    estimator.feed(text.as_bytes());
    estimator.tokens()
}

/// Shows every step of the automaton: state and class.
pub fn walk(text: &[u8], mut step: impl FnMut(usize, usize)) {
    let mut state = 0;
    for byte in text {
        let class = CLASS[*byte as usize] as usize;
        if class < CLASSES {
            step(state, class);
            state = NEXT[state][class] as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn states_of_a_run_follow_each_other_and_digits_go_by_threes() {
        let states = |text: &str| {
            let mut all = Vec::new();
            walk(text.as_bytes(), |state, _| all.push(state));
            all
        };
        let digit = FIRST[DIGIT as usize] as usize;
        assert_eq!(states("1234"), [0, digit, digit + 1, digit + 2]);
        assert_eq!(NEXT[digit + 2][DIGIT as usize] as usize, digit);
        let lower = FIRST[LOWER as usize] as usize;
        assert_eq!(states(&"a".repeat(20))[12..], [lower + 11; 8]);
    }

    #[test]
    fn ordinary_text_is_estimated_within_a_fifth() {
        for text in [
            "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
            "Write a function that takes a list of integers and returns the sum of all even numbers in it.",
            "fn main() {\n    let total: u64 = items.iter().map(|item| item.price * item.count).sum();\n}\n",
            "Die Katze sitzt auf der Matte und schaut aus dem Fenster, während es draußen regnet.",
        ] {
            let (counted, estimated) = (crate::count("gpt-5", text).tokens, estimate(text));
            assert!(estimated.abs_diff(counted) * 5 <= counted, "{estimated} instead of {counted}: {text}");
        }
    }

    #[test]
    fn nothing_is_nothing_and_something_is_something() {
        assert_eq!(estimate(""), 0);
        for text in ["a", " ", "\n", "é", "中", "🙂", "\u{7f}"] {
            assert!(estimate(text) >= 1, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let cut = cut.min(bytes.len());
            let (mut whole, mut pieces) = (Estimator::default(), Estimator::default());
            whole.feed(&bytes);
            pieces.feed(&bytes[..cut]);
            pieces.feed(&bytes[cut..]);
            prop_assert_eq!(whole, pieces);
        }
    }
}
