//! What scores tell: found on people that the network never saw.

use serde::Serialize;

use super::rates::{Scores, equal_error_rate};
use crate::bnn::{Network, Scratch};
use crate::gait::{Recipe, Recording, cut_windows};
use crate::identity::{
    LAST_WINDOWS, LikelihoodRatio, Line, Template, Verdict, WINDOW_COUNTS, fmr_among, unfold,
};
use crate::training::Person;

/// False match rates that a caller of a verification can ask for.
pub const FALSE_MATCH_RATES: [f64; 3] = [0.1, 0.01, 0.001];

/// Windows of a probe at most: as many as a decision takes.
const LONGEST_PROBE: usize = LAST_WINDOWS as usize;

/// Windows from one probe's first to the next one's.
const STRIDE_WINDOWS: usize = 4;

/// Windows of the probes that rates at one look are of: ten seconds.
const PROBE_WINDOWS: u32 = 9;

/// Scores that all are alike are not stretched without end.
const LEAST_DEVIATION: f32 = 0.01;

/// Scores of people that a network was not trained on.
#[derive(Clone, Debug, Default)]
pub struct StrangerScores {
    folds: Vec<Fold>,
}

/// People who were enrolled together, and probed with their other walks.
#[derive(Clone, Debug)]
struct Fold {
    people: usize,
    probes: Vec<Probe>,
    /// What scores tell, where that is known; else it is what other folds' tell.
    likelihood: Option<LikelihoodRatio>,
}

/// Consecutive windows of a walk.
#[derive(Clone, Debug)]
struct Probe {
    /// Whose walk it is.
    owner: usize,
    /// After each window, of all windows so far against each person's template.
    scores: Vec<Vec<f32>>,
}

/// Scores of single comparisons: probes against their own template, and against others'.
struct Samples {
    genuine: Vec<f32>,
    impostors: Vec<f32>,
}

/// What strangers tell of a network (terms of ISO/IEC 19795-1).
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// What a score tells.
    pub likelihood: LikelihoodRatio,
    /// Equal error rate of single comparisons over ten seconds.
    pub eer: f32,
    /// False non-match rates of single comparisons over ten seconds, at thresholds with each of
    /// [`FALSE_MATCH_RATES`]: how well scores tell people apart, whatever is made of them.
    pub fnmr: [f32; FALSE_MATCH_RATES.len()],
    /// People enrolled.
    pub people: usize,
    /// Probes of ten seconds, which overlap.
    pub probes: usize,
}

/// What came of decisions that took window by window, about people whom neither the network nor the
/// likelihood ratio was fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SequentialRates {
    /// Share of others who were accepted: FMR of a verification, FPIR of an identification.
    pub false_positive: f32,
    /// Share of those it was who were not: FNMR of a verification, FNIR of an identification.
    pub false_negative: f32,
    /// Windows to a decision, in the mean, where it was them.
    pub genuine_windows: f32,
    /// Windows to a decision, in the mean, where it was another.
    pub impostor_windows: f32,
}

impl StrangerScores {
    /// Enrolls people and compares their unseen walks with each other's templates. Scores of
    /// earlier calls, with other people and another network of the same kind, are kept.
    pub fn add(&mut self, network: &Network, recipe: Recipe, people: &[Person]) {
        self.add_judged(network, recipe, people, None);
    }

