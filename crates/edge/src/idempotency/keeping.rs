//! A body that nobody here reads, written down as it leaves.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body as Inner;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Recording;
use crate::responses::Saving;

/// A body whose last bytes leave once all of it is kept. One that breaks off is not kept.
pub(crate) struct Keeping {
    inner: Inner,
    recording: Option<Box<Recording>>,
    /// What is still to come, in bytes, where that is known: nobody asks for more after them.
    left: Option<u64>,
    saving: Option<Saving>,
    /// The last bytes, on hold.
    held: u64,
}

impl Keeping {
    pub(crate) fn new(inner: Inner, recording: Box<Recording>) -> Self {
        let left = inner.size_hint().exact();
        Self { inner, recording: Some(recording), left, saving: None, held: 0 }
    }

    /// Some bytes on their way out, unless they are the last.
    fn pass(&mut self, bytes: Bytes) -> Option<Bytes> {
        if self.recording.as_mut().is_some_and(|recording| !recording.add(&bytes)) {
            self.recording = None;
        }
        self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
        if self.left == Some(0) || self.inner.is_end_stream() { self.close(bytes) } else { Some(bytes) }
    }

    fn close(&mut self, last: Bytes) -> Option<Bytes> {
        let Some(recording) = self.recording.take() else { return Some(last) };
        self.held = last.len() as u64;
        self.saving = Some(recording.close(last));
        None
    }
}

impl Body for Keeping {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(saving) = &mut this.saving {
                let last = std::task::ready!(saving.as_mut().poll(context));
                (this.saving, this.held) = (None, 0);
                return Poll::Ready((!last.is_empty()).then(|| Ok(Frame::data(last))));
            }
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        if let Some(bytes) = this.pass(bytes) {
                            return Poll::Ready(Some(Ok(Frame::data(bytes))));
                        }
                    }
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Some(Err(error)) => {
                    this.recording = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    if let Some(last) = this.close(Bytes::new()) {
                        return Poll::Ready((!last.is_empty()).then(|| Ok(Frame::data(last))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.saving.is_none() && self.recording.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + self.held))
    }
}
