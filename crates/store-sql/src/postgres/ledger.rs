//! The ledger.
//!
//! A gateway lives as long as it is seen: every write and every look after the others says so, by the server's clock.
//! Whoever was not seen for [`DEAD`] is taken out, and what it left open is settled, in one transaction. Should it only have
//! stood still, its own words come too late: a request has one end, and the first one stands.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use penstock_admission::ledger::{
    Batch, End, Entry, GatewayId, LedgerStore, Open, Pending, Recovered, Sums as Spent, Tended, Written,
};
use penstock_admission::{Level, Need};
use penstock_domain::{Code, Error};
use penstock_observe::store::{By, Hours, MAX_TOKENS, Pending as Asking, Report, Spending, Sums};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::records::HourSums;
use super::rows::Sheet;
use super::{ANSWERS, Postgres, REPORTS, trouble, within};
use crate::ledger::{self, Names, Paid, column, so_far};
use crate::link::{Ask, Cells, Link, Lock, Value};
use crate::records::{self, Tables, int, micros, tags, uint};

/// The seconds for which a gateway may be silent: more than its transactions may take, and a few looks.
const DEAD: &str = "15 seconds";

const NAMES: Names = Names {
    open: "ledger_open",
    hours: "ledger_hours",
    totals: "ledger_totals",
    providers: "ledger_provider_hours",
    dead: "AND gateway NOT IN (SELECT id FROM gateways)",
};
const TABLES: Tables = Tables { hours: "ledger_hours", rows: "ledger_entries" };

/// Columns of an entry, in the order of [`values`].
const COLUMNS: &str = "place, id, kind, begun, key, team, model, reserved_input, reserved_output, reserved_cost, input, \
     output, cached_input, cache_write, reasoning, estimated, cost, tags, provider";
const OPEN: &str = "id, gateway, begun, key, team, model, reserved_input, reserved_output, reserved_cost, input, output, \
     cost, tags, provider";
const SEEN: &str = "INSERT INTO gateways (id, seen) VALUES ($1, clock_timestamp()) \
     ON CONFLICT (id) DO UPDATE SET seen = clock_timestamp()";
const LIVING: &str = "SELECT id FROM gateways";
const GONE: &str = "DELETE FROM gateways WHERE id = $1";
const CLOSE: &str = "DELETE FROM ledger_open WHERE id IN (SELECT unnest($1::text[]))";
const LAST: &str = "SELECT max(place) FROM ledger_entries";

impl LedgerStore for Postgres {
    fn write<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Written> {
        Box::pin(async move {
            let mut held = self.writer().await?;
            self.entered.store(true, Ordering::Relaxed);
            let outcome = within(ANSWERS, write(&mut held, &self.gateway, batch)).await;
            let hopeless = outcome.as_ref().err().is_some_and(trouble::is_hopeless);
            self.done(held, outcome).map_err(|error| {
                if !hopeless {
                    return error;
                }
                let say = "the ledger refuses an entry: this is a defect, please report it";
                Error::new(Code::InternalError, say).with_source(error)
            })
        })
    }

    fn recover(&self, now: SystemTime) -> Pending<'_, Recovered> {
        Box::pin(async move {
            let orphans = self.tend(now).await?.orphans;
            let mut held = self.writer().await?;
            let outcome = within(REPORTS, ledger::spent(&mut *held, &NAMES, now)).await;
            Ok(Recovered { orphans, spent: self.done(held, outcome)? })
        })
    }

    fn tend(&self, now: SystemTime) -> Pending<'_, Tended> {
        Box::pin(async move {
            let mut held = self.writer().await?;
            self.entered.store(true, Ordering::Relaxed);
            let outcome = within(ANSWERS, tend(&mut held, &self.gateway, now)).await;
            self.done(held, outcome)
        })
    }

    fn spent<'a>(&'a self, accounts: &'a [(Level, Arc<str>)], now: SystemTime) -> Pending<'a, Vec<Spent>> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(ANSWERS, ledger::spent_by(&mut *held, &NAMES, accounts, now)).await;
            self.done(held, outcome)
        })
    }
}

impl Spending for Postgres {
    fn spend<'a>(&'a self, by: &'a By, range: Hours) -> Asking<'a, Report> {
        Box::pin(async move {
            let mut held = self.other().await?;
            let outcome = within(REPORTS, records::usage(&mut *held, &TABLES, by, range)).await;
            self.done(held, outcome)?
        })
    }
}

impl Postgres {
    /// Says that this gateway is no more.
    pub(super) async fn leave(&self) {
        if !self.entered.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Ok(mut held) = self.writer().await {
            let outcome = within(ANSWERS, held.run(Ask::new(GONE).bind(self.gateway.as_str()))).await;
            // Otherwise it is found to be silent.
            let _ = self.done(held, outcome);
        }
    }
}

