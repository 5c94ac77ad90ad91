//! What is asked of the records, in either database.

use penstock_domain::{Code, Error};
use penstock_observe::store::{
    By, Entry, Filter, Found, Group, Hours, MAX_GROUPS, MAX_PAGE, Page, Report, Status, Sums,
};

use super::{detail, int, micros, uint};
use crate::link::{Ask, Cells, Link};

/// The columns of sums, in the order of [`Sums::row`].
pub(crate) const SUMS: [&str; 11] = [
    "requests",
    "input",
    "output",
    "cached_input",
    "cache_write",
    "reasoning",
    "estimated",
    "estimated_input",
    "estimated_output",
    "cost",
    "unpriced",
];

/// Records that a filtered page looks at: a few hundredths of a second.
const LOOKED_AT: i64 = 50_000;
/// Rows that one report adds up: about a second.
const ADDED_UP: i64 = 1_000_000;

type Strange = sqlx::error::BoxDynError;

/// A row that cannot be understood, perhaps written by a later version.
fn strange(error: Strange) -> sqlx::Error {
    sqlx::Error::Decode(error)
}

pub(crate) async fn one<L: Link>(link: &mut L, id: &str) -> sqlx::Result<Option<Entry>> {
    let text = format!(
        "SELECT {}, request, request_cut, answer, answer_cut, form, dialect, expires - records.place \
         FROM records LEFT JOIN contents ON contents.place = records.place WHERE id = $1 LIMIT 1",
        detail::COLUMNS
    );
    let rows = link.rows(Ask::new(text).bind(id)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut entry = detail::entry(row).map_err(strange)?;
    entry.record.content = detail::content(row, 17).map_err(strange)?;
    Ok(Some(entry))
}

pub(crate) async fn search<L: Link>(link: &mut L, filter: &Filter, page: Page) -> sqlx::Result<Found> {
    let limit = page.limit.clamp(1, MAX_PAGE);
    let after = page.after.map_or(i64::MAX, int);
    let before = filter.until.map_or(after, |until| micros(until).min(after));
    let since = filter.since.map_or(0, micros);
    // Of one moment: what is deleted between two questions would otherwise end the pages early.
    let mut transaction = link.look().await?;
    let floor = if is_plain(filter) { None } else { floor(&mut *transaction, since, before).await? };
    let mut ask = Ask::new("SELECT ");
    ask.push(detail::COLUMNS).push(" FROM records WHERE place < ").push_bind(before);
    ask.push(" AND place >= ").push_bind(floor.map_or(since, |floor| floor.saturating_add(1)));
    narrow::<L>(&mut ask, filter);
    ask.push(" ORDER BY place DESC LIMIT ").push_bind(int(limit as u64) + 1);
    let rows = transaction.rows(ask).await?;
    transaction.commit().await?;
    let shown = &rows[..rows.len().min(limit)];
    let last = || shown.last().map(|row| row.count(0)).transpose();
    let next = if rows.len() > limit { last()? } else { floor.map(|floor| floor.saturating_add(1)) };
    let entries = shown.iter().map(detail::entry).collect::<Result<_, _>>().map_err(strange)?;
    Ok(Found { entries, next: next.map(uint) })
}

/// Whether every record of the time that is asked for fits.
fn is_plain(filter: &Filter) -> bool {
    *filter == Filter { since: filter.since, until: filter.until, ..Filter::default() }
}

/// The first record below those that may be looked at.
async fn floor<L: Link>(link: &mut L, since: i64, before: i64) -> sqlx::Result<Option<i64>> {
    let text =
        "SELECT place FROM records WHERE place < $1 AND place >= $2 ORDER BY place DESC LIMIT 1 OFFSET $3";
    let rows = link.rows(Ask::new(text).bind(before).bind(since).bind(LOOKED_AT)).await?;
    rows.first().map(|row| row.count(0)).transpose()
}

fn narrow<L: Link>(ask: &mut Ask, filter: &Filter) {
    let texts = [
        (" AND key = ", &filter.key),
        (" AND team = ", &filter.team),
        (" AND model = ", &filter.model),
        (" AND provider = ", &filter.provider),
        (" AND code = ", &filter.code),
    ];
    for (condition, wanted) in texts {
        if let Some(wanted) = wanted {
            ask.push(condition).push_bind(&**wanted);
        }
    }
    if let Some(status) = filter.status {
        ask.push(" AND status = ").push_bind(status_number(status));
    }
    if let Some((name, value)) = &filter.tag {
        let (before, after) = L::LABEL.split_once("MARK").unwrap_or((L::LABEL, ""));
        ask.push(" AND ").push(before).push_bind(&**name).push(after).push(" = ").push_bind(&**value);
    }
}

/// The number of a status in its column.
fn status_number(status: Status) -> i64 {
    status as i64
}

/// Sums; the inner result refuses a range that is too long.
pub(crate) async fn usage<L: Link>(
    link: &mut L,
    tables: &Tables,
    by: &By,
    range: Hours,
) -> sqlx::Result<Result<Report, Error>> {
    let mut transaction = link.look().await?;
    let source = Source::of::<L>(tables, by, range);
    let of_range = |text: String| Ask::new(text).bind(source.since).bind(source.until);
    let rows = transaction.rows(of_range(source.count()).bind(ADDED_UP + 1)).await?;
    if rows.first().map_or(Ok(0), |row| row.count(0))? > ADDED_UP {
        let say = format!(
            "more than {ADDED_UP} rows would have to be added up: choose a shorter time with since and until"
        );
        return Ok(Err(Error::new(Code::InvalidValue, say).with_param("since")));
    }
    let total = transaction.rows(of_range(source.sums("NULL", ""))).await?;
    let ending = format!("GROUP BY 1 ORDER BY {} LIMIT {MAX_GROUPS}", source.order);
    let mut ask = of_range(source.sums(&source.group, &ending));
    if let By::Tag(name) = by {
        ask = ask.bind(&**name);
    }
    let groups = transaction.rows(ask).await?;
    transaction.commit().await?;
    let rows =
        groups.iter().map(|row| Ok((group(by, row)?, sums(row)?))).collect::<sqlx::Result<Vec<_>>>()?;
    Ok(Ok(Report { rows, total: total.first().map_or(Ok(Sums::default()), sums)? }))
}

/// Where sums are kept, and the rows that they are made of.
pub(crate) struct Tables {
    pub(crate) hours: &'static str,
    pub(crate) rows: &'static str,
}

/// The names in a file of its own.
pub(crate) const TABLES: Tables = Tables { hours: "hours", rows: "records" };

/// Where the numbers of a report come from.
struct Source {
    table: &'static str,
    place: &'static str,
    since: i64,
    until: i64,
    group: String,
    order: &'static str,
    /// What each column of [`SUMS`] is made of.
    numbers: [&'static str; SUMS.len()],
}

impl Source {
    fn of<L: Link>(tables: &Tables, by: &By, range: Hours) -> Self {
        let (group, order) = match by {
            By::Key => ("key".to_owned(), "2 DESC, 1"),
            By::Model => ("model".to_owned(), "2 DESC, 1"),
            By::Team => ("team".to_owned(), "2 DESC, 1"),
            By::Hour => ("hour".to_owned(), "1"),
            // Numbered, because it stands before the range and is bound after it.
            By::Tag(_) => (L::LABEL.replace("MARK", "$3"), "2 DESC, 1 NULLS FIRST"),
        };
        let hours = Self {
            table: tables.hours,
            place: "hour",
            since: int(range.since),
            until: int(range.until),
            group,
            order,
            numbers: SUMS,
        };
        if !matches!(by, By::Tag(_)) {
            return hours;
        }
        // Labels are whatever askers choose: no sums are kept for them.
        let micros = |hour: u64| int(hour.saturating_mul(Hours::SECONDS * 1_000_000));
        Self {
            table: tables.rows,
            place: "place",
            since: micros(range.since),
            until: micros(range.until),
            numbers: [
                "1",
                "coalesce(input, 0)",
                "coalesce(output, 0)",
                "coalesce(cached_input, 0)",
                "coalesce(cache_write, 0)",
                "coalesce(reasoning, 0)",
                "estimated",
                "estimated * coalesce(input, 0)",
                "estimated * coalesce(output, 0)",
                "CASE WHEN cost > 0 THEN cost ELSE 0 END",
                "CASE WHEN cost = -1 THEN 1 ELSE 0 END",
            ],
            ..hours
        }
    }

    fn count(&self) -> String {
        let Self { table, place, .. } = self;
        format!(
            "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {place} >= $1 AND {place} < $2 LIMIT $3) AS found"
        )
    }

    fn sums(&self, group: &str, ending: &str) -> String {
        let Self { table, place, numbers, .. } = self;
        // PostgreSQL adds up in a wider type.
        let sums = numbers.map(|number| format!("CAST(sum({number}) AS BIGINT)")).join(", ");
        format!("SELECT {group}, {sums} FROM {table} WHERE {place} >= $1 AND {place} < $2 {ending}")
    }
}

fn group(by: &By, row: &impl Cells) -> sqlx::Result<Group> {
    if *by == By::Hour {
        return Ok(Group::Hour(uint(row.count(0)?)));
    }
    let name = row.text(0)?;
    Ok(name
        .filter(|name| !name.is_empty() || matches!(by, By::Tag(_)))
        .map_or(Group::None, |name| Group::Named(name.into())))
}

fn sums(row: &impl Cells) -> sqlx::Result<Sums> {
    let mut numbers = [0; SUMS.len()];
    for (place, number) in numbers.iter_mut().enumerate() {
        *number = row.number(place + 1)?.map_or(0, uint);
    }
    Ok(Sums::from_row(numbers))
}
