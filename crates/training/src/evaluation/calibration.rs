//! Fits a calibration to people whom the network has not seen.

use std::iter::zip;

use rayon::prelude::*;

use super::crew::{SessionSteps, SubjectScores, TestCrew, Windows};
use super::error_rates::{Scores, equal_error_rate};
use super::protocol::{Protocol, protocols};
use crate::data::SubjectRecording;
use bipedalnet_core::bnn::{Network, Scratch};
use bipedalnet_core::gait::{Recipe, Recording, cut_windows};
use bipedalnet_core::identity::{Calibration, FIRST_WINDOWS, LAST_WINDOWS, Tail, Tails};

/// Windows of the shortest session whose strongest look counts.
const LONG_SESSION_WINDOWS: u32 = 18;

/// Windows of a piece that counts as ten seconds.
const PIECE_WINDOWS: u32 = 7;

/// Fewer strengths have no tail.
const FEWEST_STRENGTHS: usize = 15;

/// Share of probes of the training that may be outside of the familiar coherence, at each end.
const UNFAMILIAR_SHARE: f64 = 0.001;

/// By how much the familiar coherence is wider than that of the training.
const COHERENCE_MARGIN: f32 = 0.1;

/// Strangers of one data set, as a network that was not trained on them reads their walks.
pub struct HeldOutSubjects {
    trials: Vec<(Protocol, TestCrew)>,
    people: usize,
}

impl HeldOutSubjects {
    /// Reads the walks of one data set. `None` if too few people have enough walking.
    pub fn new(network: &Network, recipe: Recipe, walks: &[SubjectRecording]) -> Option<Self> {
        let read = |recording: &Recording| read(network, recipe, recording);
        let walks: Vec<&SubjectRecording> = walks.iter().collect();
        let trial = |protocol: Protocol| {
            let trial = TestCrew::new(&walks, &protocol, read, read)?;
            Some((protocol, trial))
        };
        let trials: Vec<_> = protocols(&walks).into_iter().filter_map(trial).collect();
        let people = trials.iter().map(|(_, trial)| trial.people()).max()?;
        Some(Self { trials, people })
    }
}

impl HeldOutSubjects {
    /// Counts others as people of the same data set, each group read by a network of its own.
    pub fn join(&mut self, others: Self) {
        self.trials.extend(others.trials);
        self.people += others.people;
    }

    /// Mean coherence of probes.
    fn coherence(&self) -> f32 {
        let probes = self.trials.iter().flat_map(|(_, trial)| trial.probe_templates());
        let coherences: Vec<f32> = probes.filter_map(|probe| probe.coherence()).collect();
        coherences.iter().sum::<f32>() / coherences.len().max(1) as f32
    }

    /// Trials whose probes come from the session that was enrolled.
    fn same_session(&self) -> impl Iterator<Item = &TestCrew> {
        let same = self.trials.iter().filter(|(protocol, _)| protocol.is_same_session());
        same.map(|(_, trial)| trial)
    }

    /// Mean and standard deviation of the similarity between strangers; the largest of all trials.
    fn similarity(&self, calibration: &Calibration) -> Option<(f32, f32)> {
        let spreads = self.same_session().filter_map(|trial| {
            trial.gallery(calibration, None).cohort().similarity_of_strangers()
        });
        spreads.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
    }

    /// Equal error rate of pieces of ten seconds of the session that was enrolled.
    pub(crate) fn eer(&self, calibration: &Calibration) -> f32 {
        let (mut genuine, mut impostors) = (Vec::new(), Vec::new());
        for trial in self.same_session() {
            for looks in trial.look(calibration, SessionSteps::EachPiece) {
                genuine.extend(looks.pieces.iter().map(|look| look.own));
                impostors.extend(looks.pieces.iter().flat_map(|look| look.strangers.clone()));
            }
        }
        equal_error_rate(&Scores::new(genuine), &Scores::new(impostors))
    }

