//! The mock's own tokenizer, so that its bill needs no vocabulary and anybody can check it by hand.
//!
//! The rule: a token is any leading whitespace followed by at most four bytes of a word, cut between characters and
//! never empty; whitespace at the very end is one token. Tokens joined give the text back.

/// Bytes of a word that one token holds.
const WORD_BYTES: usize = 4;

/// Splits a text into its tokens.
pub fn tokens(text: &str) -> Tokens<'_> {
    Tokens { rest: text }
}

/// Counts the tokens of a text.
pub fn count(text: &str) -> u64 {
    tokens(text).count() as u64
}

/// The tokens of a text, in order; see [`tokens`].
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let word = self.rest.find(|c: char| !c.is_whitespace()).unwrap_or(self.rest.len());
        let mut end = word;
        for c in self.rest[word..].chars() {
            let next = end + c.len_utf8();
            if c.is_whitespace() || (end > word && next > word + WORD_BYTES) {
                break;
            }
            end = next;
        }
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_joined_give_the_text_back_and_are_never_empty() {
        for text in
            ["", " ", "a", "abcd", "abcde", "  two  words ", "日本語です", "naïveté 🦀🦀🦀", "\n\nx\t"]
        {
            let all: Vec<_> = tokens(text).collect();
            assert_eq!(all.concat(), text);
            assert!(all.iter().all(|token| !token.is_empty()));
        }
    }

    #[test]
    fn a_token_is_four_bytes_of_a_word_with_the_space_before_it() {
        assert_eq!(tokens("hello big world ").collect::<Vec<_>>(), ["hell", "o", " big", " worl", "d", " "]);
        assert_eq!(count("日本語"), 3);
    }
}
