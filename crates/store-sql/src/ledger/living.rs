//! Which gateways on one data folder live.
//!
//! Each has a file of its own in `gateways/`, named by its id, and holds the lock on it for as long as it lives: the system
//! lets go of a lock when its process ends, however it ends, and never before, not even when the process is stopped.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use penstock_admission::ledger::GatewayId;
use penstock_domain::Error;

use crate::{pepper, trouble};

const FOLDER: &str = "gateways";
const ENDING: &str = "lock";

/// This gateway's sign of life, and those of the others.
pub(super) struct Living {
    folder: PathBuf,
    id: GatewayId,
    own: Mutex<Option<File>>,
}

/// Who was found.
pub(super) struct Found {
    /// Whoever lives, this gateway too.
    pub(super) living: Vec<GatewayId>,
    /// Whoever does not; nobody else takes care of them while these are held.
    pub(super) dead: Vec<Dead>,
}

/// The file of a gateway that is no more, and the lock on it.
pub(super) struct Dead {
    path: PathBuf,
    _lock: File,
}

impl Living {
    pub(super) fn new(data_dir: &Path, id: GatewayId) -> Self {
        Self { folder: data_dir.join(FOLDER), id, own: Mutex::new(None) }
    }

    pub(super) fn id(&self) -> &GatewayId {
        &self.id
    }

    /// Says that this gateway lives, from now on until it leaves or ends.
    pub(super) fn enter(&self) -> Result<(), Error> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.is_some() {
            return Ok(());
        }
        let path = self.path();
        let failed = |error| trouble::io(&path, "making", error);
        pepper::make_folder(&self.folder).map_err(failed)?;
        // Nobody may see it before it is locked, and take this gateway for dead.
        let draft = path.with_extension("draft");
        let file = pepper::private().open(&draft).map_err(failed)?;
        file.lock().map_err(failed)?;
        fs::rename(&draft, &path).map_err(failed)?;
        *own = Some(file);
        Ok(())
    }

    /// Says that this gateway is no more; it has nothing open.
    pub(super) fn leave(&self) {
        if self.own.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            // One that stays is found by the next gateway, which removes it.
            let _ = fs::remove_file(self.path());
        }
    }

    /// Looks who lives.
    pub(super) fn look(&self) -> Result<Found, Error> {
        let failed = |error| trouble::io(&self.folder, "reading", error);
        let mut found = Found { living: vec![self.id.clone()], dead: Vec::new() };
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let (Some(name), true) = (name, path.extension().is_some_and(|ending| ending == ENDING)) else {
                continue;
            };
            if name == self.id.as_str() {
                continue;
            }
            let file = match File::open(&path) {
                Ok(file) => file,
                // It left, or somebody else has taken care of it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            match file.try_lock() {
                Ok(()) => found.dead.push(Dead { path, _lock: file }),
                Err(fs::TryLockError::WouldBlock) => found.living.push(GatewayId::new(name)),
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Ok(found)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.{ENDING}", self.id.as_str()))
    }
}

impl Dead {
    /// Everything that it left is settled.
    pub(super) fn forget(self) {
        // One that stays is found again.
        let _ = fs::remove_file(&self.path);
    }
}
