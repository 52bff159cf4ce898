//! Walks to labelled windows: which train, which choose, which measure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use super::dataset::Walk;
use bipedalnet_core::bnn;
use bipedalnet_core::gait::{
    Recipe, Recording, Rows, Signal, SignalError, WINDOW_ROWS, quantise, unit_scale_rows,
};

/// Training windows may start at every tenth of a second.
const STARTS_PER_SECOND: f64 = 10.0;

/// Lowest rate that phones sample at.
const LOWEST_RATE_HZ: f32 = 20.0;

/// Share of the training data, at the end of each recording, that validates.
const VALIDATION_SHARE: f64 = 0.12;

/// How walks are divided into training and test.
#[derive(Clone, Debug, PartialEq)]
pub enum Split {
    /// By recording: the honest way.
    Sessions {
        /// Sessions to train on.
        train: Vec<String>,
        /// Sessions to test on.
        test: Vec<String>,
    },
    /// The end of every recording tests: for data without sessions.
    Tail {
        /// Share of each recording; 0 tests nothing.
        fraction: f64,
    },
    /// Random windows test. Windows overlap, so that the test is partly known: optimistic.
    Random {
        /// Share of the windows.
        fraction: f64,
        /// Decides which.
        seed: u64,
    },
}

impl Split {
    /// Whether any part of a walk trains.
    pub fn trains_on(&self, walk: &Walk) -> bool {
        match self {
            Self::Sessions { train, .. } => train.contains(&walk.session),
            Self::Tail { .. } | Self::Random { .. } => true,
        }
    }
}

/// Why walks cannot be divided.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SplitError {
    /// No walk is of this session.
    #[error("no recording is of session {session:?}; there are {known}")]
    UnknownSession {
        /// As asked for.
        session: String,
        /// Those that exist.
        known: String,
    },
    /// A session cannot both train and test.
    #[error("session {0:?} is both for training and for testing")]
    SessionTwice(String),
    /// There must be someone to tell apart.
    #[error("{people} people have windows of walking to train on; 2 or more are needed")]
    TooFewPeople {
        /// People with training windows.
        people: usize,
    },
}

/// Walks cut for one network.
pub struct Division {
    /// How windows are cut.
    pub recipe: Recipe,
    /// The people that have training windows; a class is a position in this list.
    pub subjects: Vec<String>,
    /// Windows that choose the best epoch, never trained on.
    pub validation: Vec<LabelledWalk>,
    /// Windows that measure, never looked at in training.
    pub test: Vec<LabelledWalk>,
    /// Recordings that cannot be used, as `subject, session`, and why.
    pub left_out: Vec<(String, SignalError)>,
    /// For each class, its walks.
    pub(super) people: Vec<Vec<Track>>,
}

/// Windows of one recording, in order, with the person's class.
#[derive(Clone, Debug)]
pub struct LabelledWalk {
    /// Position in [`Division::subjects`].
    pub class: usize,
    /// Fixed-point values of each window, half a window apart.
    pub windows: Vec<Vec<i16>>,
}

/// A walk on the network's time grid, with the starts of the windows that may train.
pub(super) struct Track {
    signal: Signal,
    starts: Vec<usize>,
}

/// How training varies what it draws, beside the time shift of a random start.
#[derive(Clone, Copy, Debug)]
pub struct Augmentation {
    /// Largest relative change of amplitude. Without effect on rows of unit scale.
    pub scale: f32,
    /// Standard deviation of added noise, in units of a window's typical amplitude.
    pub noise: f32,
    /// Largest error of the walker's axes, in radians, about each of them.
    pub turn: f32,
    /// Largest relative change of speed.
    pub warp: f32,
    /// Share of windows that are cut as if the phone had no gyroscope. Without effect on rows that do
    /// not read one.
    pub without_gyroscope: f32,
    /// Share of windows that are coarsened as if the phone sampled at 20 Hz, or at some rate
    /// between that and the network's.
    pub low_rate: f32,
}

impl Track {
    /// A walk of which any window may train.
    pub fn new(recording: &Recording, recipe: Recipe) -> Result<Self, SignalError> {
        let signal = Signal::new(recording, &recipe)?;
        let starts = walking_starts(&signal, recipe, 0.0..1.0, dense(recipe));
        Ok(Self { signal, starts })
    }

    /// Windows of walking, half a window apart.
    pub fn windows(&self, recipe: Recipe) -> Vec<Vec<i16>> {
        let starts = walking_starts(&self.signal, recipe, 0.0..1.0, recipe.samples / 2);
        windows(&self.signal, recipe, starts)
    }

    /// About how many windows of walking there are, half a window apart.
    pub fn window_count(&self, recipe: Recipe) -> usize {
        (self.starts.len() * dense(recipe)).div_ceil(recipe.samples / 2)
    }
}

