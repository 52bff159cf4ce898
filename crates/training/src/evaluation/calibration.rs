//! Fits a calibration to subjects whom the network was not trained on.

use std::iter::zip;

use bipedalnet_core::bnn::{Network, Output, Scratch};
use bipedalnet_core::gait::{Recipe, Recording, Window, cut_windows};
use bipedalnet_core::identity::{Calibration, FIRST_WINDOWS, LAST_WINDOWS, Tail, Tails};
use rayon::prelude::*;

use super::crew::{ProbeScores, SessionSteps, SubjectScores, TestCrew, Windows};
use super::error_rates::{Scores, equal_error_rate};
use super::protocol::{Protocol, protocols};
use crate::data::SubjectRecording;

/// Windows that a session needs before its strongest score counts.
const LONG_SESSION_WINDOWS: u32 = 18;

/// Windows of a piece that counts as ten seconds.
const PIECE_WINDOWS: u32 = 7;

/// Strengths that are needed to fit a tail.
const FEWEST_STRENGTHS: usize = 15;

/// Share of the probes that may be outside the familiar coherence, at each end.
const UNFAMILIAR_SHARE: f64 = 0.001;

/// Margin of the familiar coherence beyond that of the probes.
const COHERENCE_MARGIN: f32 = 0.1;

/// Largest variance that one window is taken to add to strengths.
const LARGEST_WINDOW_NOISE: f32 = 4.0;

/// Subjects of one data set, as a network that was not trained on them reads their recordings.
pub struct HeldOutSubjects {
    pub(super) crews: Vec<(Protocol, TestCrew)>,
    people: usize,
}

/// A calibration, and how well strengths separate the subjects that it was fitted to.
#[derive(Clone, Debug)]
pub struct CalibrationFit {
    /// The calibration.
    pub calibration: Calibration,
    /// Equal error rate of pieces of ten seconds of the enrolled session.
    pub eer: f32,
    /// Subjects measured.
    pub people: usize,
}

impl HeldOutSubjects {
    /// Reads the recordings of one data set. `None` if too few people have enough walking.
    pub fn new(network: &Network, recipe: Recipe, recordings: &[SubjectRecording]) -> Option<Self> {
        Self::read(recordings, |recording| read(network, recipe, recording))
    }

    /// The same, with any way to read a recording.
    pub(super) fn read(
        recordings: &[SubjectRecording],
        read: impl Fn(&Recording) -> Windows + Sync,
    ) -> Option<Self> {
        let recordings: Vec<&SubjectRecording> = recordings.iter().collect();
        let crew = |protocol: Protocol| {
            let crew = TestCrew::new(&recordings, &protocol, &read, &read)?;
            Some((protocol, crew))
        };
        let crews: Vec<_> = protocols(&recordings).into_iter().filter_map(crew).collect();
        let people = crews.iter().map(|(_, crew)| crew.people()).max()?;
        Some(Self { crews, people })
    }

    /// Adds other people of the same data set. Each group is read by its own network.
    pub fn join(&mut self, others: Self) {
        self.crews.extend(others.crews);
        self.people += others.people;
    }

    /// Mean coherence of probes.
    fn coherence(&self) -> f32 {
        let probes = self.crews.iter().flat_map(|(_, crew)| crew.probe_templates());
        mean(&probes.filter_map(|probe| probe.coherence()).collect::<Vec<f32>>())
    }

    /// The crews that are probed with the enrolled session.
    pub(super) fn same_session(&self) -> impl Iterator<Item = &TestCrew> {
        let same = self.crews.iter().filter(|(protocol, _)| protocol.is_same_session());
        same.map(|(_, crew)| crew)
    }

    /// Mean and standard deviation of the similarity between strangers: the largest of all crews.
    fn similarity(&self, calibration: &Calibration) -> Option<(f32, f32)> {
        let spreads = self
            .same_session()
            .filter_map(|crew| crew.gallery(calibration, None).cohort().similarity_of_strangers());
        spreads.reduce(largest)
    }

    /// Equal error rate of pieces of ten seconds of the enrolled session.
    pub(crate) fn eer(&self, calibration: &Calibration) -> f32 {
        let (mut genuine, mut impostors) = (Vec::new(), Vec::new());
        for crew in self.same_session() {
            for scores in crew.score(calibration, SessionSteps::EachPiece) {
                genuine.extend(scores.pieces.iter().map(|probe| probe.genuine));
                impostors.extend(scores.pieces.iter().flat_map(|probe| probe.impostors.clone()));
            }
        }
        equal_error_rate(&Scores::new(genuine), &Scores::new(impostors))
    }

