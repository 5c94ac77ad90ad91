//! The tokens of a prompt, as well as anybody outside the vendor can say.
//!
//! What it promises: text is counted with the model's own vocabulary where it is public, and what OpenAI puts around messages as its
//! cookbook says; where that is not all of a prompt (tools, structured output, media, other vendors) nobody calls it exact. A
//! count never waits for a vocabulary to be unpacked, and never takes longer than [`LONGEST`] bytes ask for.

use penstock_domain::{Content, Conversation, EmbeddingInput, Part, Request, ResponseFormat, Task};
use penstock_routing::Model;
use penstock_tokenizer::Vocabulary;

use crate::journey::Journey;

/// What every message adds besides its text and the name of its role, and what the beginning of an answer adds (OpenAI's
/// cookbook, "How to count tokens with tiktoken").
const MESSAGE: u64 = 3;
const OPENING: u64 = 3;
/// Every name of a role is one token of OpenAI's vocabularies.
const ROLE: u64 = 1;
/// What a name adds besides its text.
const NAME: u64 = 1;
/// What a call, a result or a tool adds besides its text.
const CALL: u64 = 8;
/// What an image or another file counts: about what vendors bill for one of 1,000 × 1,000 pixels.
const MEDIA: u64 = 1_000;

/// Bodies up to this length are counted before they are admitted: about a millisecond of a slow core. An error of one in twenty
/// of a longer one is less than what else is held for it.
const LONGEST: usize = 32 << 10;

/// What a prompt is held to have where the bound by its length is too much: its tokens where they can be counted, else the
/// estimate and an eighth, because that far off it is once in twenty texts.
pub(crate) fn closely(journey: &mut Journey, request: &Request, model: Option<&Model>) -> u64 {
    model.and_then(|model| exactly(request, model)).unwrap_or_else(|| {
        let tokens = journey.weigh(request);
        tokens.saturating_add(tokens / 8).saturating_add(16)
    })
}

/// The tokens that the vendor will count, if they can be known.
fn exactly(request: &Request, model: &Model) -> Option<u64> {
    let vocabulary = vocabulary(request, model)?;
    if request.body.bytes().len() > LONGEST || !vocabulary.is_at_hand() {
        return None;
    }
    let text = |text: &str| vocabulary.count(text);
    match (request.task, request.body.content().ok()?) {
        (Task::Chat, Content::Chat(chat)) if is_plain(chat) => Some(conversation(&text, chat)),
        (Task::Completion, Content::Completion(completion)) if completion.suffix.is_none() => {
            // A prompt is read once for all its answers.
            Some(completion.prompts.iter().map(|prompt| text(prompt)).sum())
        }
        (Task::Embedding, Content::Embedding(embedding)) => {
            let input = |input: &EmbeddingInput| match input {
                EmbeddingInput::Text(said) => text(said),
                EmbeddingInput::Tokens(ids) => ids.len() as u64,
            };
            Some(embedding.inputs.iter().map(input).sum())
        }
        _ => None,
    }
}

/// The vocabulary of all deployments of the model alike.
fn vocabulary(request: &Request, model: &Model) -> Option<Vocabulary> {
    let of = |upstream: Option<&str>| penstock_tokenizer::vocabulary(upstream.unwrap_or(&request.model));
    let mut all = model.deployments.iter().map(|deployment| of(deployment.upstream.as_deref()));
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}

/// Whether texts, roles and names are all that the model reads.
fn is_plain(chat: &Conversation) -> bool {
    let text = |part: &Part| matches!(part, Part::Text(_) | Part::CacheMark(_));
    chat.tools.is_empty()
        && chat.response_format == ResponseFormat::Text
        && chat.messages.iter().all(|message| message.parts.iter().all(text))
}

/// What the messages and tools of a chat have, by a count of their texts.
pub(crate) fn conversation(text: &impl Fn(&str) -> u64, chat: &Conversation) -> u64 {
    let optional = |found: Option<&str>| found.map_or(0, text);
    let mut sum = OPENING;
    for message in &chat.messages {
        let name = message.name.as_deref().map_or(0, |name| NAME + text(name));
        sum += MESSAGE + ROLE + name + parts(text, &message.parts);
    }
    for tool in &chat.tools {
        sum += CALL + text(&tool.name) + optional(tool.description.as_deref());
        sum += optional(tool.parameters.as_ref().map(|schema| schema.as_str()));
    }
    sum
}