    /// As [`StrangerScores::add`], of a network of which it is known what its scores tell.
    pub(super) fn add_judged(
        &mut self,
        network: &Network,
        recipe: Recipe,
        people: &[Person],
        likelihood: Option<LikelihoodRatio>,
    ) {
        let mut scratch = Scratch::default();
        let mut features = |recordings: &[Recording]| -> Vec<Vec<f32>> {
            let cuts = recordings.iter().map(|it| cut_windows(it, &recipe, recipe.samples / 2));
            let windows = cuts.flatten().flat_map(|cut| cut.windows);
            let mut run =
                |values: &[i16]| Some(network.run(values, &mut scratch).ok()?.feature.to_vec());
            windows.filter_map(|window| run(&window.values)).collect()
        };
        let (mut templates, mut walks) = (Vec::new(), Vec::new());
        for person in people {
            let mut template = Template::empty(network.feature_len());
            features(&person.enrollments).iter().for_each(|window| template.add_window(window));
            if template.windows() > 0 {
                templates.push(template);
                walks.push(features(std::slice::from_ref(&person.unseen)));
            }
        }
        if templates.len() < 2 {
            return;
        }
        let mut probes = Vec::new();
        for (owner, walk) in walks.iter().enumerate() {
            for start in (0..walk.len()).step_by(STRIDE_WINDOWS) {
                let mut probe = Template::empty(network.feature_len());
                let scores = walk[start..].iter().take(LONGEST_PROBE).map(|window| {
                    probe.add_window(window);
                    templates.iter().map(|template| template.cosine(&probe)).collect()
                });
                probes.push(Probe { owner, scores: scores.collect() });
            }
        }
        self.folds.push(Fold { people: templates.len(), probes, likelihood });
    }

    /// What all scores tell. `None` where there are none over ten seconds.
    pub fn calibrate(&self) -> Option<Calibration> {
        let Samples { genuine, impostors } = Samples::of(&self.folds, PROBE_WINDOWS);
        if genuine.is_empty() {
            return None;
        }
        let probes = genuine.len();
        let [genuine, impostors] = [genuine, impostors].map(Scores::new);
        let fnmr = |fmr: f64| 1.0 - genuine.share_from(impostors.threshold_at(fmr));
        Some(Calibration {
            likelihood: fit(self.folds.iter())?,
            eer: equal_error_rate(&genuine, &impostors),
            fnmr: FALSE_MATCH_RATES.map(fnmr),
            people: self.folds.iter().map(|fold| fold.people).sum(),
            probes,
        })
    }

    /// What verifications at a false match rate do that decide window by window: people of each call
    /// of [`StrangerScores::add`] are judged by what the other calls' scores tell. `None` where there
    /// was but one, or no walk as long as a decision may take.
    pub fn verification_rates(&self, fmr: f64) -> Option<SequentialRates> {
        let (mut genuine, mut impostors) = (Tally::default(), Tally::default());
        for (fold, likelihood) in self.judged() {
            for probe in fold.long_probes() {
                for person in 0..fold.people {
                    let outcome = probe.decide(&likelihood, fmr, |scores| scores[person]);
                    let tally = if person == probe.owner { &mut genuine } else { &mut impostors };
                    tally.add(outcome);
                }
            }
        }
        rates(&genuine, &impostors)
    }

    /// As [`StrangerScores::verification_rates`], of identifications among the people of one call. A
    /// stranger is one of them who is left out of the gallery.
    pub fn identification_rates(&self) -> Option<SequentialRates> {
        let (mut genuine, mut strangers) = (Tally::default(), Tally::default());
        for (fold, likelihood) in self.judged() {
            for probe in fold.long_probes() {
                let owner = probe.owner;
                let other = |scores: &[f32]| nearest_other(scores, owner);
                strangers.add(probe.decide(&likelihood, fmr_among(fold.people - 1), other));
                let nearest = |scores: &[f32]| scores[owner].max(other(scores));
                let (named, windows) = probe.decide(&likelihood, fmr_among(fold.people), nearest);
                let scores = &probe.scores[windows - 1];
                genuine.add((named && scores[owner] > other(scores), windows));
            }
        }
        rates(&genuine, &strangers)
    }

    /// Each fold with what scores tell of it, by others' people.
    fn judged(&self) -> impl Iterator<Item = (&Fold, LikelihoodRatio)> {
        self.folds.iter().enumerate().filter_map(|(number, fold)| {
            let others = self.folds.iter().enumerate().filter(|(other, _)| *other != number);
            let by_others = || fit(others.map(|(_, fold)| fold));
            Some((fold, fold.likelihood.or_else(by_others)?))
        })
    }

