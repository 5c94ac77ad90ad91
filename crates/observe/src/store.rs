//! The port under which records are kept and found again.
//!
//! What it is: [`RecordStore`], and the words of its questions. Time in it is the moment at which a request *ended*: what
//! is counted in an hour, found before an instant or thrown away by age goes by that, so that a page once read stays as
//! it was.
//!
//! What it promises: usage is the exact sum of the records; a cost that nobody knows is counted apart and is never zero.
//! Every question is bounded: rows of an answer, groups of a sum, records looked at.

mod memory;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_domain::{Cost, Error, Money, Usage};

use crate::{Gaps, Outcome, Record};

pub use memory::MemoryRecords;

/// What the methods of [`RecordStore`] return.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Most records of one page.
pub const MAX_PAGE: usize = 1_000;
/// Most groups of one report; those with the most requests are listed, all are in its total.
pub const MAX_GROUPS: usize = 1_000;
/// Most tokens of a kind that one record is counted with: a vendor may say anything, and sums have to stay exact.
pub const MAX_TOKENS: u64 = 1 << 40;
/// Most that one record is counted to cost, about 1.1 million dollars, for the same reason.
pub const MAX_COST: Money = Money::from_micros(1 << 40);

/// Keeps records for as long as the operator says.
pub trait RecordStore: Send + Sync {
    /// Adds records, all or none, in their order. When it returns they outlive the process.
    ///
    /// # Errors
    /// `store_unavailable` when trying the same again later may work; any other code when it never will.
    fn append<'a>(&'a self, batch: &'a [Record]) -> Pending<'a, ()>;

    /// One record, with what was captured of it.
    fn one<'a>(&'a self, id: &'a str) -> Pending<'a, Option<Entry>>;

    /// Records that the filter lets through, without content, newest first, from a cursor downwards. Looks at a bounded
    /// number of records: a page may be short, or empty, and still have a next one.
    fn search<'a>(&'a self, filter: &'a Filter, page: Page) -> Pending<'a, Found>;

    /// Sums, over whole hours.
    ///
    /// # Errors
    /// `invalid_value` when the range holds more than can be added up in one answer.
    fn usage<'a>(&'a self, by: &'a By, range: Hours) -> Pending<'a, Report>;

    /// Throws away a small number of records that ended before an instant, and content whose time is over `now`. Says
    /// whether there may be more; call it again then, after a pause.
    fn expire(&self, before: SystemTime, now: SystemTime) -> Pending<'_, bool>;
}

/// Tells what was spent, by the ledger: as the records tell it, and longer.
pub trait Spending: Send + Sync {
    /// Sums, over whole hours.
    ///
    /// # Errors
    /// `invalid_value` when the range holds more than can be added up in one answer.
    fn spend<'a>(&'a self, by: &'a By, range: Hours) -> Pending<'a, Report>;
}

/// A record as it is shown: with the figures of its pauses in place of their histogram.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The record; its `gaps` are empty.
    pub record: Record,
    /// The pauses between the pieces of the stream.
    pub pauses: Option<Pauses>,
}

/// What is kept of [`Gaps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// How many there were.
    pub count: u32,
    /// All together.
    pub sum: Duration,
    /// The longest.
    pub max: Duration,
    /// Half of them are not longer.
    pub p50: Duration,
    /// All but one in a hundred are not longer.
    pub p99: Duration,
}

impl From<&Gaps> for Pauses {
    fn from(gaps: &Gaps) -> Self {
        Self { count: gaps.count(), sum: gaps.sum(), max: gaps.max(), p50: gaps.p50(), p99: gaps.p99() }
    }
}

