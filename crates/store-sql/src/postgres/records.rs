//! The record store.
//!
//! Batches of several gateways come one after the other, under a lock: places go on growing whoever writes, so that a page
//! once read stays as it was, and no two gateways wait for each other's sums in a circle.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use penstock_domain::{Code, Error};
use penstock_observe::store::{
    By, Entry, Filter, Found, Hours, MAX_TOKENS, Page, Pending, Report, Status, Sums, ended,
};
use penstock_observe::{Record, RecordStore};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::rows::Sheet;
use super::{ANSWERS, Postgres, REPORTS, trouble, within};
use crate::link::{Ask, Cells, Link, Lock, Value};
use crate::records::{self, SUMS, cost_number, dialect_of, int, micros, tags};

/// Columns of a record, in the order of [`values`].
const COLUMNS: &str = "place, id, key, team, model, provider, status, code, input, output, cached_input, cache_write, \
     reasoning, estimated, cost, tags, detail";
const LAST: &str = "SELECT max(place) FROM records";
const KNOWN: &str = "SELECT id FROM records WHERE id IN (SELECT unnest($1::text[]))";
const CONTENT: &str = "INSERT INTO contents (place, expires, request, request_cut, answer, answer_cut, form, dialect) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Sums that are kept at least this long; they are small, and years are compared.
const SUMS_KEPT: Duration = Duration::from_secs(400 * 24 * 3_600);
/// Rows deleted at once.
const RECORDS_STEP: i64 = 500;
const CONTENTS_STEP: i64 = 50;

const OLD_RECORDS: &str = "DELETE FROM records WHERE place IN \
     (SELECT place FROM records WHERE place < $1 ORDER BY place LIMIT $2 FOR UPDATE SKIP LOCKED)";
const OLD_CONTENTS: &str = "DELETE FROM contents WHERE place IN \
     (SELECT place FROM contents WHERE place < $1 ORDER BY place LIMIT $2 FOR UPDATE SKIP LOCKED)";
const OVER_CONTENTS: &str = "DELETE FROM contents WHERE place IN \
     (SELECT place FROM contents WHERE expires < $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)";
const OLD_SUMS: &str = "DELETE FROM hours WHERE (hour, key, team, model) IN \
     (SELECT hour, key, team, model FROM hours WHERE hour < $1 ORDER BY hour LIMIT $2 FOR UPDATE SKIP LOCKED)";

impl RecordStore for Postgres {
    fn append<'a>(&'a self, batch: &'a [Record]) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut held = self.writer().await?;
            // What was sent and not confirmed may have been done.
            let doubtful = self.doubtful.swap(true, Ordering::AcqRel);
            let outcome = within(ANSWERS, append(&mut held, batch, doubtful)).await;
            if outcome.as_ref().err().is_some_and(trouble::is_hopeless) {
                self.doubtful.store(doubtful, Ordering::Release);
                let say = "the database of records refuses a record: this is a defect, please report it";
                return Err(self.done(held, outcome).map_or_else(
                    |error| Error::new(Code::InternalError, say).with_source(error),
                    |()| Error::new(Code::InternalError, say),
                ));
            }
            self.done(held, outcome)?;
            self.doubtful.store(false, Ordering::Release);
            Ok(())
        })
    }

    fn one<'a>(&'a self, id: &'a str) -> Pending<'a, Option<Entry>> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, records::one(&mut *held, id)).await;
            self.done(held, outcome)
        })
    }

    fn search<'a>(&'a self, filter: &'a Filter, page: Page) -> Pending<'a, Found> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(REPORTS, records::search(&mut *held, filter, page)).await;
            self.done(held, outcome)
        })
    }

    fn usage<'a>(&'a self, by: &'a By, range: Hours) -> Pending<'a, Report> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(REPORTS, records::usage(&mut *held, &records::TABLES, by, range)).await;
            self.done(held, outcome)?
        })
    }

    fn expire(&self, before: SystemTime, now: SystemTime) -> Pending<'_, bool> {
        Box::pin(async move {
            let mut held = self.writer().await?;
            let outcome = within(ANSWERS, expire(&mut held, before, now)).await;
            self.done(held, outcome)
        })
    }
}

/// One transaction: all records and their sums, or nothing. `doubtful`: some of them may be there already.
async fn append(connection: &mut PgConnection, batch: &[Record], doubtful: bool) -> sqlx::Result<()> {
    let mut transaction = connection.change(Lock::Records).await?;
    let known = if doubtful { known(&mut transaction, batch).await? } else { HashSet::new() };
    let rows = transaction.rows(Ask::new(LAST)).await?;
    let last = rows.first().map_or(Ok(None), |row| row.number(0))?;
    let mut next = last.map_or(0, |last| last.saturating_add(1));
    let (mut sheet, mut sums, mut contents) = (Sheet::default(), HourSums::default(), Vec::new());
    for record in batch.iter().filter(|record| !known.contains(record.id.as_str())) {
        let place = int(ended(record)).max(next);
        next = place.saturating_add(1);
        sheet.row(values(record, place).map_err(sqlx::Error::Encode)?);
        sums.add(
            place,
            (record.key.as_deref(), record.team.as_deref(), record.model.as_deref()),
            Sums::of(record),
        );
        if record.content.is_some() {
            contents.push((place, record));
        }
        if sheet.is_full() {
            insert(&mut transaction, std::mem::take(&mut sheet)).await?;
        }
    }
    insert(&mut transaction, sheet).await?;
    sums.write(&mut transaction, "hours").await?;
    for (place, record) in contents {
        add_content(&mut transaction, place, record).await?;
    }
    transaction.commit().await
}

