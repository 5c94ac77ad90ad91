//! What changes the ledger: reservations that are open, and their ends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use penstock_admission::Level;
use penstock_admission::ledger::{Batch, End, Entry, GatewayId, Written};
use penstock_domain::Cost;
use penstock_observe::store::{Hours, MAX_COST, MAX_TOKENS, Sums};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Connection};

use super::{Paid, open};
use crate::records::{Inserts, Owner, add_sums, fitting, int, micros, tags, uint};

/// Columns of an entry, in the order in which they are bound.
const COLUMNS: &str = "place, id, kind, begun, key, team, model, reserved_input, reserved_output, reserved_cost, input, \
     output, cached_input, cache_write, reasoning, estimated, cost, tags, provider";
/// Rows of one statement: prepared once each, the largest that fits is taken.
const ROWS: [usize; 4] = [64, 16, 4, 1];

const LAST: &str = "SELECT max(place) FROM entries";
const HAS: &str = "SELECT count(*) FROM entries WHERE id = ?";
const TOTAL: &str = "INSERT INTO totals (level, name, cost) VALUES (?, ?, ?) \
     ON CONFLICT (level, name) DO UPDATE SET cost = min(cost + excluded.cost, 1 << 62) RETURNING cost";

const PAID: &str = "INSERT INTO provider_hours (hour, provider, cost) VALUES (?, ?, ?) \
     ON CONFLICT (hour, provider) DO UPDATE SET cost = min(cost + excluded.cost, 1 << 62)";

pub(super) type Bound = Result<(), sqlx::error::BoxDynError>;

/// The texts of the statements that take several rows.
pub(super) struct Texts {
    entries: [(usize, Arc<str>); ROWS.len()],
    open: open::Texts,
    sums: Inserts,
}

impl Texts {
    pub(super) fn new() -> Self {
        let row = format!("({})", vec!["?"; COLUMNS.split(", ").count()].join(", "));
        let text = |rows| format!("INSERT INTO entries ({COLUMNS}) VALUES {}", vec![&*row; rows].join(", "));
        Self {
            entries: ROWS.map(|rows| (rows, text(rows).into())),
            open: open::Texts::new(),
            sums: Inserts::new(),
        }
    }
}

/// One transaction: all of the batch, or nothing. `careful`: some of the requests may have an end already.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    (texts, gateway): (&Texts, &GatewayId),
    batch: &Batch,
    careful: bool,
) -> sqlx::Result<Written> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    texts.open.add(&mut transaction, &batch.opened, gateway).await?;
    texts.open.grow(&mut transaction, &batch.grown).await?;
    let kept = batch.closed.iter().filter(|entry| entry.kept).map(|entry| &entry.open);
    texts.open.close(&mut transaction, &kept.collect::<Vec<_>>()).await?;
    let mut known = HashSet::new();
    for entry in batch.closed.iter().filter(|_| careful) {
        if has(&mut transaction, entry.open.id.as_str()).await? {
            known.insert(entry.open.id.as_str());
        }
    }
    let new: Vec<&Entry> =
        batch.closed.iter().filter(|entry| !known.contains(entry.open.id.as_str())).collect();
    let totals = add_entries(&mut transaction, texts, &new).await?;
    transaction.commit().await?;
    Ok(Written { totals })
}

async fn has(connection: &mut SqliteConnection, id: &str) -> sqlx::Result<bool> {
    let count: i64 = sqlx::query_scalar(HAS).bind(id.to_owned()).fetch_one(connection).await?;
    Ok(count > 0)
}

/// A cost as its column has it.
pub(crate) fn column(cost: Cost) -> Option<i64> {
    match cost {
        Cost::None => None,
        Cost::Known(money) => Some(int(money.min(MAX_COST).micros())),
        Cost::Unknown => Some(-1),
    }
}

