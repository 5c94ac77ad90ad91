//! The data folder: database, pepper, and the admin key that `up` leaves for the person at this machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use penstock_domain::Secret;

/// The file that holds the admin key.
pub(crate) fn admin_key_file(dir: &Path) -> PathBuf {
    dir.join("admin.key")
}

/// Makes the folder, readable by its owner only.
pub(crate) fn prepare(dir: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| {
        format!(
            "the data folder {} cannot be made: {error}; set data_dir to a folder that can be written",
            dir.display()
        )
    };
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(dir).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Reads the admin key.
pub(crate) fn admin_key(dir: &Path) -> Result<Secret, String> {
    let file = admin_key_file(dir);
    let text = std::fs::read_to_string(&file).map_err(|error| {
        format!("no API key was given, and {} cannot be read: {error}; pass --key KEY", file.display())
    })?;
    Ok(Secret::new(text.trim()))
}

/// Writes the admin key for its owner alone; fails if the file is there.
pub(crate) fn write_admin_key(dir: &Path, key: &Secret) -> Result<(), String> {
    write_private(&admin_key_file(dir), key.expose())
}

fn write_private(file: &Path, text: &str) -> Result<(), String> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut open =
        options.open(file).map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    writeln!(open, "{text}").map_err(|error| format!("{} cannot be written: {error}", file.display()))
}
