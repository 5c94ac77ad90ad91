//! What is paid to providers: one request may have called several, and only one of them answered.

use std::collections::BTreeMap;

use penstock_admission::ledger::Entry;
use penstock_observe::store::{Hours, MAX_COST};

use crate::records::int;

/// What was paid to each provider in each hour, in micro-dollars.
#[derive(Default)]
pub(crate) struct Paid<'a>(BTreeMap<(i64, &'a str), u64>);

impl<'a> Paid<'a> {
    /// Adds what an entry paid that has this place.
    pub(crate) fn add(&mut self, place: i64, entry: &'a Entry) {
        let hour = place / int(Hours::SECONDS * 1_000_000);
        for call in entry.calls.iter().filter(|call| call.micros > 0) {
            let sum = self.0.entry((hour, &*call.provider)).or_default();
            *sum = sum.saturating_add(call.micros.min(MAX_COST.micros()));
        }
    }

    /// Hour, provider, cost.
    pub(crate) fn each(&self) -> impl Iterator<Item = (i64, &'a str, u64)> {
        self.0.iter().map(|((hour, provider), cost)| (*hour, *provider, *cost))
    }

    /// What each provider was paid in all hours.
    pub(crate) fn totals(&self) -> BTreeMap<&'a str, u64> {
        let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, provider, cost) in self.each() {
            let total = totals.entry(provider).or_default();
            *total = total.saturating_add(cost);
        }
        totals
    }
}
