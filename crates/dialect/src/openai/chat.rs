//! A conversation as an OpenAI chat body.
use bytes::Bytes;
use penstock_domain::Conversation;
/// Writes the body of `POST /v1/chat/completions`. `stream`: ask for events, with usage.
pub fn encode_body(conversation: &Conversation, model: &str, stream: bool) -> Bytes {
    let _ = (conversation, model, stream);
    Bytes::new()
}
