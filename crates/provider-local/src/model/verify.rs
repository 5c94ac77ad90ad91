//! The checksum of a pinned file, computed once: a mark beside the file remembers which size and modification time were
//! found right. `scripts/fetch-models` writes and reads the same one-line mark.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::{ModelError, Pinned};

pub(super) fn check(name: &str, path: &Path, pinned: &Pinned) -> Result<(), ModelError> {
    let unreadable = |source| ModelError::Unreadable { path: path.to_owned(), source };
    let mark = beside(path, ".verified");
    let line = mark_line(path, pinned.sha256).map_err(unreadable)?;
    if fs::read_to_string(&mark).is_ok_and(|found| found == line) {
        return Ok(());
    }
    let found = digest(path).map_err(unreadable)?;
    if found != pinned.sha256 {
        return Err(ModelError::Foreign {
            name: name.to_owned(),
            path: path.to_owned(),
            expected: pinned.sha256,
            found,
        });
    }
    // A cache that cannot be written costs a hash at every start, nothing more.
    if let Err(error) = write_whole(&mark, line.as_bytes()) {
        tracing::debug!(%error, mark = %mark.display(), "the checksum mark was not kept");
    }
    Ok(())
}

fn mark_line(path: &Path, sha256: &str) -> std::io::Result<String> {
    let meta = fs::metadata(path)?;
    let nanos = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
    Ok(format!("{sha256} {} {nanos}\n", meta.len()))
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut sha = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => break,
            n => sha.update(&block[..n]),
        }
    }
    Ok(sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The path with a suffix after its whole name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A name beside the path that nobody else writes to, in this process or another.
pub(super) fn scratch(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    beside(path, &format!(".{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// Writes a file so that readers see all of it or nothing.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let scratch = scratch(path);
    fs::write(&scratch, bytes)?;
    fs::rename(&scratch, path).inspect_err(|_| drop(fs::remove_file(&scratch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_hashed_again_and_refused() {
        let dir = std::env::temp_dir().join(format!("penstock-verify-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("f");
        fs::write(&file, b"abc").unwrap();
        let pinned = Pinned {
            path: "f",
            bytes: 3,
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        };
        check("m", &file, &pinned).unwrap();
        assert!(beside(&file, ".verified").exists());
        fs::write(&file, b"abd").unwrap();
        let said = check("m", &file, &pinned).unwrap_err().to_string();
        assert!(said.contains("delete it and run ./scripts/fetch-models m"), "{said}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
