//! What is asked of the file.

use penstock_domain::{Code, Error};
use penstock_observe::store::{
    By, Entry, Filter, Found, Group, Hours, MAX_GROUPS, MAX_PAGE, Page, Report, Status, Sums,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, QueryBuilder, Row, Sqlite};

use super::{detail, int, micros, uint};

/// The columns of sums, in the order of [`Sums::row`].
pub(super) const SUMS: [&str; 11] = [
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

pub(super) async fn one(connection: &mut SqliteConnection, id: &str) -> sqlx::Result<Option<Entry>> {
    let text = format!(
        "SELECT {}, request, request_cut, answer, answer_cut, form, dialect, expires - records.place \
         FROM records LEFT JOIN contents ON contents.place = records.place WHERE id = ? LIMIT 1",
        detail::COLUMNS
    );
    let Some(row) = sqlx::query(AssertSqlSafe(text)).bind(id).fetch_optional(connection).await? else {
        return Ok(None);
    };
    let mut entry = detail::entry(&row).map_err(strange)?;
    entry.record.content = detail::content(&row, 17).map_err(strange)?;
    Ok(Some(entry))
}

pub(super) async fn search(
    connection: &mut SqliteConnection,
    filter: &Filter,
    page: Page,
) -> sqlx::Result<Found> {
    let limit = page.limit.clamp(1, MAX_PAGE);
    let after = page.after.map_or(i64::MAX, int);
    let before = filter.until.map_or(after, |until| micros(until).min(after));
    let since = filter.since.map_or(0, micros);
    // Of one moment: what is deleted between two questions would otherwise end the pages early.
    let mut transaction = connection.begin().await?;
    let floor = if is_plain(filter) { None } else { floor(&mut transaction, since, before).await? };
    let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
    query.push(detail::COLUMNS).push(" FROM records WHERE place < ").push_bind(before);
    query.push(" AND place >= ").push_bind(floor.map_or(since, |floor| floor.saturating_add(1)));
    narrow(&mut query, filter);
    query.push(" ORDER BY place DESC LIMIT ").push_bind(int(limit as u64) + 1);
    let rows = query.build().fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    let shown = &rows[..rows.len().min(limit)];
    let last = || shown.last().map(|row| row.try_get::<i64, _>(0)).transpose();
    let next = if rows.len() > limit { last()? } else { floor.map(|floor| floor.saturating_add(1)) };
    let entries = shown.iter().map(detail::entry).collect::<Result<_, _>>().map_err(strange)?;
    Ok(Found { entries, next: next.map(uint) })
}

/// Whether every record of the time that is asked for fits.
fn is_plain(filter: &Filter) -> bool {
    *filter == Filter { since: filter.since, until: filter.until, ..Filter::default() }
}

/// The first record below those that may be looked at.
async fn floor(connection: &mut SqliteConnection, since: i64, before: i64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "SELECT place FROM records WHERE place < ? AND place >= ? ORDER BY place DESC LIMIT 1 OFFSET ?",
    )
    .bind(before)
    .bind(since)
    .bind(LOOKED_AT)
    .fetch_optional(connection)
    .await
}

fn narrow(query: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    let texts = [
        (" AND key = ", &filter.key),
        (" AND team = ", &filter.team),
        (" AND model = ", &filter.model),
        (" AND provider = ", &filter.provider),
        (" AND code = ", &filter.code),
    ];
    for (condition, wanted) in texts {
        if let Some(wanted) = wanted {
            query.push(condition).push_bind(wanted.to_string());
        }
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status_number(status));
    }
    if let Some((name, value)) = &filter.tag {
        query.push(" AND EXISTS (SELECT 1 FROM json_each(tags) WHERE json_each.key = ");
        query.push_bind(name.to_string()).push(" AND json_each.value = ");
        query.push_bind(value.to_string()).push(")");
    }
}

/// The number of a status in its column.
fn status_number(status: Status) -> i64 {
    status as i64
}

