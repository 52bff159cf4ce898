//! The files of a database: only their owner may read them, and they must stay where they are.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::keyring::keyring_file;
use super::{StoreError, beside};

/// Files beside a database. SQLite gives its own the database's mode.
const COMPANIONS: [&str; 5] = ["-wal", "-shm", "-journal", "-reserve", "-lock"];

/// All files of a database and its keyring that there may be, apart from the master key.
pub fn database_files(database: &Path) -> Vec<PathBuf> {
    let keyring = keyring_file(database);
    let all = [database, &keyring]
        .into_iter()
        .flat_map(|path| std::iter::once("").chain(COMPANIONS).map(|suffix| beside(path, suffix)));
    all.collect()
}

/// Makes a file that only its owner can read, whatever the umask is, unless it exists.
///
/// # Errors
/// If it cannot be made.
pub(in crate::store) fn make_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Gives a file to the owner of a folder, as far as this process may.
///
/// # Errors
/// If the folder or the file cannot be read, or root cannot change the owner.
pub(in crate::store) fn give_to_owner_of(folder: &Path, file: &Path) -> io::Result<()> {
    let (folder, made) = (fs::metadata(folder)?, fs::metadata(file)?);
    if !rustix::process::geteuid().is_root() || folder.uid() == made.uid() {
        return Ok(());
    }
    std::os::unix::fs::chown(file, Some(folder.uid()), Some(folder.gid()))
}

/// Takes all rights of others from a database and from the files beside it.
///
/// # Errors
/// If their modes cannot be changed.
pub(in crate::store) fn narrow_all(path: &Path) -> io::Result<()> {
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

/// Files that are open, with what tells them from others: device and inode.
pub(in crate::store) struct OpenFiles(Vec<(PathBuf, (u64, u64))>);

impl OpenFiles {
    /// Databases that SQLite has open, with their logs and shared memory.
    pub fn of(databases: &[PathBuf]) -> Self {
        let paths = databases
            .iter()
            .flat_map(|database| ["", "-wal", "-shm"].map(|suffix| beside(database, suffix)));
        Self(paths.filter_map(|path| identity(&path).map(|identity| (path, identity))).collect())
    }

    /// Checks that none was deleted or replaced: SQLite would go on writing to what nobody can find.
    /// Takes a few microseconds.
    ///
    /// # Errors
    /// [`StoreError::FileGone`].
    pub fn check(&self) -> Result<(), StoreError> {
        match self.0.iter().find(|(path, opened)| identity(path) != Some(*opened)) {
            Some((path, _)) => Err(StoreError::FileGone { path: path.clone() }),
            None => Ok(()),
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}