    /// The calibration of another network of the same kind, as far as what these strangers look like
    /// to both tells: thresholds on strengths stay, similarities move.
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

/// The features of a recording's windows; `None` if it is no walk.
pub fn read(network: &Network, recipe: Recipe, recording: &Recording) -> Windows {
    let mut scratch = Scratch::default();
    let windows = cut_windows(recording, &recipe, recipe.samples / 2).ok()?.windows;
    let feature = |values: &[i16]| Some(network.run(values, &mut scratch).ok()?.feature.to_vec());
    windows.iter().map(|window| window.values.as_slice()).map(feature).collect()
}

/// A calibration, and how well strengths tell the people apart that it was fitted to.
#[derive(Clone, Debug)]
pub struct CalibrationFit {
    /// The calibration.
    pub calibration: Calibration,
    /// Equal error rate of pieces of ten seconds of the session that was enrolled.
    pub eer: f32,
    /// People measured.
    pub people: usize,
}

/// Fits a calibration whose thresholds hold on each of several data sets. `None` if the strangers are
/// too few for any threshold.
pub fn calibrate(data_sets: &[HeldOutSubjects]) -> Option<CalibrationFit> {
    let trials = || data_sets.iter().flat_map(|strangers| &strangers.trials);
    let coherences = trials().flat_map(|(_, trial)| trial.probe_templates());
    let coherences: Vec<f32> = coherences
        .filter(|probe| probe.windows() >= FIRST_WINDOWS)
        .filter_map(|probe| probe.coherence())
        .collect();
    let coherence = coherences.iter().sum::<f32>() / coherences.len().max(1) as f32;
    let coherences = Scores::new(coherences);
    let [low, high] = [UNFAMILIAR_SHARE, 1.0 - UNFAMILIAR_SHARE]
        .map(|share| coherences.quantile(share).unwrap_or_default());
    let rising = Tail::new([1.0, 2.0, 3.0]).expect("rises");
    let mut calibration = Calibration {
        coherence: coherence.clamp(0.05, 1.0),
        impostor_mean: 0.0,
        impostor_deviation: 0.1,
        window_noise: 0.0,
        prior: Tails { single: rising, session: rising, users: 0 },
        pairs: rising,
        familiar_coherence: (low - COHERENCE_MARGIN).max(0.0)..=(high + COHERENCE_MARGIN).min(1.0),
    };

    // The worst data set counts: the first users of a new gallery may be as alike.
    let similarities = data_sets.iter().filter_map(|strangers| strangers.similarity(&calibration));
    let (mean, deviation) = similarities.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))?;
    (calibration.impostor_mean, calibration.impostor_deviation) =
        (mean.clamp(-1.0, 1.0), deviation.clamp(0.02, 1.0));

    let looks: Vec<Vec<(&Protocol, Vec<SubjectScores>)>> = data_sets
        .par_iter()
        .map(|strangers| {
            let trials = strangers.trials.iter();
            trials
                .map(|(protocol, trial)| {
                    (protocol, trial.look(&calibration, SessionSteps::EachWindow))
                })
                .collect()
        })
        .collect();
    calibration.window_noise = window_noise(looks.iter().flatten().flat_map(|(_, looks)| looks));
    let noise = calibration.window_noise;
    let denoised = |strength: f32, windows: u32| strength / (1.0 + noise / windows as f32).sqrt();

    let (mut worst, mut of_pairs): (Option<[Tail; 2]>, _) = (None, Vec::new());
    let (mut genuine, mut impostors) = (Vec::new(), Vec::new());
    for (strangers, looks) in zip(data_sets, &looks) {
        let (mut single, mut session, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        for (protocol, looks) in looks {
            for look in looks.iter().flat_map(|looks| &looks.pieces) {
                let windows = look.probe.windows();
                if windows < PIECE_WINDOWS {
                    continue;
                }
                let strengths = || look.strangers.iter().map(|it| denoised(*it, windows));
                single.extend(strengths());
                if protocol.is_same_session() {
                    genuine.push(denoised(look.own, windows));
                    impostors.extend(strengths());
                }
            }
            for session_looks in looks.iter().flat_map(|looks| &looks.sessions) {
                let decided =
                    session_looks.iter().filter(|look| look.probe.windows() >= FIRST_WINDOWS);
                let is_long = session_looks
                    .last()
                    .is_some_and(|look| look.probe.windows() >= LONG_SESSION_WINDOWS);
                if !is_long {
                    continue;
                }
                let mut strongest = Vec::new();
                for look in decided {
                    strongest.resize(look.strangers.len(), f32::MIN);
                    for (strongest, strength) in zip(&mut strongest, &look.strangers) {
                        *strongest = strongest.max(denoised(*strength, look.probe.windows()));
                    }
                }
                session.extend(strongest);
            }
        }
        for trial in strangers.same_session() {
            pairs.extend(trial.gallery(&calibration, None).cohort().impostor_strengths());
        }
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
        people: data_sets.iter().map(|strangers| strangers.people).sum(),
        calibration,
    })
}

/// The variance that one window adds to strengths, from short and long looks at strangers.
fn window_noise<'a>(looks: impl Iterator<Item = &'a SubjectScores>) -> f32 {
    const MOST: f32 = 4.0;
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for look in looks.flat_map(|looks| looks.sessions.iter().flatten()) {
        match look.probe.windows() {
            FIRST_WINDOWS => short.extend(look.strangers.iter().copied()),
            LONG_SESSION_WINDOWS..=LAST_WINDOWS => long.extend(look.strangers.iter().copied()),
            _ => {}
        }
    }
    let variance = |strengths: &[f32]| {
        let count = strengths.len().max(1) as f32;
        let mean = strengths.iter().sum::<f32>() / count;
        strengths.iter().map(|strength| (strength - mean).powi(2)).sum::<f32>() / count
    };
    let ratio = variance(&short) / variance(&long).max(f32::MIN_POSITIVE);
    // Of `1 + noise / windows`, how much more it is for short looks.
    let (first, last) = (FIRST_WINDOWS as f32, LAST_WINDOWS as f32);
    let noise = (ratio - 1.0) / (1.0 / first - ratio / last);
    if noise.is_finite() { noise.clamp(0.0, MOST) } else { 0.0 }
}
