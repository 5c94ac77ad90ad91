//! The pepper: 32 random bytes in a file of their own, so that a copy of the database alone is worthless.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use penstock_domain::{Code, Error, Secret};
use penstock_identity::Pepper;

use crate::{DATABASE_FILE, PEPPER_FILE, trouble};

/// Gives every draft of this process a name of its own.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// Reads the pepper of the data folder, and makes folder and pepper when there is none yet. Several processes may do
/// so at once: one of them wins, all read the same bytes.
///
/// # Errors
/// `store_unavailable` when the file cannot be read or made, is not a pepper, is readable by others, or is gone while
/// the database that needs it is there.
pub fn pepper(data_dir: &Path) -> Result<Pepper, Error> {
    let path = data_dir.join(PEPPER_FILE);
    if let Some(pepper) = read(&path)? {
        return Ok(pepper);
    }
    let database = data_dir.join(DATABASE_FILE);
    if fs::metadata(&database).is_ok_and(|found| found.len() > 0) {
        let say = format!(
            "{} is gone, and no key in {} can be recognised without it: restore it from a backup, or move the database \
             away to start anew",
            path.display(),
            database.display()
        );
        return Err(Error::new(Code::StoreUnavailable, say));
    }
    make_folder(data_dir).map_err(|e| trouble::io(data_dir, "making the folder", e))?;
    make(data_dir, &path)?;
    read(&path)?.ok_or_else(|| trouble::io(&path, "reading", ErrorKind::NotFound.into()))
}

/// Whether the data folder has a pepper already.
pub fn has_pepper(data_dir: &Path) -> bool {
    data_dir.join(PEPPER_FILE).exists()
}

/// Reads a pepper that stands in the configuration.
///
/// # Errors
/// `store_unavailable` when it is not 64 hexadecimal digits.
pub fn read_pepper(text: &Secret) -> Result<Pepper, Error> {
    decode(text.expose().trim()).map(Pepper::new).ok_or_else(|| {
        let say = "auth.pepper is not a pepper: expected 64 hexadecimal digits, as `openssl rand -hex 32` makes them and as \
                   the file `pepper` of a gateway has them";
        Error::new(Code::StoreUnavailable, say)
    })
}

fn read(path: &Path) -> Result<Option<Pepper>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(trouble::io(path, "reading", e)),
    };
    refuse_readable_by_others(path, &file)?;
    let mut text = String::with_capacity(65);
    file.take(66).read_to_string(&mut text).map_err(|e| trouble::io(path, "reading", e))?;
    match decode(text.trim_end()) {
        Some(bytes) => Ok(Some(Pepper::new(bytes))),
        None => {
            let say = format!(
                "{} is not a pepper (64 hexadecimal digits): restore it from a backup",
                path.display()
            );
            Err(Error::new(Code::StoreUnavailable, say))
        }
    }
}

/// Writes the bytes under another name and then links them into place: whoever reads sees all of them or none.
fn make(data_dir: &Path, path: &Path) -> Result<(), Error> {
    let pepper = Pepper::generate()?;
    let mut text: String = pepper.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    let turn = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = Draft(data_dir.join(format!("{PEPPER_FILE}.{}-{turn}.draft", std::process::id())));
    let written = write(&draft.0, text.as_bytes()).and_then(|()| match fs::hard_link(&draft.0, path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    });
    written.and_then(|()| sync_folder(data_dir)).map_err(|e| trouble::io(path, "writing", e))
}

/// Removes the draft whatever happens.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // A draft that stays behind is harmless: nobody reads it, and its mode is 0600.
        let _ = fs::remove_file(&self.0);
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private().truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Options for a new file that only its owner can read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A new name is durable only when its folder is.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(unix)]
fn refuse_readable_by_others(path: &Path, file: &File) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(|e| trouble::io(path, "reading", e))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let file = path.display();
    let say = format!("{file} has mode {mode:o} and can be read by others: run `chmod 600 {file}`");
    Err(Error::new(Code::StoreUnavailable, say))
}

#[cfg(not(unix))]
fn refuse_readable_by_others(_: &Path, _: &File) -> Result<(), Error> {
    Ok(())
}

pub(crate) fn decode(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [char::from(pair[0]).to_digit(16)?, char::from(pair[1]).to_digit(16)?];
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}
