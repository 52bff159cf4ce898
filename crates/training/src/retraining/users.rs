//! Users' recordings, and what is known once each was read: their digest and how much fits into
//! memory.

use std::error::Error;

use bipedalnet_core::gait::{Recipe, Recording};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::background::background_seconds;
use super::error::{FEWEST_WINDOWS_A_USER, RetrainingError};

/// Recordings that are read between two looks for a stop.
pub const RECORDINGS_AT_A_TIME: usize = 64;

/// Recordings by user. They are read when they are needed, since they may not fit into memory.
pub struct Users<'a> {
    /// The caller's ids of each user's recordings. The latest comes last.
    pub recordings: &'a [Vec<i64>],
    /// Reads a recording. It is called from several threads, twice for each recording.
    pub read: &'a ReadRecording<'a>,
}

/// Reads a recording by its id, or says why it cannot.
pub type ReadRecording<'a> =
    dyn Fn(i64) -> Result<Recording, Box<dyn Error + Send + Sync>> + Sync + 'a;

impl Users<'_> {
    pub(super) fn read(&self, name: i64) -> Result<Recording, RetrainingError> {
        (self.read)(name).map_err(RetrainingError::Recording)
    }
}

/// The result of reading each recording once.
pub struct Survey {
    /// Digest of all samples of all recordings in their order. It does not include users' names.
    pub sha256: [u8; 32],
    /// Recorded time of each user.
    pub seconds: Vec<f64>,
}

/// Reads all recordings. `None` if `stopped` says so.
pub fn survey(
    users: &Users<'_>,
    stopped: &mut impl FnMut() -> bool,
) -> Result<Option<Survey>, RetrainingError> {
    if users.recordings.is_empty() {
        return Err(RetrainingError::NoUsers);
    }
    let names: Vec<i64> = users.recordings.concat();
    let mut of_each = Vec::with_capacity(names.len());
    for names in names.chunks(RECORDINGS_AT_A_TIME) {
        if stopped() {
            return Ok(None);
        }
        let some = names.par_iter().map(|&name| {
            let recording = users.read(name)?;
            Ok((digest(&recording), recording.duration_seconds()))
        });
        of_each.extend(some.collect::<Result<Vec<_>, RetrainingError>>()?);
    }
    let mut hash = Sha256::new();
    let mut of_each = of_each.into_iter();
    let mut seconds = Vec::with_capacity(users.recordings.len());
    for recordings in users.recordings {
        hash.update((recordings.len() as u64).to_le_bytes());
        let of_user = of_each.by_ref().take(recordings.len());
        seconds.push(
            of_user
                .map(|(digest, seconds)| {
                    hash.update(digest);
                    seconds
                })
                .sum(),
        );
    }
    Ok(Some(Survey { sha256: hash.finalize().into(), seconds }))
}

fn digest(recording: &Recording) -> [u8; 32] {
    let mut hash = Sha256::new();
    let count = |hash: &mut Sha256, count: usize| hash.update((count as u64).to_le_bytes());
    count(&mut hash, recording.time_seconds().len());
    recording.time_seconds().iter().for_each(|time| hash.update(time.to_le_bytes()));
    let rates = recording.angular_rate_rad_s();
    count(&mut hash, rates.map_or(0, <[_]>::len));
    for axes in recording.acceleration_m_s2().iter().chain(rates.unwrap_or_default()) {
        axes.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    hash.finalize().into()
}

impl Survey {
    /// The seconds of each user that fit into memory. Users with less leave their share to the others.
    pub fn seconds_a_user(
        &self,
        memory_bytes: usize,
        network_bytes: usize,
        recipe: Recipe,
    ) -> Result<f64, RetrainingError> {
        // A grid point takes 29 bytes and its share of the starts, or 32 bytes in two validation
        // windows.
        let bytes_per_second = 32.0 * recipe.rate_hz;
        let background = background_seconds();
        let needed = |seconds_a_user: f64| {
            let users: f64 = self.seconds.iter().map(|seconds| seconds.min(seconds_a_user)).sum();
            (users + background) * bytes_per_second
        };
        let least_seconds = (FEWEST_WINDOWS_A_USER + 1) as f64 * recipe.window_seconds() / 2.0;
        let walk_bytes = memory_bytes.saturating_sub(network_bytes) as f64;
        if needed(least_seconds) > walk_bytes {
            let needed_bytes = (needed(least_seconds) as usize).saturating_add(network_bytes);
            return Err(RetrainingError::Memory { needed_bytes, allowed_bytes: memory_bytes });
        }
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let mut left = walk_bytes / bytes_per_second - background;
        for (position, &seconds) in sorted.iter().enumerate() {
            let share = left / (sorted.len() - position) as f64;
            if seconds > share {
                return Ok(share);
            }
            left -= seconds;
        }
        Ok(f64::INFINITY)
    }
}

/// Gives people's recordings to a function as users.
#[cfg(test)]
pub fn given<T>(people: &[Vec<Recording>], then: impl FnOnce(&Users<'_>) -> T) -> T {
    let all: Vec<Recording> = people.concat();
    let mut names = 0_i64..;
    let recordings: Vec<Vec<i64>> =
        people.iter().map(|walks| names.by_ref().take(walks.len()).collect()).collect();
    let read = move |name: i64| Ok(all[name as usize].clone());
    then(&Users { recordings: &recordings, read: &read })
}
