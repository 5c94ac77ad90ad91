//! Where OpenAI's vocabularies cut a text before they look words up: their patterns, by hand.
//!
//! What it promises: exactly the pieces that the vocabulary's own pattern finds, for any text; no piece is looked at more than a
//! few times, whatever the text.
//!
//! The patterns are those of `tiktoken` (`tiktoken_ext/openai_public.py`), in the order of their alternatives. What a character
//! beyond ASCII is, [`crate::letters`] says.

use crate::letters::Letters;

/// How a vocabulary cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// `cl100k_base`: contractions on their own, words whatever their capitals.
    Cl100k,
    /// `o200k_base`: a word ends before a capital, and contractions belong to it; slashes may follow signs.
    O200k,
}

/// Small letters.
pub(crate) const LOWER: u8 = 1;
/// Capitals and title letters.
pub(crate) const UPPER: u8 = 2;
/// Letters that are neither: `\p{Lm}`, `\p{Lo}`.
pub(crate) const CALM: u8 = 4;
/// Combining marks: parts of a word to `o200k_base`, signs to `cl100k_base`.
pub(crate) const MARK: u8 = 8;
/// `\p{N}`.
pub(crate) const NUMBER: u8 = 16;
/// Carriage return and line feed.
const BREAK: u8 = 32;
/// Other white space.
pub(crate) const BLANK: u8 = 64;
/// Everything else.
pub(crate) const SIGN: u8 = 128;
/// The end of the text; in the table, a byte that only its character can tell.
const END: u8 = 0;

const LETTER: u8 = LOWER | UPPER | CALM;
const SPACE: u8 = BREAK | BLANK;
/// What may stand inside a word of `o200k_base` before its first small letter, and from there on.
const HIGH: u8 = UPPER | CALM | MARK;
const LOW: u8 = LOWER | CALM | MARK;

const KIND: [u8; 256] = {
    let mut table = [END; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => BREAK,
            b' ' | 9..=13 => BLANK,
            _ => SIGN,
        };
        byte += 1;
    }
    table
};

/// A text about to be cut.
pub(crate) struct Cutter<'a> {
    pub(crate) cut: Cut,
    pub(crate) letters: &'a Letters,
    pub(crate) text: &'a str,
}

