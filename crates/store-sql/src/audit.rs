//! The audit log in `audit.db`, and the second place for its end, `audit.head`.
//!
//! A chain of hashes tells that a row was altered or is missing, but not that its end was cut off. So the number and the
//! hash of the newest row also stand in a file beside it, which is written after every row. Whoever can write both can make
//! a false log that fits: each row therefore leaves its number and hash in the program's log too, for a place elsewhere.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_domain::{Code, Error};
use penstock_identity::{AuditEntry, AuditEvent, AuditLog, AuditPage, Chain, Pending, Verdict};
use tokio::sync::Mutex;

use crate::line::Line;
use crate::link::{Ask, Cells, Link, Lock};
use crate::{connect, pepper, trouble};

/// The log's file name in the data folder.
pub const AUDIT_FILE: &str = "audit.db";
/// The name of the file with the log's end.
pub const AUDIT_HEAD_FILE: &str = "audit.head";

/// Gives every draft of this process a name of its own.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

const LAST: &str = "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1";
const HASH: &str = "SELECT hash FROM audit WHERE number = $1";
const INSERT: &str = "INSERT INTO audit (number, at, actor, action, object, before, after, hash) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
pub(crate) const PAGE: &str = "SELECT number, at, actor, action, object, before, after, hash FROM audit \
     WHERE number < $1 ORDER BY number DESC LIMIT $2";
pub(crate) const NEXT: &str = "SELECT number, at, actor, action, object, before, after, hash FROM audit \
     WHERE number > $1 ORDER BY number LIMIT $2";

/// Rows that are checked at once.
pub(crate) const CHECKED: u32 = 500;

/// The audit log of one data folder. Other processes may add to it at the same time.
pub struct SqlAudit {
    line: Line,
    head: PathBuf,
    /// One row at a time, with its end in the second place.
    turn: Mutex<()>,
}

/// The end of the log as it stands in the second place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) hash: [u8; 32],
}

/// Rows as a walk over all of them reads them.
pub(crate) trait Rows: Sync {
    /// Some rows after this number, in their order.
    fn after(&self, number: u64) -> Pending<'_, Vec<AuditEntry>>;
}

impl SqlAudit {
    /// The log of a data folder. Its file is opened when it is first needed.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            line: Line::new(data_dir.join(AUDIT_FILE), &connect::AUDIT),
            head: data_dir.join(AUDIT_HEAD_FILE),
            turn: Mutex::new(()),
        }
    }

    /// Closes the file properly. Later calls open it again.
    pub async fn close(&self) {
        self.line.close().await;
    }

    async fn add(&self, event: &AuditEvent) -> Result<Head, Error> {
        let head = read_head(&self.head)?;
        let mut connection = self.line.hold().await?;
        let outcome = insert(&mut *connection, event, head).await;
        drop(connection);
        match outcome {
            Ok(Some(head)) => Ok(head),
            Ok(None) => Err(does_not_fit(&self.line.path().display(), &self.head)),
            Err(error) => Err(self.line.failed(error).await),
        }
    }

    async fn rows(&self, statement: &'static str, from: u64, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        let mut connection = self.line.hold().await?;
        let outcome = rows(&mut *connection, statement, from, limit).await;
        self.line.done(connection, outcome).await
    }
}

impl Rows for SqlAudit {
    fn after(&self, number: u64) -> Pending<'_, Vec<AuditEntry>> {
        Box::pin(self.rows(NEXT, number, CHECKED))
    }
}

/// The end that is known elsewhere is not in the log any more.
pub(crate) fn does_not_fit(log: &dyn fmt::Display, head: &Path) -> Error {
    let say = format!(
        "the end of {log} does not fit {}: rows were removed or altered; run `penstock audit verify`, and move both files away \
         to start a new log",
        head.display()
    );
    Error::new(Code::StoreUnavailable, say)
}

/// Checks every row. `alone`: nobody else adds to the log, so that its end is known here if it has one.
pub(crate) async fn walk(log: &impl Rows, second: &Path, alone: bool) -> Result<Verdict, Error> {
    // Read first: rows that are added meanwhile are beyond it.
    let head = read_head(second)?;
    let mut chain = Chain::default();
    let wrong = |chain: &Chain, number, say| Verdict {
        rows: chain.rows(),
        head: chain.head(),
        broken: Some((number, say)),
    };
    let file = second.display();
    loop {
        let entries = log.after(chain.rows()).await?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            if let Err(say) = chain.check(entry) {
                return Ok(wrong(&chain, entry.number.min(chain.rows() + 1), say));
            }
            if head.is_some_and(|head| head.number == entry.number && head.hash != entry.hash) {
                let say = format!("it is not the row that {file} knows: the log was written anew");
                return Ok(wrong(&chain, entry.number, say));
            }
        }
    }
    match head {
        Some(head) if head.number > chain.rows() => {
            let say =
                format!("it and all after it are gone: {file} says that there were {} rows", head.number);
            Ok(wrong(&chain, chain.rows() + 1, say))
        }
        None if alone && chain.rows() > 0 => {
            let say = format!("{file} is gone, so nobody can tell whether rows are missing after this one");
            Ok(wrong(&chain, chain.rows(), say))
        }
        _ => Ok(Verdict { rows: chain.rows(), head: chain.head(), broken: None }),
    }
}

