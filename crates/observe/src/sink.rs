//! Where records go: a bounded queue, and one task that turns them into metrics and log lines in batches.

use std::sync::Arc;
use std::time::Duration;

use penstock_domain::{Blame, RequestId};
use tokio::sync::mpsc;

use crate::{Metrics, Outcome, Record, Recorder};

/// Records waiting to be written; beyond it they are counted as dropped rather than awaited.
const QUEUE: usize = 16 * 1024;

/// Records taken at once.
const BATCH: usize = 512;

/// Pause between batches: what arrives meanwhile wakes nobody, so a busy gateway pays one wake-up per pause, not per
/// request.
const PAUSE: Duration = Duration::from_millis(20);

/// The sending side: cheap to share, never blocks.
pub struct Sink {
    metrics: Arc<Metrics>,
    queue: mpsc::Sender<Record>,
}

/// The receiving side: run it as one task.
pub struct Tally {
    metrics: Arc<Metrics>,
    queue: mpsc::Receiver<Record>,
}

impl Sink {
    /// Makes both sides.
    pub fn new(metrics: Arc<Metrics>) -> (Arc<Self>, Tally) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Arc::new(Self { metrics: Arc::clone(&metrics), queue: sender }), Tally { metrics, queue: receiver })
    }
}

impl Recorder for Sink {
    fn begin(&self) {
        self.metrics.in_flight.inc();
    }

    fn end(&self, record: Record) {
        self.metrics.in_flight.dec();
        if self.queue.try_send(record).is_err() {
            self.metrics.dropped.inc();
        }
    }
}

impl Tally {
    /// Works until every [`Sink`] is gone and the queue is empty.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            for record in batch.drain(..) {
                self.metrics.record(&record);
                log(&record);
            }
            tokio::time::sleep(PAUSE).await;
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
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{Timings, names};

    fn record() -> Record {
        Record {
            id: RequestId::new("req_test"),
            at: SystemTime::now(),
            task: Some(penstock_domain::Task::Chat),
            stream: true,
            dialect: None,
            asked: None,
            tags: penstock_domain::Tags::default(),
            key: None,
            team: None,
            model: Some("large".into()),
            provider: Some("vendor".into()),
            upstream_model: None,
            version: None,
            attempts: 1,
            tries: Box::default(),
            estimated: false,
            cost: penstock_domain::Cost::Unknown,
            usage: Some(penstock_domain::Usage { input: 5, output: 3, ..Default::default() }),
            finish: None,
            duration: Duration::from_millis(30),
            first_token: Some(Duration::from_millis(10)),
            gaps: None,
            timings: Timings::default(),
            outcome: Outcome::Complete,
            content: None,
        }
    }

    #[tokio::test]
    async fn every_record_is_counted_before_the_tally_ends() {
        let metrics = Arc::new(Metrics::new("1.2.3"));
        let (sink, tally) = Sink::new(Arc::clone(&metrics));
        for _ in 0..3 {
            sink.begin();
            sink.end(record());
        }
        drop(sink);
        tally.run().await;
        let text = metrics.text();
        let counted =
            r#"penstock_requests_total{operation="chat",model="large",provider="vendor",code="ok"} 3"#;
        assert!(text.contains(counted), "{text}");
        assert!(text.contains("penstock_requests_in_flight 0"), "{text}");
        assert!(text.contains(r#"penstock_upstream_calls_total{provider="vendor"} 3"#), "{text}");
        for name in [names::TIME_TO_FIRST_TOKEN, names::TIME_PER_OUTPUT_TOKEN, names::TOKEN_USAGE] {
            assert!(text.contains(&format!("{name}_count")), "{name} is missing: {text}");
        }
    }

    #[test]
    fn a_full_queue_drops_records_and_counts_them_instead_of_waiting() {
        let metrics = Arc::new(Metrics::new("1.2.3"));
        let (sink, _tally) = Sink::new(Arc::clone(&metrics));
        for _ in 0..QUEUE + 2 {
            sink.begin();
            sink.end(record());
        }
        assert!(metrics.text().contains("penstock_records_dropped_total 2"));
    }
}
