//! The statements, for either database.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_alert::{
    Added, Claim, Delivery, MOST_DONE, MOST_WAITING, Notice, Outcome, Parcel, Query, Reply, State,
};

use crate::link::{Ask, Cells, Link, Lock};
use crate::records::{int, micros, uint};

const EVENT: &str =
    "INSERT INTO events (id, kind, at, body, until) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING";
const WAITING: &str = "SELECT count(*) FROM deliveries WHERE state = 0";
const DONE: &str = "SELECT count(*) FROM deliveries WHERE state <> 0";
const LAST: &str = "SELECT max(place) FROM deliveries";
const ADD: &str = "INSERT INTO deliveries \
     (place, id, event, kind, endpoint, created, state, in_line, attempts, due, claimed) \
     VALUES ($1, $2, $3, $4, $5, $6, 0, 1, 0, $6, 0)";

/// Those that were taken first, delivered before given up.
const OLDEST: &str = "DELETE FROM deliveries WHERE place IN \
     (SELECT place FROM deliveries WHERE state <> 0 ORDER BY state, place LIMIT $1)";
const LATE: &str = "UPDATE deliveries SET state = 2, trouble = $2 WHERE state = 0 AND created < $1";
const OVER: &str =
    "DELETE FROM events WHERE until < $1 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = events.id)";

const WHAT: &str = "SELECT d.id, d.event, e.body, d.attempts, \
     CASE WHEN d.claimed > d.due THEN d.claimed ELSE d.due END AS free \
     FROM deliveries d JOIN events e ON e.id = d.event WHERE d.endpoint = $1 AND d.state = 0";
const CLAIM: &str =
    "UPDATE deliveries SET claimed = $2 WHERE id = $1 AND state = 0 AND claimed <= $3 AND due <= $3";
const SETTLE: &str = "UPDATE deliveries SET attempts = attempts + 1, claimed = 0, last = $2, status = $3, trouble = $4, \
     state = $5, due = $6, in_line = in_line * $7 WHERE id = $1";
const AGAIN: &str =
    "UPDATE deliveries SET state = 0, in_line = 0, attempts = 0, due = $2, claimed = 0 WHERE id = $1";
const ROW: &str = "SELECT id, place, event, kind, endpoint, state, created, attempts, due, last, status, trouble FROM deliveries";

/// What waits for longer than every attempt takes was for an endpoint that nobody tells any more.
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// Deliveries that go at once.
const STEP: u64 = 100;
/// How long to wait where somebody else was faster.
const SOON: Duration = Duration::from_secs(1);

/// One transaction: the event and all of its deliveries, or nothing.
pub(crate) async fn add<L: Link>(
    link: &mut L,
    notice: &Notice,
    endpoints: &[Arc<str>],
) -> sqlx::Result<Added> {
    let mut transaction = link.change(Lock::Owner("outbox")).await?;
    let event = Ask::new(EVENT)
        .bind(&*notice.id)
        .bind(notice.kind.name())
        .bind(micros(notice.at))
        .bind(&*notice.body)
        .bind(notice.remember_until.map(micros));
    if transaction.run(event).await? == 0 {
        return Ok(Added::default());
    }
    let late = notice.at.checked_sub(WEEK).map_or(0, micros);
    transaction.run(Ask::new(LATE).bind(late).bind("nobody took it for a week")).await?;
    let waiting = number(&mut *transaction, WAITING).await?.unwrap_or(0);
    let mut place = number(&mut *transaction, LAST).await?.map_or(0, |last| last.saturating_add(1));
    let taken = endpoints.len().min(MOST_WAITING.saturating_sub(usize::try_from(waiting).unwrap_or(0)));
    for endpoint in &endpoints[..taken] {
        let row = Ask::new(ADD)
            .bind(place)
            .bind(&*notice.delivery(endpoint))
            .bind(&*notice.id)
            .bind(notice.kind.name())
            .bind(&**endpoint)
            .bind(micros(notice.at));
        transaction.run(row).await?;
        place = place.saturating_add(1);
    }
    let done = uint(number(&mut *transaction, DONE).await?.unwrap_or(0));
    let over = done.saturating_sub(MOST_DONE as u64).min(STEP);
    if over > 0 {
        transaction.run(Ask::new(OLDEST).bind(int(over))).await?;
    }
    transaction.run(Ask::new(OVER).bind(micros(notice.at))).await?;
    transaction.commit().await?;
    Ok(Added { waiting: taken as u64, dropped: (endpoints.len() - taken) as u64 })
}

