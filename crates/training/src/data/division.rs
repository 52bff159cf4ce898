//! Divides recordings into windows that train, validate and test.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bipedalnet_core::bnn;
use bipedalnet_core::gait::{Recipe, Signal, SignalError};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use super::augmentation::Augmentation;
use super::folders::SubjectRecording;
use super::track::{STARTS_PER_SECOND, Track, dense, walking_starts, windows};

/// Share of each training recording that validates, at its end.
const VALIDATION_SHARE: f64 = 0.12;

/// How recordings are divided into training and test.
#[derive(Clone, Debug, PartialEq)]
pub enum Split {
    /// By session. This is the honest way.
    Sessions {
        /// Sessions to train on.
        train: Vec<String>,
        /// Sessions to test on.
        test: Vec<String>,
    },
    /// The end of every recording tests. This is for data without sessions.
    Tail {
        /// Share of each recording; 0 tests nothing.
        fraction: f64,
    },
    /// Random windows test. The result is optimistic: windows overlap, so test windows are partly
    /// known from training.
    Random {
        /// Share of the windows.
        fraction: f64,
        /// Decides which.
        seed: u64,
    },
}

impl Split {
    /// Whether any part of a recording trains.
    pub fn trains_on(&self, walk: &SubjectRecording) -> bool {
        match self {
            Self::Sessions { train, .. } => train.contains(&walk.session),
            Self::Tail { .. } | Self::Random { .. } => true,
        }
    }
}

/// Why recordings cannot be divided.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SplitError {
    /// No recording has this session.
    #[error("no recording is of session {session:?}; there are {known}")]
    UnknownSession {
        /// The session.
        session: String,
        /// Sessions that exist.
        known: String,
    },
    /// A session cannot both train and test.
    #[error("session {0:?} is both for training and for testing")]
    SessionTwice(String),
    /// Fewer than two people have training windows.
    #[error("{people} people have windows of walking to train on; 2 or more are needed")]
    TooFewPeople {
        /// People with training windows.
        people: usize,
    },
}

/// Recordings cut for one network.
pub struct Division {
    /// How windows are cut.
    pub recipe: Recipe,
    /// The people with training windows. A class is a position in this list.
    pub subjects: Vec<String>,
    /// Windows that choose the best epoch. They never train.
    pub validation: Vec<LabelledWindows>,
    /// Windows that measure. Training never sees them.
    pub test: Vec<LabelledWindows>,
    /// Recordings that cannot be used, as `subject, session`, and why.
    pub left_out: Vec<(String, SignalError)>,
    /// For each class, its training recordings.
    pub(crate) people: Vec<Vec<Track>>,
}

/// Windows of one recording, in order, with the person's class.
#[derive(Clone, Debug)]
pub struct LabelledWindows {
    /// A position in [`Division::subjects`].
    pub class: usize,
    /// Fixed-point values of each window, half a window apart.
    pub windows: Vec<Vec<i16>>,
}

/// A recording in its parts.
struct Parts {
    train: Vec<usize>,
    validation: Vec<Vec<i16>>,
    test: Vec<Vec<i16>>,
    signal: Signal,
}

impl Division {
    /// Cuts recordings. Windows without walking are left out.
    ///
    /// # Errors
    /// If a session does not exist, or fewer than two people have windows to train on.
    pub fn new(
        walks: &[SubjectRecording],
        recipe: Recipe,
        split: &Split,
    ) -> Result<Self, SplitError> {
        check_sessions(walks, split)?;
        let cuts: Vec<Result<Parts, SignalError>> = walks
            .par_iter()
            .enumerate()
            .map(|(number, walk)| cut(number, walk, recipe, split))
            .collect();
        let trains = |cut: &Result<Parts, _>| cut.as_ref().is_ok_and(|cut| !cut.train.is_empty());
        let subjects: BTreeSet<&str> = walks
            .iter()
            .zip(&cuts)
            .filter(|(_, cut)| trains(cut))
            .map(|(walk, _)| &walk.subject[..])
            .collect();
        if subjects.len() < 2 {
            return Err(SplitError::TooFewPeople { people: subjects.len() });
        }
        let classes: BTreeMap<&str, usize> =
            subjects.iter().enumerate().map(|(class, subject)| (*subject, class)).collect();
        let mut division = Self {
            recipe,
            subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
            validation: Vec::new(),
            test: Vec::new(),
            left_out: Vec::new(),
            people: subjects.iter().map(|_| Vec::new()).collect(),
        };
        for (walk, cut) in walks.iter().zip(cuts) {
            let cut = match cut {
                Ok(cut) => cut,
                Err(error) => {
                    let name = format!("{}, {}", walk.subject, walk.session);
                    division.left_out.push((name, error));
                    continue;
                }
            };
            let Some(&class) = classes.get(&walk.subject[..]) else { continue };
            for (windows, list) in
                [(cut.validation, &mut division.validation), (cut.test, &mut division.test)]
            {
                if !windows.is_empty() {
                    list.push(LabelledWindows { class, windows });
                }
            }
            if !cut.train.is_empty() {
                division.people[class].push(Track { signal: cut.signal, starts: cut.train });
            }
        }
        Ok(division)
    }

    /// Windows of one epoch: twice the training data, cut with an overlap of half a window.
    pub(crate) fn windows_per_epoch(&self) -> usize {
        let starts: usize = self.people.iter().flatten().map(|track| track.starts.len()).sum();
        (starts as f64 * 4.0 / (STARTS_PER_SECOND * self.recipe.window_seconds())) as usize
    }

