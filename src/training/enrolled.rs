//! Whom a retraining learns to tell apart: enrolled users, and simulated walkers as strangers.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::retraining::RetrainingError;
use super::samples::{Division, LabelledWalk, Track};
use crate::gait::simulator::{Conditions, Walker};
use crate::gait::{Recipe, Recording};

/// Windows of walking that each user needs to train on, half a window apart: some nine seconds.
pub const FEWEST_WINDOWS_A_USER: usize = 8;

/// Windows of walking that all users need together.
pub const FEWEST_WINDOWS: usize = 32;

/// Simulated walkers beside the users.
pub(super) const BACKGROUND_PEOPLE: usize = 32;

const BACKGROUND_WALKS: u64 = 3;
const BACKGROUND_SECONDS: f64 = 30.0;

/// Simulated walkers from here on are nobody else's.
const BACKGROUND_SEED: u64 = 0xbac0_0000;

/// Users whose walks are cut at a time, between which a stop is heeded.
const USERS_AT_A_TIME: usize = 16;

/// A user with too little walking to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLittle {
    /// The user.
    pub subject: String,
    /// Recordings given.
    pub recordings: usize,
    /// Windows of walking in them, half a window apart.
    pub windows: usize,
}

/// Recordings by user, the latest last.
pub type Users = Vec<(String, Vec<Recording>)>;

/// SHA-256 over all recordings in their order. Users' names do not enter it.
pub(super) fn fingerprint(users: &Users) -> [u8; 32] {
    let mut hash = Sha256::new();
    let count = |hash: &mut Sha256, count: usize| hash.update((count as u64).to_le_bytes());
    for (_, recordings) in users {
        count(&mut hash, recordings.len());
        for recording in recordings {
            count(&mut hash, recording.time_seconds().len());
            recording.time_seconds().iter().for_each(|time| hash.update(time.to_le_bytes()));
            let rates = recording.angular_rate_rad_s();
            count(&mut hash, rates.map_or(0, <[_]>::len));
            for axes in recording.acceleration_m_s2().iter().chain(rates.unwrap_or_default()) {
                axes.iter().for_each(|value| hash.update(value.to_le_bytes()));
            }
        }
    }
    hash.finalize().into()
}

/// Cuts the walks: users are the first classes, in their order, and the background's the rest.
/// A user's last walk validates where enough is left to train on. Where walks take more than
/// `memory_bytes` without the network's, the longest users' are shortened. `None` where `stopped`
/// said so.
pub(super) fn divide(
    users: Users,
    recipe: Recipe,
    memory_bytes: usize,
    network_bytes: usize,
    mut stopped: impl FnMut() -> bool,
) -> Result<Option<Division>, RetrainingError> {
    if users.is_empty() {
        return Err(RetrainingError::NoUsers);
    }
    let seconds: Vec<f64> = users.iter().map(|(_, recordings)| duration(recordings)).collect();
    let limit_seconds = seconds_a_user(&seconds, memory_bytes, network_bytes, recipe)?;
    let mut division = Division {
        recipe,
        subjects: Vec::new(),
        validation: Vec::new(),
        test: Vec::new(),
        left_out: Vec::new(),
        people: Vec::new(),
    };
    let mut too_little = Vec::new();
    let mut windows = 0;
    let mut users = users.into_iter().zip(seconds).peekable();
    while users.peek().is_some() {
        if stopped() {
            return Ok(None);
        }
        let some: Vec<_> = users.by_ref().take(USERS_AT_A_TIME).collect();
        let cut: Vec<Cut> = some
            .into_par_iter()
            .map(|((subject, recordings), seconds)| {
                Cut::new(subject, recordings, (limit_seconds / seconds).min(1.0), recipe)
            })
            .collect();
        for cut in cut {
            windows += cut.person.windows;
            if cut.person.windows < FEWEST_WINDOWS_A_USER {
                too_little.push(cut.person);
                continue;
            }
            let class = division.people.len();
            let validation = cut.validation.into_iter();
            division.validation.extend(validation.map(|windows| LabelledWalk { class, windows }));
            division.subjects.push(format!("user {}", class + 1));
            division.people.push(cut.tracks);
        }
    }
    if !too_little.is_empty() || windows < FEWEST_WINDOWS {
        return Err(RetrainingError::TooLittle { users: too_little, windows });
    }
    for (number, tracks) in background(recipe).into_iter().enumerate() {
        division.subjects.push(format!("background {}", number + 1));
        division.people.push(tracks);
    }
    Ok(Some(division))
}

