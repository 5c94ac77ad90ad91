//! Where records go: a bounded queue, and one task that turns them into metrics, log lines and rows in batches.

mod keeper;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use penstock_domain::Priority;
use tokio::sync::mpsc;

use crate::{Lines, Metrics, Record, RecordStore, Recorder, Tail};
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

/// Longest name of a model that is kept, in bytes: askers name models as they like.
const NAME: usize = 256;

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
    lines: Option<Lines>,
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
            lines: None,
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

/// Cuts a name that an asker or a vendor chose to what may wait in a queue and be kept.
fn cut(name: &mut Option<Arc<str>>) {
    if let Some(long) = name.as_deref().filter(|name| name.len() > NAME) {
        *name = Some(Arc::from(&long[..long.floor_char_boundary(NAME)]));
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
        cut(&mut record.asked);
        cut(&mut record.version);
        let bytes = self.weigh(&mut record);
        if self.queue.try_send(record).is_err() {
            self.content.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.dropped.inc();
        }
    }

    fn waited(&self, class: Priority, wait: Duration, served: bool) {
        self.metrics.waits.waited(class, wait, served);
    }
}

impl Tally {
    /// Also keeps every record in a store.
    #[must_use]
    pub fn keeping(mut self, store: Arc<dyn RecordStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Also writes a log line for every record.
    #[must_use]
    pub fn writing(mut self, lines: Lines) -> Self {
        self.lines = Some(lines);
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
            }
            if let Some(lines) = &mut self.lines {
                // A log that cannot be written must not stop the counting, and there is nowhere left to say so.
                let _ = lines.write(&batch);
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

#[cfg(test)]
pub(crate) mod tests;
