//! Requests as clients send them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use penstock_dialect::DecodeLimits;
use penstock_domain::{Origin, Request, RequestId, Task};
use penstock_provider::Call;
use serde_json::Value;

/// A request from the JSON body of an OpenAI client.
///
/// # Panics
/// When the body is not one that the gateway would accept.
pub fn openai(task: Task, body: &Value) -> Request {
    let bytes = Bytes::from(body.to_string());
    let decoded = penstock_dialect::openai::request::decode(task, bytes, &DecodeLimits::default());
    decoded.expect("the body of a test request is accepted").into_request(id(), Origin::Http, None)
}

/// A request from the JSON body of an Anthropic client.
///
/// # Panics
/// When the body is not one that the gateway would accept.
pub fn anthropic(body: &Value) -> Request {
    let bytes = Bytes::from(body.to_string());
    let decoded = penstock_dialect::anthropic::request::decode(Task::Chat, bytes, &DecodeLimits::default());
    decoded.expect("the body of a test request is accepted").into_request(id(), Origin::Http, None)
}

/// One attempt to answer a request with a model.
pub fn call(request: Request, model: &str, deadline: Option<Instant>) -> Call {
    Call { request: Arc::new(request), model: Arc::from(model), credential: 0, deadline }
}

fn id() -> RequestId {
    RequestId::new("req_000000000000000000000000")
}
