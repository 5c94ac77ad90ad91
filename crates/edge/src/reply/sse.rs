//! A streamed answer: a body that encodes deltas as they are polled. No channel, no task: when the client goes, the
//! server drops the body, the body drops the deltas, and the call behind them is cancelled.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response};
use http_body::{Body, Frame};
use penstock_dialect::Encode;
use penstock_dialect::sse::KEEP_ALIVE;
use penstock_domain::{Code, Delta, Dialect, Error, Stage};
use penstock_flow::{Answer, Refusal};
use penstock_provider::{Alarm, Deltas};
use tokio::time::Instant;

use super::Reply;
use crate::drain::{Drain, shutdown};
use crate::idempotency::Recording;
use crate::responses::{After, Pass, Saving};

/// Ready deltas are put together up to this many bytes, then they are sent.
const TOGETHER: usize = 16 << 10;

/// Another candidate continues the answer.
const RESUMED: &[u8] = b": penstock-resumed\n\n";

const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A run that has not given its first content yet.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send>>;

/// Where the events come from.
pub(crate) enum Source {
    /// The hold is over and the first content has not come: headers are out, errors are in-band.
    Running(Running),
    /// The answer flows.
    Live(Deltas),
    /// Nothing more comes.
    Ended,
}

/// The body of a streamed answer.
pub(crate) struct Events {
    source: Source,
    dialect: Dialect,
    encoder: Box<dyn Encode>,
    /// What becomes of the answer, where somebody keeps it.
    after: Option<After>,
    /// What is written down of it, where it may be asked for again.
    recording: Option<Box<Recording>>,
    /// The end of the answer, on hold until it is kept.
    saving: Option<Saving>,
    /// The one timer of this stream. Sending a frame does not move it: it is compared when it fires.
    silence: Alarm,
    sent: Instant,
    /// A frame was given since.
    given: bool,
    keep_alive: Duration,
    drain: Drain,
}

impl Events {
    pub(crate) fn new(
        source: Source,
        (dialect, after): (Dialect, Option<After>),
        encoder: Box<dyn Encode>,
        mut silence: Alarm,
        (keep_alive, drain): (Duration, Drain),
    ) -> Self {
        let now = Instant::now();
        // Headers that went out without content are followed by a comment at once, so that the client sees life.
        let sent = match source {
            Source::Running(_) => now.checked_sub(keep_alive).unwrap_or(now),
            _ => now,
        };
        // The timer comes from the wait for the first content; one that fires early is harmless, one that fires late is not.
        if silence.due() > sent + keep_alive {
            silence.set(sent + keep_alive);
        }
        Self {
            source,
            dialect,
            encoder,
            after,
            recording: None,
            saving: None,
            silence,
            sent,
            given: false,
            keep_alive,
            drain,
        }
    }

