//! Space for deletions on a full disk. A deletion writes to the log before anything becomes free.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::beside;
use super::disk::DiskSpace;

/// Enough to delete a user with about a hundred minutes of kept recordings.
const BYTES: u64 = 8 << 20;

/// What is left for others while a reserve is made.
const MARGIN_BYTES: u64 = 64 << 10;

/// How long a deletion may need the space.
const USE: Duration = Duration::from_secs(5);

/// A file without meaning, which gives its space to deletions.
pub(in crate::store) struct Reserve {
    path: PathBuf,
    released: Mutex<Option<Instant>>,
}

impl Reserve {
    pub fn of(database: &Path) -> Self {
        Self { path: beside(database, "-reserve"), released: Mutex::default() }
    }

    /// Gives the space away if there is little else.
    pub fn release_if_needed(&self) {
        // Held, so that the space is not taken back at once.
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        if DiskSpace::of(&self.path).is_some_and(|space| space.free_bytes < BYTES) {
            *released = Some(Instant::now());
            // Without a reserve there is nothing to give.
            let _ = OpenOptions::new().write(true).open(&self.path).and_then(|it| it.set_len(0));
        }
    }

    /// Takes as much space as there is, up to the size of the reserve.
    pub fn fill(&self) {
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        if released.is_some_and(|at| at.elapsed() < USE) {
            return;
        }
        let length = fs::metadata(&self.path).map_or(0, |file| file.len());
        let free = DiskSpace::of(&self.path).map_or(0, |space| space.free_bytes);
        let free = free.saturating_sub(MARGIN_BYTES);
        let missing = BYTES.saturating_sub(length).min(free);
        if missing > 0
            && let Err(error) = self.extend(missing)
        {
            tracing::debug!(%error, "no space is reserved for deletions");
        }
    }

    fn extend(&self, mut bytes: u64) -> io::Result<()> {
        let mut file: File =
            OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while bytes > 0 {
            let part = bytes.min(ZEROS.len() as u64);
            file.write_all(&ZEROS[..part as usize])?;
            bytes -= part;
        }
        file.sync_data()
    }
}