impl Entry {
    /// A record to be shown, without what was captured of it.
    pub fn of(record: &Record) -> Self {
        let pauses = record.gaps.as_deref().map(Pauses::from);
        // Neither the histogram nor the content is copied.
        let shown = Record {
            gaps: None,
            content: None,
            id: record.id.clone(),
            dialect: record.dialect,
            asked: record.asked.clone(),
            tags: record.tags.clone(),
            key: record.key.clone(),
            team: record.team.clone(),
            model: record.model.clone(),
            provider: record.provider.clone(),
            upstream_model: record.upstream_model.clone(),
            version: record.version.clone(),
            tries: record.tries.clone(),
            considered: record.considered.clone(),
            outcome: record.outcome.clone(),
            ..*record
        };
        Self { record: shown, pauses }
    }
}

/// How a request ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Delivered whole.
    Ok,
    /// The asker left.
    Cancelled,
    /// Refused before an answer began.
    Refused,
    /// Broken after it had begun.
    Failed,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 4] = [Status::Ok, Status::Cancelled, Status::Refused, Status::Failed];

    /// `ok`, `cancelled`, `refused` or `failed`.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Cancelled => "cancelled",
            Status::Refused => "refused",
            Status::Failed => "failed",
        }
    }

    /// The status of an outcome.
    pub const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Complete | Outcome::Replayed => Status::Ok,
            Outcome::Cancelled => Status::Cancelled,
            Outcome::Refused(_) => Status::Refused,
            Outcome::Failed(_) => Status::Failed,
        }
    }
}

/// Which records are wanted: those that fit everything that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The caller's key id.
    pub key: Option<Box<str>>,
    /// The caller's team.
    pub team: Option<Box<str>>,
    /// The model's name in the catalogue.
    pub model: Option<Box<str>>,
    /// The provider that answered, or was tried last.
    pub provider: Option<Box<str>>,
    /// `ok`, `replayed`, `cancelled` or an error code.
    pub code: Option<Box<str>>,
    /// How it ended.
    pub status: Option<Status>,
    /// A label and its value.
    pub tag: Option<(Box<str>, Box<str>)>,
    /// Ended then or later.
    pub since: Option<SystemTime>,
    /// Ended before.
    pub until: Option<SystemTime>,
}

impl Filter {
    /// Whether it lets a record through that ended at this moment.
    pub fn fits(&self, record: &Record, ended: SystemTime) -> bool {
        let same = |wanted: &Option<Box<str>>, have: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| have == Some(wanted))
        };
        same(&self.key, record.key.as_deref())
            && same(&self.team, record.team.as_deref())
            && same(&self.model, record.model.as_deref())
            && same(&self.provider, record.provider.as_deref())
            && same(&self.code, Some(record.outcome.code()))
            && self.status.is_none_or(|status| status == Status::of(&record.outcome))
            && self.tag.as_ref().is_none_or(|(name, value)| record.tags.get(name) == Some(value))
            && self.since.is_none_or(|since| ended >= since)
            && self.until.is_none_or(|until| ended < until)
    }
}

/// Where a page begins, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the page before; without it the newest come first.
    pub after: Option<u64>,
    /// At most this many, 1 to [`MAX_PAGE`].
    pub limit: usize,
}

/// One page.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The records, newest first.
    pub entries: Vec<Entry>,
    /// Where the next page begins, if there may be one.
    pub next: Option<u64>,
}

/// What sums are grouped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The caller's key.
    Key,
    /// The model's name in the catalogue.
    Model,
    /// The caller's team.
    Team,
    /// The hour in which the request ended.
    Hour,
    /// The value of one label.
    Tag(Box<str>),
}

/// Whole hours: from one, counted since 1970 in UTC, up to another that is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// The first hour.
    pub since: u64,
    /// The hour after the last.
    pub until: u64,
}

impl Hours {
    /// Seconds of one.
    pub const SECONDS: u64 = 3_600;

    /// The hours that a span of time touches.
    pub fn around(since: SystemTime, until: SystemTime) -> Self {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let last = seconds(until).as_nanos().div_ceil(u128::from(Self::SECONDS) * 1_000_000_000);
        let last = u64::try_from(last).unwrap_or(u64::MAX);
        Self { since: seconds(since).as_secs() / Self::SECONDS, until: last }
    }