fn parts(text: &impl Fn(&str) -> u64, all: &[Part]) -> u64 {
    let part = |part: &Part| match part {
        Part::Text(said) | Part::Refusal(said) | Part::Reasoning(said) => text(said),
        Part::ToolCall(call) => CALL + text(&call.name) + text(&call.arguments),
        Part::ToolResult { parts: inner, .. } => CALL + parts(text, inner),
        Part::Image(_) | Part::Audio(_) | Part::File(_) => MEDIA,
        // Nothing that a model reads.
        Part::Signature(_) | Part::Sealed(_) | Part::CacheMark(_) => 0,
    };
    all.iter().map(part).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use penstock_domain::{Body, Dialect, Json, Members, Message, Role, Tool, ToolCall};
    use penstock_routing::Deployment;

    use super::*;

    fn said(role: Role, name: Option<&str>, text: &str) -> Message {
        Message { role, name: name.map(Into::into), parts: vec![Part::Text(text.into())] }
    }

    /// The example of OpenAI's cookbook, for which its API counted 129 tokens of cl100k_base and 124 of o200k_base.
    fn cookbook() -> Conversation {
        let system = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.";
        let example = |name, text| said(Role::System, Some(name), text);
        let messages = vec![
            said(Role::System, None, system),
            example("example_user", "New synergies will help drive top-line growth."),
            example("example_assistant", "Things working well together will increase revenue."),
            example(
                "example_user",
                "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
            ),
            example("example_assistant", "Let's talk later when we're less busy about how to do better."),
            said(
                Role::User,
                None,
                "This late pivot means we don't have time to boil the ocean for the client deliverable.",
            ),
        ];
        Conversation { messages, ..Conversation::default() }
    }

    #[test]
    fn the_cookbook_s_chat_has_the_tokens_that_openai_s_api_counted() {
        let by = |vocabulary: Vocabulary| conversation(&|text| vocabulary.count(text), &cookbook());
        assert_eq!((by(Vocabulary::Cl100k), by(Vocabulary::O200k)), (129, 124));
    }

    #[test]
    fn everything_that_the_model_reads_is_counted() {
        let words = |text: &str| text.split(' ').count() as u64;
        let tokens = |messages| conversation(&words, &Conversation { messages, ..Conversation::default() });
        let message = |parts| Message { role: Role::User, name: None, parts };
        let hello = tokens(vec![said(Role::User, None, "Hello world")]);
        assert_eq!(hello, OPENING + MESSAGE + ROLE + 2);
        let inner = vec![Part::Text("Hello world".into())];
        let result = Part::ToolResult { call_id: "c".into(), parts: inner, failed: false };
        assert_eq!(tokens(vec![message(vec![result])]), hello + CALL);
        let call = ToolCall { id: "c".into(), name: "Hello".into(), arguments: "world".into() };
        assert_eq!(tokens(vec![message(vec![Part::ToolCall(call)])]), hello + CALL);
        assert_eq!(tokens(vec![message(vec![Part::Sealed("x".repeat(999))])]), hello - 2);
        let tool = Tool {
            name: "Hello".into(),
            description: Some("Hello world".into()),
            parameters: Some(Json::from_valid("{}")),
            strict: None,
            cache_mark: None,
        };
        let chat = Conversation { tools: vec![tool], ..Conversation::default() };
        assert_eq!(conversation(&words, &chat), OPENING + CALL + 4);
    }

    fn request(content: Content, bytes: usize) -> Request {
        let task = match content {
            Content::Chat(_) => Task::Chat,
            Content::Completion(_) => Task::Completion,
            Content::Embedding(_) => Task::Embedding,
        };
        let never = |_: &[u8], _| Ok(Content::Embedding(Default::default()));
        let body =
            Body::new(Dialect::OpenAi, task, Bytes::from(vec![b' '; bytes]), Members::default(), never);
        Request { body: body.rewritten(content), task, ..crate::tests::request("m") }
    }

    fn served_by(upstreams: &[&str]) -> Model {
        let deployments = upstreams.iter().map(|name| Deployment::new("p", Some((*name).into())));
        Model { deployments: deployments.collect(), ..Model::single("m", "p", None) }
    }

    fn wait_for(vocabulary: Vocabulary) {
        while !vocabulary.is_at_hand() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_prompt_is_exact_only_where_all_of_it_is_known() {
        wait_for(Vocabulary::O200k);
        let model = served_by(&["gpt-4o", "gpt-4.1-mini"]);
        let chat = || Content::Chat(cookbook());
        assert_eq!(exactly(&request(chat(), 900), &model), Some(124));
        let read = |_: &[u8], _| Ok(Content::Chat(cookbook()));
        let long = |bytes: usize| {
            Body::new(Dialect::OpenAi, Task::Chat, vec![b' '; bytes].into(), Members::default(), read)
        };
        let long = |bytes| Request { body: long(bytes), ..crate::tests::request("m") };
        assert_eq!(exactly(&long(LONGEST), &model), Some(124));
        assert_eq!(exactly(&long(LONGEST + 1), &model), None, "too long to count on the way");
        assert_eq!(
            exactly(&request(chat(), 900), &served_by(&["gpt-4o", "gpt-4"])),
            None,
            "two vocabularies"
        );
        assert_eq!(exactly(&request(chat(), 900), &served_by(&["claude-opus-4-5"])), None);
        let format = ResponseFormat::JsonObject;
        let shaped = Content::Chat(Conversation { response_format: format, ..cookbook() });
        assert_eq!(exactly(&request(shaped, 900), &model), None);
        let inputs = vec![EmbeddingInput::Text("Hello world".into()), EmbeddingInput::Tokens(vec![1, 2, 3])];
        let embedding = Content::Embedding(penstock_domain::Embedding { inputs, ..Default::default() });
        assert_eq!(exactly(&request(embedding, 90), &model), Some(5));
    }
}
