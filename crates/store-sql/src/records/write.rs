//! What changes the file: a batch of records, and the end of old ones.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use penstock_observe::Record;
use penstock_observe::store::{Hours, MAX_TOKENS, Status, Sums, ended};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Connection};

use super::detail;
use super::{int, micros};

/// Columns of a record, in the order in which they are bound.
const COLUMNS: &str = "place, id, key, team, model, provider, status, code, input, output, cached_input, cache_write, \
     reasoning, estimated, cost, tags, detail";
/// Rows of one statement: prepared once each, the largest that fits is taken.
const ROWS: [usize; 4] = [64, 16, 4, 1];
/// Rows of sums of one statement.
const SUMS: [usize; 2] = [16, 1];

const CONTENT: &str = "INSERT INTO contents (place, expires, request, request_cut, answer, answer_cut, form, dialect) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
const LAST: &str = "SELECT max(place) FROM records";

/// How long sums are kept at least; they are small, and years are compared.
const SUMS_KEPT: Duration = Duration::from_secs(400 * 24 * 3_600);
/// Records deleted at once: some milliseconds of work.
const RECORDS_STEP: i64 = 500;
/// Contents deleted at once; each may have half a megabyte to overwrite.
const CONTENTS_STEP: i64 = 20;

const OLD_RECORDS: &str = "DELETE FROM records WHERE place IN \
     (SELECT place FROM records WHERE place < ? ORDER BY place LIMIT ?)";
const OLD_CONTENTS: &str = "DELETE FROM contents WHERE place IN \
     (SELECT place FROM contents WHERE place < ? ORDER BY place LIMIT ?)";
const OVER_CONTENTS: &str = "DELETE FROM contents WHERE place IN \
     (SELECT place FROM contents WHERE expires < ? ORDER BY expires LIMIT ?)";
const OLD_SUMS: &str = "DELETE FROM hours WHERE (hour, key, team, model) IN \
     (SELECT hour, key, team, model FROM hours WHERE hour < ? ORDER BY hour LIMIT ?)";

/// The texts of the statements that take several rows.
pub(crate) struct Inserts {
    rows: [(usize, Arc<str>); ROWS.len()],
    sums: [(usize, Arc<str>); SUMS.len()],
}

impl Inserts {
    pub(crate) fn new() -> Self {
        let marks = |columns: usize, rows: usize| {
            let row = format!("({})", vec!["?"; columns].join(", "));
            vec![row; rows].join(", ")
        };
        let columns = COLUMNS.split(", ").count();
        let row = |rows| format!("INSERT INTO records ({COLUMNS}) VALUES {}", marks(columns, rows));
        let sum = |rows| {
            let names = super::read::SUMS;
            // Two numbers below 2^62 fit a column; the bound keeps every sum there.
            let add = |name: &&str| format!("{name} = min({name} + excluded.{name}, 1 << 62)");
            let adds = names.iter().map(add).collect::<Vec<_>>().join(", ");
            format!(
                "INSERT INTO hours (hour, key, team, model, {}) VALUES {} \
                 ON CONFLICT (hour, key, team, model) DO UPDATE SET {adds}",
                names.join(", "),
                marks(4 + names.len(), rows),
            )
        };
        Self {
            rows: ROWS.map(|rows| (rows, row(rows).into())),
            sums: SUMS.map(|rows| (rows, sum(rows).into())),
        }
    }
}

/// The largest statement that takes no more than there is.
pub(crate) fn fitting(statements: &[(usize, Arc<str>)], left: usize) -> (usize, Arc<str>) {
    let fits = statements.iter().find(|(rows, _)| *rows <= left).or(statements.last());
    fits.map_or_else(|| (1, Arc::from("")), |(rows, text)| (*rows, Arc::clone(text)))
}

/// One transaction: all records and their sums, or nothing.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    inserts: &Inserts,
    batch: &[Record],
) -> sqlx::Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let last: Option<i64> = sqlx::query_scalar(LAST).fetch_one(&mut *transaction).await?;
    let mut next = last.map_or(0, |last| last.saturating_add(1));
    let mut sums: HashMap<Owner<'_>, Sums> = HashMap::new();
    let mut rest = batch;
    let mut contents = Vec::new();
    while !rest.is_empty() {
        let (rows, text) = fitting(&inserts.rows, rest.len());
        let (now, later) = rest.split_at(rows);
        let mut arguments = SqliteArguments::default();
        arguments.reserve(rows * 17, 0);
        for record in now {
            let place = int(ended(record)).max(next);
            next = place.saturating_add(1);
            bind(&mut arguments, record, place).map_err(sqlx::Error::Encode)?;
            let sum = sums.entry(Owner::of(record, place)).or_default();
            *sum = sum.plus(Sums::of(record));
            if record.content.is_some() {
                contents.push((place, record));
            }
        }
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut *transaction).await?;
        rest = later;
    }
    add_sums(&mut transaction, inserts, &sums).await?;
    for (place, record) in contents {
        add_content(&mut transaction, place, record).await?;
    }
    transaction.commit().await
}

