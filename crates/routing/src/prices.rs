//! What models cost and when: the operator's prices, and the vendors' list prices that this version knows.
//!
//! What it promises: a price that nobody gave is no price, never zero. The last row whose date is not after a request's
//! arrival holds, and before the first date nothing is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use penstock_domain::{Price, Rates, Tariff, calendar};

/// The list prices, one row a line; its head says where they come from.
const LIST: &str = include_str!("prices/list.txt");

/// Tariffs of one model by the moment from which they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices(Box<[(SystemTime, Tariff)]>);

impl Prices {
    /// Takes tariffs with the moments from which they hold, in any order.
    pub fn new(mut tariffs: Vec<(SystemTime, Tariff)>) -> Self {
        tariffs.sort_by_key(|(since, _)| *since);
        Self(tariffs.into())
    }

    /// Nothing costs anything: the operator's own hardware.
    pub fn free() -> Self {
        Self::new(vec![(SystemTime::UNIX_EPOCH, Tariff::FREE)])
    }

    /// The tariff that held at a moment.
    pub fn at(&self, when: SystemTime) -> Option<&Tariff> {
        self.0.iter().rev().find(|(since, _)| *since <= when).map(|(_, tariff)| tariff)
    }

    /// The last tariff that is known, for comparisons.
    pub(crate) fn latest(&self) -> Option<&Tariff> {
        self.0.last().map(|(_, tariff)| tariff)
    }
}

/// List prices by the vendor's kind and the model's exact name.
#[derive(Debug, Default)]
pub struct PriceList(HashMap<&'static str, HashMap<&'static str, Arc<Prices>>>);

impl PriceList {
    /// The list of this version. A row that cannot be read is left out; a test holds that there is none.
    pub fn builtin() -> Self {
        let mut dated: HashMap<(&str, &str), Vec<(SystemTime, Tariff)>> = HashMap::new();
        for row in rows(LIST).filter_map(Row::read) {
            dated.entry((row.kind, row.model)).or_default().push((row.since, row.tariff));
        }
        let mut list = Self::default();
        for ((kind, model), tariffs) in dated {
            list.0.entry(kind).or_default().insert(model, Arc::new(Prices::new(tariffs)));
        }
        list
    }

    /// The prices of a vendor's model. Names are taken exactly: a version that is not listed may cost something else.
    pub fn find(&self, kind: &str, model: &str) -> Option<&Arc<Prices>> {
        self.0.get(kind)?.get(model)
    }
}

fn rows(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

struct Row {
    kind: &'static str,
    model: &'static str,
    since: SystemTime,
    tariff: Tariff,
}

impl Row {
    fn read(line: &'static str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [kind, model, from, usual @ .., over, a, b, c, d, e] = words.as_slice() else { return None };
        let since = if *from == "-" { SystemTime::UNIX_EPOCH } else { midnight(from)? };
        let tariff = Tariff {
            rates: rates(usual)?,
            long: match [over, a, b, c, d, e].map(|word| *word) {
                ["-", "-", "-", "-", "-", "-"] => None,
                [over, rest @ ..] => Some((over.parse().ok()?, rates(&rest)?)),
            },
        };
        Some(Self { kind, model, since, tariff })
    }
}

/// Input, cached input, cache write, cache write for an hour, output.
fn rates(words: &[&str]) -> Option<Rates> {
    let price = |word: &str| match word {
        "-" => Some(None),
        text => Price::per_million(text).map(Some),
    };
    let [input, cached_input, cache_write, cache_write_hour, output] = words else { return None };
    Some(Rates {
        input: price(input)??,
        output: price(output)?,
        cached_input: price(cached_input)?,
        cache_write: price(cache_write)?,
        cache_write_hour: price(cache_write_hour)?,
        reasoning: None,
    })
}

/// The beginning of a day written `2026-11-23`, in UTC.
fn midnight(day: &str) -> Option<SystemTime> {
    let mut parts = day.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(calendar::day_begins(calendar::days(year, month, day)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_row_of_the_list_can_be_read_and_stands_once() {
        let mut seen = std::collections::HashSet::new();
        for line in rows(LIST) {
            let row = Row::read(line).unwrap_or_else(|| panic!("cannot be read: {line}"));
            assert!(row.tariff.rates.input > Price::FREE, "costs nothing: {line}");
            assert!(seen.insert((row.kind, row.model, row.since)), "stands twice: {line}");
        }
        assert!(seen.len() > 100);
    }

    #[test]
    fn rows_with_too_few_words_wrong_prices_or_wrong_days_are_not_read() {
        let good = "openai m 2026-03-01 1 0.1 - - 8 200000 2 0.2 - - 9";
        let row = Row::read(good).unwrap();
        assert_eq!(row.since, SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_323_200));
        assert_eq!(
            row.tariff.long.map(|(over, rates)| (over, rates.input.picos())),
            Some((200_000, 2_000_000))
        );
        for bad in [
            "openai m 2026-03-01 1 0.1 - - 8 200000 2 0.2 - -",
            "openai m 2026-03-01 1 0.1 - - 8 200000 2 0.2 - - 9 9",
            "openai m 2026-13-01 1 0.1 - - 8 - - - - - -",
            "openai m - - 0.1 - - 8 - - - - - -",
            "openai m - 1 x - - 8 - - - - - -",
            "openai m - 1 - - - 8 - 2 - - - -",
        ] {
            assert!(Row::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn names_are_taken_exactly() {
        let list = PriceList::builtin();
        assert!(list.find("openai", "gpt-5").is_some());
        assert!(list.find("openai", "gpt-5-2099-01-01").is_none());
        assert!(list.find("vllm", "gpt-5").is_none());
    }

    #[test]
    fn the_last_tariff_that_has_begun_holds_and_before_the_first_there_is_none() {
        let day = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n * 86_400);
        let tariff = |text| Tariff {
            rates: Rates { input: Price::per_million(text).unwrap(), ..Rates::default() },
            long: None,
        };
        let prices = Prices::new(vec![(day(20), tariff("2")), (day(10), tariff("1"))]);
        let instant = Duration::from_nanos(1);
        assert_eq!(prices.at(day(10) - instant), None);
        assert_eq!(prices.at(day(10)), Some(&tariff("1")));
        assert_eq!(prices.at(day(20) - instant), Some(&tariff("1")));
        assert_eq!(prices.at(day(20)), Some(&tariff("2")));
    }
}
