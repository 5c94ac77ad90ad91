//! Errors as OpenAI clients expect them, and vendors' errors as we understand them.
use bytes::Bytes;
use penstock_domain::{Code, Error, RequestId};
use std::time::Duration;
/// The JSON body of an error.
pub fn error_body(error: &Error, request_id: &RequestId) -> Bytes {
    let _ = (error, request_id);
    Bytes::new()
}
/// What a vendor's error answer means.
pub fn vendor_error(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Error {
    let _ = (status, retry_after, body);
    Error::new(Code::UpstreamError, "vendor error")
}
