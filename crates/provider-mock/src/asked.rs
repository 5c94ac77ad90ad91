//! What a request asks for, in the few words that a scripted answer needs.
//!
//! Two readers fill the same [`Asked`]: one reads wire bytes in a single pass without building a document (the server's
//! hot path), one reads the domain's words (the provider in process).

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use penstock_domain::{Content, EmbeddingInput, Error, Logprobs, Part, Request, Role, Sampling};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::server::Head;
use crate::tokens;

/// How much of the user's last text an answer may repeat, in bytes.
pub(crate) const MAX_TEXT: usize = 4_096;
/// The most inputs of one embedding request (OpenAI's own limit), and the most prompts of one completion.
pub(crate) const MAX_INPUTS: usize = 2_048;

/// The request as the script engine sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) model: String,
    /// The last text of the user, at most [`MAX_TEXT`] bytes.
    pub(crate) text: String,
    /// Tokens of everything that was sent, by the mock's own count.
    pub(crate) prompt_tokens: u64,
    /// Independent answers, prompts of a completion included.
    pub(crate) choices: u32,
    pub(crate) max_tokens: Option<u64>,
    /// How many alternatives per token, when log probabilities are wanted.
    pub(crate) logprobs: Option<u8>,
    /// Prompts that a completion repeats, one for every `choices / prompts` answers.
    pub(crate) repeated: Vec<String>,
    /// One seed for each text to embed.
    pub(crate) inputs: Vec<u64>,
    pub(crate) dimensions: Option<u32>,
}

/// Cuts a text to a number of bytes, between characters.
pub(crate) fn bounded(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

pub(crate) fn seed(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

// === from the wire ===

/// The members of a request body that the mock looks at; both dialects in one shape.
#[derive(Deserialize)]
pub(crate) struct View<'a> {
    #[serde(borrow, default)]
    pub(crate) mock: Option<&'a RawValue>,
    #[serde(default)]
    messages: Option<Messages>,
    #[serde(default)]
    system: Option<Text>,
    #[serde(default)]
    prompt: Option<Texts>,
    #[serde(default)]
    input: Option<Texts>,
    #[serde(default)]
    dimensions: Option<u32>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    logprobs: Option<AskedLogprobs>,
    #[serde(default)]
    top_logprobs: Option<u8>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AskedLogprobs {
    Wanted(bool),
    Top(u8),
}

impl View<'_> {
    /// The answer's facts; what was read already is taken from the head.
    pub(crate) fn asked(self, head: &Head) -> Asked {
        let messages = self.messages.unwrap_or_default();
        let mut prompt_tokens = messages.tokens + self.system.map_or(0, |system| system.tokens);
        let mut text = messages.last_user;
        let mut choices = head.choices.max(1);
        let mut repeated = Vec::new();
        if let Some(prompt) = self.prompt {
            prompt_tokens += prompt.tokens;
            text = prompt.texts.last().cloned().unwrap_or_default();
            choices = choices.saturating_mul(prompt.seeds.len().max(1) as u32);
            if self.echo == Some(true) {
                repeated = prompt.texts;
            }
        }
        let input = self.input.unwrap_or_default();
        let logprobs = match self.logprobs {
            Some(AskedLogprobs::Wanted(true)) => Some(self.top_logprobs.unwrap_or(0)),
            Some(AskedLogprobs::Top(top)) => Some(top),
            _ => None,
        };
        Asked {
            model: head.model.clone(),
            text,
            prompt_tokens: prompt_tokens + input.tokens,
            choices,
            max_tokens: head.max_tokens.map(u64::from),
            logprobs,
            repeated,
            inputs: input.seeds,
            dimensions: self.dimensions,
        }
    }

    /// The tokens of the prompt, for counting alone.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        self.messages.as_ref().map_or(0, |m| m.tokens) + self.system.as_ref().map_or(0, |s| s.tokens)
    }
}

/// The content of a message: a text, or parts of which the texts count.
#[derive(Default)]
struct Text {
    tokens: u64,
    head: String,
}

impl Text {
    fn add(&mut self, text: &str) {
        self.tokens += tokens::count(text);
        if self.head.len() < MAX_TEXT {
            if !self.head.is_empty() {
                self.head.push('\n');
            }
            self.head.push_str(bounded(text, MAX_TEXT - self.head.len().min(MAX_TEXT)));
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of parts")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                let mut out = Text::default();
                out.add(text);
                Ok(out)
            }
            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
                let mut out = Text::default();
                while let Some(part) = seq.next_element::<WirePart>()? {
                    if let Some(text) = part.text {
                        out.add(&text);
                    }
                    if let Some(inner) = part.content {
                        out.add(&inner.head);
                    }
                }
                Ok(out)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

#[derive(Deserialize)]
struct WirePart<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(default)]
    content: Option<Text>,
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow, default)]
    role: Cow<'a, str>,
    #[serde(default)]
    content: Option<Text>,
}

#[derive(Default)]
struct Messages {
    tokens: u64,
    last_user: String,
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MessagesVisitor;
        impl<'de> Visitor<'de> for MessagesVisitor {
            type Value = Messages;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of messages")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Messages, A::Error> {
                let mut out = Messages::default();
                while let Some(message) = seq.next_element::<WireMessage<'_>>()? {
                    let Some(content) = message.content else { continue };
                    out.tokens += content.tokens;
                    if message.role == "user" {
                        out.last_user = content.head;
                    }
                }
                Ok(out)
            }
        }
        deserializer.deserialize_seq(MessagesVisitor)
    }
}

/// `prompt` and `input`: a text, texts, token ids, or lists of token ids.
#[derive(Default)]
struct Texts {
    tokens: u64,
    seeds: Vec<u64>,
    texts: Vec<String>,
}

