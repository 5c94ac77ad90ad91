//! What went wrong with a file, and how to mend it.

use std::io;
use std::path::Path;

use penstock_domain::{Code, Error};

// Primary result codes, sqlite.org/rescode.html.
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const TOOBIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;
const NOTADB: i32 = 26;

/// The primary result code of a database error.
fn primary(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Whether a new connection may do better than this one.
pub(crate) fn is_fatal(error: &sqlx::Error) -> bool {
    match primary(error) {
        Some(code) => matches!(code, IOERR | CORRUPT | CANTOPEN | NOTADB | READONLY),
        None => !matches!(error, sqlx::Error::RowNotFound),
    }
}

/// The name of the column or index whose uniqueness was violated, if that is what happened.
pub(crate) fn taken(error: &sqlx::Error) -> Option<&str> {
    (primary(error)? == CONSTRAINT).then(|| error.as_database_error().map_or("", |e| e.message()))
}

/// Whether the same change will fail the same way whenever it is tried.
pub(crate) fn is_hopeless(error: &sqlx::Error) -> bool {
    let refused = |code| matches!(code, CONSTRAINT | TOOBIG | MISMATCH);
    matches!(error, sqlx::Error::Encode(_)) || primary(error).is_some_and(refused)
}

/// `store_unavailable`, with the file, the finding and the mend.
pub(crate) fn translate(path: &Path, error: sqlx::Error) -> Error {
    let file = path.display();
    let say = match primary(&error) {
        Some(NOTADB | CORRUPT) => format!(
            "the database {file} is damaged or is not a database: restore it from a backup, or move it away to start anew"
        ),
        Some(FULL) => format!("the disk of {file} is full: free some space, nothing was changed"),
        Some(BUSY | LOCKED) => {
            format!("another process holds the database {file}: try again, or stop that process")
        }
        Some(READONLY | PERM) => {
            format!(
                "the database {file} may not be written: give its folder and files to the user that runs penstock"
            )
        }
        Some(CANTOPEN) => {
            format!(
                "the database {file} cannot be opened: its folder must exist, be writable, and lie on a local disk"
            )
        }
        Some(IOERR) => {
            format!("reading or writing the database {file} failed: check the disk and its free space")
        }
        _ => format!("the database {file} did not do as asked: see the log for its own words"),
    };
    Error::new(Code::StoreUnavailable, say).with_source(error)
}

/// `store_unavailable` for a file or folder that the operating system refuses.
pub(crate) fn io(path: &Path, doing: &str, error: io::Error) -> Error {
    let file = path.display();
    let mend = match error.kind() {
        io::ErrorKind::PermissionDenied => "give the data folder to the user that runs penstock",
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only: put data_dir on one that can be written"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space on that disk",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "data_dir must be a folder",
        _ => "check data_dir in the config",
    };
    Error::new(Code::StoreUnavailable, format!("{doing} {file} failed ({}): {mend}", error.kind()))
        .with_source(error)
}
