//! The statements.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use penstock_idempotency::{Claim, Claimed, Room, Sealed, Slot, Stored, Ticket, weight};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};

/// Takes a slot that is free, or whose time is over; a row comes back when it was taken.
const TAKE: &str = "INSERT INTO answers (slot, tenant, print, ticket, until, weight) VALUES (?1, ?2, ?3, ?4, ?5, 0) \
     ON CONFLICT (slot) DO UPDATE SET tenant = excluded.tenant, print = excluded.print, ticket = excluded.ticket, \
     until = excluded.until, weight = 0, answer = NULL WHERE until <= ?6 RETURNING place";
const LOOK: &str = "SELECT print, answer FROM answers WHERE slot = ?";
const RENEW: &str = "UPDATE answers SET until = ? WHERE slot = ? AND ticket = ? AND answer IS NULL";
const RUNS: &str = "SELECT tenant FROM answers WHERE slot = ? AND ticket = ? AND answer IS NULL";
const KEPT: &str = "SELECT weight FROM tenants WHERE tenant = ?";
const OLDEST: &str = "DELETE FROM answers WHERE place = \
     (SELECT place FROM answers WHERE tenant = ? AND answer IS NOT NULL ORDER BY place LIMIT 1) RETURNING weight";
/// The row comes anew, so that its place says when its answer came.
const DROP: &str = "DELETE FROM answers WHERE slot = ? AND ticket = ? AND answer IS NULL RETURNING print";
const KEEP: &str = "INSERT INTO answers (slot, tenant, print, ticket, until, weight, answer) VALUES (?, ?, ?, ?, ?, 0, ?)";
const WEIGH: &str = "UPDATE answers SET weight = ? WHERE slot = ?";
const EXPIRE: &str =
    "DELETE FROM answers WHERE place IN (SELECT place FROM answers WHERE until <= ? ORDER BY until LIMIT ?)";
const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Under which name all tenants together stand.
const ALL: &[u8] = &[0];
/// Rows deleted at once; each may have megabytes to overwrite.
const STEP: i64 = 50;

pub(super) async fn claim(connection: &mut SqliteConnection, claim: &Claim) -> sqlx::Result<Claimed> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let taken = sqlx::query(TAKE)
        .bind(&claim.slot.0[..])
        .bind(&claim.tenant.0[..])
        .bind(&claim.print[..])
        .bind(&claim.ticket.0[..])
        .bind(millis(claim.until))
        .bind(millis(claim.now))
        .fetch_optional(&mut *transaction)
        .await?;
    if taken.is_some() {
        transaction.commit().await?;
        return Ok(Claimed::Yours);
    }
    let row = sqlx::query(LOOK).bind(&claim.slot.0[..]).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    if row.try_get::<&[u8], _>("print")? != claim.print {
        return Ok(Claimed::Other);
    }
    let answer: Option<Vec<u8>> = row.try_get("answer")?;
    Ok(answer.map_or(Claimed::Running, |answer| Claimed::Done(Bytes::from(answer))))
}

pub(super) async fn renew(
    connection: &mut SqliteConnection,
    held: &[(Slot, Ticket)],
    until: SystemTime,
) -> sqlx::Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for (slot, ticket) in held {
        let renewed = sqlx::query(RENEW).bind(millis(until)).bind(&slot.0[..]).bind(&ticket.0[..]);
        renewed.execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// One transaction: dropped before its end, it never was.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    sealed: &Sealed,
    room: Room,
) -> sqlx::Result<Stored> {
    let size = weight(sealed.bytes.len());
    let (slot, ticket) = (&sealed.slot.0[..], &sealed.ticket.0[..]);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let tenant: Option<Vec<u8>> =
        sqlx::query_scalar(RUNS).bind(slot).bind(ticket).fetch_optional(&mut *transaction).await?;
    let Some(tenant) = tenant else { return Ok(Stored::Lost) };
    if size > room.tenant {
        return Ok(Stored::Full);
    }
    let mut mine = kept(&mut transaction, &tenant).await?;
    while mine.saturating_add(size) > room.tenant {
        let gone: Option<i64> =
            sqlx::query_scalar(OLDEST).bind(&tenant[..]).fetch_optional(&mut *transaction).await?;
        let Some(gone) = gone else { return Ok(Stored::Full) };
        mine = mine.saturating_sub(uint(gone));
    }
    if kept(&mut transaction, ALL).await?.saturating_add(size) > room.total {
        return Ok(Stored::Full);
    }
    let print: Option<Vec<u8>> =
        sqlx::query_scalar(DROP).bind(slot).bind(ticket).fetch_optional(&mut *transaction).await?;
    let Some(print) = print else { return Ok(Stored::Lost) };
    let row = sqlx::query(KEEP).bind(slot).bind(&tenant[..]).bind(&print[..]).bind(ticket);
    row.bind(millis(sealed.until)).bind(&sealed.bytes[..]).execute(&mut *transaction).await?;
    sqlx::query(WEIGH).bind(int(size)).bind(slot).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Stored::Stored)
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    slot: Slot,
    ticket: Ticket,
) -> sqlx::Result<()> {
    sqlx::query(DROP).bind(&slot.0[..]).bind(&ticket.0[..]).execute(connection).await?;
    Ok(())
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

async fn kept(connection: &mut SqliteConnection, tenant: &[u8]) -> sqlx::Result<u64> {
    let weight: Option<i64> = sqlx::query_scalar(KEPT).bind(tenant).fetch_optional(connection).await?;
    Ok(uint(weight.unwrap_or(0)))
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
