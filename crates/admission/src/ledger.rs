//! Every reservation and its end, kept for good.
//!
//! What it is: the port [`LedgerStore`], and the [`Writer`] that brings to it what permits say, in batches and off the path of
//! requests.
//!
//! What it promises: every reservation ends in exactly one [`Entry`]; one that outlives a batch is written down while it is
//! open, with what its answer has used so far, so that whoever starts after a crash can settle it as estimated. Entries wait in
//! memory while the store fails, and beyond [`WAITING`] of them no request is admitted: none is lost silently.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use penstock_config::Per;
use penstock_domain::{Code, Cost, Error, RequestId, Tags, Tariff, Usage};
use tokio::sync::mpsc;

use crate::rules::{Level, Need};
use crate::shared::Link;
use penstock_domain::calendar;

/// Entries that may wait for a store that fails.
pub const WAITING: usize = 64 * 1024;

/// Reservations that may be open or wait to be written.
const PLACES: usize = 4 * WAITING;

/// The longest time for which what an open answer has used is known to the memory alone.
const JOURNAL: Duration = Duration::from_millis(250);
/// Open answers that are written down in one [`JOURNAL`]; with more of them it takes longer.
const MANY: usize = 1_000;
/// How long the end of a reservation may wait for others to be written with it. What comes meanwhile wakes nobody, a transaction
/// is paid once for all of it, and a reservation that ends in this time is never written as open.
const TOGETHER: Duration = Duration::from_millis(125);
/// How long a store that failed is left alone.
const REST: Duration = Duration::from_secs(1);
/// Lines taken at once.
const LINES: usize = 1_024;

/// What the methods of [`LedgerStore`] return.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Keeps the ledger for good. Several gateways may share one: each has an id, open reservations are kept with it, and what a
/// gateway left open is settled by another one only when it is no more.
pub trait LedgerStore: Send + Sync {
    /// Writes a batch, all or nothing. An entry whose request has one already changes nothing: the first word stands.
    ///
    /// # Errors
    /// `store_unavailable` when trying the same again later may work; any other code when it never will.
    fn write<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Written>;

    /// The beginning: says that this gateway lives, settles what dead ones left open, as estimated, and says what everybody
    /// has spent by now.
    fn recover(&self, now: SystemTime) -> Pending<'_, Recovered>;

    /// Says again that this gateway lives, and settles what those left open that have died since. Asked every few seconds.
    fn tend(&self, now: SystemTime) -> Pending<'_, Tended>;

    /// What these accounts have spent, in their order and as of one moment. Models go by the names that they were asked by.
    fn spent<'a>(&'a self, accounts: &'a [(Level, Arc<str>)], now: SystemTime) -> Pending<'a, Vec<Sums>>;
}

/// One gateway process from its start to its end. The next start is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId(Arc<str>);

impl GatewayId {
    /// An id that nobody else has: 128 random bits.
    pub fn random() -> Self {
        // The standard library's hash tables are keyed from the system's source of randomness.
        let [one, two] = [0_u64, 1].map(|turn| RandomState::new().hash_one((turn, std::process::id())));
        Self(format!("{one:016x}{two:016x}").into())
    }

    /// An id as a store kept it.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text: letters and digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a written batch came to.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// The accounts that have spent something in it, and what each has spent ever, this batch and everybody else's before it
    /// included, in micro-dollars. For one account these numbers only ever grow.
    pub totals: Vec<(Level, Box<str>, u64)>,
}

/// What was found while tending.
#[derive(Debug, Clone, Default)]
pub struct Tended {
    /// How many reservations of dead gateways were settled.
    pub orphans: u64,
    /// Every gateway that lives, this one too. What a gateway left open that is not among them has been settled.
    pub living: Vec<GatewayId>,
}

/// What a ledger says at the start.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// How many reservations had been left open.
    pub orphans: u64,
    /// What was spent, by account; the organisation's name is empty.
    pub spent: Vec<(Level, Box<str>, Sums)>,
}

/// Money spent, in micro-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// On this day (UTC).
    pub day: u64,
    /// In this month (UTC).
    pub month: u64,
    /// Ever.
    pub lifetime: u64,
}