    /// Has it written down as it leaves.
    pub(crate) fn record(&mut self, recording: Box<Recording>) {
        self.recording = Some(recording);
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Delta>> {
        loop {
            let polled = match &mut self.source {
                Source::Ended => return Poll::Ready(None),
                Source::Running(run) => match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context))) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(Ok(answer))) => {
                        self.source = Source::Live(answer.deltas);
                        continue;
                    }
                    Ok(Poll::Ready(Err(refusal))) => Some(Delta::Failed(refusal.error)),
                    Err(_) => Some(Delta::Failed(panicked())),
                },
                Source::Live(deltas) => {
                    match catch_unwind(AssertUnwindSafe(|| deltas.as_mut().poll_next(context))) {
                        Ok(Poll::Pending) => return Poll::Pending,
                        Ok(Poll::Ready(delta)) => delta,
                        Err(_) => Some(Delta::Failed(panicked())),
                    }
                }
            };
            if matches!(polled, None | Some(Delta::Failed(_))) {
                self.source = Source::Ended;
            }
            if matches!(polled, Some(Delta::Failed(_))) {
                self.recording = None;
            }
            return Poll::Ready(polled);
        }
    }

    /// Gathers what is ready. Events in the asker's own dialect leave as the bytes that came; the lane has put together
    /// what came together, so nothing else is looked for.
    fn gather(&mut self, context: &mut Context<'_>) -> Option<Bytes> {
        let mut together = BytesMut::new();
        while together.len() < TOGETHER {
            match self.poll_source(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Delta::Raw(raw))) if raw.dialect == self.dialect && together.is_empty() => {
                    self.encoder.passed(&raw);
                    return Some(raw.bytes);
                }
                // Clients skip comments; people see it.
                Poll::Ready(Some(Delta::Resumed)) => together.extend_from_slice(RESUMED),
                Poll::Ready(Some(delta)) => {
                    self.encoder.encode(delta, &mut together);
                    if matches!(self.source, Source::Ended) {
                        break;
                    }
                }
                Poll::Ready(None) => {
                    self.encoder.finish(&mut together);
                    break;
                }
            }
        }
        (!together.is_empty()).then(|| together.freeze())
    }

    /// The next bytes that leave, unless they are on hold.
    fn pass(&mut self, bytes: Bytes) -> Option<Bytes> {
        match After::pass(&mut self.after, bytes) {
            Pass::Now(bytes) => Some(bytes),
            Pass::Saved(saving) => {
                self.saving = Some(saving);
                None
            }
        }
    }

    /// The same, written down; what completes the answer is on hold once more.
    fn written(&mut self, bytes: Bytes) -> Option<Bytes> {
        match Recording::pass(&mut self.recording, bytes) {
            Pass::Now(bytes) => Some(bytes),
            Pass::Saved(saving) => {
                self.saving = Some(saving);
                None
            }
        }
    }

    /// The end of the answer, once it is kept.
    fn poll_saving(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let Some(saving) = &mut self.saving else { return Poll::Pending };
        let bytes = saving.as_mut().poll(context);
        if bytes.is_ready() {
            self.saving = None;
        }
        bytes
    }

    /// A comment, once nothing has been sent for as long as proxies in between may bear.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let mut now = Instant::now();
        // After a frame the connection asks once more, when it can send on.
        if std::mem::take(&mut self.given) {
            self.sent = now;
        }
        while self.silence.poll(context, now).is_ready() {
            now = Instant::now();
            let due = self.sent + self.keep_alive;
            if now >= due {
                self.sent = now;
                self.silence.set(now + self.keep_alive);
                return Poll::Ready(Bytes::from_static(KEEP_ALIVE));
            }
            self.silence.set(due);
        }
        Poll::Pending
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        let bytes = if this.saving.is_some() {
            None
        } else if this.drain.is_over() {
            // Dropping the source first cancels the call before the client hears of it.
            this.source = Source::Ended;
            this.recording = None;
            let mut last = BytesMut::new();
            this.encoder.encode(Delta::Failed(shutdown().at(Stage::Reply)), &mut last);
            Some(last.freeze())
        } else {
            this.gather(context)
        };
        let mut bytes = bytes.and_then(|bytes| this.pass(bytes)).and_then(|bytes| this.written(bytes));
        // What was kept as a response may yet have to be kept as the answer to a key.
        while let Poll::Ready(last) = this.poll_saving(context) {
            bytes = this.written(last);
        }
        match bytes {
            Some(bytes) => {
                this.given = true;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            None if this.is_end_stream() => Poll::Ready(None),
            None => this.poll_silence(context).map(|comment| Some(Ok(Frame::data(comment)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Ended) && self.saving.is_none()
    }
}

fn panicked() -> Error {
    Error::new(Code::InternalError, "the gateway failed while the answer was under way").at(Stage::Reply)
}

/// The response that carries events, its headers but for those that describe the answer.
pub(crate) fn events(events: Events) -> Response<Reply> {
    let mut response = Response::new(Reply::events(events));
    let headers = response.headers_mut();
    headers.reserve(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would otherwise collect events until a buffer is full.
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}