async fn number<L: Link>(link: &mut L, text: &str) -> sqlx::Result<Option<i64>> {
    link.rows(Ask::new(text)).await?.first().map_or(Ok(None), |row| row.number(0))
}

/// Whoever writes first that it is at it has it.
pub(crate) async fn claim<L: Link>(
    link: &mut L,
    endpoint: &str,
    now: SystemTime,
    lease: Duration,
) -> sqlx::Result<Claim> {
    let head = format!(
        "{WHAT} AND d.place = (SELECT min(place) FROM deliveries WHERE endpoint = $1 AND state = 0 AND in_line = 1)"
    );
    let alone = format!("{WHAT} AND d.in_line = 0 ORDER BY free, d.place LIMIT 1");
    let mut next: Option<(i64, Parcel)> = None;
    for text in [head, alone] {
        for row in link.rows(Ask::new(text).bind(endpoint)).await? {
            let free = row.count(4)?;
            if next.as_ref().is_none_or(|(other, _)| free < *other) {
                let attempts = u32::try_from(row.count(3)?).unwrap_or(u32::MAX);
                let (id, event) = (row.word(0)?.into(), row.word(1)?.into());
                next = Some((free, Parcel { id, event, body: row.word(2)?.into(), attempts }));
            }
        }
    }
    let Some((free, parcel)) = next else { return Ok(Claim::Nothing) };
    if free > micros(now) {
        return Ok(Claim::At(time(free)));
    }
    let claim = Ask::new(CLAIM).bind(&*parcel.id).bind(micros(now + lease)).bind(micros(now));
    Ok(if link.run(claim).await? == 1 { Claim::Due(Box::new(parcel)) } else { Claim::At(now + SOON) })
}

pub(crate) async fn settle<L: Link>(link: &mut L, id: &str, reply: &Reply) -> sqlx::Result<()> {
    let (state, due, in_line) = match reply.outcome {
        Outcome::Again { at, in_line } => (State::Waiting, at, in_line),
        Outcome::Delivered => (State::Delivered, reply.at, true),
        Outcome::Dead => (State::Dead, reply.at, true),
    };
    let settle = Ask::new(SETTLE)
        .bind(id)
        .bind(micros(reply.at))
        .bind(reply.status.map(i64::from))
        .bind(reply.trouble.as_deref())
        .bind(state as i64)
        .bind(micros(due))
        .bind(i64::from(in_line));
    link.run(settle).await.map(drop)
}

pub(crate) async fn list<L: Link>(link: &mut L, query: Query) -> sqlx::Result<Vec<Delivery>> {
    let mut ask = Ask::new(ROW);
    ask.push(" WHERE place < ").push_bind(query.before.map_or(i64::MAX, int));
    if let Some(state) = query.state {
        ask.push(" AND state = ").push_bind(state as i64);
    }
    ask.push(" ORDER BY place DESC LIMIT ").push_bind(i64::from(query.limit));
    link.rows(ask).await?.iter().map(shown).collect()
}

pub(crate) async fn again<L: Link>(
    link: &mut L,
    id: &str,
    now: SystemTime,
) -> sqlx::Result<Option<Delivery>> {
    let mut transaction = link.change(Lock::Owner("outbox")).await?;
    transaction.run(Ask::new(AGAIN).bind(id).bind(micros(now))).await?;
    let rows = transaction.rows(Ask::new(format!("{ROW} WHERE id = $1")).bind(id)).await?;
    transaction.commit().await?;
    rows.first().map(shown).transpose()
}

fn shown<C: Cells>(row: &C) -> sqlx::Result<Delivery> {
    let known = usize::try_from(row.count(5)?).ok().and_then(|state| State::ALL.get(state).copied());
    let state = known.ok_or_else(|| sqlx::Error::Decode("a delivery is in no state that is known".into()))?;
    Ok(Delivery {
        id: row.word(0)?.into(),
        place: uint(row.count(1)?),
        event: row.word(2)?.into(),
        kind: row.word(3)?.into(),
        endpoint: row.word(4)?.into(),
        state,
        created: time(row.count(6)?),
        attempts: u32::try_from(row.count(7)?).unwrap_or(u32::MAX),
        next: if state == State::Waiting { Some(time(row.count(8)?)) } else { None },
        last: row.number(9)?.map(time),
        status: row.number(10)?.and_then(|status| u16::try_from(status).ok()),
        trouble: row.text(11)?.map(Into::into),
    })
}

fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(uint(micros))
}
