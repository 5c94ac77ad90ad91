//! Opening the database, and bringing it up to date.

use std::path::Path;
use std::time::Duration;

use penstock_domain::{Code, Error};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use crate::{pepper, trouble};

/// What kind of file it is.
pub(crate) struct Plan {
    /// The steps from an empty file to today's tables. `user_version` counts how many were taken; steps are only ever
    /// added.
    steps: &'static [&'static str],
    synchronous: SqliteSynchronous,
    /// Overwrites what is deleted with zeros, for files that may hold what people said.
    erases: bool,
    /// Refuses every change, for connections that only answer questions.
    reads: bool,
}

/// Keys: few changes, none may be lost.
pub(crate) static KEYS: Plan = Plan {
    steps: &[
        include_str!("../migrations/0001_keys.sql"),
        include_str!("../migrations/0002_limits.sql"),
        include_str!("../migrations/0003_allow_ips.sql"),
        include_str!("../migrations/0004_teams.sql"),
        include_str!("../migrations/0005_priority.sql"),
    ],
    synchronous: SqliteSynchronous::Full,
    erases: false,
    reads: false,
};

/// The audit log: few rows, none may be lost.
pub(crate) static AUDIT: Plan = Plan {
    steps: &[include_str!("../migrations/audit_0001.sql")],
    synchronous: SqliteSynchronous::Full,
    erases: false,
    reads: false,
};

/// Records as they are written: thousands a second, without waiting for the disk.
pub(crate) static RECORDS: Plan = RECORDS_PLAN;

/// Records as they are read.
pub(crate) static RECORDS_READ: Plan = Plan { reads: true, ..RECORDS_PLAN };

const RECORDS_PLAN: Plan = Plan {
    steps: &[include_str!("../migrations/records_0001.sql")],
    synchronous: SqliteSynchronous::Normal,
    erases: true,
    reads: false,
};

/// The ledger as it is written.
pub(crate) static LEDGER: Plan = LEDGER_PLAN;

/// The ledger as it is read.
pub(crate) static LEDGER_READ: Plan = Plan { reads: true, ..LEDGER_PLAN };

const LEDGER_PLAN: Plan = Plan {
    steps: &[
        include_str!("../migrations/ledger_0001.sql"),
        include_str!("../migrations/ledger_0002.sql"),
        include_str!("../migrations/ledger_0003.sql"),
    ],
    synchronous: SqliteSynchronous::Normal,
    erases: false,
    reads: false,
};

/// Responses as they are written, before their askers have them.
pub(crate) static RESPONSES: Plan = RESPONSES_PLAN;

/// Responses as they are read.
pub(crate) static RESPONSES_READ: Plan = Plan { reads: true, ..RESPONSES_PLAN };

const RESPONSES_PLAN: Plan = Plan {
    steps: &[include_str!("../migrations/responses_0001.sql")],
    synchronous: SqliteSynchronous::Normal,
    erases: true,
    reads: false,
};

/// Answers by idempotency key, before their askers have them.
pub(crate) static IDEMPOTENCY: Plan = Plan {
    steps: &[include_str!("../migrations/idempotency_0001.sql")],
    synchronous: SqliteSynchronous::Normal,
    erases: true,
    reads: false,
};

/// Events that somebody is told of.
pub(crate) static OUTBOX: Plan = Plan {
    steps: &[include_str!("../migrations/outbox_0001.sql")],
    synchronous: SqliteSynchronous::Normal,
    erases: false,
    reads: false,
};

/// What a connection that writes keeps of its file, in KiB: rows are added at the ends of tables and of indexes, so that few
/// pages are seen twice. A transaction with more pages than that begins to write before it ends.
const WRITER_CACHE: u32 = 512;
/// What a connection that answers questions keeps.
const READER_CACHE: u32 = 2_000;

/// How long a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn connect(path: &Path, plan: &Plan) -> Result<SqliteConnection, Error> {
    keep_private(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(plan.synchronous)
        // A damaged or hostile file must not reach functions through its schema (sqlite.org/security.html).
        .pragma("trusted_schema", "off")
        .pragma("secure_delete", if plan.erases { "on" } else { "off" })
        // Below zero it counts KiB (sqlite.org/pragma.html#pragma_cache_size).
        .pragma("cache_size", format!("-{}", if plan.reads { READER_CACHE } else { WRITER_CACHE }))
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(|e| trouble::translate(path, e))?;
    migrate(path, plan, &mut connection).await?;
    if plan.reads {
        let refuse = sqlx::raw_sql("PRAGMA query_only = on");
        refuse.execute(&mut connection).await.map_err(|e| trouble::translate(path, e))?;
    }
    Ok(connection)
}

/// Makes the file before SQLite does, so that it never exists with another mode; its companions copy the mode.
fn keep_private(path: &Path) -> Result<(), Error> {
    let file = pepper::private().open(path).map_err(|e| trouble::io(path, "opening", e))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let found =
            file.metadata().map_err(|e| trouble::io(path, "reading", e))?.permissions().mode() & 0o777;
        if found & 0o077 != 0 {
            let mode = std::fs::Permissions::from_mode(0o600);
            file.set_permissions(mode).map_err(|e| trouble::io(path, "protecting", e))?;
            tracing::warn!(file = %path.display(), found = format!("{found:o}"), "the database could be read by others and is now private");
        }
    }
    drop(file);
    Ok(())
}

async fn migrate(path: &Path, plan: &Plan, connection: &mut SqliteConnection) -> Result<(), Error> {
    let known = plan.steps.len();
    if version(path, known, connection).await? == known {
        return Ok(());
    }
    let broken = |e| trouble::translate(path, e);
    // The lock is taken before the version is read again: another process may be migrating at this moment.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
    let done = version(path, known, &mut transaction).await?;
    for step in plan.steps.iter().skip(done) {
        sqlx::raw_sql(*step).execute(&mut *transaction).await.map_err(broken)?;
    }
    // A pragma takes no bound value; this one is our own count.
    let count = format!("PRAGMA user_version = {known}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(count)).execute(&mut *transaction).await.map_err(broken)?;
    transaction.commit().await.map_err(broken)
}

async fn version(path: &Path, known: usize, connection: &mut SqliteConnection) -> Result<usize, Error> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(connection)
        .await
        .map_err(|e| trouble::translate(path, e))?;
    match usize::try_from(found) {
        Ok(count) if count <= known => Ok(count),
        _ => {
            let say = format!(
                "the database {} has version {found} and this program knows {known}: it was made by a newer Penstock, \
                 run that one",
                path.display()
            );
            Err(Error::new(Code::StoreUnavailable, say))
        }
    }
}