/// One walk, cut.
struct Cut {
    train: Vec<usize>,
    validation: Vec<Vec<i16>>,
    test: Vec<Vec<i16>>,
    signal: Signal,
}

impl Division {
    /// Cuts walks. Windows that are not walking are left out.
    ///
    /// # Errors
    /// When a session does not exist, or fewer than two people have windows to train on.
    pub fn new(walks: &[Walk], recipe: Recipe, split: &Split) -> Result<Self, SplitError> {
        check_sessions(walks, split)?;
        let cuts: Vec<Result<Cut, SignalError>> = walks
            .par_iter()
            .enumerate()
            .map(|(number, walk)| cut(number, walk, recipe, split))
            .collect();
        let trains = |cut: &Result<Cut, _>| cut.as_ref().is_ok_and(|cut| !cut.train.is_empty());
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
                    list.push(LabelledWalk { class, windows });
                }
            }
            if !cut.train.is_empty() {
                division.people[class].push(Track { signal: cut.signal, starts: cut.train });
            }
        }
        Ok(division)
    }

    /// Windows that make up one epoch: the training data cut with half a window's overlap, twice.
    pub(super) fn windows_per_epoch(&self) -> usize {
        let starts: usize = self.people.iter().flatten().map(|track| track.starts.len()).sum();
        (starts as f64 * 4.0 / (STARTS_PER_SECOND * self.recipe.window_seconds())) as usize
    }

    /// Windows of `class` that train, half a window apart, as they were recorded. At most `most`,
    /// evenly spread.
    fn plain_windows(&self, class: usize, most: usize) -> Vec<Vec<i16>> {
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

    /// A network's features of windows that train, of each of these classes: at most `most` of each, evenly
    /// spread.
    ///
    /// # Panics
    /// When the network reads windows of another length.
    pub(super) fn features(
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

    /// A random window of `class`, varied.
    pub(super) fn draw(
        &self,
        class: usize,
        augmentation: &Augmentation,
        random: &mut impl Rng,
    ) -> Vec<i16> {
        // Longer walks are drawn from more often.
        let track = self.people[class]
            .choose_weighted(random, |track| track.starts.len())
            .expect("every class has a track with starts");
        let start = *track.starts.choose(random).expect("a track has starts");
        let gyroscope = !random.random_bool(f64::from(augmentation.without_gyroscope));
        let samples = self.recipe.samples;
        let speed = 1.0 + random.random_range(-augmentation.warp..=augmentation.warp);
        // One more, so that there is something to interpolate with at the end.
        let read = ((samples as f32 * speed).ceil() as usize + 1).min(track.signal.len());
        // Rows of unit scale follow from the acceleration, so that is what is varied.
        let of_unit_scale = self.recipe.rows == Rows::TurnedAxes2;
        let source = |start, samples| match of_unit_scale {
            true => track.signal.acceleration_axes(start, samples),
            false => track.signal.rows(start, Recipe { samples, ..self.recipe }, gyroscope),
        };
        let mut values = if augmentation.warp == 0.0 {
            source(start, samples)
        } else {
            let start = start.min(track.signal.len() - read);
            let read_rows = source(start, read);
            read_rows.chunks_exact(read).flat_map(|row| warped(row, speed, samples)).collect()
        };
        if random.random_bool(f64::from(augmentation.low_rate)) {
            let step = random.random_range(1.0..=self.recipe.rate_hz as f32 / LOWEST_RATE_HZ);
            let phase = random.random_range(0.0..step);
            values.chunks_exact_mut(self.recipe.samples).for_each(|row| coarsen(row, step, phase));
        }
        if of_unit_scale {
            Augmentation::turn(&mut values, augmentation.angles(random), samples);
            values = unit_scale_rows(values);
        } else {
            let angles = augmentation.angles(random);
            for half in values.chunks_exact_mut(WINDOW_ROWS / 2 * samples) {
                augmentation.scale(half, random);
                Augmentation::turn(half, angles, samples);
            }
        }
        augmentation.add_noise(&mut values, random);
        quantise(&values)
    }
}

/// Looks for sessions that no walk is of.
///
/// # Errors
/// When there is one.
pub fn sessions_exist<'a>(
    walks: impl IntoIterator<Item = &'a Walk>,
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

fn check_sessions(walks: &[Walk], split: &Split) -> Result<(), SplitError> {
    let Split::Sessions { train, test } = split else { return Ok(()) };
    sessions_exist(walks, train.iter().chain(test))?;
    match train.iter().find(|session| test.contains(session)) {
        Some(session) => Err(SplitError::SessionTwice(session.clone())),
        None => Ok(()),
    }
}

fn cut(number: usize, walk: &Walk, recipe: Recipe, split: &Split) -> Result<Cut, SignalError> {
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
    Ok(Cut { train, validation, test, signal })
}

/// Keeps a row's values `step` samples apart, and interpolates linearly between them.
fn coarsen(row: &mut [f32], step: f32, phase: f32) {
    let kept: Vec<f32> = (0..row.len() + 2)
        .map(|index| phase + (index as f32 - 1.0) * step)
        .take_while(|position| *position < row.len() as f32 + step)
        .map(|position| value_at(row, position))
        .collect();
    for (index, value) in row.iter_mut().enumerate() {
        *value = value_at(&kept, (index as f32 - phase) / step + 1.0);
    }
}

/// A row at another speed.
fn warped(row: &[f32], speed: f32, samples: usize) -> impl Iterator<Item = f32> + '_ {
    (0..samples).map(move |index| value_at(row, index as f32 * speed))
}

