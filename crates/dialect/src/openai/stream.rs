//! Streams of chunks.
use bytes::{Bytes, BytesMut};
use penstock_domain::{Delta, Error, Request, Task};
/// Semantic deltas into events.
#[derive(Debug)]
pub struct StreamEncoder {}
impl StreamEncoder {
    /// An encoder for the answer to this request; `created` in seconds since the Unix epoch.
    pub fn new(request: &Request, created: u64) -> Self {
        let _ = (request, created);
        Self {}
    }
    /// Appends the events of one delta. [`Delta::Failed`] becomes the terminal error frame, after which nothing is written.
    pub fn encode(&mut self, delta: Delta, out: &mut BytesMut) {
        let _ = (delta, out);
    }
    /// Ends the stream: `[DONE]`, unless it failed.
    pub fn finish(&mut self, out: &mut BytesMut) {
        let _ = out;
    }
    /// Whether a terminal error was written.
    pub fn failed(&self) -> bool {
        false
    }
}
/// Vendor events into semantic deltas, for askers of another dialect.
#[derive(Debug)]
pub struct ChunkReader {}
impl ChunkReader {
    /// A reader at the start of a stream.
    pub fn new(task: Task) -> Self {
        let _ = task;
        Self {}
    }
    /// Feeds a chunk of the body.
    ///
    /// # Errors
    /// `upstream_bad_response` when an event is too large.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        let _ = chunk;
        Ok(())
    }
    /// The next delta, if one is ready.
    #[expect(
        clippy::should_implement_trait,
        reason = "more deltas may come after None, so it is no iterator"
    )]
    pub fn next(&mut self) -> Option<Delta> {
        None
    }
    /// Ends the stream.
    pub fn finish(&mut self) -> Option<Delta> {
        None
    }
}
