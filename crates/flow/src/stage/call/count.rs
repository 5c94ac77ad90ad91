//! The tokens of a request whose provider cannot count them.
//!
//! What it promises: everything that the model reads is counted, texts with the model's own vocabulary where it is public;
//! the number is always called an estimate, because what a vendor puts around messages, tools and media is its own secret.
//! What it refuses to know: which provider it stands in for.

use futures_util::stream;
use penstock_domain::{Code, Conversation, Delta, Error, Part};
use penstock_provider::{Call, Deltas};

/// What every message adds besides its text, and what the beginning of an answer adds (OpenAI's cookbook, "How to count
/// tokens with tiktoken").
const MESSAGE: u64 = 3;
const OPENING: u64 = 3;
/// What a call, a result or a tool adds besides its text.
const CALL: u64 = 8;
/// What an image or another file counts: about what vendors bill for one of 1,000 × 1,000 pixels.
const MEDIA: u64 = 1_000;

/// Counts the request of a call.
///
/// # Errors
/// Those of a body that cannot be read.
pub(super) async fn count(call: Call) -> Result<Deltas, Error> {
    // A long prompt takes milliseconds, and the first look at a vocabulary tens of them.
    let counting = tokio::task::spawn_blocking(move || {
        let chat = call.request.body.content()?.chat()?;
        Ok(conversation(&call.model, chat))
    });
    let input = counting.await.map_err(|error| {
        Error::new(Code::InternalError, "counting the tokens failed").with_source(error)
    })??;
    Ok(Box::pin(stream::iter([Delta::Counted { input, estimated: true }])))
}

fn conversation(model: &str, chat: &Conversation) -> u64 {
    let text = |text: &str| penstock_tokenizer::count(model, text).tokens;
    let optional = |found: Option<&str>| found.map_or(0, text);
    let mut sum = OPENING;
    for message in &chat.messages {
        sum += MESSAGE + optional(message.name.as_deref()) + parts(&text, &message.parts);
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
    use penstock_domain::{Json, Message, Role, Tool, ToolCall};

    use super::*;

    #[test]
    fn everything_that_the_model_reads_is_counted() {
        let message = |parts| Message { role: Role::User, name: None, parts };
        let tokens = |messages| conversation("gpt-4o", &Conversation { messages, ..Conversation::default() });
        let hello = tokens(vec![message(vec![Part::Text("Hello world".into())])]);
        // "Hello world" has two tokens of o200k_base.
        assert_eq!(hello, OPENING + MESSAGE + 2);
        let inner = vec![Part::Text("Hello world".into())];
        let result = Part::ToolResult { call_id: "c".into(), parts: inner, failed: false };
        assert_eq!(tokens(vec![message(vec![result])]), hello + CALL);
        let call = ToolCall { id: "c".into(), name: "Hello world".into(), arguments: String::new() };
        assert_eq!(tokens(vec![message(vec![Part::ToolCall(call)])]), hello + CALL);
        assert_eq!(tokens(vec![message(vec![Part::Sealed("x".repeat(999))])]), hello - 2);
        let tool = Tool {
            name: "Hello world".into(),
            description: Some("Hello world".into()),
            parameters: Some(Json::from_valid("{}")),
            strict: None,
            cache_mark: None,
        };
        let chat = Conversation { tools: vec![tool], ..Conversation::default() };
        assert!(conversation("gpt-4o", &chat) > OPENING + CALL + 4);
    }
}
