//! The statements.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_conversation::{Chain, Owner, Reach, Tail, Turn};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

const KEPT: &str = "SELECT bytes FROM owners WHERE owner = ?";
const INSERT: &str = "INSERT INTO responses (owner, id, previous, created, expires, bytes, response, input) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING place";
const INDEX: &str = "INSERT OR IGNORE INTO items (owner, item, place) SELECT ?, value, ? FROM json_each(?)";

/// Newest first, until one is beyond the reach: that one comes too, without its texts, to show that there is more.
const CHAIN: &str = "WITH RECURSIVE chain (place, previous, depth, total, within) AS ( \
       SELECT place, previous, 1, bytes, 1 FROM responses WHERE owner = ?1 AND id = ?2 AND expires > ?3 \
       UNION ALL \
       SELECT r.place, r.previous, c.depth + 1, c.total + r.bytes, c.depth < ?4 AND c.total + r.bytes <= ?5 \
       FROM chain c JOIN responses r ON r.owner = ?1 AND r.id = c.previous AND r.expires > ?3 \
       WHERE c.within \
     ) \
     SELECT r.owner, r.id, r.previous, r.created, r.expires, c.within, \
       CASE WHEN c.within THEN r.response END AS response, CASE WHEN c.within THEN r.input END AS input \
     FROM chain c JOIN responses r ON r.place = c.place ORDER BY c.depth";

const HOLDING: &str = "SELECT owner, id, previous, created, expires, response, input FROM ( \
       SELECT *, sum(bytes) OVER (ORDER BY place DESC) AS total FROM responses \
       WHERE place IN (SELECT place FROM items WHERE owner = ?1 AND item IN (SELECT value FROM json_each(?2))) \
         AND expires > ?3 ORDER BY place DESC LIMIT ?4 \
     ) WHERE total <= ?5";

const DELETE: &str = "DELETE FROM responses WHERE owner = ? AND id = ? RETURNING expires";
const EXPIRE: &str = "DELETE FROM responses WHERE place IN \
     (SELECT place FROM responses WHERE expires <= ? ORDER BY expires LIMIT ?)";
const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Responses deleted at once; each may have megabytes to overwrite.
const STEP: i64 = 50;

/// How adding a turn went.
pub(super) enum Put {
    Done,
    Full,
}

/// One transaction: dropped before its end, it never was.
pub(super) async fn put(connection: &mut SqliteConnection, turn: &Turn, most: u64) -> sqlx::Result<Put> {
    let items: Vec<&str> = turn.items.iter().map(|item| &**item).collect();
    let items = serde_json::to_string(&items).map_err(|e| sqlx::Error::Encode(e.into()))?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let kept: Option<i64> =
        sqlx::query_scalar(KEPT).bind(turn.owner.as_str()).fetch_optional(&mut *transaction).await?;
    if uint(kept.unwrap_or(0)).saturating_add(turn.size()) > most {
        return Ok(Put::Full);
    }
    let place: i64 = sqlx::query_scalar(INSERT)
        .bind(turn.owner.as_str())
        .bind(&*turn.id)
        .bind(turn.previous.as_deref())
        .bind(millis(turn.created))
        .bind(millis(turn.expires))
        .bind(int(turn.size()))
        .bind(&turn.response[..])
        .bind(&turn.input[..])
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::query(INDEX).bind(turn.owner.as_str()).bind(place).bind(items).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Put::Done)
}

pub(super) async fn chain(
    connection: &mut SqliteConnection,
    (owner, id): (&Owner, &str),
    reach: Reach,
    now: SystemTime,
) -> sqlx::Result<Chain> {
    let rows = sqlx::query(CHAIN)
        .bind(owner.as_str())
        .bind(id)
        .bind(millis(now))
        .bind(int(reach.turns as u64))
        .bind(int(reach.bytes))
        .fetch_all(connection)
        .await?;
    let mut chain = Chain { turns: Vec::with_capacity(rows.len()), tail: Tail::Begins };
    for row in &rows {
        if row.try_get::<bool, _>("within")? {
            chain.turns.push(turn(owner, row)?);
        } else {
            chain.tail = Tail::More;
        }
    }
    // A turn that is gone leaves no row: the oldest one that is there still names it.
    let oldest = chain.turns.last();
    if chain.tail == Tail::Begins && oldest.is_none_or(|turn| turn.previous.is_some()) {
        chain.tail = Tail::Gone;
    }
    Ok(chain)
}

pub(super) async fn holding(
    connection: &mut SqliteConnection,
    (owner, items): (&Owner, &[String]),
    reach: Reach,
    now: SystemTime,
) -> sqlx::Result<Vec<Turn>> {
    let items = serde_json::to_string(items).map_err(|e| sqlx::Error::Encode(e.into()))?;
    let rows = sqlx::query(HOLDING)
        .bind(owner.as_str())
        .bind(items)
        .bind(millis(now))
        .bind(int(reach.turns as u64))
        .bind(int(reach.bytes))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| turn(owner, row)).collect()
}

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    (owner, id): (&Owner, &str),
    now: SystemTime,
) -> sqlx::Result<bool> {
    let expires: Option<i64> =
        sqlx::query_scalar(DELETE).bind(owner.as_str()).bind(id).fetch_optional(connection).await?;
    Ok(expires.is_some_and(|expires| expires > millis(now)))
}

/// One small step; says whether there may be more. The last one empties the log, which still has what was deleted.
pub(super) async fn expire(connection: &mut SqliteConnection, now: SystemTime) -> sqlx::Result<bool> {
    let done = sqlx::query(EXPIRE).bind(millis(now)).bind(STEP).execute(&mut *connection).await?;
    let more = int(done.rows_affected()) >= STEP;
    if !more {
        sqlx::query(EMPTY_LOG).fetch_all(connection).await?;
    }
    Ok(more)
}

/// A row as a turn; the ids of its items are for finding it, and are not read back.
fn turn(owner: &Owner, row: &SqliteRow) -> sqlx::Result<Turn> {
    Ok(Turn {
        id: row.try_get::<&str, _>("id")?.into(),
        owner: owner.clone(),
        previous: row.try_get::<Option<&str>, _>("previous")?.map(Into::into),
        created: time(row.try_get("created")?),
        expires: time(row.try_get("expires")?),
        response: row.try_get::<Vec<u8>, _>("response")?.into(),
        input: row.try_get::<Vec<u8>, _>("input")?.into(),
        items: Default::default(),
    })
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(uint(millis))
}