    /// Carries the calibration of another network of the same kind over to this one. `before` is
    /// how the other network reads the same people. Thresholds on strengths stay, similarities move.
    pub(crate) fn carry_over(&self, calibration: &Calibration, before: &Self) -> Calibration {
        let mut carried = calibration.clone();
        let ratio = self.coherence() / before.coherence().max(f32::MIN_POSITIVE);
        carried.coherence = (carried.coherence * ratio).clamp(0.05, 1.0);
        let (low, high) = carried.familiar_coherence.into_inner();
        carried.familiar_coherence = (low * ratio).min(1.0)..=(high * ratio).min(1.0);
        if let (Some(now), Some(then)) = (self.similarity(&carried), before.similarity(calibration))
        {
            carried.impostor_mean = (carried.impostor_mean + now.0 - then.0).clamp(-1.0, 1.0);
            carried.impostor_deviation *= now.1 / then.1.max(f32::MIN_POSITIVE);
            carried.impostor_deviation = carried.impostor_deviation.clamp(0.02, 1.0);
        }
        carried
    }
}

/// The features of a recording's windows. `None` if it has no walking.
pub fn read(network: &Network, recipe: Recipe, recording: &Recording) -> Windows {
    outputs(network, recipe, recording, |output| output.feature.to_vec())
}

