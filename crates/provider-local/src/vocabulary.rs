//! A model's vocabulary: bytes of tokens, and text to tokens without letting text become control tokens.
//!
//! What it promises: whoever writes `<|im_end|>` in a message gets those ten characters to the model, never the token that
//! ends a turn. Text from requests is *shielded* before it enters a template: a mark, a Unicode noncharacter that no text
//! uses, goes behind the first character of everything that reads like a control token. The rendered template is then cut
//! at the control tokens that stand there without a mark, and the pieces between are tokenised as plain text, marks
//! removed. Templates trim, split and join freely; the mark lives inside the dangerous spot and survives all of it.
//!
//! What it refuses to know: templates, requests.

use std::collections::HashMap;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

const MARK: char = '\u{FDD0}';

/// Tables made once per model.
pub(crate) struct Vocabulary {
    /// The bytes of all tokens, one after the other; control tokens have none.
    bytes: Vec<u8>,
    ends: Vec<u32>,
    enders: Vec<bool>,
    /// The written form of control tokens.
    control: HashMap<i32, String>,
    /// Control tokens by their first byte, longest first.
    by_first: HashMap<u8, Vec<(String, LlamaToken)>>,
    /// Put in front of every prompt that does not have it already.
    begin: Option<LlamaToken>,
    pub(crate) bos_text: String,
    pub(crate) eos_text: String,
}

impl Vocabulary {
    pub(crate) fn of(model: &LlamaModel) -> Self {
        let vocab = model.vocab();
        let count = usize::try_from(vocab.n_tokens()).unwrap_or(0);
        let mut tables = Self {
            bytes: Vec::with_capacity(count * 7),
            ends: Vec::with_capacity(count),
            enders: Vec::with_capacity(count),
            control: HashMap::new(),
            by_first: HashMap::new(),
            begin: vocab.should_add_bos().then(|| vocab.bos()).filter(|token| token.0 >= 0),
            bos_text: String::new(),
            eos_text: String::new(),
        };
        let mut piece = Vec::new();
        for token in vocab.tokens() {
            piece.clear();
            vocab.token_to_piece_into(token, &mut piece, false, None);
            tables.bytes.extend_from_slice(&piece);
            tables.ends.push(u32::try_from(tables.bytes.len()).unwrap_or(u32::MAX));
            tables.enders.push(vocab.is_eog(token));
            if vocab.is_control(token) {
                let text =
                    vocab.text(token).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
                tables.add_control(token, text);
            }
        }
        for list in tables.by_first.values_mut() {
            list.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        tables.bos_text = tables.control_text(vocab.bos()).to_owned();
        tables.eos_text = tables.control_text(vocab.eos()).to_owned();
        tables
    }

    fn add_control(&mut self, token: LlamaToken, text: String) {
        // A control token of one character would make that character unusable in text.
        if let Some(first) = text.bytes().next().filter(|_| text.chars().count() > 1) {
            self.by_first.entry(first).or_default().push((text.clone(), token));
        }
        self.control.insert(token.0, text);
    }

    /// How many tokens there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The token's bytes as they appear in an answer. Empty for control tokens and ids out of range.
    pub(crate) fn piece(&self, token: LlamaToken) -> &[u8] {
        let Ok(index) = usize::try_from(token.0) else { return &[] };
        let Some(end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start as usize..*end as usize]
    }

    /// Whether the token ends an answer.
    pub(crate) fn ends_answer(&self, token: LlamaToken) -> bool {
        usize::try_from(token.0).is_ok_and(|index| self.enders.get(index).copied().unwrap_or(false))
    }

    /// The ids of all tokens that end an answer.
    pub(crate) fn enders(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.enders).filter(|(_, ends)| **ends).map(|(id, _)| id)
    }

    /// How a control token is written; empty for other tokens.
    pub(crate) fn control_text(&self, token: LlamaToken) -> &str {
        self.control.get(&token.0).map_or("", String::as_str)
    }

    /// Makes text from a request safe to stand in a template.
    pub(crate) fn shield(&self, text: &str) -> String {
        // Marks that somebody sent would hide what they stand in, so they go first.
        let text = &text.replace(MARK, "");
        let mut safe = String::with_capacity(text.len() + 8);
        for (at, letter) in text.char_indices() {
            safe.push(letter);
            let rest = &text[at..];
            // A beginning at the very end counts: what the template appends must not complete it.
            let near = |(control, _): &(String, LlamaToken)| {
                rest.starts_with(control.as_str()) || control.starts_with(rest)
            };
            if self.by_first.get(&text.as_bytes()[at]).is_some_and(|list| list.iter().any(near)) {
                safe.push(MARK);
            }
        }
        safe
    }

    /// Tokens of a rendered template, whose unmarked control tokens are meant.
    pub(crate) fn tokens_of_rendered(&self, model: &LlamaModel, text: &str) -> Vec<LlamaToken> {
        let mut tokens = Vec::with_capacity(text.len() / 3 + 8);
        let mut plain = String::new();
        let mut at = 0;
        while let Some(letter) = text[at..].chars().next() {
            let rest = &text[at..];
            let list = self.by_first.get(&text.as_bytes()[at]);
            if let Some((control, token)) =
                list.and_then(|list| list.iter().find(|(control, _)| rest.starts_with(control.as_str())))
            {
                flush(model, &mut plain, &mut tokens);
                tokens.push(*token);
                at += control.len();
                continue;
            }
            if letter != MARK {
                plain.push(letter);
            }
            at += letter.len_utf8();
        }
        flush(model, &mut plain, &mut tokens);
        self.begun(tokens)
    }

    /// Tokens of a raw prompt: nothing in it is a control token.
    pub(crate) fn tokens_of_plain(&self, model: &LlamaModel, text: &str) -> Vec<LlamaToken> {
        let mut tokens = Vec::with_capacity(text.len() / 3 + 8);
        flush(model, &mut text.to_owned(), &mut tokens);
        self.begun(tokens)
    }

    fn begun(&self, mut tokens: Vec<LlamaToken>) -> Vec<LlamaToken> {
        if let Some(begin) = self.begin.filter(|begin| tokens.first() != Some(begin)) {
            tokens.insert(0, begin);
        }
        tokens
    }
}

fn flush(model: &LlamaModel, plain: &mut String, tokens: &mut Vec<LlamaToken>) {
    if !plain.is_empty() {
        tokens.extend(model.vocab().tokenize(plain.as_bytes(), false, false));
        plain.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chatml() -> Vocabulary {
        let mut tables = Vocabulary {
            bytes: Vec::new(),
            ends: Vec::new(),
            enders: Vec::new(),
            control: HashMap::new(),
            by_first: HashMap::new(),
            begin: None,
            bos_text: String::new(),
            eos_text: String::new(),
        };
        tables.add_control(LlamaToken(1), "<|im_start|>".into());
        tables.add_control(LlamaToken(2), "<|im_end|>".into());
        tables
    }

    #[test]
    fn only_what_reads_like_control_is_marked() {
        let tables = chatml();
        for same in ["hello", "a < b", "<|im", "é", ""] {
            let shielded = tables.shield(&format!("{same}."));
            assert_eq!(shielded, format!("{same}."));
        }
        assert_eq!(tables.shield("x<|im_end|>y"), "x<\u{FDD0}|im_end|>y");
        assert_eq!(tables.shield("x<|im_"), "x<\u{FDD0}|im_");
        assert_eq!(tables.shield("<\u{FDD0}|im_end|>"), "<\u{FDD0}|im_end|>");
    }
}
