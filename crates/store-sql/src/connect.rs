//! Opening the database, and bringing it up to date.

use std::path::Path;
use std::time::Duration;

use penstock_domain::{Code, Error};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use crate::{pepper, trouble};

/// The steps from an empty file to today's tables. `user_version` counts how many were taken; steps are only ever added.
const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001_keys.sql")];

/// How long a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn connect(path: &Path) -> Result<SqliteConnection, Error> {
    keep_private(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // A damaged or hostile file must not reach functions through its schema (sqlite.org/security.html).
        .pragma("trusted_schema", "off")
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(|e| trouble::translate(path, e))?;
    migrate(path, &mut connection).await?;
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

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    if version(path, connection).await? == MIGRATIONS.len() {
        return Ok(());
    }
    let broken = |e| trouble::translate(path, e);
    // The lock is taken before the version is read again: another process may be migrating at this moment.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
    let done = version(path, &mut transaction).await?;
    for step in MIGRATIONS.iter().skip(done) {
        sqlx::raw_sql(*step).execute(&mut *transaction).await.map_err(broken)?;
    }
    // A pragma takes no bound value; this one is our own count.
    let count = format!("PRAGMA user_version = {}", MIGRATIONS.len());
    sqlx::raw_sql(sqlx::AssertSqlSafe(count)).execute(&mut *transaction).await.map_err(broken)?;
    transaction.commit().await.map_err(broken)
}

async fn version(path: &Path, connection: &mut SqliteConnection) -> Result<usize, Error> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(connection)
        .await
        .map_err(|e| trouble::translate(path, e))?;
    match usize::try_from(found) {
        Ok(count) if count <= MIGRATIONS.len() => Ok(count),
        _ => {
            let say = format!(
                "the database {} has version {found} and this program knows {}: it was made by a newer Penstock, run \
                 that one",
                path.display(),
                MIGRATIONS.len()
            );
            Err(Error::new(Code::StoreUnavailable, say))
        }
    }
}