/// Linear interpolation; beyond the ends, what is there.
fn value_at(row: &[f32], position: f32) -> f32 {
    let position = position.clamp(0.0, (row.len() - 1) as f32);
    let left = position as usize;
    let right = (left + 1).min(row.len() - 1);
    row[left] + (row[right] - row[left]) * position.fract()
}

/// Samples between the starts of training windows.
fn dense(recipe: Recipe) -> usize {
    (recipe.rate_hz / STARTS_PER_SECOND).round().max(1.0) as usize
}

fn windows(signal: &Signal, recipe: Recipe, starts: Vec<usize>) -> Vec<Vec<i16>> {
    let window = |start| signal.window(start, recipe);
    starts.into_iter().map(window).collect()
}

/// Starts of walking windows that lie wholly within the part.
fn walking_starts(signal: &Signal, recipe: Recipe, within: Range<f64>, step: usize) -> Vec<usize> {
    let first = (signal.len() as f64 * within.start) as usize;
    let last = (signal.len() as f64 * within.end) as usize;
    (first..(last + 1).saturating_sub(recipe.samples))
        .step_by(step)
        .filter(|&start| signal.is_walking(start, recipe.samples))
        .collect()
}

/// Fixed point to the real values that it stands for.
pub(super) fn dequantise(values: &[i16], into: &mut [f32]) {
    for (into, &value) in into.iter_mut().zip(values) {
        *into = f32::from(value) / (1 << bnn::INPUT_FRACTION_BITS) as f32;
    }
}

const _: () = assert!(bipedalnet_core::gait::WINDOW_FRACTION_BITS == bnn::INPUT_FRACTION_BITS);

impl Augmentation {
    /// For a network that serves every phone: with a gyroscope and without, fast and slow.
    pub const SERVED: Self = Self {
        scale: 0.1,
        noise: 0.05,
        turn: 0.1,
        warp: 0.08,
        without_gyroscope: 0.3,
        low_rate: 0.1,
    };

    fn angles(&self, random: &mut impl Rng) -> [f32; 3] {
        [(); 3].map(|()| random.random_range(-self.turn..=self.turn))
    }

    fn scale(&self, rows: &mut [f32], random: &mut impl Rng) {
        let scale = 1.0 + random.random_range(-self.scale..=self.scale);
        rows.iter_mut().for_each(|value| *value *= scale);
    }

    /// Turns the first three rows, which are the walker's axes.
    fn turn(rows: &mut [f32], angles: [f32; 3], samples: usize) {
        for (angle, [a, b]) in angles.into_iter().zip([[0, 1], [1, 2], [2, 0]]) {
            let (sine, cosine) = angle.sin_cos();
            for index in 0..samples {
                let (x, y) = (rows[a * samples + index], rows[b * samples + index]);
                rows[a * samples + index] = cosine * x - sine * y;
                rows[b * samples + index] = sine * x + cosine * y;
            }
        }
    }

    fn add_noise(&self, values: &mut [f32], random: &mut impl Rng) {
        for value in values {
            let noise: f32 = StandardNormal.sample(random);
            *value += self.noise * noise;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarsened_row_keeps_lines_and_loses_what_is_fast() {
        let mut line: Vec<f32> = (0..100).map(|index| index as f32).collect();
        let original = line.clone();
        coarsen(&mut line, 2.5, 1.25);
        for (a, b) in line[3..97].iter().zip(&original[3..97]) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
        let mut same: Vec<f32> = (0..100).map(|index| (index as f32).sin()).collect();
        let original = same.clone();
        coarsen(&mut same, 1.0, 0.0);
        for (a, b) in same.iter().zip(&original) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let mut fast: Vec<f32> = (0..100).map(|index| (index % 2) as f32).collect();
        coarsen(&mut fast, 2.0, 0.0);
        assert!(fast[2..97].iter().all(|value| *value == fast[2]), "{fast:?}");
    }
}