impl Sums {
    /// What was spent of a budget of this kind.
    pub fn within(&self, per: Per) -> u64 {
        match per {
            Per::Day => self.day,
            Per::Month => self.month,
            Per::Lifetime => self.lifetime,
        }
    }
}

/// When the day and the month of a moment began, in UTC.
pub fn begins(wall: SystemTime) -> (SystemTime, SystemTime) {
    (calendar::day_begins(calendar::day(wall)), calendar::month_begins(calendar::month(wall)))
}

/// A reservation as it was made, and what is known of its answer so far.
#[derive(Debug)]
pub struct Open {
    /// The request.
    pub id: RequestId,
    /// When it was admitted.
    pub begun: SystemTime,
    /// The caller's key.
    pub key: Arc<str>,
    /// The caller's team.
    pub team: Option<Arc<str>>,
    /// The model's name in the catalogue.
    pub model: Option<Arc<str>>,
    /// The request's labels.
    pub tags: Tags,
    /// What was held at the beginning.
    pub reserved: Need,
    /// The dearest prices that it may be billed at.
    pub(crate) tariff: Option<Tariff>,
    pub(crate) input: AtomicU64,
    /// One more than the tokens of the answer so far; 0 before a provider was called.
    pub(crate) seen: AtomicU64,
    /// Its number among the requests that gateways share; 0 where they share none.
    pub(crate) number: u64,
    /// Who answers, or was asked last.
    pub(crate) provider: Mutex<Option<Arc<str>>>,
}

/// What a request has to pay to one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Whom.
    pub provider: Arc<str>,
    /// How much, in micro-dollars.
    pub micros: u64,
    /// What [`crate::Stake::end`] said, where the provider has bounds: its account has the money already.
    pub stake: Option<u64>,
}

impl Open {
    /// A reservation that a process left which is no more.
    pub fn left(id: RequestId, begun: SystemTime, reserved: Need) -> Self {
        Self {
            id,
            begun,
            key: "".into(),
            team: None,
            model: None,
            tags: Tags::default(),
            reserved,
            tariff: None,
            input: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            number: 0,
            provider: Mutex::default(),
        }
    }

    /// Who answers, or was asked last.
    pub fn provider(&self) -> Option<Arc<str>> {
        self.provider.lock().clone()
    }

    /// Somebody is asked, or answers.
    pub fn asks(&self, provider: &Arc<str>) {
        *self.provider.lock() = Some(Arc::clone(provider));
    }

    /// The provider is called, or has answered so much; `input` replaces the estimate of the prompt.
    pub(crate) fn used(&self, input: Option<u64>, output: u64) {
        if let Some(input) = input {
            self.input.store(input, Ordering::Relaxed);
        }
        self.seen.store(output.saturating_add(1), Ordering::Relaxed);
    }

    /// What the request would be settled with if the gateway ended now; `None` when no provider was called.
    pub fn so_far(&self) -> Option<(Usage, Cost)> {
        let output = self.seen.load(Ordering::Relaxed).checked_sub(1)?;
        let usage = Usage { input: self.input.load(Ordering::Relaxed), output, ..Usage::default() };
        Some((usage, self.tariff.map_or(Cost::Unknown, |tariff| tariff.cost(&usage))))
    }
}

/// How a reservation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With what was used.
    Settled,
    /// Nothing was used, all of it was given back.
    Refunded,
    /// The process ended first; settled afterwards with what was known.
    Orphaned,
}

impl End {
    /// `settled`, `refunded` or `orphaned`.
    pub const fn name(self) -> &'static str {
        match self {
            End::Settled => "settled",
            End::Refunded => "refunded",
            End::Orphaned => "orphaned",
        }
    }
}

/// The end of a reservation.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The reservation.
    pub open: Arc<Open>,
    /// What was held at the end.
    pub held: Need,
    /// How it ended.
    pub end: End,
    /// When.
    pub at: SystemTime,
    /// Tokens that were used; `None` when no answer began.
    pub usage: Option<Usage>,
    /// Whether the tokens are our own count.
    pub estimated: bool,
    /// What is charged.
    pub cost: Cost,
    /// To whom it is paid: one request may have called several providers, and one of them more than once.
    pub calls: Box<[Called]>,
    /// Whether the store knows the reservation as open.
    pub kept: bool,
}

