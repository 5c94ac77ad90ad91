//! The statements, for either database.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use penstock_idempotency::{Claim, Claimed, Room, Sealed, Slot, Stored, Ticket, weight};
use sqlx::sqlite::SqliteConnection;

use crate::link::{Ask, Cells, Link, Lock};

/// Takes a slot that is free, or whose time is over; a row comes back when it was taken. One statement, so that of all who
/// come one gets it, in whichever processes they are.
const TAKE: &str = "INSERT INTO answers (slot, tenant, print, ticket, until, weight) VALUES ($1, $2, $3, $4, $5, 0) \
     ON CONFLICT (slot) DO UPDATE SET tenant = excluded.tenant, print = excluded.print, ticket = excluded.ticket, \
     until = excluded.until, weight = 0, answer = NULL WHERE answers.until <= $6 RETURNING until";
const LOOK: &str = "SELECT print, answer FROM answers WHERE slot = $1";
const RENEW: &str = "UPDATE answers SET until = $1 WHERE slot = $2 AND ticket = $3 AND answer IS NULL";
const RUNS: &str = "SELECT tenant FROM answers WHERE slot = $1 AND ticket = $2 AND answer IS NULL";
const KEPT: &str = "SELECT weight FROM tenants WHERE tenant = $1";
const OLDEST: &str = "DELETE FROM answers WHERE place = \
     (SELECT place FROM answers WHERE tenant = $1 AND answer IS NOT NULL ORDER BY place LIMIT 1) RETURNING weight";
const DROP: &str = "DELETE FROM answers WHERE slot = $1 AND ticket = $2 AND answer IS NULL RETURNING print";
/// The row comes anew, so that its place says when its answer came.
const KEEP: &str = "INSERT INTO answers (slot, tenant, print, ticket, until, weight, answer) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";
/// The same where there is room already and one writes at a time: one statement instead of seven, each of which is a way to
/// another thread and back. What is replaced weighs nothing, so no trigger has to hear of its end.
const KEEP_AT_ONCE: &str = "INSERT OR REPLACE INTO answers (slot, tenant, print, ticket, until, weight, answer) \
     SELECT slot, tenant, print, ticket, $3, $4, $5 FROM answers AS mine \
     WHERE slot = $1 AND ticket = $2 AND answer IS NULL \
     AND $4 + coalesce((SELECT weight FROM tenants WHERE tenant = mine.tenant), 0) <= $6 \
     AND $4 + coalesce((SELECT weight FROM tenants WHERE tenant = x'00'), 0) <= $7";
const EXPIRE: &str = "DELETE FROM answers WHERE place IN \
     (SELECT place FROM answers WHERE until <= $1 ORDER BY until LIMIT $2 UNTOUCHED)";

/// Under which name all tenants together stand.
const ALL: &[u8] = &[0];
/// Rows deleted at once; each may have megabytes to overwrite.
const STEP: i64 = 50;

pub(crate) async fn claim<L: Link>(link: &mut L, claim: &Claim) -> sqlx::Result<Claimed> {
    let Claim { slot, tenant, print, ticket, now, until } = claim;
    let take = Ask::new(TAKE).bind(&slot.0[..]).bind(&tenant.0[..]).bind(&print[..]).bind(&ticket.0[..]);
    if !link.rows(take.bind(millis(*until)).bind(millis(*now))).await?.is_empty() {
        return Ok(Claimed::Yours);
    }
    let rows = link.rows(Ask::new(LOOK).bind(&slot.0[..])).await?;
    // Given back a moment ago: whoever comes again gets it.
    let Some(row) = rows.first() else { return Ok(Claimed::Running) };
    if row.bytes(0)? != Some(&print[..]) {
        return Ok(Claimed::Other);
    }
    Ok(row.bytes(1)?.map_or(Claimed::Running, |answer| Claimed::Done(Bytes::copy_from_slice(answer))))
}

pub(crate) async fn renew<L: Link>(
    link: &mut L,
    held: &[(Slot, Ticket)],
    until: SystemTime,
) -> sqlx::Result<()> {
    for (slot, ticket) in held {
        link.run(Ask::new(RENEW).bind(millis(until)).bind(&slot.0[..]).bind(&ticket.0[..])).await?;
    }
    Ok(())
}

/// Keeps an answer for which nothing has to make room; otherwise says no and changes nothing.
pub(crate) async fn keep_at_once(
    link: &mut SqliteConnection,
    sealed: &Sealed,
    room: Room,
) -> sqlx::Result<bool> {
    let keep = Ask::new(KEEP_AT_ONCE).bind(&sealed.slot.0[..]).bind(&sealed.ticket.0[..]);
    let keep = keep.bind(millis(sealed.until)).bind(int(weight(sealed.bytes.len()))).bind(&sealed.bytes[..]);
    Ok(link.run(keep.bind(int(room.tenant)).bind(int(room.total))).await? == 1)
}

/// One transaction: dropped before its end, it never was.
pub(crate) async fn keep<L: Link>(link: &mut L, sealed: &Sealed, room: Room) -> sqlx::Result<Stored> {
    let size = weight(sealed.bytes.len());
    let (slot, ticket) = (&sealed.slot.0[..], &sealed.ticket.0[..]);
    let rows = link.rows(Ask::new(RUNS).bind(slot).bind(ticket)).await?;
    let Some(row) = rows.first() else { return Ok(Stored::Lost) };
    let tenant = row.bytes(0)?.unwrap_or_default().to_vec();
    if size > room.tenant {
        return Ok(Stored::Full);
    }
    // What one tenant keeps is counted by one at a time.
    let name: String = tenant.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut transaction = link.change(Lock::Owner(&name)).await?;
    let mut mine = kept(&mut *transaction, &tenant).await?;
    while mine.saturating_add(size) > room.tenant {
        let gone = transaction.rows(Ask::new(OLDEST).bind(&tenant[..])).await?;
        let Some(gone) = gone.first() else { return Ok(Stored::Full) };
        mine = mine.saturating_sub(uint(gone.count(0)?));
    }
    if kept(&mut *transaction, ALL).await?.saturating_add(size) > room.total {
        return Ok(Stored::Full);
    }
    let print = transaction.rows(Ask::new(DROP).bind(slot).bind(ticket)).await?;
    let Some(print) = print.first() else { return Ok(Stored::Lost) };
    let row = Ask::new(KEEP).bind(slot).bind(&tenant[..]).bind(print.bytes(0)?).bind(ticket);
    transaction.run(row.bind(millis(sealed.until)).bind(int(size)).bind(&sealed.bytes[..])).await?;
    transaction.commit().await?;
    Ok(Stored::Stored)
}

pub(crate) async fn release<L: Link>(link: &mut L, slot: Slot, ticket: Ticket) -> sqlx::Result<()> {
    link.run(Ask::new(DROP).bind(&slot.0[..]).bind(&ticket.0[..])).await.map(drop)
}

/// One small step; says whether there may be more.
pub(crate) async fn expire<L: Link>(link: &mut L, now: SystemTime) -> sqlx::Result<bool> {
    let text = EXPIRE.replace("UNTOUCHED", L::UNTOUCHED);
    let done = link.run(Ask::new(text).bind(millis(now)).bind(STEP)).await?;
    Ok(int(done) >= STEP)
}

async fn kept<L: Link>(link: &mut L, tenant: &[u8]) -> sqlx::Result<u64> {
    let rows = link.rows(Ask::new(KEPT).bind(tenant)).await?;
    rows.first().map_or(Ok(0), |row| row.count(0).map(uint))
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