/// Sums; the inner result refuses a range that is too long.
pub(crate) async fn usage(
    connection: &mut SqliteConnection,
    by: &By,
    range: Hours,
) -> sqlx::Result<Result<Report, Error>> {
    let mut transaction = connection.begin().await?;
    let source = Source::of(by, range);
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(source.count()))
        .bind(source.since)
        .bind(source.until)
        .bind(ADDED_UP + 1)
        .fetch_one(&mut *transaction)
        .await?;
    if rows > ADDED_UP {
        let say = format!(
            "more than {ADDED_UP} rows would have to be added up: choose a shorter time with since and until"
        );
        return Ok(Err(Error::new(Code::InvalidValue, say).with_param("since")));
    }
    let total = sqlx::query(AssertSqlSafe(source.sums("NULL", "")))
        .bind(source.since)
        .bind(source.until)
        .fetch_one(&mut *transaction)
        .await?;
    let ending = format!("GROUP BY 1 ORDER BY {} LIMIT {MAX_GROUPS}", source.order);
    let mut query =
        sqlx::query(AssertSqlSafe(source.sums(source.group, &ending))).bind(source.since).bind(source.until);
    if let By::Tag(name) = by {
        query = query.bind(name.to_string());
    }
    let groups = query.fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    let row = |row: &SqliteRow| Ok((group(by, row)?, sums(row)?));
    let rows = groups.iter().map(row).collect::<sqlx::Result<Vec<_>>>()?;
    Ok(Ok(Report { rows, total: sums(&total)? }))
}

/// Where the numbers of a report come from.
struct Source {
    table: &'static str,
    place: &'static str,
    since: i64,
    until: i64,
    group: &'static str,
    order: &'static str,
    /// What each column of [`SUMS`] is made of.
    numbers: [&'static str; SUMS.len()],
}

impl Source {
    fn of(by: &By, range: Hours) -> Self {
        let (group, order) = match by {
            By::Key => ("key", "2 DESC, 1"),
            By::Model => ("model", "2 DESC, 1"),
            By::Team => ("team", "2 DESC, 1"),
            By::Hour => ("hour", "1"),
            By::Tag(_) => {
                ("(SELECT json_each.value FROM json_each(tags) WHERE json_each.key = ?)", "2 DESC, 1")
            }
        };
        let hours = Self {
            table: "hours",
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
            table: "records",
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
                "max(coalesce(cost, 0), 0)",
                "coalesce(cost, 0) = -1",
            ],
            ..hours
        }
    }

    fn count(&self) -> String {
        let Self { table, place, .. } = self;
        format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {place} >= ? AND {place} < ? LIMIT ?)")
    }

    fn sums(&self, group: &str, ending: &str) -> String {
        let Self { table, place, numbers, .. } = self;
        let sums = numbers.map(|number| format!("sum({number})")).join(", ");
        // Numbered, because the group stands before the range and is bound after it.
        let group = group.replace('?', "?3");
        format!("SELECT {group}, {sums} FROM {table} WHERE {place} >= ?1 AND {place} < ?2 {ending}")
    }
}

fn group(by: &By, row: &SqliteRow) -> sqlx::Result<Group> {
    if *by == By::Hour {
        return Ok(Group::Hour(uint(row.try_get(0)?)));
    }
    let name: Option<&str> = row.try_get(0)?;
    Ok(name
        .filter(|name| !name.is_empty() || matches!(by, By::Tag(_)))
        .map_or(Group::None, |name| Group::Named(name.into())))
}

fn sums(row: &SqliteRow) -> sqlx::Result<Sums> {
    let mut numbers = [0; SUMS.len()];
    for (place, number) in numbers.iter_mut().enumerate() {
        *number = row.try_get::<Option<i64>, _>(place + 1)?.map_or(0, uint);
    }
    Ok(Sums::from_row(numbers))
}