/// What is written at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// Reservations that are still open.
    pub opened: Vec<Arc<Open>>,
    /// Open reservations whose answers have grown.
    pub grown: Vec<Arc<Open>>,
    /// The ends of reservations; some were never written as open.
    pub closed: Vec<Entry>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.grown.is_empty() && self.closed.is_empty()
    }
}

#[derive(Debug)]
enum Line {
    Opened(Arc<Open>),
    Closed(Box<Entry>),
    /// It never was one: the other gateways had no room.
    Void(Box<Entry>),
    /// Nothing comes after this.
    End,
}

/// The side of the permits: never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    lines: mpsc::Sender<Line>,
    waiting: Arc<AtomicUsize>,
}

/// Room for the end of one reservation, taken when it begins: an end is never lost for want of room.
#[derive(Debug)]
pub(crate) struct Place {
    line: mpsc::OwnedPermit<Line>,
    waiting: Arc<AtomicUsize>,
}

impl Book {
    pub(crate) fn new(store: Arc<dyn LedgerStore>) -> (Self, Writer) {
        let (sender, receiver) = mpsc::channel(PLACES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            store,
            lines: receiver,
            waiting: Arc::clone(&waiting),
            open: HashMap::new(),
            fresh: Vec::new(),
            closed: Vec::new(),
            failing: false,
            journaled: Instant::now(),
            link: None,
        };
        (Self { lines: sender, waiting }, writer)
    }

    /// Room for one more reservation, unless too many ends wait to be written.
    pub(crate) fn place(&self) -> Option<Place> {
        if self.waiting.load(Ordering::Relaxed) >= WAITING {
            return None;
        }
        let line = self.lines.clone().try_reserve_owned().ok()?;
        Some(Place { line, waiting: Arc::clone(&self.waiting) })
    }

    pub(crate) fn unwritten(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed) as u64
    }

    pub(crate) fn opened(&self, open: Arc<Open>) {
        // Without room it is written when it ends; only a crash in between would not find it.
        let _ = self.lines.try_send(Line::Opened(open));
    }

    pub(crate) fn end(&self) {
        // Without room the writer is working still: whoever waits for it says for how long.
        let _ = self.lines.try_send(Line::End);
    }
}

impl Place {
    pub(crate) fn closed(self, entry: Entry) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.line.send(Line::Closed(Box::new(entry)));
    }

    /// Nothing was reserved after all. An entry is only written where the store has it as open.
    pub(crate) fn void(self, entry: Entry) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.line.send(Line::Void(Box::new(entry)));
    }
}

/// The side of the store: run it as one task.
pub struct Writer {
    store: Arc<dyn LedgerStore>,
    lines: mpsc::Receiver<Line>,
    waiting: Arc<AtomicUsize>,
    /// By their addresses, which nobody else can have while they are here.
    open: HashMap<usize, Watched>,
    fresh: Vec<Arc<Open>>,
    closed: Vec<Entry>,
    failing: bool,
    /// When open answers were last looked at.
    journaled: Instant,
    /// Who else wants to know what is written.
    link: Option<Arc<Link>>,
}

struct Watched {
    open: Arc<Open>,
    /// What the store knows of it; `None`: nothing yet.
    written: Option<u64>,
}

impl Writer {
    /// Tells what is written to the other gateways, too.
    pub fn tell(&mut self, link: &Arc<Link>) {
        self.link = Some(Arc::clone(link));
    }

    /// Works until the ledger is closed and everything is written.
    pub async fn run(mut self) {
        let mut taken = Vec::with_capacity(LINES);
        let mut goes_on = true;
        while goes_on {
            goes_on = self.take(&mut taken).await;
            if goes_on {
                tokio::time::sleep(if self.failing { REST } else { TOGETHER }).await;
                goes_on = self.drain(&mut taken);
            }
            self.write().await;
        }
        while !self.closed.is_empty() {
            tokio::time::sleep(TOGETHER).await;
            self.write().await;
        }
    }