    /// Training windows of `class`, half a window apart and not varied. At most `most`, evenly
    /// spread.
    pub(crate) fn plain_windows(&self, class: usize, most: usize) -> Vec<Vec<i16>> {
        let recipe = self.recipe;
        let step = (recipe.samples / 2).div_ceil(dense(recipe));
        let starts: Vec<(&Signal, usize)> = self.people[class]
            .iter()
            .flat_map(|track| {
                track.starts.iter().step_by(step).map(move |&start| (&track.signal, start))
            })
            .collect();
        let count = starts.len().min(most);
        (0..count)
            .map(|number| {
                let (signal, start) = starts[number * starts.len() / count];
                signal.window(start, recipe)
            })
            .collect()
    }

    /// The features of each class's training windows: at most `most` of each class, evenly spread.
    ///
    /// # Panics
    /// If the network reads windows of another length.
    pub(crate) fn features(
        &self,
        network: &bnn::Network,
        classes: Range<usize>,
        most: usize,
    ) -> Vec<Vec<Vec<f32>>> {
        let of_class = |class| {
            let mut scratch = bnn::Scratch::default();
            let mut feature = |window: Vec<i16>| {
                let output = network.run(&window, &mut scratch);
                output.expect("windows are cut for the network").feature.to_vec()
            };
            self.plain_windows(class, most).into_iter().map(&mut feature).collect()
        };
        classes.into_par_iter().map(of_class).collect()
    }

    /// Draws a random window of `class` and varies it.
    pub(crate) fn draw(
        &self,
        class: usize,
        augmentation: &Augmentation,
        random: &mut impl Rng,
    ) -> Vec<i16> {
        // Longer tracks are drawn from more often.
        let track = self.people[class]
            .choose_weighted(random, |track| track.starts.len())
            .expect("every class has a track with starts");
        let start = *track.starts.choose(random).expect("a track has starts");
        augmentation.window(&track.signal, start, self.recipe, random)
    }
}

/// Checks that each session has a recording.
///
/// # Errors
/// If one has none.
pub fn sessions_exist<'a>(
    walks: impl IntoIterator<Item = &'a SubjectRecording>,
    sessions: impl IntoIterator<Item = &'a String>,
) -> Result<(), SplitError> {
    let known: BTreeSet<&str> = walks.into_iter().map(|walk| &walk.session[..]).collect();
    match sessions.into_iter().find(|session| !known.contains(&session[..])) {
        Some(session) => {
            let known = known.into_iter().take(20).collect::<Vec<_>>().join(", ");
            Err(SplitError::UnknownSession { session: session.clone(), known })
        }
        None => Ok(()),
    }
}

fn check_sessions(walks: &[SubjectRecording], split: &Split) -> Result<(), SplitError> {
    let Split::Sessions { train, test } = split else { return Ok(()) };
    sessions_exist(walks, train.iter().chain(test))?;
    match train.iter().find(|session| test.contains(session)) {
        Some(session) => Err(SplitError::SessionTwice(session.clone())),
        None => Ok(()),
    }
}

fn cut(
    number: usize,
    walk: &SubjectRecording,
    recipe: Recipe,
    split: &Split,
) -> Result<Parts, SignalError> {
    let signal = Signal::new(&walk.recording, &recipe)?;
    let dense = dense(recipe);
    let half = recipe.samples / 2;
    let starts = |within: Range<f64>, step| walking_starts(&signal, recipe, within, step);
    let windows = |starts| windows(&signal, recipe, starts);
    let ends_at = |end: f64| {
        let validation = end * (1.0 - VALIDATION_SHARE);
        (starts(0.0..validation, dense), windows(starts(validation..end, half)))
    };
    let (train, validation, test) = match split {
        Split::Sessions { train, .. } if train.contains(&walk.session) => {
            let (train, validation) = ends_at(1.0);
            (train, validation, Vec::new())
        }
        Split::Sessions { test, .. } if test.contains(&walk.session) => {
            (Vec::new(), Vec::new(), windows(starts(0.0..1.0, half)))
        }
        Split::Sessions { .. } => (Vec::new(), Vec::new(), Vec::new()),
        Split::Tail { fraction } => {
            let (train, validation) = ends_at(1.0 - fraction);
            (train, validation, windows(starts(1.0 - fraction..1.0, half)))
        }
        Split::Random { fraction, seed } => {
            let mut all = starts(0.0..1.0, half);
            all.shuffle(&mut Pcg64Mcg::seed_from_u64(seed ^ (number as u64).rotate_left(32)));
            let tested = (all.len() as f64 * fraction).round() as usize;
            let validated = ((all.len() - tested) as f64 * VALIDATION_SHARE).round() as usize;
            let mut train = all.split_off(tested + validated);
            let mut validation = all.split_off(tested);
            for list in [&mut all, &mut validation, &mut train] {
                list.sort_unstable();
            }
            (train, windows(validation), windows(all))
        }
    };
    Ok(Parts { train, validation, test, signal })
}

/// Converts fixed-point values to real values.
pub fn dequantise(values: &[i16], into: &mut [f32]) {
    for (into, &value) in into.iter_mut().zip(values) {
        *into = f32::from(value) / (1 << bnn::INPUT_FRACTION_BITS) as f32;
    }
}

const _: () = assert!(bipedalnet_core::gait::WINDOW_FRACTION_BITS == bnn::INPUT_FRACTION_BITS);