/// Whose sums a record belongs to.
#[derive(PartialEq, Eq)]
pub(crate) struct Owner<'a> {
    hour: i64,
    key: &'a str,
    team: &'a str,
    model: &'a str,
}

/// Keys differ more than all the rest, and one of them has few teams and models: hashing one text of three is enough.
impl Hash for Owner<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl<'a> Owner<'a> {
    pub(crate) fn new(
        hour: i64,
        key: Option<&'a str>,
        team: Option<&'a str>,
        model: Option<&'a str>,
    ) -> Self {
        let text = Option::unwrap_or_default;
        Self { hour, key: text(key), team: text(team), model: text(model) }
    }

    /// Key, team and model; what there was none of is empty.
    pub(crate) fn names(&self) -> (&'a str, &'a str, &'a str) {
        (self.key, self.team, self.model)
    }

    fn of(record: &'a Record, place: i64) -> Self {
        let hour = place / int(Hours::SECONDS * 1_000_000);
        Self::new(hour, record.key.as_deref(), record.team.as_deref(), record.model.as_deref())
    }
}

type Bound = Result<(), sqlx::error::BoxDynError>;

fn bind(arguments: &mut SqliteArguments, record: &Record, place: i64) -> Bound {
    arguments.add(place)?;
    arguments.add(record.id.shared())?;
    for text in [&record.key, &record.team, &record.model, &record.provider] {
        arguments.add(text.clone())?;
    }
    arguments.add(Status::of(&record.outcome) as i64)?;
    arguments.add(record.outcome.code())?;
    let tokens = |count: u64| int(count.min(MAX_TOKENS));
    let usage = record.usage;
    arguments.add(usage.map(|usage| tokens(usage.input)))?;
    arguments.add(usage.map(|usage| tokens(usage.output)))?;
    arguments.add(usage.and_then(|usage| usage.cached_input).map(tokens))?;
    arguments.add(usage.and_then(|usage| usage.cache_write).map(tokens))?;
    arguments.add(usage.and_then(|usage| usage.reasoning).map(tokens))?;
    arguments.add(record.estimated)?;
    arguments.add(detail::cost_number(record.cost))?;
    arguments.add(detail::tags(&record.tags)?)?;
    arguments.add(detail::write(record)?)
}

/// Adds sums to those of their hours.
pub(crate) async fn add_sums(
    connection: &mut SqliteConnection,
    inserts: &Inserts,
    sums: &HashMap<Owner<'_>, Sums>,
) -> sqlx::Result<()> {
    let mut all = sums.iter();
    while all.len() > 0 {
        let (rows, text) = fitting(&inserts.sums, all.len());
        let mut arguments = SqliteArguments::default();
        for (owner, sums) in all.by_ref().take(rows) {
            let bound = (|| -> Bound {
                arguments.add(owner.hour)?;
                for text in [owner.key, owner.team, owner.model] {
                    arguments.add(text)?;
                }
                sums.row().into_iter().try_for_each(|number| arguments.add(int(number)))
            })();
            bound.map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn add_content(connection: &mut SqliteConnection, place: i64, record: &Record) -> sqlx::Result<()> {
    let Some(content) = &record.content else { return Ok(()) };
    let retention = i64::try_from(content.retention.as_micros()).unwrap_or(i64::MAX);
    sqlx::query(CONTENT)
        .bind(place)
        .bind(place.saturating_add(retention))
        .bind(content.request.to_vec())
        .bind(content.request_cut)
        .bind(content.answer.to_vec())
        .bind(content.answer_cut)
        .bind(content.form.name())
        .bind(detail::dialect_of(content.form))
        .execute(connection)
        .await
        .map(drop)
}

/// One small step; says whether there may be more.
pub(super) async fn expire(
    connection: &mut SqliteConnection,
    before: SystemTime,
    now: SystemTime,
) -> sqlx::Result<bool> {
    let kept = now.checked_sub(SUMS_KEPT).map_or(before, |kept| kept.min(before));
    let hour = micros(kept) / int(Hours::SECONDS * 1_000_000);
    let steps = [
        (OLD_RECORDS, micros(before), RECORDS_STEP),
        (OLD_CONTENTS, micros(before), CONTENTS_STEP),
        (OVER_CONTENTS, micros(now), CONTENTS_STEP),
        (OLD_SUMS, hour, RECORDS_STEP),
    ];
    let mut more = false;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for (text, bound, most) in steps {
        let done = sqlx::query(text).bind(bound).bind(most).execute(&mut *transaction).await?;
        more |= int(done.rows_affected()) >= most;
    }
    transaction.commit().await?;
    Ok(more)
}
