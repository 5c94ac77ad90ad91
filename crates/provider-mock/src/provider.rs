//! The scripted provider in process: kind `mock`. It answers in deltas and opens no socket.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;
use memchr::memmem;
use penstock_domain::{Code, Delta, Dialect, Error, Request, Retry, Task};
use penstock_provider::{Call, Calling, Chat, Complete, Count, Deltas, Embed, Provider};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Sleep, sleep_until};

use crate::answer::{Answer, Step, embedding_usage, millis, vectors};
use crate::asked::{self, Asked};
use crate::script::{Directives, Hang, Panic, RetryAfter, RetryForm, Script};
use crate::select::{Facts, Selector};
use crate::stats::{Counters, InFlight, Stats};

/// A provider that follows a script.
///
/// A script in the request's member `mock` wins over the rules, the rules over the default, as in the server.
pub struct MockProvider {
    selector: Selector,
    counters: Arc<Counters>,
    ids: AtomicU64,
}

/// The member by which a request of any dialect brings a script.
#[derive(Deserialize)]
struct Inline<'a> {
    #[serde(borrow, default)]
    mock: Option<&'a RawValue>,
}

impl MockProvider {
    /// A provider for a script that was checked.
    pub fn new(script: Script) -> Self {
        Self { selector: Selector::new(script), counters: Arc::default(), ids: AtomicU64::new(0) }
    }

    /// Its own count. Paths are those of the same request in OpenAI's dialect.
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    fn select(&self, request: &Request, asked: &Asked, path: &'static str) -> Result<Arc<Directives>, Error> {
        let bytes = request.body.bytes();
        if memmem::find(bytes, b"\"mock\"").is_some()
            && let Ok(Inline { mock: Some(script) }) = serde_json::from_slice::<Inline<'_>>(bytes)
        {
            let refused =
                |error: crate::ScriptError| Error::new(Code::InvalidRequest, error.say).with_param("mock");
            return self.selector.inline(script.get()).map_err(refused);
        }
        let text = || asked.text.as_str().into();
        Ok(self.selector.select(&Facts { path, model: &asked.model, key: None, text: &text }))
    }

    async fn start(&self, call: Call) -> Result<Deltas, Error> {
        let request = &call.request;
        let path = match (request.task, request.body.dialect()) {
            (Task::Chat, Dialect::Anthropic) => "/v1/messages",
            (Task::Chat, _) => "/v1/chat/completions",
            (Task::CountTokens, _) => "/v1/messages/count_tokens",
            (Task::Completion, _) => "/v1/completions",
            (Task::Embedding, _) => "/v1/embeddings",
            (Task::Relay, _) => return Err(Error::new(Code::Unsupported, "the mock passes nothing on")),
        };
        let mut asked = asked::from_request(request)?;
        asked.model = call.model.as_ref().to_owned();
        let directives = self.select(request, &asked, path)?;
        if directives.panic == Some(Panic::Call) {
            defect();
        }
        let mut flight = self.counters.begin(request.stream);
        flight.of(path, &asked.model, None);
        let deadline = call.deadline;
        if directives.hang == Some(Hang::BeforeHeaders) {
            until(deadline, std::future::pending::<()>()).await?;
        }
        if let Some(latency) = directives.latency_ms {
            until(deadline, tokio::time::sleep(millis(latency))).await?;
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(late());
        }
        if let Some(error) = refusal(&directives) {
            self.counters.answered(path, directives.status.unwrap_or(0));
            flight.status(directives.status.unwrap_or(0));
            flight.complete();
            return Err(error);
        }
        self.counters.answered(path, 200);
        flight.status(200);
        if request.task != Task::CountTokens {
            self.counters.bill_prompt(asked.prompt_tokens);
        }
        flight.open();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let source: Source = match request.task {
            Task::CountTokens => {
                let counted = Delta::Counted { input: asked.prompt_tokens, estimated: false };
                Source::Fixed(vec![counted].into_iter())
            }
            Task::Embedding => {
                let usage = embedding_usage(&directives, &asked).map(Delta::Usage);
                let vectors = Delta::Vectors(vectors(&directives, &asked));
                Source::Fixed([Some(vectors), usage].into_iter().flatten().collect::<Vec<_>>().into_iter())
            }
            _ => Source::Answer(Box::new(Answer::new(Arc::clone(&directives), asked, id))),
        };
        Ok(Box::pin(Play {
            source,
            faults: Faults::new(&directives),
            flight,
            sleep: None,
            clock: Instant::now(),
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline.into()))),
            over: false,
        }))
    }
}

/// The error that a script gives instead of an answer.
fn refusal(directives: &Directives) -> Option<Error> {
    if directives.cut.is_some() && directives.cut_at_byte.is_none() {
        return Some(Error::new(
            Code::UpstreamUnreachable,
            "the mock provider broke the connection before its answer",
        ));
    }
    let status = directives.status?;
    let code = match status {
        401 | 403 => Code::UpstreamAuth,
        402 => Code::UpstreamQuotaExceeded,
        404 => Code::ModelNotFound,
        408 | 504 => Code::UpstreamTimeout,
        429 => Code::UpstreamRateLimited,
        529 => Code::Overloaded,
        500.. => Code::UpstreamError,
        _ => Code::UpstreamRejected,
    };
    let error = Error::new(code, format!("the mock provider was told to answer with status {status}"));
    Some(match directives.retry_after {
        Some(RetryAfter::Seconds(s) | RetryAfter::Form(RetryForm::Seconds(s))) => {
            error.with_retry(Retry::After(Duration::from_secs(s)))
        }
        Some(RetryAfter::Form(RetryForm::Ms(ms))) => {
            error.with_retry(Retry::After(Duration::from_millis(ms)))
        }
        Some(RetryAfter::Form(RetryForm::Date(s))) => {
            error.with_retry(Retry::After(Duration::from_secs(u64::from(s))))
        }
        None => error,
    })
}

