//! Divides the recordings of users and of simulated walkers into training and validation.

use bipedalnet_core::gait::{Recipe, Recording};
use rayon::prelude::*;

use super::background::background;
use super::error::{FEWEST_WINDOWS, FEWEST_WINDOWS_A_USER, RetrainingError, TooLittle};
use super::users::{RECORDINGS_AT_A_TIME, Survey, Users};
use crate::data::{Division, LabelledWindows, Track};

/// Cuts the recordings. The first classes are the users, in their order; the rest are simulated
/// walkers. A user's last recording validates if enough others are left to train on. If a user has
/// more than `limit_seconds`, all of their recordings are shortened alike. `None` if `stopped` says
/// so.
pub fn divide(
    users: &Users<'_>,
    survey: &Survey,
    recipe: Recipe,
    limit_seconds: f64,
    mut stopped: impl FnMut() -> bool,
) -> Result<Option<Division>, RetrainingError> {
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
    for (user, recordings) in users.recordings.iter().enumerate() {
        let share = (limit_seconds / survey.seconds[user]).min(1.0);
        let mut tracks = Vec::new();
        for names in recordings.chunks(RECORDINGS_AT_A_TIME) {
            if stopped() {
                return Ok(None);
            }
            let some = names.par_iter().map(|&name| Ok(track(&users.read(name)?, share, recipe)));
            tracks.extend(some.collect::<Result<Vec<_>, RetrainingError>>()?.into_iter().flatten());
        }
        let cut = UserTracks::new(tracks, recipe);
        windows += cut.windows;
        if cut.windows < FEWEST_WINDOWS_A_USER {
            let (recordings, windows) = (recordings.len(), cut.windows);
            too_little.push(TooLittle { user, recordings, windows });
            continue;
        }
        let class = division.people.len();
        let validation = cut.validation.into_iter();
        division.validation.extend(validation.map(|windows| LabelledWindows { class, windows }));
        division.subjects.push(format!("user {}", class + 1));
        division.people.push(cut.tracks);
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

/// The labels of one round of draws. All users are equally likely, and so are all simulated walkers,
/// however long their recordings. Users make up at least half.
pub fn round(users: usize, classes: usize) -> Vec<usize> {
    let turns = (classes - users).div_ceil(users).max(1);
    (0..turns).flat_map(|_| 0..users).chain(users..classes).collect()
}

/// Cuts the first `share` of a recording. `None` if it has no walking: it adds nothing and cannot
/// validate.
fn track(recording: &Recording, share: f64, recipe: Recipe) -> Option<Track> {
    let part = recording.part(0.0, recording.duration_seconds() * share)?;
    Track::new(&part, recipe).ok().filter(|track| track.window_count(recipe) > 0)
}

/// One user's recordings, cut.
struct UserTracks {
    windows: usize,
    tracks: Vec<Track>,
    validation: Option<Vec<Vec<i16>>>,
}

impl UserTracks {
    fn new(mut tracks: Vec<Track>, recipe: Recipe) -> Self {
        let counts: Vec<usize> = tracks.iter().map(|track| track.window_count(recipe)).collect();
        let windows = counts.iter().sum();
        let last = counts.last().copied().unwrap_or(0);
        let validation = (windows - last >= FEWEST_WINDOWS_A_USER)
            .then(|| tracks.pop())
            .flatten()
            .map(|track| track.windows(recipe));
        Self { windows, tracks, validation }
    }
}

#[cfg(test)]
mod tests {
    use bipedalnet_core::gait::simulator::{Conditions, Walker};

    use super::super::background::BACKGROUND_PEOPLE;
    use super::super::users::{given, survey};
    use super::*;

    const RECIPE: Recipe = Recipe::BIPEDALNET;
    const ENOUGH_BYTES: usize = 64 << 20;

    fn walks(person: u64, seconds: &[f64]) -> Vec<Recording> {
        let walk = |(number, &seconds)| {
            let conditions = Conditions { seconds, ..Conditions::default() };
            Walker::new(person).walk(number as u64, &conditions)
        };
        seconds.iter().enumerate().map(walk).collect()
    }

    fn divided(
        people: Vec<Vec<Recording>>,
        memory_bytes: usize,
    ) -> Result<Division, RetrainingError> {
        given(&people, |users| {
            let survey = survey(users, &mut || false)?.unwrap();
            let limit_seconds = survey.seconds_a_user(memory_bytes + 7, 7, RECIPE)?;
            divide(users, &survey, RECIPE, limit_seconds, || false)
                .map(|division| division.unwrap())
        })
    }

    #[test]
    fn users_with_too_little_data_are_named() {
        assert!(matches!(divided(Vec::new(), ENOUGH_BYTES), Err(RetrainingError::NoUsers)));
        let users = vec![walks(1, &[60.0]), walks(2, &[2.1]), walks(3, &[]), walks(4, &[20.0])];
        let short = |user, recordings, windows| TooLittle { user, recordings, windows };
        match divided(users, ENOUGH_BYTES).err() {
            Some(RetrainingError::TooLittle { users, .. }) => {
                assert_eq!(users, [short(1, 1, 1), short(2, 0, 0)]);
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
        let limit = |seconds: &[f64], memory| {
            let survey = Survey { sha256: [0; 32], seconds: seconds.to_vec() };
            survey.seconds_a_user(memory + 7, 7, RECIPE)
        };
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
    fn the_digest_depends_on_all_samples_and_their_order() {
        let people = vec![walks(1, &[3.0, 3.0]), walks(2, &[3.0])];
        let digest = |people: &[Vec<Recording>]| {
            given(people, |users| survey(users, &mut || false).unwrap().unwrap().sha256)
        };
        let original = digest(&people);
        assert_eq!(digest(&people.clone()), original);
        let mut moved = people.clone();
        let recording = moved[0].pop().unwrap();
        moved[1].insert(0, recording);
        let mut shorter = people.clone();
        shorter[1][0] = shorter[1][0].clone().without_angular_rate();
        for other in [moved, shorter] {
            assert_ne!(digest(&other), original);
        }
    }

    #[test]
    fn a_recording_that_is_gone_is_an_error() {
        let users =
            Users { recordings: &[vec![7]], read: &|name| Err(format!("no {name}").into()) };
        let error = survey(&users, &mut || false).err().unwrap().to_string();
        assert!(error.contains("no 7"), "{error}");
    }
}