/// Which of these are there.
async fn known(connection: &mut PgConnection, batch: &[Record]) -> sqlx::Result<HashSet<String>> {
    let ids: Vec<String> = batch.iter().map(|record| record.id.as_str().to_owned()).collect();
    let rows = sqlx::query(KNOWN).bind(ids).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn insert(connection: &mut PgConnection, sheet: Sheet) -> sqlx::Result<()> {
    if sheet.is_empty() {
        return Ok(());
    }
    let (rows, arguments) = sheet.take()?;
    let text = format!("INSERT INTO records ({COLUMNS}) SELECT * FROM {rows}");
    sqlx::query_with(AssertSqlSafe(text), arguments).execute(connection).await.map(drop)
}

fn values(record: &Record, place: i64) -> Result<[Value; 17], sqlx::error::BoxDynError> {
    let tokens = |count: u64| int(count.min(MAX_TOKENS));
    let usage = record.usage;
    Ok([
        place.into(),
        record.id.as_str().into(),
        record.key.as_deref().into(),
        record.team.as_deref().into(),
        record.model.as_deref().into(),
        record.provider.as_deref().into(),
        (Status::of(&record.outcome) as i64).into(),
        record.outcome.code().into(),
        usage.map(|usage| tokens(usage.input)).into(),
        usage.map(|usage| tokens(usage.output)).into(),
        usage.and_then(|usage| usage.cached_input).map(tokens).into(),
        usage.and_then(|usage| usage.cache_write).map(tokens).into(),
        usage.and_then(|usage| usage.reasoning).map(tokens).into(),
        i64::from(record.estimated).into(),
        cost_number(record.cost).into(),
        tags(&record.tags)?.into(),
        records::detail_of(record)?.into(),
    ])
}

async fn add_content(connection: &mut PgConnection, place: i64, record: &Record) -> sqlx::Result<()> {
    let Some(content) = &record.content else { return Ok(()) };
    let retention = i64::try_from(content.retention.as_micros()).unwrap_or(i64::MAX);
    let ask = Ask::new(CONTENT)
        .bind(place)
        .bind(place.saturating_add(retention))
        .bind(&content.request[..])
        .bind(i64::from(content.request_cut))
        .bind(&content.answer[..])
        .bind(i64::from(content.answer_cut))
        .bind(content.form.name())
        .bind(dialect_of(content.form));
    connection.run(ask).await.map(drop)
}

/// One small step; says whether there may be more. Of several gateways each takes what no other is at.
async fn expire(connection: &mut PgConnection, before: SystemTime, now: SystemTime) -> sqlx::Result<bool> {
    let kept = now.checked_sub(SUMS_KEPT).map_or(before, |kept| kept.min(before));
    let hour = micros(kept) / int(Hours::SECONDS * 1_000_000);
    let steps = [
        (OLD_RECORDS, micros(before), RECORDS_STEP),
        (OLD_CONTENTS, micros(before), CONTENTS_STEP),
        (OVER_CONTENTS, micros(now), CONTENTS_STEP),
        (OLD_SUMS, hour, RECORDS_STEP),
    ];
    let mut more = false;
    for (text, bound, most) in steps {
        let done = connection.run(Ask::new(text).bind(bound).bind(most)).await?;
        more |= int(done) >= most;
    }
    Ok(more)
}

/// Sums of hours, in one order for everybody.
#[derive(Default)]
pub(super) struct HourSums<'a>(BTreeMap<(i64, &'a str, &'a str, &'a str), Sums>);

impl<'a> HourSums<'a> {
    /// Adds what ended at a place; what there was none of is empty.
    pub(super) fn add(
        &mut self,
        place: i64,
        (key, team, model): (Option<&'a str>, Option<&'a str>, Option<&'a str>),
        sums: Sums,
    ) {
        let text = Option::unwrap_or_default;
        let owner = (place / int(Hours::SECONDS * 1_000_000), text(key), text(team), text(model));
        let hour = self.0.entry(owner).or_default();
        *hour = hour.plus(sums);
    }

    /// Key, team and model, and what they add.
    pub(super) fn each(&self) -> impl Iterator<Item = ((&'a str, &'a str, &'a str), Sums)> {
        self.0.iter().map(|((_, key, team, model), sums)| ((*key, *team, *model), *sums))
    }

    /// Adds them to those of a table.
    pub(super) async fn write(self, connection: &mut PgConnection, table: &str) -> sqlx::Result<()> {
        // Two numbers below 2^62 fit a column; the bound keeps every sum there.
        let add = |name: &&str| format!("{name} = LEAST({table}.{name} + excluded.{name}, 1::bigint << 62)");
        let adds = SUMS.iter().map(add).collect::<Vec<_>>().join(", ");
        let mut all = self.0.into_iter().peekable();
        while all.peek().is_some() {
            let mut sheet = Sheet::default();
            while let Some(((hour, key, team, model), sums)) = all.next_if(|_| !sheet.is_full()) {
                let owner = [hour.into(), key.into(), team.into(), model.into()];
                sheet.row(owner.into_iter().chain(sums.row().map(|number| int(number).into())));
            }
            let (rows, arguments) = sheet.take()?;
            let text = format!(
                "INSERT INTO {table} (hour, key, team, model, {}) SELECT * FROM {rows} \
                 ON CONFLICT (hour, key, team, model) DO UPDATE SET {adds}",
                SUMS.join(", ")
            );
            sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut *connection).await?;
        }
        Ok(())
    }
}