/// Labels of which a run through is one round of draws: within users and within the background
/// every person is as likely, however long their walks, and users make up half or more.
pub(super) fn round(users: usize, classes: usize) -> Vec<usize> {
    let turns = (classes - users).div_ceil(users).max(1);
    (0..turns).flat_map(|_| 0..users).chain(users..classes).collect()
}

/// One user, cut.
struct Cut {
    person: TooLittle,
    tracks: Vec<Track>,
    validation: Option<Vec<Vec<i16>>>,
}

impl Cut {
    fn new(subject: String, recordings: Vec<Recording>, share: f64, recipe: Recipe) -> Self {
        let mut person = TooLittle { subject, recordings: recordings.len(), windows: 0 };
        // Recordings without walking add nothing, and cannot validate.
        let mut tracks: Vec<Track> = recordings
            .into_iter()
            .filter_map(|recording| recording.part(0.0, recording.duration_seconds() * share))
            .filter_map(|recording| Track::new(&recording, recipe).ok())
            .filter(|track| track.window_count(recipe) > 0)
            .collect();
        let counts: Vec<usize> = tracks.iter().map(|track| track.window_count(recipe)).collect();
        person.windows = counts.iter().sum();
        let last = counts.last().copied().unwrap_or(0);
        let validation = (person.windows - last >= FEWEST_WINDOWS_A_USER)
            .then(|| tracks.pop())
            .flatten()
            .map(|track| track.windows(recipe));
        Self { person, tracks, validation }
    }
}

fn background(recipe: Recipe) -> Vec<Vec<Track>> {
    let conditions = Conditions { seconds: BACKGROUND_SECONDS, ..Conditions::default() };
    let people: Vec<Vec<Track>> = (0..BACKGROUND_PEOPLE as u64)
        .into_par_iter()
        .map(|person| {
            let walker = Walker::new(BACKGROUND_SEED + person);
            (0..BACKGROUND_WALKS)
                .filter_map(|walk| Track::new(&walker.walk(walk, &conditions), recipe).ok())
                .filter(|track| track.window_count(recipe) > 0)
                .collect()
        })
        .collect();
    people.into_iter().filter(|tracks| !tracks.is_empty()).collect()
}

fn duration(recordings: &[Recording]) -> f64 {
    recordings.iter().map(Recording::duration_seconds).sum()
}