    /// What tells as much with these scores as `likelihood` with `other`, which are of the same people
    /// and another network: impostors' scores are brought to the mean and the spread that they had.
    pub(super) fn carry_over(&self, likelihood: &LikelihoodRatio, other: &Self) -> LikelihoodRatio {
        let mut lines = *likelihood.lines();
        for (line, windows) in lines.iter_mut().zip(WINDOW_COUNTS) {
            let [(mean, deviation), (old_mean, old_deviation)] = [self, other]
                .map(|scores| mean_and_deviation(&Samples::of(&scores.folds, windows).impostors));
            let scale = old_deviation / deviation.max(LEAST_DEVIATION);
            line.offset += line.slope * (old_mean - mean * scale);
            line.slope *= scale;
        }
        LikelihoodRatio::new(lines)
    }
}

impl Fold {
    /// Probes as long as a decision may take.
    fn long_probes(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(|probe| probe.scores.len() == LONGEST_PROBE)
    }
}

impl Probe {
    /// Whether it is accepted by the score that is picked after each window, and after how many.
    fn decide(
        &self,
        likelihood: &LikelihoodRatio,
        fmr: f64,
        score: impl Fn(&[f32]) -> f32,
    ) -> (bool, usize) {
        for (position, scores) in self.scores.iter().enumerate() {
            let windows = position + 1;
            match Verdict::new(score(scores), likelihood, fmr, windows as u32) {
                Verdict::Inconclusive => {}
                verdict => return (verdict == Verdict::Accept, windows),
            }
        }
        (false, self.scores.len())
    }
}

/// The largest score against another's template.
fn nearest_other(scores: &[f32], owner: usize) -> f32 {
    let others = scores.iter().enumerate().filter(|(person, _)| *person != owner);
    others.map(|(_, score)| *score).fold(f32::MIN, f32::max)
}

impl Samples {
    /// Of probes of so many windows.
    fn of<'a>(folds: impl IntoIterator<Item = &'a Fold>, windows: u32) -> Self {
        let (mut genuine, mut impostors) = (Vec::new(), Vec::new());
        for probe in folds.into_iter().flat_map(|fold| &fold.probes) {
            let scores = probe.scores.get(windows as usize - 1).into_iter().flatten();
            for (person, &score) in scores.enumerate() {
                if person == probe.owner { &mut genuine } else { &mut impostors }.push(score);
            }
        }
        Self { genuine, impostors }
    }
}

/// What scores tell. Of walks too short for some number of windows, as much as of fewer.
fn fit<'a>(folds: impl Iterator<Item = &'a Fold> + Clone) -> Option<LikelihoodRatio> {
    let line = |windows| {
        let Samples { genuine, impostors } = Samples::of(folds.clone(), windows);
        Line::fit(&genuine, &impostors)
    };
    let mut lines = [line(WINDOW_COUNTS[0])?; WINDOW_COUNTS.len()];
    for at in 1..lines.len() {
        lines[at] = line(WINDOW_COUNTS[at]).unwrap_or(lines[at - 1]);
    }
    Some(LikelihoodRatio::new(lines))
}

/// Decisions so far.
#[derive(Default)]
struct Tally {
    decisions: usize,
    accepted: usize,
    windows: usize,
}

impl Tally {
    fn add(&mut self, (accepted, windows): (bool, usize)) {
        self.decisions += 1;
        self.accepted += usize::from(accepted);
        self.windows += windows;
    }

    fn mean(&self, sum: usize) -> f32 {
        sum as f32 / self.decisions as f32
    }
}

fn rates(genuine: &Tally, others: &Tally) -> Option<SequentialRates> {
    (genuine.decisions > 0).then(|| SequentialRates {
        false_positive: others.mean(others.accepted),
        false_negative: 1.0 - genuine.mean(genuine.accepted),
        genuine_windows: genuine.mean(genuine.windows),
        impostor_windows: others.mean(others.windows),
    })
}

/// Of scores, unfolded.
fn mean_and_deviation(scores: &[f32]) -> (f32, f32) {
    let count = scores.len().max(1) as f32;
    let mean = scores.iter().map(|&score| unfold(score)).sum::<f32>() / count;
    let squares = scores.iter().map(|&score| (unfold(score) - mean).powi(2)).sum::<f32>();
    (mean, (squares / count).sqrt())
}

#[cfg(test)]
mod tests;
