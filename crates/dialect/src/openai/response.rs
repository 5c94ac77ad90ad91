//! Whole answers.
use bytes::Bytes;
use penstock_domain::{Code, Delta, Error, Request, Task};
/// Folds deltas into one JSON body.
#[derive(Debug)]
pub struct Folder {}
impl Folder {
    /// A folder for the answer to this request; `created` in seconds since the Unix epoch.
    pub fn new(request: &Request, created: u64) -> Self {
        let _ = (request, created);
        Self {}
    }
    /// Takes the next delta.
    ///
    /// # Errors
    /// The error of [`Delta::Failed`], or `upstream_bad_response`.
    pub fn push(&mut self, delta: Delta) -> Result<(), Error> {
        let _ = delta;
        Ok(())
    }
    /// The JSON body.
    ///
    /// # Errors
    /// `upstream_bad_response` when nothing came.
    pub fn finish(self) -> Result<Bytes, Error> {
        Err(Error::new(Code::UpstreamBadResponse, "nothing"))
    }
}
/// Checks a vendor's non-streaming 200 and gives it as [`Delta::Whole`].
///
/// # Errors
/// `upstream_bad_response`, or the error that the body carries.
pub fn read_whole(task: Task, body: Bytes) -> Result<Delta, Error> {
    let _ = (task, body);
    Err(Error::new(Code::UpstreamBadResponse, "nothing"))
}
/// The semantic deltas of a whole body, in order.
///
/// # Errors
/// As [`read_whole`].
pub fn unfold(task: Task, body: &[u8]) -> Result<Vec<Delta>, Error> {
    let _ = (task, body);
    Err(Error::new(Code::UpstreamBadResponse, "nothing"))
}
