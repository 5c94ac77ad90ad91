//! Where records go: a bounded queue, and one task that turns them into metrics, log lines and rows in batches.

mod keeper;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use penstock_domain::{Blame, RequestId};
use tokio::sync::mpsc;

use crate::{Metrics, Outcome, Record, RecordStore, Recorder, Tail};
use keeper::Keeper;

/// Records waiting to be counted; beyond it they are counted as dropped rather than awaited.
const QUEUE: usize = 16 * 1024;

/// Records taken at once.
const BATCH: usize = 512;

/// Pause between batches: what arrives meanwhile wakes nobody, so a busy gateway pays one wake-up per pause, not per
/// request.
const PAUSE: Duration = Duration::from_millis(20);

/// Most bytes of captured content that wait to be stored; beyond it records are kept without theirs.
const CONTENT: usize = 32 << 20;

/// The sending side: cheap to share, never blocks.
pub struct Sink {
    metrics: Arc<Metrics>,
    queue: mpsc::Sender<Record>,
    content: Arc<AtomicUsize>,
}

/// The receiving side: run it as one task.
pub struct Tally {
    metrics: Arc<Metrics>,
    queue: mpsc::Receiver<Record>,
    content: Arc<AtomicUsize>,
    tail: Tail,
    store: Option<Arc<dyn RecordStore>>,
}

impl Sink {
    /// Makes both sides.
    pub fn new(metrics: Arc<Metrics>) -> (Arc<Self>, Tally) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let content = Arc::new(AtomicUsize::new(0));
        let tally = Tally {
            metrics: Arc::clone(&metrics),
            queue: receiver,
            content: Arc::clone(&content),
            tail: Tail::default(),
            store: None,
        };
        (Arc::new(Self { metrics, queue: sender, content }), tally)
    }

    /// Takes the content's bytes into account, or takes the content away where too much of it waits.
    fn weigh(&self, record: &mut Record) -> usize {
        let bytes = weight(record);
        if bytes > 0 && self.content.fetch_add(bytes, Ordering::Relaxed) + bytes > CONTENT {
            self.content.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.content_dropped.inc();
            record.content = None;
            return 0;
        }
        bytes
    }
}

/// Bytes of captured content.
fn weight(record: &Record) -> usize {
    record.content.as_ref().map_or(0, |content| content.request.len() + content.answer.len())
}

impl Recorder for Sink {
    fn begin(&self) {
        self.metrics.in_flight.inc();
    }

    fn end(&self, mut record: Record) {
        self.metrics.in_flight.dec();
        let bytes = self.weigh(&mut record);
        if self.queue.try_send(record).is_err() {
            self.content.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.dropped.inc();
        }
    }
}

impl Tally {
    /// Also keeps every record in a store.
    #[must_use]
    pub fn keeping(mut self, store: Arc<dyn RecordStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Where to watch records as they come.
    pub fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// Works until every [`Sink`] is gone and the queue is empty.
    pub async fn run(mut self) {
        let mut keeper = Keeper::new(self.store.take(), Arc::clone(&self.metrics), Arc::clone(&self.content));
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let open = tokio::select! {
                taken = self.queue.recv_many(&mut batch, BATCH) => taken > 0,
                () = keeper.due() => true,
            };
            for record in &batch {
                self.metrics.record(record);
                log(record);
            }
            self.tail.show(&batch);
            let full = batch.len() == BATCH;
            keeper.keep(&mut batch).await;
            if !open {
                return keeper.last().await;
            }
            // A full batch means that more is waiting: then the pause would only make it older.
            if !full {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The one line per request. Errors that the operator must act on are `error`, the vendor's are `warn`.
fn log(record: &Record) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "penstock::request",
                request = %RequestId::as_str(&record.id),
                operation = record.task.map_or("unknown", penstock_domain::Task::name),
                stream = record.stream,
                key = record.key.as_deref(),
                team = record.team.as_deref(),
                model = record.model.as_deref(),
                provider = record.provider.as_deref(),
                upstream_model = record.upstream_model.as_deref(),
                attempts = record.attempts,
                input_tokens = record.usage.map(|usage| usage.input),
                output_tokens = record.usage.map(|usage| usage.output),
                finish = record.finish.map(penstock_domain::FinishReason::name),
                duration_ms = millis(record.duration),
                first_token_ms = record.first_token.map(millis),
                code = record.outcome.code(),
                stage = record.outcome.error().and_then(|error| error.stage()).map(|stage| stage.name()),
                error = record.outcome.error().map(|error| error.say()),
                cause = record.outcome.error().and_then(causes).as_deref(),
                "request"
            )
        };
    }
    match &record.outcome {
        Outcome::Refused(error) | Outcome::Failed(error) => match error.blame() {
            Blame::Client => line!(info),
            Blame::Vendor => line!(warn),
            Blame::Gateway => line!(error),
        },
        Outcome::Complete | Outcome::Cancelled => line!(info),
    }
}

fn millis(time: Duration) -> f64 {
    // Three digits after the point: microseconds.
    (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// The chain of causes on one line.
fn causes(error: &penstock_domain::Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    let mut text = String::new();
    while let Some(inner) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