    /// When an hour begins.
    pub fn begins(hour: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(hour.saturating_mul(Self::SECONDS))
    }
}

/// Sums by group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The groups: hours in their order, others with the most requests first.
    pub rows: Vec<(Group, Sums)>,
    /// Everything in the range, also what is in no listed group.
    pub total: Sums,
}

/// What a sum belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Records that have no such thing: no key was known, no model was found, the label is missing.
    None,
    /// A key's id, a model, a team, a label's value.
    Named(Arc<str>),
    /// An hour since 1970.
    Hour(u64),
}

/// Sums over records. `input` includes `cached_input` and `cache_write`, `output` includes `reasoning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// How many there were.
    pub requests: u64,
    /// Tokens of prompts.
    pub input: u64,
    /// Tokens of answers.
    pub output: u64,
    /// Tokens read from prompt caches.
    pub cached_input: u64,
    /// Tokens written to prompt caches.
    pub cache_write: u64,
    /// Tokens spent on reasoning.
    pub reasoning: u64,
    /// Requests whose tokens we counted because the vendor did not.
    pub estimated: u64,
    /// The part of `input` that belongs to them.
    pub estimated_input: u64,
    /// The part of `output` that belongs to them.
    pub estimated_output: u64,
    /// What is known of the cost, in millionths of a dollar.
    pub cost: u64,
    /// Requests that cost something, nobody knows how much.
    pub unpriced: u64,
}

impl Sums {
    /// What one record adds.
    pub fn of(record: &Record) -> Self {
        Self::used(record.usage, record.estimated, record.cost)
    }

    /// What one request adds that used and cost so much.
    pub fn used(usage: Option<Usage>, estimated: bool, cost: Cost) -> Self {
        let usage = usage.unwrap_or_default();
        let tokens = |count: u64| count.min(MAX_TOKENS);
        let (input, output) = (tokens(usage.input), tokens(usage.output));
        let guessed = |count| if estimated { count } else { 0 };
        Self {
            requests: 1,
            input,
            output,
            cached_input: tokens(usage.cached_input.unwrap_or(0)),
            cache_write: tokens(usage.cache_write.unwrap_or(0)),
            reasoning: tokens(usage.reasoning.unwrap_or(0)),
            estimated: guessed(1),
            estimated_input: guessed(input),
            estimated_output: guessed(output),
            cost: cost.known().map_or(0, |cost| cost.min(MAX_COST).micros()),
            unpriced: u64::from(cost == Cost::Unknown),
        }
    }

    /// The sums as a row of numbers, in the order of the members.
    pub const fn row(self) -> [u64; 11] {
        [
            self.requests,
            self.input,
            self.output,
            self.cached_input,
            self.cache_write,
            self.reasoning,
            self.estimated,
            self.estimated_input,
            self.estimated_output,
            self.cost,
            self.unpriced,
        ]
    }

    /// The sums of a row of numbers.
    pub const fn from_row(row: [u64; 11]) -> Self {
        let [requests, input, output, cached_input, cache_write, reasoning, ..] = row;
        let [.., estimated, estimated_input, estimated_output, cost, unpriced] = row;
        Self {
            requests,
            input,
            output,
            cached_input,
            cache_write,
            reasoning,
            estimated,
            estimated_input,
            estimated_output,
            cost,
            unpriced,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Sums) -> Self {
        let (mine, theirs) = (self.row(), other.row());
        Self::from_row(std::array::from_fn(|i| mine[i].saturating_add(theirs[i])))
    }
}

/// When a request ended, in microseconds since 1970: the order of records.
pub fn ended(record: &Record) -> u64 {
    let since = record.at.duration_since(UNIX_EPOCH).unwrap_or_default() + record.duration;
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
