//! Puts a complete database and keyring in place of others, such that a crash at any point leaves the
//! old ones or the new ones.
//!
//! The new files are made in a folder beside the database. Once they are on disk, the folder gets its
//! final name: from then on they are what counts. The next program that locks the database finishes the move.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::super::keyring::keyring_file;
use super::super::{StoreError, beside, files, folder_of};

/// Names in the folder.
const DATABASE: &str = "database";
/// Holds the suffix of replaced files that are kept.
const SUFFIX: &str = "suffix";

/// Files of SQLite that belong to the database that is replaced.
const COMPANIONS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// New files that do not count yet. They are deleted on drop.
pub(super) struct Staging {
    target: PathBuf,
    folder: PathBuf,
}

impl Staging {
    /// Makes the folder. Removes what an earlier restore left that did not come to its end.
    pub fn new(database: &Path) -> io::Result<Self> {
        let target = fs::canonicalize(database)?;
        let staging = Self { folder: beside(&target, "-restore.part"), target };
        remove_folder(&staging.folder)?;
        DirBuilder::new().mode(0o700).create(&staging.folder)?;
        files::make_private(&staging.database())?;
        if device(&staging.folder)? != device(folder_of(&keyring_file(database)))? {
            let reason = "database and keyring are on two file systems; name the database itself, and \
                          not a link to it";
            return Err(io::Error::other(reason));
        }
        Ok(staging)
    }

    pub fn database(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    pub fn keyring(&self) -> PathBuf {
        keyring_file(&self.database())
    }

    /// Makes the new files those that count. If the keyring in place stays, that in the folder goes.
    pub fn commit(self, suffix: &str, keyring_stays: bool) -> io::Result<()> {
        if keyring_stays {
            fs::remove_file(self.keyring())?;
        }
        fs::write(self.folder.join(SUFFIX), suffix)?;
        for file in fs::read_dir(&self.folder)? {
            let file = file?.path();
            // As root, the service's own user must be able to open them.
            files::give_to_owner_of(folder_of(&self.target), &file)?;
            File::open(file)?.sync_all()?;
        }
        sync(&self.folder)?;
        fs::rename(&self.folder, complete_folder(&self.target))?;
        sync(folder_of(&self.target))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left is removed by the next restore.
        let _ = remove_folder(&self.folder);
    }
}

/// Finishes a restore that ended after its files were complete. The database is locked.
pub(in crate::store) fn finish(database: &Path) -> Result<(), StoreError> {
    let moved = fs::canonicalize(database).and_then(|target| match complete_folder(&target) {
        folder if folder.exists() => {
            tracing::warn!("finishing a restore of the database that was interrupted");
            move_in(database, &target)
        }
        _ => Ok(()),
    });
    moved.map_err(|error| unfinished(database, error.to_string()))
}

fn unfinished(database: &Path, reason: String) -> StoreError {
    StoreError::RestoreUnfinished { path: database.to_owned(), reason }
}

/// Refuses a database between the old one and the new one.
pub(in crate::store) fn refuse_unfinished(database: &Path) -> Result<(), StoreError> {
    match fs::canonicalize(database) {
        Ok(target) if complete_folder(&target).exists() => {
            Err(unfinished(database, "it was interrupted".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Moves complete files to their place. May be repeated.
fn move_in(database: &Path, target: &Path) -> io::Result<()> {
    let folder = complete_folder(target);
    let suffix = fs::read_to_string(folder.join(SUFFIX))?;
    let new = folder.join(DATABASE);
    replace(&new, target, &suffix)?;
    replace(&keyring_file(&new), &keyring_file(database), &suffix)?;
    remove_folder(&folder)?;
    sync(folder_of(target))
}

fn replace(new: &Path, target: &Path, suffix: &str) -> io::Result<()> {
    if !new.exists() {
        return Ok(());
    }
    let kept = beside(target, suffix);
    keep(target, &kept)?;
    for companion in COMPANIONS {
        keep(&beside(target, companion), &beside(&kept, companion))?;
    }
    sync(folder_of(target))?;
    // The new database must not read the old one's log.
    for companion in COMPANIONS {
        ignore(ErrorKind::NotFound, fs::remove_file(beside(target, companion)))?;
    }
    fs::rename(new, target)?;
    sync(folder_of(target))
}

/// Gives a file a second name, unless it is empty or was kept before.
fn keep(file: &Path, kept: &Path) -> io::Result<()> {
    if fs::metadata(file).map_or(0, |file| file.len()) == 0 || kept.exists() {
        return Ok(());
    }
    if fs::hard_link(file, kept).is_ok() {
        return Ok(());
    }
    // The file system has no links.
    let part = beside(kept, ".part");
    fs::copy(file, &part)?;
    File::open(&part)?.sync_all()?;
    fs::rename(part, kept)
}

fn complete_folder(target: &Path) -> PathBuf {
    beside(target, "-restore")
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    ignore(ErrorKind::NotFound, fs::remove_dir_all(folder))
}

fn ignore(kind: ErrorKind, result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == kind { Ok(()) } else { Err(error) })
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn device(folder: &Path) -> io::Result<u64> {
    Ok(fs::metadata(folder)?.dev())
}