async fn add_entries(
    connection: &mut SqliteConnection,
    texts: &Texts,
    entries: &[&Entry],
) -> sqlx::Result<Vec<(Level, Box<str>, u64)>> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let last: Option<i64> = sqlx::query_scalar(LAST).fetch_one(&mut *connection).await?;
    let mut next = last.map_or(0, |last| last.saturating_add(1));
    let mut sums: HashMap<Owner<'_>, Sums> = HashMap::new();
    let mut paid = Paid::default();
    let mut rest = entries;
    while !rest.is_empty() {
        let (rows, text) = fitting(&texts.entries, rest.len());
        let (now, later) = rest.split_at(rows);
        let mut arguments = SqliteArguments::default();
        arguments.reserve(rows * 19, 0);
        for entry in now {
            let place = micros(entry.at).max(next);
            next = place.saturating_add(1);
            bind(&mut arguments, entry, place).map_err(sqlx::Error::Encode)?;
            let open = &entry.open;
            let (key, team, model) = (Some(&*open.key), open.team.as_deref(), open.model.as_deref());
            let sum = Sums::used(entry.usage, entry.estimated, entry.cost);
            let owner = Owner::new(place / int(Hours::SECONDS * 1_000_000), key, team, model);
            let hour = sums.entry(owner).or_default();
            *hour = hour.plus(sum);
            paid.add(place, entry);
        }
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut *connection).await?;
        rest = later;
    }
    add_sums(connection, &texts.sums, &sums).await?;
    for (hour, provider, cost) in paid.each() {
        sqlx::query(PAID)
            .bind(hour)
            .bind(provider.to_owned())
            .bind(int(cost))
            .execute(&mut *connection)
            .await?;
    }
    let mut ever = Vec::new();
    let providers = paid.totals().into_iter().map(|(name, cost)| ((Level::Provider, name), cost));
    for ((level, name), cost) in totals(&sums).into_iter().chain(providers) {
        let query =
            sqlx::query_scalar::<_, i64>(TOTAL).bind(level as i64).bind(name.to_owned()).bind(int(cost));
        ever.push((level, name.into(), uint(query.fetch_one(&mut *connection).await?)));
    }
    Ok(ever)
}

/// What each account has spent in these hours; those that have spent nothing are left out.
fn totals<'a>(sums: &HashMap<Owner<'a>, Sums>) -> HashMap<(Level, &'a str), u64> {
    let mut totals: HashMap<(Level, &str), u64> = HashMap::new();
    for (owner, sum) in sums.iter().filter(|(_, sum)| sum.cost > 0) {
        let (key, team, model) = owner.names();
        let accounts = [(Level::Key, key), (Level::Team, team), (Level::Model, model)];
        let named = accounts.into_iter().filter(|(_, name)| !name.is_empty());
        for account in named.chain([(Level::Organisation, "")]) {
            let total = totals.entry(account).or_default();
            *total = total.saturating_add(sum.cost);
        }
    }
    totals
}

fn bind(arguments: &mut SqliteArguments, entry: &Entry, place: i64) -> Bound {
    let open = &entry.open;
    arguments.add(place)?;
    arguments.add(open.id.shared())?;
    arguments.add(match entry.end {
        End::Settled => 0,
        End::Refunded => 1,
        End::Orphaned => 2,
    })?;
    arguments.add(micros(open.begun))?;
    arguments.add(Arc::clone(&open.key))?;
    arguments.add(open.team.clone())?;
    arguments.add(open.model.clone())?;
    arguments.add(int(entry.held.input))?;
    arguments.add(int(entry.held.output))?;
    arguments.add(int(entry.held.micros))?;
    let tokens = |count: u64| int(count.min(MAX_TOKENS));
    let usage = entry.usage;
    arguments.add(usage.map(|usage| tokens(usage.input)))?;
    arguments.add(usage.map(|usage| tokens(usage.output)))?;
    arguments.add(usage.and_then(|usage| usage.cached_input).map(tokens))?;
    arguments.add(usage.and_then(|usage| usage.cache_write).map(tokens))?;
    arguments.add(usage.and_then(|usage| usage.reasoning).map(tokens))?;
    arguments.add(entry.estimated)?;
    arguments.add(column(entry.cost))?;
    arguments.add(tags(&open.tags)?)?;
    arguments.add(open.provider())
}