/// One transaction: all of the batch, or nothing.
async fn write(connection: &mut PgConnection, gateway: &GatewayId, batch: &Batch) -> sqlx::Result<Written> {
    let mut transaction = connection.change(Lock::Ledger).await?;
    transaction.run(Ask::new(SEEN).bind(gateway.as_str())).await?;
    add_open(&mut transaction, gateway, &batch.opened).await?;
    grow(&mut transaction, &batch.grown).await?;
    let entries: Vec<&Entry> = batch.closed.iter().collect();
    let totals = close(&mut transaction, &entries).await?;
    transaction.commit().await?;
    Ok(Written { totals })
}

/// One transaction: whoever is taken out has nothing open any more.
async fn tend(connection: &mut PgConnection, gateway: &GatewayId, now: SystemTime) -> sqlx::Result<Tended> {
    let mut transaction = connection.change(Lock::Ledger).await?;
    transaction.run(Ask::new(SEEN).bind(gateway.as_str())).await?;
    let silent = format!("DELETE FROM gateways WHERE seen < clock_timestamp() - INTERVAL '{DEAD}'");
    transaction.run(Ask::new(silent)).await?;
    let rows = transaction.rows(Ask::new(LIVING)).await?;
    let living = rows.iter().map(|row| row.word(0).map(GatewayId::new)).collect::<sqlx::Result<Vec<_>>>()?;
    let left = ledger::left_open(&mut *transaction, &NAMES, gateway, now).await?;
    let entries: Vec<&Entry> = left.iter().map(|(_, entry)| entry).collect();
    close(&mut transaction, &entries).await?;
    transaction.commit().await?;
    Ok(Tended { orphans: entries.len() as u64, living })
}

async fn add_open(
    connection: &mut PgConnection,
    gateway: &GatewayId,
    opened: &[Arc<Open>],
) -> sqlx::Result<()> {
    let mut sheet = Sheet::default();
    for open in opened {
        let (input, output, cost) = so_far(open);
        let Need { input: reserved_input, output: reserved_output, micros: reserved_cost } = open.reserved;
        let row: [Value; 14] = [
            open.id.as_str().into(),
            gateway.as_str().into(),
            micros(open.begun).into(),
            open.key.to_string().into(),
            open.team.as_deref().into(),
            open.model.as_deref().into(),
            int(reserved_input).into(),
            int(reserved_output).into(),
            int(reserved_cost).into(),
            input.into(),
            output.into(),
            cost.into(),
            tags(&open.tags).map_err(|error| sqlx::Error::Encode(error.into()))?.into(),
            open.provider().as_deref().into(),
        ];
        sheet.row(row);
        if sheet.is_full() {
            insert_open(connection, std::mem::take(&mut sheet)).await?;
        }
    }
    insert_open(connection, sheet).await
}

async fn insert_open(connection: &mut PgConnection, sheet: Sheet) -> sqlx::Result<()> {
    if sheet.is_empty() {
        return Ok(());
    }
    let (rows, arguments) = sheet.take()?;
    let text = format!("INSERT INTO ledger_open ({OPEN}) SELECT * FROM {rows} ON CONFLICT (id) DO NOTHING");
    sqlx::query_with(AssertSqlSafe(text), arguments).execute(connection).await.map(drop)
}

