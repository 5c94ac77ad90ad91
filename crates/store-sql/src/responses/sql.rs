//! The statements, for either database.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_conversation::{Chain, Owner, Reach, Tail, Turn};

use crate::link::{Ask, Cells, Link, Lock, flag};

const KEPT: &str = "SELECT bytes FROM owners WHERE owner = $1";
const INSERT: &str = "INSERT INTO responses (owner, id, previous, created, expires, bytes, response, input) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING place";
/// The condition keeps `ON` from belonging to a join.
const INDEX: &str =
    "INSERT INTO items (owner, item, place) SELECT $1, value, $2 FROM EACH WHERE true ON CONFLICT DO NOTHING";

/// Newest first, until one is beyond the reach: that one comes too, without its texts, to show that there is more.
const CHAIN: &str = "WITH RECURSIVE chain (place, previous, depth, total, within) AS ( \
       SELECT place, previous, CAST(1 AS BIGINT), bytes, CAST(1 AS BIGINT) FROM responses \
       WHERE owner = $1 AND id = $2 AND expires > $3 \
       UNION ALL \
       SELECT r.place, r.previous, c.depth + 1, c.total + r.bytes, \
         CAST(CASE WHEN c.depth < $4 AND c.total + r.bytes <= $5 THEN 1 ELSE 0 END AS BIGINT) \
       FROM chain c JOIN responses r ON r.owner = $1 AND r.id = c.previous AND r.expires > $3 \
       WHERE c.within = 1 \
     ) \
     SELECT c.within, r.id, r.previous, r.created, r.expires, \
       CASE WHEN c.within = 1 THEN r.response END, CASE WHEN c.within = 1 THEN r.input END \
     FROM chain c JOIN responses r ON r.place = c.place ORDER BY c.depth";

const HOLDING: &str = "SELECT total, id, previous, created, expires, response, input FROM ( \
       SELECT *, CAST(sum(bytes) OVER (ORDER BY place DESC) AS BIGINT) AS total FROM responses \
       WHERE place IN (SELECT place FROM items WHERE owner = $1 AND item IN (SELECT value FROM EACH)) \
         AND expires > $3 ORDER BY place DESC LIMIT $4 \
     ) AS held WHERE total <= $5 ORDER BY place DESC";

const DELETE: &str = "DELETE FROM responses WHERE owner = $1 AND id = $2 RETURNING expires";
const EXPIRE: &str = "DELETE FROM responses WHERE place IN \
     (SELECT place FROM responses WHERE expires <= $1 ORDER BY expires LIMIT $2 UNTOUCHED)";

/// Responses deleted at once; each may have megabytes to overwrite.
const STEP: i64 = 50;

/// How adding a turn went.
pub(crate) enum Put {
    Done,
    Full,
}

/// One transaction: dropped before its end, it never was.
pub(crate) async fn put<L: Link>(link: &mut L, turn: &Turn, most: u64) -> sqlx::Result<Put> {
    let items = list(turn.items.iter().map(|item| &**item))?;
    let owner = turn.owner.as_str();
    let mut transaction = link.change(Lock::Owner(owner)).await?;
    let kept = transaction.rows(Ask::new(KEPT).bind(owner)).await?;
    let kept = kept.first().map_or(Ok(0), |row| row.count(0))?;
    if uint(kept).saturating_add(turn.size()) > most {
        return Ok(Put::Full);
    }
    let insert = Ask::new(INSERT)
        .bind(owner)
        .bind(&*turn.id)
        .bind(turn.previous.as_deref())
        .bind(millis(turn.created))
        .bind(millis(turn.expires))
        .bind(int(turn.size()))
        .bind(&turn.response[..])
        .bind(&turn.input[..]);
    let placed = transaction.rows(insert).await?;
    let place = placed.first().map_or(Err(sqlx::Error::RowNotFound), |row| row.count(0))?;
    let each = L::EACH.replace("MARK", "$3");
    transaction.run(Ask::new(INDEX.replace("EACH", &each)).bind(owner).bind(place).bind(items)).await?;
    transaction.commit().await?;
    Ok(Put::Done)
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> sqlx::Result<String> {
    serde_json::to_string(&texts.collect::<Vec<_>>()).map_err(|e| sqlx::Error::Encode(e.into()))
}

pub(crate) async fn chain<L: Link>(
    link: &mut L,
    (owner, id): (&Owner, &str),
    reach: Reach,
    now: SystemTime,
) -> sqlx::Result<Chain> {
    let ask = Ask::new(CHAIN).bind(owner.as_str()).bind(id).bind(millis(now));
    let rows = link.rows(ask.bind(int(reach.turns as u64)).bind(int(reach.bytes))).await?;
    let mut chain = Chain { turns: Vec::with_capacity(rows.len()), tail: Tail::Begins };
    for row in &rows {
        if flag(row, 0)? {
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

pub(crate) async fn holding<L: Link>(
    link: &mut L,
    (owner, items): (&Owner, &[String]),
    reach: Reach,
    now: SystemTime,
) -> sqlx::Result<Vec<Turn>> {
    let items = list(items.iter().map(String::as_str))?;
    let text = HOLDING.replace("EACH", &L::EACH.replace("MARK", "$2"));
    let ask = Ask::new(text).bind(owner.as_str()).bind(items).bind(millis(now));
    let rows = link.rows(ask.bind(int(reach.turns as u64)).bind(int(reach.bytes))).await?;
    rows.iter().map(|row| turn(owner, row)).collect()
}

pub(crate) async fn delete<L: Link>(
    link: &mut L,
    (owner, id): (&Owner, &str),
    now: SystemTime,
) -> sqlx::Result<bool> {
    let rows = link.rows(Ask::new(DELETE).bind(owner.as_str()).bind(id)).await?;
    rows.first().map_or(Ok(false), |row| Ok(row.count(0)? > millis(now)))
}

/// One small step; says whether there may be more.
pub(crate) async fn expire<L: Link>(link: &mut L, now: SystemTime) -> sqlx::Result<bool> {
    let text = EXPIRE.replace("UNTOUCHED", L::UNTOUCHED);
    let done = link.run(Ask::new(text).bind(millis(now)).bind(STEP)).await?;
    Ok(int(done) >= STEP)
}

/// A row as a turn, from its second column on; the ids of its items are for finding it, and are not read back.
fn turn(owner: &Owner, row: &impl Cells) -> sqlx::Result<Turn> {
    Ok(Turn {
        id: row.word(1)?.into(),
        owner: owner.clone(),
        previous: row.text(2)?.map(Into::into),
        created: time(row.count(3)?),
        expires: time(row.count(4)?),
        response: row.bytes(5)?.unwrap_or_default().to_vec().into(),
        input: row.bytes(6)?.unwrap_or_default().to_vec().into(),
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
