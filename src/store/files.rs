//! The files of a database: only their owner may read them.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::beside;

/// SQLite's files beside a database. It gives them the database's mode.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Makes a file that only its owner can read, whatever the umask is, unless it exists.
///
/// # Errors
/// If it cannot be made.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Takes all rights of others from a database and from SQLite's files beside it.
///
/// # Errors
/// If their modes cannot be changed.
pub(super) fn narrow_all(path: &Path) -> io::Result<()> {
    narrow(path)?;
    COMPANIONS.into_iter().try_for_each(|suffix| match narrow(&beside(path, suffix)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        narrowed => narrowed,
    })
}

fn narrow(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
    tracing::warn!(
        file = %path.display(),
        "others could read this file (mode {mode:o}); it is now {:o}", mode & 0o700
    );
    Ok(())
}
