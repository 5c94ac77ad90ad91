//! Where OpenAI's vocabularies cut a text before they look words up: the ASCII part of their patterns, by hand.
//!
//! What it promises: for a piece that it finds, exactly what the vocabulary's own pattern finds; for every place where a character
//! beyond ASCII could decide, no answer, so that the pattern itself is asked. No piece is looked at more than a few times, whatever
//! the text.
//!
//! The patterns are those of `tiktoken` (`tiktoken_ext/openai_public.py`), in the order of their alternatives.

/// How a vocabulary cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// `cl100k_base`: contractions on their own, words whatever their capitals.
    Cl100k,
    /// `o200k_base`: a word ends before a capital, and contractions belong to it; slashes may follow signs.
    O200k,
}

const LOWER: u8 = 1;
const UPPER: u8 = 2;
const LETTER: u8 = LOWER | UPPER;
const DIGIT: u8 = 4;
/// Carriage return and line feed.
const BREAK: u8 = 8;
/// Other white space.
const BLANK: u8 = 16;
const SPACE: u8 = BREAK | BLANK;
/// Everything else of ASCII.
const SIGN: u8 = 32;
const BEYOND: u8 = 64;
/// The end of the text.
const END: u8 = 0;

const KIND: [u8; 256] = {
    let mut table = [BEYOND; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => DIGIT,
            b'\r' | b'\n' => BREAK,
            b' ' | 9..=13 => BLANK,
            _ => SIGN,
        };
        byte += 1;
    }
    table
};

fn kind(text: &[u8], at: usize) -> u8 {
    text.get(at).map_or(END, |byte| KIND[usize::from(*byte)])
}

/// The first place from `at` on whose byte is of none of these kinds.
fn run(text: &[u8], at: usize, kinds: u8) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| KIND[usize::from(*byte)] & kinds == 0).unwrap_or(rest.len())
}

/// The end of the piece that begins at `at`; `None` where a character beyond ASCII has a say, or at the end of the text.
pub(crate) fn end(cut: Cut, text: &[u8], at: usize) -> Option<usize> {
    let first = kind(text, at);
    match first {
        LOWER | UPPER => word(cut, text, at),
        DIGIT => digits(text, at),
        BLANK | SIGN => {
            if cut == Cut::Cl100k && text[at] == b'\'' {
                match contraction(text, at) {
                    Contraction::Till(end) => return Some(end),
                    Contraction::Unclear => return None,
                    Contraction::No => {}
                }
            }
            match kind(text, at + 1) {
                // One character of any other kind belongs to the word behind it.
                LOWER | UPPER => word(cut, text, at + 1),
                BEYOND => None,
                SIGN if text[at] == b' ' => signs(cut, text, at + 1),
                _ if first == SIGN => signs(cut, text, at),
                _ => space(text, at),
            }
        }
        BREAK => space(text, at),
        _ => None,
    }
}

fn word(cut: Cut, text: &[u8], letters: usize) -> Option<usize> {
    let end = match cut {
        Cut::Cl100k => run(text, letters, LETTER),
        Cut::O200k => run(text, run(text, letters, UPPER), LOWER),
    };
    if kind(text, end) == BEYOND {
        return None;
    }
    if cut == Cut::O200k && text.get(end) == Some(&b'\'') {
        return match contraction(text, end) {
            Contraction::Till(end) => Some(end),
            Contraction::Unclear => None,
            Contraction::No => Some(end),
        };
    }
    Some(end)
}

enum Contraction {
    Till(usize),
    No,
    /// A long s is a letter s to a pattern that does not mind capitals.
    Unclear,
}

/// `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d`, in any case.
fn contraction(text: &[u8], at: usize) -> Contraction {
    let letter = |offset: usize| text.get(at + offset).map_or(0, u8::to_ascii_lowercase);
    match (letter(1), letter(2)) {
        (b's' | b't' | b'm' | b'd', _) => Contraction::Till(at + 2),
        (b'r' | b'v', b'e') | (b'l', b'l') => Contraction::Till(at + 3),
        (one, _) if !one.is_ascii() => Contraction::Unclear,
        (b'r' | b'v' | b'l', two) if !two.is_ascii() => Contraction::Unclear,
        _ => Contraction::No,
    }
}

/// Three at most.
fn digits(text: &[u8], at: usize) -> Option<usize> {
    for end in at + 1..at + 3 {
        match kind(text, end) {
            DIGIT => {}
            BEYOND => return None,
            _ => return Some(end),
        }
    }
    Some(at + 3)
}

/// Signs, and the line breaks that follow them.
fn signs(cut: Cut, text: &[u8], at: usize) -> Option<usize> {
    let end = run(text, at, SIGN);
    if kind(text, end) == BEYOND {
        return None;
    }
    let behind = &text[end..];
    let more = behind.iter().position(|byte| match byte {
        b'\r' | b'\n' => false,
        b'/' => cut == Cut::Cl100k,
        _ => true,
    });
    Some(end + more.unwrap_or(behind.len()))
}

/// White space: up to its last line break; else all of it at the end of the text, and all but the last before anything else.
fn space(text: &[u8], at: usize) -> Option<usize> {
    let end = run(text, at, SPACE);
    if kind(text, end) == BEYOND {
        return None;
    }
    if let Some(last) = text[at..end].iter().rposition(|byte| matches!(byte, b'\r' | b'\n')) {
        return Some(at + last + 1);
    }
    Some(if end == text.len() || end == at + 1 { end } else { end - 1 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokenizer(cut: Cut) -> &'static bpe_openai::Tokenizer {
        match cut {
            Cut::Cl100k => bpe_openai::cl100k_base(),
            Cut::O200k => bpe_openai::o200k_base(),
        }
    }

    /// Every place at which a piece begins is looked at; what is found is what the pattern finds. Says how many were found.
    fn agree(text: &str) -> usize {
        let mut found = 0;
        for cut in [Cut::Cl100k, Cut::O200k] {
            let mut at = 0;
            for piece in tokenizer(cut).split(text) {
                if let Some(end) = end(cut, text.as_bytes(), at) {
                    assert_eq!(text.get(at..end), Some(piece), "{cut:?} at {at} of {text:?}");
                    found += 1;
                }
                at += piece.len();
            }
            assert_eq!(at, text.len());
        }
        found
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
        ] {
            agree(text);
        }
        assert!(agree("The quick brown fox") == 8, "plain English needs no pattern");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn any_text_is_cut_alike(text in r"([a-cA-CstreRvVlLmMdDſ']|[ \t\n\r/#.!0-9]|[éß中д\u{301}\u{a0}²🙂\u{b}\u{c}\u{1c}\x00]){0,40}") {
            agree(&text);
        }

        #[test]
        fn any_ascii_is_cut_alike(text in r"[\x00-\x7f]{0,60}") {
            agree(&text);
        }
    }
}
