//! Errors as Anthropic clients expect them.
use bytes::Bytes;
use penstock_domain::{Error, RequestId};
/// The JSON body of an error.
pub fn error_body(error: &Error, request_id: &RequestId) -> Bytes {
    let _ = (error, request_id);
    Bytes::new()
}
