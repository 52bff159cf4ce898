//! One program at a time changes what a server keeps in memory: the gallery, keys and templates.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{StoreError, beside, files, folder_of, restore};

/// The process that holds the lock of a database, and what the lock says about it. Takes no lock, which
/// could get in the way of a server that starts. Sees only processes that this one may see.
pub fn lock_holder(database: &Path) -> Option<(u32, String)> {
    let path = beside(&fs::canonicalize(database).ok()?, "-lock");
    let file = fs::metadata(&path).ok()?;
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let id = format!("{major:02x}:{minor:02x}:{}", file.ino());
    // As in proc(5): number, kind, mandatory or not, read or write, process, device and inode.
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let process = held
        .filter(|fields| fields.get(1) == Some(&"FLOCK"))
        .find(|fields| fields.get(5) == Some(&&id[..]))?
        .get(4)?
        .parse()
        .ok()?;
    let holder = fs::read_to_string(path).ok()?;
    Some((process, holder.trim_end().to_owned()))
}

/// Held as long as a server has its database open, or a command changes what a server keeps in memory.
/// The system releases it when the process ends, however it ends.
pub struct DatabaseLock {
    _file: File,
}

impl DatabaseLock {
    /// Locks a database. The lock is a file of its own: closing the database's file anywhere in a
    /// process would release SQLite's locks. Finishes a restore that was interrupted.
    ///
    /// # Errors
    /// If another process holds the lock, or the file cannot be opened.
    pub fn take(database: &Path) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| StoreError::Open {
            path: database.to_owned(),
            error: error.into(),
        };
        // Another path may lead to the same database.
        files::make_private(database).map_err(failed)?;
        let path = beside(&fs::canonicalize(database).map_err(failed)?, "-lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let path = database.to_owned();
                return Err(StoreError::InUse { path, holder: holder.trim_end().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // As root, the service's own user must be able to lock it.
        files::give_to_owner_of(folder_of(database), &path).map_err(failed)?;
        restore::finish(database)?;
        let name = rustix::system::uname();
        let host = name.nodename().to_string_lossy();
        let holder = format!("process {} on host {host}\n", std::process::id());
        // On a full disk it is locked all the same.
        let _ = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
        Ok(Self { _file: file })
    }
}