impl Cutter<'_> {
    /// The kind of the character at a place, and where the next one is.
    #[inline]
    fn look(&self, at: usize) -> (u8, usize) {
        let Some(byte) = self.text.as_bytes().get(at) else { return (END, at) };
        match KIND[usize::from(*byte)] {
            END => self.look_beyond(at),
            kind => (kind, at + 1),
        }
    }

    fn look_beyond(&self, at: usize) -> (u8, usize) {
        match self.text.get(at..).and_then(|rest| rest.chars().next()) {
            Some(letter) => (self.letters.kind(letter), at + letter.len_utf8()),
            // No piece ends inside a character.
            None => (SIGN, at + 1),
        }
    }

    /// The first place from `at` on whose character is of none of these kinds.
    #[inline]
    fn run(&self, mut at: usize, kinds: u8) -> usize {
        let bytes = self.text.as_bytes();
        loop {
            // Most text is this loop: only a character beyond ASCII, or the end, is of no kind here.
            while bytes.get(at).is_some_and(|byte| KIND[usize::from(*byte)] & kinds != 0) {
                at += 1;
            }
            match bytes.get(at) {
                Some(byte) if !byte.is_ascii() => {}
                _ => return at,
            }
            let (kind, next) = self.look_beyond(at);
            if kind & kinds == 0 {
                return at;
            }
            at = next;
        }
    }

    /// The end of the piece that begins at `at`, which is before the end of the text.
    #[inline]
    pub(crate) fn end(&self, at: usize) -> usize {
        let (first, next) = self.look(at);
        match first {
            LOWER | UPPER | CALM => self.word(at).unwrap_or(next),
            NUMBER => self.numbers(next),
            BREAK => self.space(at),
            _ => self.other(at, first, next),
        }
    }

    /// A piece that begins with a blank, a sign or a mark.
    fn other(&self, at: usize, first: u8, next: usize) -> usize {
        let bytes = self.text.as_bytes();
        if self.cut == Cut::Cl100k
            && bytes[at] == b'\''
            && let Some(end) = self.contraction(at)
        {
            return end;
        }
        // One character of these kinds belongs to the word behind it.
        if let Some(end) = self.word_behind(at, first, next) {
            return end;
        }
        let signs = SIGN | MARK;
        if first & signs != 0 {
            return self.signs(at);
        }
        if bytes[at] == b' ' && self.look(next).0 & signs != 0 {
            return self.signs(next);
        }
        self.space(at)
    }

    fn word_behind(&self, at: usize, first: u8, next: usize) -> Option<usize> {
        match self.cut {
            Cut::Cl100k => self.word(next),
            // A mark is a word of its own before capitals that no small letter follows: the pattern asks for a word with small
            // letters, with the mark before it and as its beginning, before it asks for one of capitals.
            Cut::O200k if first == MARK => {
                self.mixed(next).or_else(|| self.mixed(at)).map(|end| self.said(end))
            }
            Cut::O200k => self.word(next),
        }
    }

    /// The end of the word whose first letter is at `at`, if there is one.
    #[inline]
    fn word(&self, at: usize) -> Option<usize> {
        match self.cut {
            Cut::Cl100k => Some(self.run(at, LETTER)).filter(|end| *end > at),
            Cut::O200k => {
                let end = self.mixed(at).or_else(|| Some(self.run(at, HIGH)).filter(|end| *end > at))?;
                Some(self.said(end))
            }
        }
    }

    /// Capitals, then at least one letter that is not one. Letters without case, and marks, are both.
    #[inline]
    fn mixed(&self, at: usize) -> Option<usize> {
        let (mut here, mut both) = (at, None);
        loop {
            let (kind, next) = self.look(here);
            if kind & HIGH == 0 {
                break;
            }
            if kind != UPPER {
                both = Some(next);
            }
            here = next;
        }
        let end = self.run(here, LOW);
        if end > here { Some(end) } else { both }
    }

    /// The end of a word with the contraction that may follow it.
    #[inline]
    fn said(&self, end: usize) -> usize {
        if self.text.as_bytes().get(end) == Some(&b'\'') { self.contraction(end).unwrap_or(end) } else { end }
    }

    /// `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d`, in any case. A long s is a letter s to a pattern that does not mind capitals.
    fn contraction(&self, at: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let letter = |offset: usize| bytes.get(at + offset).map_or(0, u8::to_ascii_lowercase);
        match (letter(1), letter(2)) {
            (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
            (b'r' | b'v', b'e') | (b'l', b'l') | (0xc5, 0xbf) => Some(at + 3),
            _ => None,
        }
    }

    /// Three at most, of which the first is before `at`.
    fn numbers(&self, mut at: usize) -> usize {
        for _ in 0..2 {
            let (kind, next) = self.look(at);
            if kind != NUMBER {
                break;
            }
            at = next;
        }
        at
    }

    /// Signs, and the line breaks that follow them.
    fn signs(&self, at: usize) -> usize {
        let end = self.run(at, SIGN | MARK);
        let behind = &self.text.as_bytes()[end..];
        let more = behind.iter().position(|byte| match byte {
            b'\r' | b'\n' => false,
            b'/' => self.cut == Cut::Cl100k,
            _ => true,
        });
        end + more.unwrap_or(behind.len())
    }

    /// White space: up to its last line break; else all of it at the end of the text, and all but the last before anything else.
    fn space(&self, at: usize) -> usize {
        let (mut end, mut last, mut broken) = (at, at, None);
        loop {
            let (kind, next) = self.look(end);
            if kind & SPACE == 0 {
                break;
            }
            last = end;
            end = next;
            if kind == BREAK {
                broken = Some(end);
            }
        }
        broken.unwrap_or(if end == self.text.len() || last == at { end } else { last })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn tokenizer(cut: Cut) -> &'static bpe_openai::Tokenizer {
        match cut {
            Cut::Cl100k => bpe_openai::cl100k_base(),
            Cut::O200k => bpe_openai::o200k_base(),
        }
    }

    /// What is found by hand is what the pattern finds.
    fn agree(text: &str) {
        static LETTERS: LazyLock<Letters> = LazyLock::new(Letters::new);
        for cut in [Cut::Cl100k, Cut::O200k] {
            let cutter = Cutter { cut, letters: &LETTERS, text };
            let mut at = 0;
            for piece in tokenizer(cut).split(text) {
                let end = cutter.end(at);
                assert_eq!(text.get(at..end), Some(piece), "{cut:?} at {at} of {text:?}");
                at = end;
            }
            assert_eq!(at, text.len());
        }
    }

    #[test]
    fn what_is_found_by_hand_is_what_the_patterns_find() {
        for text in [
            "Hello World, it's HELLOworld; DON'T 'sTop they'LLgo we've I'D 'Re 'l 'lx y'all'd've",
            "a  b\t\tc \n\n  d\r\n\r\n   ",
            "1 12 123 1234 12345a6 7.89e10",
            "http://example.com//path/#\n/\n/x ;; {}\n\n\n  [1]\r\r",
            "   ",
            "  \n  x",
            " \u{b}\u{c}\u{1c}\u{1f}x\0y\u{7f}",
            "é'ſ 's's 'ſ",
            "naïve café'll x\u{301}y 1\u{b2} 12\u{664} a\u{a0}b \u{2003}\n",
            "A中A a中AB 中AA 中AAb \u{301}AA \u{301}AAb \u{301} !\u{301} !!\u{301}x ǅǅa ʰAʰ",
            "क्षत्रिय ไทยแลนด์ العَرَبِيَّة Ελλάς ΣΊΣΥΦΟΣ ЁлкаИГрушка İstanbul ½⅓Ⅷ二〇٣٤٥٦",
            "👩\u{200d}👩\u{200d}👧🏽\u{fe0f} …—“x”\u{3000}　\u{85}\n\u{2028}\u{2029}x\u{feff}",
        ] {
            agree(text);
        }
    }

    #[test]
    fn every_character_of_the_first_planes_is_what_the_patterns_take_it_for() {
        for letter in ('\u{80}'..'\u{3400}').chain('\u{a000}'..'\u{ac00}').chain('\u{1d400}'..'\u{1fb00}') {
            agree(&format!("Aa{letter}A{letter}{letter}a!{letter}A 1{letter}  {letter}"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn any_text_is_cut_alike(text in r"([a-cA-CstreRvVlLmMdDſ']|[ \t\n\r/#.!0-9]|[éß中д\u{301}\u{a0}²🙂\u{b}\u{c}\u{1c}\x00]){0,40}") {
            agree(&text);
        }

        #[test]
        fn any_capitals_marks_and_letters_without_case_are_cut_alike(text in r"[aAbB中ʰǅ\u{301}\u{94d}ß!'s 1½\u{3000}\n]{0,24}") {
            agree(&text);
        }

        #[test]
        fn any_unicode_is_cut_alike(text in r"(\PC|\p{M}|\p{N}|\p{Z}|\p{Lm}|\p{Lt}|\p{Cc}|[aA' ]){0,40}") {
            agree(&text);
        }

        #[test]
        fn any_ascii_is_cut_alike(text in r"[\x00-\x7f]{0,60}") {
            agree(&text);
        }
    }
}
