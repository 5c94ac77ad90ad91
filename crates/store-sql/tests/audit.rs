//! The audit log: what was added stays, and what was done to it is found.

#![expect(clippy::expect_used, reason = "helpers of tests, which the lint takes for the program")]

mod homes;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use penstock_identity::{AuditEvent, AuditLog};
use penstock_store_sql::{AUDIT_FILE, AUDIT_HEAD_FILE, SqlAudit};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnectOptions;

use homes::Home;

fn event(n: u64) -> AuditEvent {
    AuditEvent::new(
        UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + n),
        "key_a",
        "key.create",
        &format!("key_{n}"),
    )
    .with(None, Some("{\"scopes\":[\"chat:*\"]}"))
}

async fn filled(dir: &Path, rows: u64) -> SqlAudit {
    let log = SqlAudit::new(dir);
    for n in 1..=rows {
        assert_eq!(log.append(event(n)).await.expect("added"), n);
    }
    log
}

/// What somebody with the file could do, the triggers taken away first.
async fn meddle(dir: &Path, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(dir.join(AUDIT_FILE));
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("open");
    sqlx::raw_sql("DROP TRIGGER audit_stays; DROP TRIGGER audit_keeps;")
        .execute(&mut connection)
        .await
        .expect("dropped");
    sqlx::raw_sql(statement).execute(&mut connection).await.expect("done");
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn what_was_added_is_read_back_newest_first_and_page_by_page() {
    for home in Home::each() {
        let log = home.audit();
        for n in 1..=5 {
            assert_eq!(log.append(event(n)).await.expect("added"), n);
        }
        let page = log.page(None, 2).await.expect("readable");
        assert_eq!(page.entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [5, 4]);
        assert_eq!(page.entries[0].event, event(5));
        let rest = log.page(page.next, 10).await.expect("readable");
        assert_eq!((rest.entries.len(), rest.next), (3, None));
        drop(log);
        let verdict = home.audit().verify().await.expect("readable");
        assert_eq!((verdict.rows, verdict.broken), (5, None), "{}", home.name());
    }
}

#[tokio::test]
async fn rows_that_were_altered_removed_or_added_from_outside_are_found() {
    for (statement, row) in [
        ("UPDATE audit SET actor = 'key_z' WHERE number = 3", 3),
        ("UPDATE audit SET after = NULL WHERE number = 3", 3),
        ("UPDATE audit SET at = at + 1 WHERE number = 5", 5),
        ("DELETE FROM audit WHERE number = 3", 3),
        ("DELETE FROM audit WHERE number = 1", 1),
        ("DELETE FROM audit WHERE number = 3; UPDATE audit SET number = number - 1 WHERE number > 3", 3),
        ("DELETE FROM audit WHERE number > 3", 4),
        ("DELETE FROM audit", 1),
        (
            "INSERT INTO audit SELECT 6, at, actor, action, object, before, after, hash FROM audit WHERE number = 5",
            6,
        ),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        filled(dir.path(), 5).await.close().await;
        meddle(dir.path(), statement).await;
        let log = SqlAudit::new(dir.path());
        let verdict = log.verify().await.expect("readable");
        assert_eq!(verdict.broken.as_ref().map(|(row, _)| *row), Some(row), "{statement}: {verdict:?}");
    }
}

#[tokio::test]
async fn a_log_whose_end_was_cut_off_takes_no_rows_that_would_cover_it_up() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path(), 5).await.close().await;
    meddle(dir.path(), "DELETE FROM audit WHERE number > 3").await;
    let log = SqlAudit::new(dir.path());
    let error = log.append(event(6)).await.expect_err("cut off");
    assert!(error.say().contains("penstock audit verify"), "{error}");
}

#[tokio::test]
async fn a_lost_second_place_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = filled(dir.path(), 2).await;
    std::fs::remove_file(dir.path().join(AUDIT_HEAD_FILE)).expect("removed");
    assert!(log.verify().await.expect("readable").broken.is_some());
}

#[tokio::test]
async fn slips_are_stopped_by_the_file_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path(), 2).await.close().await;
    let options = SqliteConnectOptions::new().filename(dir.path().join(AUDIT_FILE));
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("open");
    for statement in ["DELETE FROM audit", "UPDATE audit SET actor = 'x'"] {
        assert!(sqlx::raw_sql(statement).execute(&mut connection).await.is_err(), "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_write_at_once_make_one_chain() {
    let dir = tempfile::tempdir().expect("a folder");
    let logs = [Arc::new(SqlAudit::new(dir.path())), Arc::new(SqlAudit::new(dir.path()))];
    let tasks = (0..200).map(|n| {
        let log = Arc::clone(&logs[n % 2]);
        tokio::spawn(async move { log.append(event(n as u64)).await })
    });
    let mut numbers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        numbers.push(task.await.expect("no panic").expect("added"));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    let verdict = logs[0].verify().await.expect("readable");
    assert_eq!((verdict.rows, verdict.broken), (200, None));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path(), 1).await;
    for file in [AUDIT_FILE, AUDIT_HEAD_FILE] {
        let mode = std::fs::metadata(dir.path().join(file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
}