/// Runs the network on each window of walking, half a window apart. `None` if there is no walking.
pub fn outputs<T>(
    network: &Network,
    recipe: Recipe,
    recording: &Recording,
    mut take: impl FnMut(Output<'_>) -> T,
) -> Option<Vec<T>> {
    let mut scratch = Scratch::default();
    let windows = cut_windows(recording, &recipe, recipe.samples / 2).ok()?.windows;
    let run = |window: &Window| Some(take(network.run(&window.values, &mut scratch).ok()?));
    windows.iter().map(run).collect()
}

/// Fits a calibration with thresholds that hold on each of several data sets. `None` if there are
/// too few people for any threshold.
pub fn calibrate(data_sets: &[HeldOutSubjects]) -> Option<CalibrationFit> {
    let mut calibration = without_thresholds(data_sets);
    // The worst data set counts: the first users of a new gallery may be as alike.
    let similarities = data_sets.iter().filter_map(|subjects| subjects.similarity(&calibration));
    let (mean, deviation) = similarities.reduce(largest)?;
    (calibration.impostor_mean, calibration.impostor_deviation) =
        (mean.clamp(-1.0, 1.0), deviation.clamp(0.02, 1.0));

    let scores: Vec<Vec<(&Protocol, Vec<SubjectScores>)>> = data_sets
        .par_iter()
        .map(|subjects| {
            let crews = subjects.crews.iter();
            crews
                .map(|(protocol, crew)| {
                    (protocol, crew.score(&calibration, SessionSteps::EachWindow))
                })
                .collect()
        })
        .collect();
    calibration.window_noise = window_noise(scores.iter().flatten().flat_map(|(_, scores)| scores));

    let (mut worst, mut of_pairs): (Option<[Tail; 2]>, _) = (None, Vec::new());
    let (mut genuine, mut impostors) = (Vec::new(), Vec::new());
    for (subjects, scores) in zip(data_sets, &scores) {
        let (mut single, mut session) = (Vec::new(), Vec::new());
        for (protocol, scores) in scores {
            for probe in long_pieces(scores) {
                let strengths = denoised_impostors(probe, calibration.window_noise);
                if protocol.is_same_session() {
                    genuine.push(denoised(probe.genuine, probe, calibration.window_noise));
                    impostors.extend_from_slice(&strengths);
                }
                single.extend(strengths);
            }
            for probes in scores.iter().flat_map(|scores| &scores.sessions) {
                session.extend(strongest(probes, calibration.window_noise));
            }
        }
        let galleries = subjects.same_session().map(|crew| crew.gallery(&calibration, None));
        let pairs: Vec<f32> =
            galleries.flat_map(|gallery| gallery.cohort().impostor_strengths()).collect();
        if [&single, &session, &pairs].iter().any(|them| them.len() < FEWEST_STRENGTHS) {
            continue;
        }
        of_pairs.push(Tail::fit_few(&pairs)?);
        let tails = [Tail::fit(&single)?, Tail::fit(&session)?];
        worst = Some(match worst {
            Some(worst) => std::array::from_fn(|at| worst[at].max(tails[at])),
            None => tails,
        });
    }
    let [single, session] = worst?;
    calibration.prior = Tails { single, session, users: 0 };
    calibration.pairs = Tail::mean(&of_pairs)?;
    Some(CalibrationFit {
        eer: equal_error_rate(&Scores::new(genuine), &Scores::new(impostors)),
        people: data_sets.iter().map(|subjects| subjects.people).sum(),
        calibration,
    })
}

/// A calibration with the coherence of all probes. Everything else has yet to be fitted.
pub(super) fn without_thresholds(data_sets: &[HeldOutSubjects]) -> Calibration {
    let crews = data_sets.iter().flat_map(|subjects| &subjects.crews);
    let probes = crews.flat_map(|(_, crew)| crew.probe_templates());
    let coherences: Vec<f32> = probes
        .filter(|probe| probe.windows() >= FIRST_WINDOWS)
        .filter_map(|probe| probe.coherence())
        .collect();
    let coherence = mean(&coherences);
    let coherences = Scores::new(coherences);
    let [low, high] = [UNFAMILIAR_SHARE, 1.0 - UNFAMILIAR_SHARE]
        .map(|share| coherences.quantile(share).unwrap_or_default());
    let rising = Tail::new([1.0, 2.0, 3.0]).expect("rises");
    Calibration {
        coherence: coherence.clamp(0.05, 1.0),
        impostor_mean: 0.0,
        impostor_deviation: 0.1,
        window_noise: 0.0,
        prior: Tails { single: rising, session: rising, users: 0 },
        pairs: rising,
        familiar_coherence: (low - COHERENCE_MARGIN).max(0.0)..=(high + COHERENCE_MARGIN).min(1.0),
    }
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

pub(super) fn largest(a: (f32, f32), b: (f32, f32)) -> (f32, f32) {
    (a.0.max(b.0), a.1.max(b.1))
}

/// A strength without the noise of few windows.
fn denoised(strength: f32, scores: &ProbeScores, noise: f32) -> f32 {
    strength / (1.0 + noise / scores.probe.windows() as f32).sqrt()
}

fn denoised_impostors(scores: &ProbeScores, noise: f32) -> Vec<f32> {
    scores.impostors.iter().map(|strength| denoised(*strength, scores, noise)).collect()
}

fn long_pieces(scores: &[SubjectScores]) -> impl Iterator<Item = &ProbeScores> {
    let pieces = scores.iter().flat_map(|scores| &scores.pieces);
    pieces.filter(|piece| piece.probe.windows() >= PIECE_WINDOWS)
}

/// Each impostor's strongest score in a session that is decided after each window. Empty if the
/// session is short.
fn strongest(session: &[ProbeScores], noise: f32) -> Vec<f32> {
    let is_long =
        session.last().is_some_and(|scores| scores.probe.windows() >= LONG_SESSION_WINDOWS);
    let mut strongest = Vec::new();
    if is_long {
        let decided = session.iter().filter(|scores| scores.probe.windows() >= FIRST_WINDOWS);
        for scores in decided {
            strongest.resize(scores.impostors.len(), f32::MIN);
            for (strongest, strength) in zip(&mut strongest, denoised_impostors(scores, noise)) {
                *strongest = strongest.max(strength);
            }
        }
    }
    strongest
}

/// The variance that one window adds to strengths, from short and long probes of impostors.
fn window_noise<'a>(scores: impl Iterator<Item = &'a SubjectScores>) -> f32 {
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for scores in scores.flat_map(|scores| scores.sessions.iter().flatten()) {
        match scores.probe.windows() {
            FIRST_WINDOWS => short.extend(scores.impostors.iter().copied()),
            LONG_SESSION_WINDOWS..=LAST_WINDOWS => long.extend(scores.impostors.iter().copied()),
            _ => {}
        }
    }
    let variance = |strengths: &[f32]| {
        let mean = mean(strengths);
        let squares = strengths.iter().map(|strength| (strength - mean).powi(2));
        squares.sum::<f32>() / strengths.len().max(1) as f32
    };
    let ratio = variance(&short) / variance(&long).max(f32::MIN_POSITIVE);
    // The variance is proportional to `1 + noise / windows`.
    let (first, last) = (FIRST_WINDOWS as f32, LAST_WINDOWS as f32);
    let noise = (ratio - 1.0) / (1.0 / first - ratio / last);
    if noise.is_finite() { noise.clamp(0.0, LARGEST_WINDOW_NOISE) } else { 0.0 }
}