/// Tells the program's log of a new row, for a place elsewhere.
pub(crate) fn tell(event: &AuditEvent, head: Head) {
    let AuditEvent { actor, action, object, after, .. } = event;
    tracing::info!(target: "audit", number = head.number, hash = hex(&head.hash), actor = &**actor, action = &**action, object = &**object, after = after.as_deref(), "noted");
}

/// Rows as a page: one more than were asked for says that there are more.
pub(crate) fn page_of(mut entries: Vec<AuditEntry>, limit: u32) -> AuditPage {
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next = entries.last().filter(|_| more).map(|last| last.number);
    AuditPage { entries, next }
}

impl fmt::Debug for SqlAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlAudit").field("path", &self.line.path()).finish_non_exhaustive()
    }
}

impl AuditLog for SqlAudit {
    fn append(&self, event: AuditEvent) -> Pending<'_, u64> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            let head = self.add(&event).await?;
            write_head(&self.head, head)?;
            tell(&event, head);
            Ok(head.number)
        })
    }

    fn page(&self, before: Option<u64>, limit: u32) -> Pending<'_, AuditPage> {
        Box::pin(async move {
            let entries = self.rows(PAGE, before.unwrap_or(u64::MAX), limit.saturating_add(1)).await?;
            Ok(page_of(entries, limit))
        })
    }

    fn verify(&self) -> Pending<'_, Verdict> {
        Box::pin(walk(self, &self.head, true))
    }
}

/// Adds a row after the last one; `None` when the second place knows of another end.
pub(crate) async fn insert<L: Link>(
    link: &mut L,
    event: &AuditEvent,
    head: Option<Head>,
) -> sqlx::Result<Option<Head>> {
    // The lock comes before the last row is read: nobody else adds one in between.
    let mut transaction = link.change(Lock::Audit).await?;
    if let Some(head) = head {
        let rows = transaction.rows(Ask::new(HASH).bind(int(head.number))).await?;
        if rows.first().map_or(Ok(None), |row| row.bytes(0))? != Some(&head.hash[..]) {
            return Ok(None);
        }
    }
    let last = transaction.rows(Ask::new(LAST)).await?;
    let mut chain = match last.first() {
        None => Chain::default(),
        Some(row) => Chain::after(number(row, 0)?, hash(row, 1)?),
    };
    let (number, hash) = chain.add(event);
    let ask = Ask::new(INSERT)
        .bind(int(number))
        .bind(millis(event.at))
        .bind(&*event.actor)
        .bind(&*event.action)
        .bind(&*event.object)
        .bind(event.before.as_deref())
        .bind(event.after.as_deref())
        .bind(&hash[..]);
    transaction.run(ask).await?;
    transaction.commit().await?;
    Ok(Some(Head { number, hash }))
}

/// Some rows from a number on, by [`PAGE`] or [`NEXT`].
pub(crate) async fn rows<L: Link>(
    link: &mut L,
    statement: &'static str,
    from: u64,
    limit: u32,
) -> sqlx::Result<Vec<AuditEntry>> {
    let rows = link.rows(Ask::new(statement).bind(int(from)).bind(i64::from(limit))).await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &impl Cells) -> sqlx::Result<AuditEntry> {
    let maybe = |column| row.text(column).map(|text| text.map(Box::from));
    Ok(AuditEntry {
        number: number(row, 0)?,
        event: AuditEvent {
            at: UNIX_EPOCH + Duration::from_millis(u64::try_from(row.count(1)?).unwrap_or(0)),
            actor: row.word(2)?.into(),
            action: row.word(3)?.into(),
            object: row.word(4)?.into(),
            before: maybe(5)?,
            after: maybe(6)?,
        },
        hash: hash(row, 7)?,
    })
}

fn number(row: &impl Cells, column: usize) -> sqlx::Result<u64> {
    row.count(column).map(|number| u64::try_from(number).unwrap_or(0))
}

fn hash(row: &impl Cells, column: usize) -> sqlx::Result<[u8; 32]> {
    // The table checks the length; another one cannot fit.
    row.bytes(column).map(|bytes| bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default())
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn read_head(path: &Path) -> Result<Option<Head>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(trouble::io(path, "reading", e)),
    };
    let mut text = String::new();
    file.take(256).read_to_string(&mut text).map_err(|e| trouble::io(path, "reading", e))?;
    let read = || {
        let (number, hash) = text.trim_end().split_once(' ')?;
        Some(Head { number: number.parse().ok()?, hash: pepper::decode(hash)? })
    };
    read().map(Some).ok_or_else(|| {
        let say = format!("{} is not the end of an audit log: restore it from a backup", path.display());
        Error::new(Code::StoreUnavailable, say)
    })
}

/// Writes the end under another name and moves it into place: whoever reads sees one end or the other. An end that another
/// process wrote meanwhile and that is further on stays.
pub(crate) fn write_head(path: &Path, head: Head) -> Result<(), Error> {
    if read_head(path)?.is_some_and(|known| known.number >= head.number) {
        return Ok(());
    }
    let turn = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("head.{}-{turn}.draft", std::process::id()));
    let write = || {
        let mut file = pepper::private().truncate(true).open(&draft)?;
        writeln!(file, "{} {}", head.number, hex(&head.hash))?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        path.parent().map_or(Ok(()), pepper::sync_folder)
    };
    write().map_err(|e| trouble::io(path, "writing", e))
}
