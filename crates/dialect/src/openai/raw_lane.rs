//! The fast lane of one upstream stream.
use bytes::Bytes;
use penstock_domain::{Code, Delta, Error, Request, Task};
/// Turns body chunks into [`Delta::Raw`].
#[derive(Debug)]
pub struct RawLane {}
impl RawLane {
    /// A lane at the start of a stream. `strip_usage`: the asker did not ask for usage.
    pub fn new(task: Task, strip_usage: bool) -> Self {
        let _ = (task, strip_usage);
        Self {}
    }
    /// A lane for the answer to this request.
    pub fn for_request(request: &Request) -> Self {
        Self::new(request.task, !request.stream_usage)
    }
    /// How many choices must finish for a stream without `[DONE]` to be complete.
    #[must_use]
    pub fn expecting(self, choices: u32) -> Self {
        let _ = choices;
        self
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
        Some(Delta::Failed(Error::new(Code::UpstreamStreamCut, "cut")))
    }
}
