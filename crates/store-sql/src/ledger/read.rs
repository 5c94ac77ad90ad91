//! What is asked of the ledger at the start.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_admission::ledger::{Called, End, Entry, GatewayId, Open, Sums, begins};
use penstock_admission::{Level, Need};
use penstock_domain::{Cost, Money, RequestId, Usage};

use crate::link::{Ask, Cells, Link};
use crate::records::{micros, read_tags, uint};

/// Where the ledger is kept.
pub(crate) struct Names {
    pub(crate) open: &'static str,
    pub(crate) hours: &'static str,
    pub(crate) totals: &'static str,
    /// What was paid to providers by hour.
    pub(crate) providers: &'static str,
    /// What is true of rows whose gateway is surely dead; empty: somebody else tells.
    pub(crate) dead: &'static str,
}

/// The names in a file of its own.
pub(super) const NAMES: Names =
    Names { open: "open", hours: "hours", totals: "totals", providers: "provider_hours", dead: "" };

impl Names {
    /// Where the sums of hours are, and the column of an account's name. The organisation's column equals its empty name.
    const fn hours(&self, level: Level) -> (&'static str, &'static str) {
        match level {
            Level::Key => (self.hours, "key"),
            Level::Team => (self.hours, "team"),
            Level::Organisation => (self.hours, "''"),
            Level::Model => (self.hours, "model"),
            Level::Provider => (self.providers, "provider"),
        }
    }
}

/// Reservations that are open, by the gateway that has them, as they are to be ended should it be no more: as estimated, with
/// what is known of their answers.
pub(crate) async fn left_open<L: Link>(
    link: &mut L,
    names: &Names,
    but: &GatewayId,
    now: SystemTime,
) -> sqlx::Result<Vec<(GatewayId, Entry)>> {
    let text = format!(
        "SELECT id, begun, key, team, model, reserved_input, reserved_output, reserved_cost, input, output, cost, tags, \
         gateway, provider FROM {} WHERE gateway <> $1 {}",
        names.open, names.dead
    );
    let rows = link.rows(Ask::new(text).bind(but.as_str())).await?;
    rows.iter().map(|row| Ok((GatewayId::new(row.word(12)?), orphan(row, now)?))).collect()
}

fn orphan(row: &impl Cells, now: SystemTime) -> sqlx::Result<Entry> {
    let text = |place: usize| row.text(place).map(|text| text.map(Arc::<str>::from));
    let number = |place: usize| row.count(place).map(uint);
    let reserved = Need { input: number(5)?, output: number(6)?, micros: number(7)? };
    let begun = UNIX_EPOCH + Duration::from_micros(number(1)?);
    let mut open = Open::left(RequestId::new(row.word(0)?), begun, reserved);
    open.key = row.word(2)?.into();
    (open.team, open.model) = (text(3)?, text(4)?);
    open.tags = read_tags(row.text(11)?.map(str::to_owned)).map_err(sqlx::Error::Decode)?;
    let tokens = |place: usize| row.number(place).map(|count| count.map(uint));
    let usage = match (tokens(8)?, tokens(9)?) {
        (Some(input), Some(output)) => Some(Usage { input, output, ..Usage::default() }),
        _ => None,
    };
    let cost = match row.number(10)? {
        _ if usage.is_none() => Cost::None,
        None => Cost::None,
        Some(-1) => Cost::Unknown,
        Some(cost) => Cost::Known(Money::from_micros(uint(cost))),
    };
    let provider = text(13)?;
    provider.iter().for_each(|provider| open.asks(provider));
    let paid = provider.zip(cost.known()).filter(|(_, money)| *money > Money::ZERO);
    let called = paid.map(|(provider, money)| Called { provider, micros: money.micros(), stake: None });
    Ok(Entry {
        open: Arc::new(open),
        held: reserved,
        end: if usage.is_some() { End::Orphaned } else { End::Refunded },
        at: now,
        usage,
        estimated: usage.is_some(),
        cost,
        calls: called.into_iter().collect(),
        kept: true,
    })
}

/// What some accounts have spent, as of one moment.
pub(crate) async fn spent_by<L: Link>(
    link: &mut L,
    names: &Names,
    accounts: &[(Level, Arc<str>)],
    now: SystemTime,
) -> sqlx::Result<Vec<Sums>> {
    let mut transaction = link.look().await?;
    let (day, month) = begins(now);
    let mut all = Vec::with_capacity(accounts.len());
    for (level, name) in accounts {
        let text = format!("SELECT cost FROM {} WHERE level = $1 AND name = $2", names.totals);
        let total = transaction.rows(Ask::new(text).bind(*level as i64).bind(&**name)).await?;
        let mut sums = Sums { lifetime: first(&total)?, ..Sums::default() };
        for (since, sum) in [(day, &mut sums.day), (month, &mut sums.month)] {
            // Table and column are ours; the values are bound.
            let (table, column) = names.hours(*level);
            let text = format!(
                "SELECT CAST(coalesce(sum(cost), 0) AS BIGINT) FROM {table} WHERE hour >= $1 AND {column} = $2"
            );
            let ask = Ask::new(text).bind(micros(since) / 3_600_000_000).bind(&**name);
            *sum = first(&transaction.rows(ask).await?)?;
        }
        all.push(sums);
    }
    transaction.commit().await?;
    Ok(all)
}

/// The first number of an answer; none is nothing.
fn first(rows: &[impl Cells]) -> sqlx::Result<u64> {
    rows.first().map_or(Ok(0), |row| row.count(0).map(uint))
}

/// What everybody has spent: ever, and in the day and the month of this moment.
pub(crate) async fn spent<L: Link>(
    link: &mut L,
    names: &Names,
    now: SystemTime,
) -> sqlx::Result<Vec<(Level, Box<str>, Sums)>> {
    let mut all: HashMap<(Level, String), Sums> = HashMap::new();
    for row in link.rows(Ask::new(format!("SELECT level, name, cost FROM {}", names.totals))).await? {
        let place = uint(row.count(0)?) as usize;
        let Some(level) = Level::KEPT.get(place) else { continue };
        let sums = Sums { lifetime: uint(row.count(2)?), ..Sums::default() };
        all.insert((*level, row.word(1)?.to_owned()), sums);
    }
    let (day, month) = begins(now);
    for level in Level::KEPT {
        let (table, column) = names.hours(level);
        for (since, is_day) in [(day, true), (month, false)] {
            let hour = micros(since) / 3_600_000_000;
            // Table and column are ours; the hour is bound.
            let text = format!(
                "SELECT {column}, CAST(sum(cost) AS BIGINT) FROM {table} WHERE hour >= $1 GROUP BY 1"
            );
            for row in link.rows(Ask::new(text).bind(hour)).await? {
                let (name, cost) = (row.text(0)?.unwrap_or_default().to_owned(), uint(row.count(1)?));
                if cost == 0 || (name.is_empty() && level != Level::Organisation) {
                    continue;
                }
                let sums = all.entry((level, name)).or_default();
                *(if is_day { &mut sums.day } else { &mut sums.month }) = cost;
            }
        }
    }
    Ok(all.into_iter().map(|((level, name), sums)| (level, name.into(), sums)).collect())
}
