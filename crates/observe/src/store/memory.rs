//! Records in memory, for tests: the same answers as any other store, gone with the process.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use penstock_domain::Error;

use super::{
    By, Entry, Filter, Found, Group, Hours, MAX_GROUPS, Page, Pending, RecordStore, Report, Spending, Sums,
    ended,
};
use crate::Record;

/// Keeps every record until it expires.
#[derive(Debug, Default)]
pub struct MemoryRecords(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<u64, Record>,
    failure: Option<Error>,
}

impl MemoryRecords {
    /// Fails every call with this error from now on, or works again: what a full disk looks like.
    pub fn fail(&self, failure: Option<Error>) {
        self.0.lock().failure = failure;
    }

    fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut BTreeMap<u64, Record>) -> T) -> Pending<'_, T> {
        let mut state = self.0.lock();
        let outcome = match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(act(&mut state.records)),
        };
        Box::pin(ready(outcome))
    }
}

fn time(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

/// The hour of a record's place.
fn hour(place: u64) -> u64 {
    place / (Hours::SECONDS * 1_000_000)
}

impl RecordStore for MemoryRecords {
    fn append<'a>(&'a self, batch: &'a [Record]) -> Pending<'a, ()> {
        self.with(|records| {
            for record in batch {
                let next = records.last_key_value().map_or(0, |(last, _)| last + 1);
                records.insert(ended(record).max(next), record.clone());
            }
        })
    }

    fn one<'a>(&'a self, id: &'a str) -> Pending<'a, Option<Entry>> {
        self.with(|records| {
            let record = records.values().find(|record| record.id.as_str() == id)?;
            let mut entry = Entry::of(record);
            entry.record.content.clone_from(&record.content);
            Some(entry)
        })
    }

    fn search<'a>(&'a self, filter: &'a Filter, page: Page) -> Pending<'a, Found> {
        self.with(|records| {
            let before = page.after.unwrap_or(u64::MAX);
            let mut fitting =
                records.range(..before).rev().filter(|(place, record)| filter.fits(record, time(**place)));
            let mut found = Found::default();
            for (place, record) in fitting.by_ref().take(page.limit) {
                found.entries.push(Entry::of(record));
                found.next = Some(*place);
            }
            if fitting.next().is_none() {
                found.next = None;
            }
            found
        })
    }

    fn usage<'a>(&'a self, by: &'a By, range: Hours) -> Pending<'a, Report> {
        self.with(|records| {
            let mut groups: HashMap<Group, Sums> = HashMap::new();
            let mut report = Report::default();
            for (place, record) in records {
                if !(range.since..range.until).contains(&hour(*place)) {
                    continue;
                }
                let named = |name: Option<&str>| name.map_or(Group::None, |name| Group::Named(name.into()));
                let group = match by {
                    By::Key => named(record.key.as_deref()),
                    By::Model => named(record.model.as_deref()),
                    By::Team => named(record.team.as_deref()),
                    By::Hour => Group::Hour(hour(*place)),
                    By::Tag(name) => named(record.tags.get(name)),
                };
                let sums = Sums::of(record);
                report.total = report.total.plus(sums);
                let group = groups.entry(group).or_default();
                *group = group.plus(sums);
            }
            report.rows = groups.into_iter().collect();
            report.rows.sort_by(|a, b| match by {
                By::Hour => a.0.cmp(&b.0),
                _ => b.1.requests.cmp(&a.1.requests).then_with(|| a.0.cmp(&b.0)),
            });
            report.rows.truncate(MAX_GROUPS);
            report
        })
    }

    fn expire(&self, before: SystemTime, now: SystemTime) -> Pending<'_, bool> {
        self.with(|records| {
            records.retain(|place, _| time(*place) >= before);
            for (place, record) in records {
                let over = |retention| time(*place) + retention < now;
                if record.content.as_ref().is_some_and(|content| over(content.retention)) {
                    record.content = None;
                }
            }
            false
        })
    }
}

impl Spending for MemoryRecords {
    fn spend<'a>(&'a self, by: &'a By, range: Hours) -> Pending<'a, Report> {
        self.usage(by, range)
    }
}