#[derive(Deserialize, Hash)]
#[serde(untagged)]
enum WireInput {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl Texts {
    fn add(&mut self, input: &WireInput) {
        match input {
            WireInput::Text(text) => {
                self.tokens += tokens::count(text);
                self.seeds.push(seed(text));
                self.texts.push(bounded(text, MAX_TEXT).to_owned());
            }
            WireInput::Token(_) => {}
            WireInput::Tokens(ids) => {
                self.tokens += ids.len() as u64;
                self.seeds.push(seed(ids));
            }
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, texts or token ids")
            }
            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                let mut out = Texts::default();
                out.add(&WireInput::Text(text.to_owned()));
                Ok(out)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut out = Texts::default();
                let mut ids = Vec::new();
                while let Some(input) = seq.next_element::<WireInput>()? {
                    if let WireInput::Token(id) = input {
                        ids.push(id);
                    } else if out.seeds.len() < MAX_INPUTS {
                        out.add(&input);
                    } else {
                        return Err(serde::de::Error::custom("at most 2048 inputs are taken"));
                    }
                }
                if !ids.is_empty() {
                    out.add(&WireInput::Tokens(ids));
                }
                Ok(out)
            }
        }
        deserializer.deserialize_any(TextsVisitor)
    }
}

// === from the domain ===

/// The facts of a request in the domain's words.
///
/// # Errors
/// What decoding the body gives, and `unsupported` for sounds, which no scripted answer can stand for.
pub(crate) fn from_request(request: &Request) -> Result<Asked, Error> {
    let mut asked = Asked {
        model: request.model.as_ref().to_owned(),
        choices: request.choices.max(1),
        max_tokens: request.max_output_tokens.map(u64::from),
        ..Asked::default()
    };
    match request.body.content()? {
        Content::Chat(chat) => {
            for (at, message) in chat.messages.iter().enumerate() {
                let mut said = Text::default();
                add_parts(&mut said, &message.parts)
                    .map_err(|error| error.with_param(format!("messages[{at}].content")))?;
                asked.prompt_tokens += said.tokens;
                if message.role == Role::User {
                    asked.text = said.head;
                }
            }
            asked.sampled(&chat.sampling);
        }
        Content::Completion(completion) => {
            asked.prompt_tokens = completion.prompts.iter().map(|prompt| tokens::count(prompt)).sum();
            asked.text =
                completion.prompts.last().map(|p| bounded(p, MAX_TEXT).to_owned()).unwrap_or_default();
            let prompts = u32::try_from(completion.prompts.len().max(1)).unwrap_or(u32::MAX);
            asked.choices = asked.choices.saturating_mul(prompts);
            if completion.echo {
                asked.repeated =
                    completion.prompts.iter().map(|prompt| bounded(prompt, MAX_TEXT).to_owned()).collect();
            }
            asked.sampled(&completion.sampling);
        }
        Content::Embedding(embedding) => {
            asked.dimensions = embedding.dimensions;
            for input in &embedding.inputs {
                let (cost, seed) = match input {
                    EmbeddingInput::Text(text) => (tokens::count(text), seed(text)),
                    EmbeddingInput::Tokens(ids) => (ids.len() as u64, seed(ids)),
                };
                asked.prompt_tokens += cost;
                asked.inputs.push(seed);
            }
        }
    }
    Ok(asked)
}

impl Asked {
    fn sampled(&mut self, sampling: &Sampling) {
        if let Logprobs::Top(top) = sampling.logprobs {
            self.logprobs = Some(top);
        }
    }
}

fn add_parts(out: &mut Text, parts: &[Part]) -> Result<(), Error> {
    for part in parts {
        match part {
            Part::Text(text) => out.add(text),
            Part::ToolResult { parts, .. } => add_parts(out, parts)?,
            Part::Audio(_) => {
                let say = "the mock provider has no ears: send text, images or files instead of audio";
                return Err(Error::new(penstock_domain::Code::Unsupported, say));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(text: &str) -> View<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_last_text_of_the_user_is_found_in_both_shapes_of_content() {
        let messages = view(
            r#"{"model":"m","system":"be kind","messages":[{"role":"user","content":"one"},
               {"role":"assistant","content":null,"tool_calls":[{"id":"a"}]},
               {"role":"user","content":[{"type":"text","text":"two \u00e9"},{"type":"image_url","image_url":{"url":"x"}}]},
               {"role":"assistant","content":"three"}], "unknown": [1,{"a":2}]}"#,
        )
        .messages
        .unwrap();
        assert_eq!(messages.last_user, "two é");
        assert_eq!(messages.tokens, 1 + 2 + 2);
    }

    #[test]
    fn inputs_come_as_text_texts_ids_or_lists_of_ids() {
        for (text, inputs, tokens) in [
            (r#"{"input":"hello"}"#, 1, 2),
            (r#"{"input":["a","b"]}"#, 2, 2),
            (r#"{"input":[1,2,3]}"#, 1, 3),
            (r#"{"input":[[1,2],[3]]}"#, 2, 3),
        ] {
            let input = view(text).input.unwrap();
            assert_eq!((input.seeds.len(), input.tokens), (inputs, tokens), "{text}");
        }
        let many = format!(r#"{{"input":[{}"a"]}}"#, r#""a","#.repeat(MAX_INPUTS));
        assert!(serde_json::from_str::<View<'_>>(&many).is_err());
    }

    #[test]
    fn a_long_text_is_kept_only_in_part_but_counted_whole() {
        let long = "é".repeat(MAX_TEXT);
        let messages =
            view(&format!(r#"{{"messages":[{{"role":"user","content":"{long}"}}]}}"#)).messages.unwrap();
        assert!(messages.last_user.len() <= MAX_TEXT);
        assert_eq!(messages.tokens, tokens::count(&long));
    }
}
