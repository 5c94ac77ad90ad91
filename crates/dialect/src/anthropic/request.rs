//! `POST /v1/messages` into domain words.
use crate::{DecodeLimits, Decoded};
use bytes::Bytes;
use penstock_domain::{Code, Content, Error, Task};
/// Checks the cheap part of a request body.
///
/// # Errors
/// `invalid_json`, `json_too_deep`, `invalid_request`, `invalid_value`, each with the member at fault.
pub fn decode(bytes: Bytes, limits: &DecodeLimits) -> Result<Decoded, Error> {
    let _ = (bytes, limits);
    Err(Error::new(Code::InvalidJson, "not yet"))
}
/// Decodes the whole body.
///
/// # Errors
/// As [`decode`].
pub fn decode_content(bytes: &[u8], task: Task) -> Result<Content, Error> {
    let _ = (task, bytes);
    Err(Error::new(Code::InvalidJson, "not yet"))
}
