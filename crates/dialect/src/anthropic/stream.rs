//! Streams of chunks.
use bytes::BytesMut;
use penstock_domain::{Delta, Request};
/// Semantic deltas into events.
#[derive(Debug)]
pub struct StreamEncoder {}
impl StreamEncoder {
    /// An encoder for the answer to this request.
    pub fn new(request: &Request) -> Self {
        let _ = request;
        Self {}
    }
    /// Appends the events of one delta. [`Delta::Failed`] becomes the terminal error frame, after which nothing is written.
    pub fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        let _ = (delta, out);
    }
    /// Ends the stream: `message_stop`, unless it failed.
    pub fn finish(&mut self, out: &mut BytesMut) {
        let _ = out;
    }
    /// Whether a terminal error was written.
    pub fn failed(&self) -> bool {
        false
    }
}
