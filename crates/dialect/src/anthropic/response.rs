//! Whole answers.
use bytes::Bytes;
use penstock_domain::{Code, Delta, Error, Request};
/// Folds deltas into one JSON body.
#[derive(Debug)]
pub struct Folder {}
impl Folder {
    /// A folder for the answer to this request.
    pub fn new(request: &Request) -> Self {
        let _ = request;
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