    /// Takes what has come; waits for it where nothing is open that would have to be looked at.
    async fn take(&mut self, taken: &mut Vec<Line>) -> bool {
        let idle = self.open.is_empty() && self.closed.is_empty();
        let came = if idle {
            self.lines.recv_many(taken, LINES).await
        } else {
            // Nothing came: then it is soon time for the journal.
            tokio::time::timeout(JOURNAL - TOGETHER, self.lines.recv_many(taken, LINES)).await.unwrap_or(1)
        };
        let goes_on = self.drain(taken);
        goes_on && came > 0
    }

    /// Takes all that is there; says whether more may come.
    fn drain(&mut self, taken: &mut Vec<Line>) -> bool {
        let mut goes_on = true;
        loop {
            for line in taken.drain(..) {
                match line {
                    Line::Opened(open) => {
                        self.open.insert(address(&open), Watched { open: Arc::clone(&open), written: None });
                        self.fresh.push(open);
                    }
                    Line::Closed(mut entry) => {
                        let watched = self.open.remove(&address(&entry.open));
                        entry.kept = watched.is_some_and(|watched| watched.written.is_some());
                        self.closed.push(*entry);
                    }
                    Line::Void(mut entry) => {
                        let watched = self.open.remove(&address(&entry.open));
                        entry.kept = watched.is_some_and(|watched| watched.written.is_some());
                        if entry.kept {
                            self.closed.push(*entry);
                        } else {
                            self.waiting.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                    Line::End => goes_on = false,
                }
            }
            match self.lines.try_recv() {
                Ok(line) => taken.push(line),
                Err(mpsc::error::TryRecvError::Empty) => return goes_on,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    async fn write(&mut self) {
        // What came and went within one batch is written once, as closed.
        let opened: Vec<_> =
            self.fresh.drain(..).filter(|open| self.open.contains_key(&address(open))).collect();
        let batch = Batch { opened, grown: self.grown(), closed: std::mem::take(&mut self.closed) };
        if batch.is_empty() {
            return;
        }
        match self.store.write(&batch).await {
            Ok(written) => {
                if let Some(link) = &self.link {
                    link.written(numbers(&batch), &written.totals);
                }
                self.written(&batch);
            }
            Err(error) if error.code() == Code::StoreUnavailable => {
                if !std::mem::replace(&mut self.failing, true) {
                    let source = std::error::Error::source(&error);
                    tracing::error!(%error, source, "the ledger is not written; its entries wait in memory");
                }
                self.fresh = batch.opened;
                self.closed = batch.closed;
            }
            Err(error) => {
                tracing::error!(%error, count = batch.closed.len(), "entries cannot be written to the ledger and are lost");
                if let Some(link) = &self.link {
                    link.written(numbers(&batch), &[]);
                }
                self.written(&batch);
            }
        }
    }

    /// The open answers that have grown, once an interval; with many the interval is longer, so that writing them down does
    /// not become most of the work.
    fn grown(&mut self) -> Vec<Arc<Open>> {
        let interval = JOURNAL * u32::try_from(1 + self.open.len() / MANY).unwrap_or(u32::MAX);
        if self.open.is_empty() || self.journaled.elapsed() < interval {
            return Vec::new();
        }
        self.journaled = Instant::now();
        let grown = self.open.values().filter(|watched| watched.grown());
        grown.map(|watched| Arc::clone(&watched.open)).collect()
    }

    fn written(&mut self, batch: &Batch) {
        if std::mem::replace(&mut self.failing, false) {
            tracing::info!("the ledger is written again");
        }
        self.waiting.fetch_sub(batch.closed.len(), Ordering::Relaxed);
        for open in batch.opened.iter().chain(&batch.grown) {
            if let Some(watched) = self.open.get_mut(&address(open)) {
                watched.written = Some(open.seen.load(Ordering::Relaxed));
            }
        }
    }
}

/// The numbers of the requests that have ended, and of their calls.
fn numbers(batch: &Batch) -> impl Iterator<Item = u64> {
    let calls = batch.closed.iter().flat_map(|entry| entry.calls.iter().filter_map(|call| call.stake));
    batch.closed.iter().map(|entry| entry.open.number).chain(calls).filter(|number| *number > 0)
}

fn address(open: &Arc<Open>) -> usize {
    Arc::as_ptr(open).addr()
}

impl Watched {
    fn grown(&self) -> bool {
        self.written.is_some_and(|written| written != self.open.seen.load(Ordering::Relaxed))
    }
}