/// How much of each user's walking fits, when those with less leave their share to the others.
fn seconds_a_user(
    seconds: &[f64],
    memory_bytes: usize,
    network_bytes: usize,
    recipe: Recipe,
) -> Result<f64, RetrainingError> {
    // A point of the grid takes 29 bytes and its share of the starts, or as part of two
    // validation windows 32.
    let bytes_per_second = 32.0 * recipe.rate_hz;
    let background = BACKGROUND_PEOPLE as f64 * BACKGROUND_WALKS as f64 * BACKGROUND_SECONDS;
    let needed = |seconds_a_user: f64| {
        let users: f64 = seconds.iter().map(|seconds| seconds.min(seconds_a_user)).sum();
        (users + background) * bytes_per_second
    };
    let least_seconds = (FEWEST_WINDOWS_A_USER + 1) as f64 * recipe.window_seconds() / 2.0;
    let walk_bytes = memory_bytes.saturating_sub(network_bytes) as f64;
    if needed(least_seconds) > walk_bytes {
        let needed_bytes = (needed(least_seconds) as usize).saturating_add(network_bytes);
        return Err(RetrainingError::Memory { needed_bytes, allowed_bytes: memory_bytes });
    }
    let mut sorted = seconds.to_vec();
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

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: Recipe = Recipe::BIPEDALNET;
    const ENOUGH_BYTES: usize = 64 << 20;

    fn walks(person: u64, seconds: &[f64]) -> (String, Vec<Recording>) {
        let walk = |(number, &seconds)| {
            let conditions = Conditions { seconds, ..Conditions::default() };
            Walker::new(person).walk(number as u64, &conditions)
        };
        (format!("user {person}"), seconds.iter().enumerate().map(walk).collect())
    }

    fn divided(users: Users, memory_bytes: usize) -> Result<Division, RetrainingError> {
        divide(users, RECIPE, memory_bytes + 7, 7, || false).map(|division| division.unwrap())
    }

    #[test]
    fn whose_data_is_missing_is_said() {
        assert!(matches!(divided(Vec::new(), ENOUGH_BYTES), Err(RetrainingError::NoUsers)));
        let users = vec![walks(1, &[60.0]), walks(2, &[2.1]), walks(3, &[]), walks(4, &[20.0])];
        let short = |person: u64, recordings, windows| TooLittle {
            subject: format!("user {person}"),
            recordings,
            windows,
        };
        match divided(users, ENOUGH_BYTES).err() {
            Some(RetrainingError::TooLittle { users, .. }) => {
                assert_eq!(users, [short(2, 1, 1), short(3, 0, 0)]);
            }
            other => panic!("{other:?}"),
        }
        match divided(vec![walks(1, &[12.0])], ENOUGH_BYTES).err() {
            Some(RetrainingError::TooLittle { users, windows }) => {
                assert!(users.is_empty() && (8..=12).contains(&windows), "{windows}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_recording_validates_and_never_trains() {
        let users = vec![walks(1, &[20.0, 30.0]), walks(2, &[40.0]), walks(3, &[3.0, 30.0])];
        let division = divided(users, ENOUGH_BYTES).unwrap();
        let classes: Vec<usize> = division.validation.iter().map(|walk| walk.class).collect();
        assert_eq!(classes, [0]);
        assert!(division.validation[0].windows.len() > 20);
        let counts = |class: usize| -> Vec<usize> {
            division.people[class].iter().map(|track| track.window_count(RECIPE)).collect()
        };
        assert!(counts(0)[..].len() == 1 && counts(0)[0] <= 20, "{:?}", counts(0));
        assert_eq!((counts(1).len(), counts(2).len()), (1, 2));
        assert_eq!(division.people.len(), 3 + BACKGROUND_PEOPLE);
    }

    #[test]
    fn memory_shortens_the_longest_users_first() {
        let bytes = |seconds: f64| ((seconds + 32.0 * 90.0) * 1600.0) as usize;
        let limit = |seconds: &[f64], memory| seconds_a_user(seconds, memory + 7, 7, RECIPE);
        assert_eq!(limit(&[100.0, 20.0, 300.0], bytes(420.0)).unwrap(), f64::INFINITY);
        assert_eq!(limit(&[100.0, 20.0, 300.0], bytes(180.0)).unwrap(), 80.0);
        assert!(matches!(
            limit(&[100.0, 20.0, 300.0], bytes(20.0)),
            Err(RetrainingError::Memory { .. })
        ));
        let users = vec![walks(1, &[20.0]), walks(2, &[60.0])];
        let division = divided(users, bytes(50.0)).unwrap();
        let count = |class: usize| division.people[class][0].window_count(RECIPE);
        assert!(count(0) > 15 && (25..=30).contains(&count(1)), "{} {}", count(0), count(1));
    }

    #[test]
    fn everybody_is_drawn_alike_and_users_fill_half() {
        for (users, classes) in [(1, 33), (2, 34), (24, 56), (100, 132)] {
            let round = round(users, classes);
            let times = |class| round.iter().filter(|&&label| label == class).count();
            assert!((0..users).all(|class| times(class) == times(0)));
            assert!((users..classes).all(|class| times(class) == 1));
            assert!(users * times(0) * 2 >= round.len());
        }
    }

    #[test]
    fn the_fingerprint_is_of_all_samples_and_no_name() {
        let users = vec![walks(1, &[3.0, 3.0]), walks(2, &[3.0])];
        let original = fingerprint(&users);
        let mut renamed = users.clone();
        renamed[0].0 = "someone".to_owned();
        assert_eq!(fingerprint(&renamed), original);
        let mut moved = users.clone();
        let recording = moved[0].1.pop().unwrap();
        moved[1].1.insert(0, recording);
        let mut shorter = users.clone();
        shorter[1].1[0] = shorter[1].1[0].clone().without_angular_rate();
        for other in [moved, shorter] {
            assert_ne!(fingerprint(&other), original);
        }
    }
}
