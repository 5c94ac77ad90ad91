//! What is asked of the ledger at the start.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_admission::ledger::{End, Entry, GatewayId, Open, Sums, begins};
use penstock_admission::{Level, Need};
use penstock_domain::{Cost, Money, RequestId, Usage};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::records::{micros, read_tags, uint};

const LEFT: &str = "SELECT id, begun, key, team, model, reserved_input, reserved_output, reserved_cost, input, output, \
     cost, tags, gateway FROM open \
     WHERE gateway <> ?";
const TOTALS: &str = "SELECT level, name, cost FROM totals";
const TOTAL: &str = "SELECT cost FROM totals WHERE level = ? AND name = ?";

/// Reservations that are open, by the gateway that has them, as they are to be ended should it be no more: as estimated, with
/// what is known of their answers.
pub(super) async fn left_open(
    connection: &mut SqliteConnection,
    but: &GatewayId,
    now: SystemTime,
) -> sqlx::Result<Vec<(GatewayId, Entry)>> {
    let rows = sqlx::query(LEFT).bind(but.as_str().to_owned()).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((GatewayId::new(row.try_get(12)?), orphan(row, now)?))).collect()
}

fn orphan(row: &SqliteRow, now: SystemTime) -> sqlx::Result<Entry> {
    let text = |place: usize| row.try_get::<Option<String>, _>(place).map(|text| text.map(Arc::<str>::from));
    let number = |place: usize| row.try_get::<i64, _>(place).map(uint);
    let reserved = Need { input: number(5)?, output: number(6)?, micros: number(7)? };
    let begun = UNIX_EPOCH + Duration::from_micros(number(1)?);
    let mut open = Open::left(RequestId::new(row.try_get::<String, _>(0)?), begun, reserved);
    open.key = row.try_get::<String, _>(2)?.into();
    (open.team, open.model) = (text(3)?, text(4)?);
    open.tags = read_tags(row.try_get(11)?).map_err(sqlx::Error::Decode)?;
    let tokens = |place: usize| row.try_get::<Option<i64>, _>(place).map(|count| count.map(uint));
    let usage = match (tokens(8)?, tokens(9)?) {
        (Some(input), Some(output)) => Some(Usage { input, output, ..Usage::default() }),
        _ => None,
    };
    let cost = match row.try_get::<Option<i64>, _>(10)? {
        _ if usage.is_none() => Cost::None,
        None => Cost::None,
        Some(-1) => Cost::Unknown,
        Some(cost) => Cost::Known(Money::from_micros(uint(cost))),
    };
    Ok(Entry {
        open: Arc::new(open),
        held: reserved,
        end: if usage.is_some() { End::Orphaned } else { End::Refunded },
        at: now,
        usage,
        estimated: usage.is_some(),
        cost,
        kept: true,
    })
}

/// What some accounts have spent, as of one moment.
pub(super) async fn spent_by(
    connection: &mut SqliteConnection,
    accounts: &[(Level, Arc<str>)],
    now: SystemTime,
) -> sqlx::Result<Vec<Sums>> {
    let mut transaction = connection.begin().await?;
    let (day, month) = begins(now);
    let mut all = Vec::with_capacity(accounts.len());
    for (level, name) in accounts {
        let total = sqlx::query_scalar::<_, i64>(TOTAL).bind(*level as i64).bind(name.to_string());
        let total = total.fetch_optional(&mut *transaction).await?;
        let mut sums = Sums { lifetime: total.map_or(0, uint), ..Sums::default() };
        for (since, sum) in [(day, &mut sums.day), (month, &mut sums.month)] {
            // The column is one of ours; the values are bound. The organisation's column equals its empty name.
            let text = format!(
                "SELECT coalesce(sum(cost), 0) FROM hours WHERE hour >= ? AND {} = ?",
                column(*level)
            );
            let asked = sqlx::query_scalar::<_, i64>(AssertSqlSafe(text)).bind(micros(since) / 3_600_000_000);
            *sum = uint(asked.bind(name.to_string()).fetch_one(&mut *transaction).await?);
        }
        all.push(sums);
    }
    transaction.commit().await?;
    Ok(all)
}

const fn column(level: Level) -> &'static str {
    match level {
        Level::Key => "key",
        Level::Team => "team",
        Level::Organisation => "''",
        Level::Model => "model",
    }
}

/// What everybody has spent: ever, and in the day and the month of this moment.
pub(super) async fn spent(
    connection: &mut SqliteConnection,
    now: SystemTime,
) -> sqlx::Result<Vec<(Level, Box<str>, Sums)>> {
    let mut all: HashMap<(Level, String), Sums> = HashMap::new();
    for row in sqlx::query(TOTALS).fetch_all(&mut *connection).await? {
        let place = uint(row.try_get(0)?) as usize;
        let Some(level) = Level::ALL.get(place) else { continue };
        let cost = uint(row.try_get(2)?);
        all.insert((*level, row.try_get(1)?), Sums { lifetime: cost, ..Sums::default() });
    }
    let (day, month) = begins(now);
    for level in Level::ALL {
        let column = column(level);
        for (since, is_day) in [(day, true), (month, false)] {
            let hour = micros(since) / 3_600_000_000;
            // The column is one of ours; the hour is bound.
            let text = format!("SELECT {column}, sum(cost) FROM hours WHERE hour >= ? GROUP BY 1");
            for row in sqlx::query(AssertSqlSafe(text)).bind(hour).fetch_all(&mut *connection).await? {
                let (name, cost) = (row.try_get::<String, _>(0)?, uint(row.try_get(1)?));
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