/// The defect that a script asked for.
#[expect(clippy::panic, reason = "the fail point of tests that prove panics to be contained")]
fn defect() -> ! {
    panic!("the script asked for a defect");
}

fn late() -> Error {
    Error::new(Code::DeadlineExceeded, "the deadline of the request passed before the mock provider was done")
}

async fn until<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Error> {
    match deadline {
        None => Ok(work.await),
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| late()),
    }
}

impl Provider for MockProvider {
    fn kind(&self) -> &'static str {
        "mock"
    }
    fn chat(&self) -> Option<&dyn Chat> {
        Some(self)
    }
    fn complete(&self) -> Option<&dyn Complete> {
        Some(self)
    }
    fn embed(&self) -> Option<&dyn Embed> {
        Some(self)
    }
    fn count(&self) -> Option<&dyn Count> {
        Some(self)
    }
}

impl Count for MockProvider {
    fn count(&self, call: Call) -> Calling<'_> {
        Box::pin(self.start(call))
    }
}

impl Chat for MockProvider {
    fn chat(&self, call: Call) -> Calling<'_> {
        Box::pin(self.start(call))
    }
}

impl Complete for MockProvider {
    fn complete(&self, call: Call) -> Calling<'_> {
        Box::pin(self.start(call))
    }
}

impl Embed for MockProvider {
    fn embed(&self, call: Call) -> Calling<'_> {
        Box::pin(self.start(call))
    }
}

enum Source {
    Answer(Box<Answer>),
    Fixed(std::vec::IntoIter<Delta>),
}

/// The faults that have a meaning without a wire. Events are deltas here, and bytes are bytes of text.
struct Faults {
    malformed_event: Option<u32>,
    error_event: Option<u32>,
    cut_at_byte: Option<u64>,
    cut_at_event: Option<u32>,
    hang_after_headers: bool,
    panic: bool,
    events: u32,
    bytes: u64,
}

impl Faults {
    fn new(directives: &Directives) -> Self {
        Self {
            malformed_event: directives.malformed_event,
            error_event: directives.error_event,
            cut_at_byte: directives.cut_at_byte,
            cut_at_event: directives.cut_at_event,
            panic: directives.panic == Some(Panic::Stream),
            hang_after_headers: directives.hang == Some(Hang::AfterHeaders),
            events: 0,
            bytes: 0,
        }
    }

    /// The error that takes the place of this delta, if the script wants one.
    fn check(&mut self, delta: &Delta) -> Option<Error> {
        let event = self.events;
        self.events += 1;
        if self.malformed_event == Some(event) {
            return Some(Error::new(
                Code::UpstreamBadResponse,
                "the mock provider sent an event that is not JSON",
            ));
        }
        if self.error_event == Some(event) {
            return Some(Error::new(
                Code::UpstreamError,
                "the mock provider sent an error inside its stream",
            ));
        }
        if let Delta::Text { text, .. } | Delta::Reasoning { text, .. } | Delta::Refusal { text, .. } = delta
        {
            self.bytes += text.len() as u64;
        }
        let cut = self.cut_at_byte.is_some_and(|cut| self.bytes > cut) || self.cut_at_event == Some(event);
        cut.then(|| {
            Error::new(Code::UpstreamStreamCut, "the mock provider broke the connection inside its answer")
        })
    }
}

/// Plays an answer against the clock.
struct Play {
    source: Source,
    faults: Faults,
    flight: InFlight,
    sleep: Option<Pin<Box<Sleep>>>,
    clock: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Play {
    fn end(&mut self) {
        self.over = true;
        self.flight.complete();
    }

    fn next_step(&mut self) -> Option<Step> {
        match &mut self.source {
            Source::Fixed(deltas) => deltas.next().map(Step::Say),
            Source::Answer(answer) => {
                let before = answer.produced();
                let step = answer.next();
                self.flight.bill_completion(answer.produced() - before);
                step
            }
        }
    }
}

impl Stream for Play {
    type Item = Delta;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delta>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            this.end();
            return Poll::Ready(Some(Delta::Failed(late())));
        }
        if this.faults.hang_after_headers {
            return Poll::Pending;
        }
        loop {
            if let Some(sleep) = &mut this.sleep {
                std::task::ready!(sleep.as_mut().poll(context));
                this.sleep = None;
            }
            match this.next_step() {
                Some(Step::Pause(pause)) => {
                    this.clock += pause;
                    this.sleep = Some(Box::pin(sleep_until(this.clock.into())));
                }
                Some(Step::Say(delta)) => {
                    if let Some(error) = this.faults.check(&delta) {
                        this.end();
                        return Poll::Ready(Some(Delta::Failed(error)));
                    }
                    return Poll::Ready(Some(delta));
                }
                Some(Step::Hang) if this.faults.panic => defect(),
                Some(Step::Hang) => {
                    this.faults.hang_after_headers = true;
                    return Poll::Pending;
                }
                None => {
                    this.end();
                    return Poll::Ready(None);
                }
            }
        }
    }
}