/// What open answers have used by now. One that somebody else has settled is not there any more.
async fn grow(connection: &mut PgConnection, grown: &[Arc<Open>]) -> sqlx::Result<()> {
    for some in grown.chunks(1_000) {
        let mut sheet = Sheet::default();
        for open in some {
            let (input, output, cost) = so_far(open);
            let provider = open.provider();
            sheet.row([
                open.id.as_str().into(),
                input.into(),
                output.into(),
                cost.into(),
                provider.as_deref().into(),
            ]);
        }
        let (rows, arguments) = sheet.take()?;
        let text = format!(
            "UPDATE ledger_open SET input = now.input, output = now.output, cost = now.cost, provider = now.provider \
             FROM {rows} AS now (id, input, output, cost, provider) WHERE ledger_open.id = now.id"
        );
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Ends requests; those that have an end already keep it. Says what the accounts of the others have spent by now.
async fn close(
    connection: &mut PgConnection,
    entries: &[&Entry],
) -> sqlx::Result<Vec<(Level, Box<str>, u64)>> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let rows = connection.rows(Ask::new(LAST)).await?;
    let last = rows.first().map_or(Ok(None), |row| row.number(0))?;
    let mut next = last.map_or(0, |last| last.saturating_add(1));
    let (mut sums, mut paid) = (HourSums::default(), Paid::default());
    for some in entries.chunks(1_000) {
        // Whether or not they are thought to be there: a write that was not confirmed may have been done.
        let ids: Vec<String> = some.iter().map(|entry| entry.open.id.as_str().to_owned()).collect();
        sqlx::query(CLOSE).bind(ids).execute(&mut *connection).await?;
        let mut sheet = Sheet::default();
        let mut places = Vec::with_capacity(some.len());
        for entry in some {
            let place = micros(entry.at).max(next);
            next = place.saturating_add(1);
            sheet.row(values(entry, place).map_err(sqlx::Error::Encode)?);
            places.push((place, *entry));
        }
        let (rows, arguments) = sheet.take()?;
        let text = format!(
            "INSERT INTO ledger_entries ({COLUMNS}) SELECT * FROM {rows} ON CONFLICT (id) DO NOTHING RETURNING place"
        );
        let taken = sqlx::query_with(AssertSqlSafe(text), arguments).fetch_all(&mut *connection).await?;
        let taken = taken.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<HashSet<i64>>>()?;
        for (place, entry) in places.into_iter().filter(|(place, _)| taken.contains(place)) {
            let open = &entry.open;
            let names = (Some(&*open.key), open.team.as_deref(), open.model.as_deref());
            sums.add(place, names, Sums::used(entry.usage, entry.estimated, entry.cost));
            paid.add(place, entry);
        }
    }
    let mut spent = spent_in(&sums);
    spent.extend(paid.totals().into_iter().map(|(name, cost)| ((Level::Provider, name), cost)));
    add_paid(connection, &paid).await?;
    sums.write(connection, TABLES.hours).await?;
    add_totals(connection, spent).await
}

fn values(entry: &Entry, place: i64) -> Result<[Value; 19], sqlx::error::BoxDynError> {
    let open = &entry.open;
    let tokens = |count: u64| int(count.min(MAX_TOKENS));
    let usage = entry.usage;
    let kind = match entry.end {
        End::Settled => 0_i64,
        End::Refunded => 1,
        End::Orphaned => 2,
    };
    Ok([
        place.into(),
        open.id.as_str().into(),
        kind.into(),
        micros(open.begun).into(),
        open.key.to_string().into(),
        open.team.as_deref().into(),
        open.model.as_deref().into(),
        int(entry.held.input).into(),
        int(entry.held.output).into(),
        int(entry.held.micros).into(),
        usage.map(|usage| tokens(usage.input)).into(),
        usage.map(|usage| tokens(usage.output)).into(),
        usage.and_then(|usage| usage.cached_input).map(tokens).into(),
        usage.and_then(|usage| usage.cache_write).map(tokens).into(),
        usage.and_then(|usage| usage.reasoning).map(tokens).into(),
        i64::from(entry.estimated).into(),
        column(entry.cost).into(),
        tags(&open.tags)?.into(),
        open.provider().as_deref().into(),
    ])
}

/// What each account has spent in these hours; those that have spent nothing are left out.
fn spent_in<'a>(sums: &HourSums<'a>) -> BTreeMap<(Level, &'a str), u64> {
    let mut spent: BTreeMap<(Level, &str), u64> = BTreeMap::new();
    for ((key, team, model), sum) in sums.each().filter(|(_, sum)| sum.cost > 0) {
        let accounts = [(Level::Key, key), (Level::Team, team), (Level::Model, model)];
        let named = accounts.into_iter().filter(|(_, name)| !name.is_empty());
        for account in named.chain([(Level::Organisation, "")]) {
            let total = spent.entry(account).or_default();
            *total = total.saturating_add(sum.cost);
        }
    }
    spent
}

/// Adds to what providers were paid in each hour.
async fn add_paid(connection: &mut PgConnection, paid: &Paid<'_>) -> sqlx::Result<()> {
    let mut all = paid.each().peekable();
    while all.peek().is_some() {
        let mut sheet = Sheet::default();
        while let Some((hour, provider, cost)) = all.next_if(|_| !sheet.is_full()) {
            sheet.row([hour.into(), provider.into(), int(cost).into()]);
        }
        let (rows, arguments) = sheet.take()?;
        let text = format!(
            "INSERT INTO ledger_provider_hours (hour, provider, cost) SELECT * FROM {rows} ON CONFLICT (hour, provider) \
             DO UPDATE SET cost = LEAST(ledger_provider_hours.cost + excluded.cost, 1::bigint << 62)"
        );
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Adds to what was spent ever, and says what that is now.
async fn add_totals(
    connection: &mut PgConnection,
    spent: BTreeMap<(Level, &str), u64>,
) -> sqlx::Result<Vec<(Level, Box<str>, u64)>> {
    let mut totals = Vec::with_capacity(spent.len());
    let mut all = spent.into_iter().peekable();
    while all.peek().is_some() {
        let mut sheet = Sheet::default();
        while let Some(((level, name), cost)) = all.next_if(|_| !sheet.is_full()) {
            sheet.row([(level as i64).into(), name.into(), int(cost).into()]);
        }
        let (rows, arguments) = sheet.take()?;
        let text = format!(
            "INSERT INTO ledger_totals (level, name, cost) SELECT * FROM {rows} ON CONFLICT (level, name) \
             DO UPDATE SET cost = LEAST(ledger_totals.cost + excluded.cost, 1::bigint << 62) RETURNING level, name, cost"
        );
        for row in sqlx::query_with(AssertSqlSafe(text), arguments).fetch_all(&mut *connection).await? {
            let Some(level) = Level::KEPT.get(uint(row.count(0)?) as usize) else { continue };
            totals.push((*level, row.word(1)?.into(), uint(row.count(2)?)));
        }
    }
    Ok(totals)
}
