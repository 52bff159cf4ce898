//! From which score on a walker is an enrolled user: found on people that the network never saw.

use super::rates::{Scores, equal_error_rate};
use crate::bnn::{Network, Scratch};
use crate::gait::{Recipe, Recording, cut_windows};
use crate::identity::Template;
use crate::training::Person;

/// Length of a probe.
const PROBE_SECONDS: f64 = 10.0;

/// Share of strangers' probes that may be taken for someone enrolled.
const TARGET_FPIR: f64 = 0.03;

/// False match rates that a caller of a verification can ask for.
pub const FALSE_MATCH_RATES: [f64; 3] = [0.1, 0.01, 0.001];

/// Scores of people that a network was not trained on.
#[derive(Clone, Debug, Default)]
pub struct StrangerScores {
    /// Each probe against its own template.
    genuine: Vec<f32>,
    /// Each probe against every other template.
    impostors: Vec<f32>,
    /// Each probe's largest score against another's template.
    nearest_impostors: Vec<f32>,
    people: usize,
}

/// What strangers tell of a network (terms of ISO/IEC 19795-1).
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The least score that identifies.
    pub threshold: f32,
    /// False-positive identification rate at the threshold: share of probes answered with
    /// someone when the walker is taken out of the gallery.
    pub fpir: f32,
    /// False-negative identification rate at the threshold: share of enrolled people's probes
    /// answered with nobody, or with someone else.
    pub fnir: f32,
    /// Equal error rate of single comparisons.
    pub eer: f32,
    /// Of single comparisons, for each of [`FALSE_MATCH_RATES`].
    pub operating_points: Vec<OperatingPoint>,
    /// People enrolled.
    pub people: usize,
    /// Probes, of ten seconds each.
    pub probes: usize,
}

/// What single comparisons do at one threshold (terms of ISO/IEC 19795-1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperatingPoint {
    /// The false match rate asked for.
    pub fmr: f64,
    /// The least score that is a match.
    pub threshold: f32,
    /// False non-match rate: share of walks that are not matched with their own walker's.
    pub fnmr: f32,
}

impl StrangerScores {
    /// Enrolls people and compares their unseen walks with each other's templates. Scores of
    /// earlier calls, with other people and another network of the same kind, are kept.
    pub fn add(&mut self, network: &Network, recipe: Recipe, people: &[Person]) {
        let mut scratch = Scratch::default();
        let mut template = |recordings: &[Recording]| -> Option<Template> {
            let mut template = Template::empty(network.feature_len());
            for recording in recordings {
                let cut = cut_windows(recording, &recipe, recipe.samples / 2);
                for window in cut.map_or(Vec::new(), |cut| cut.windows) {
                    template.add_window(network.run(&window.values, &mut scratch).ok()?.feature);
                }
            }
            (template.windows() > 0).then_some(template)
        };
        let mut templates = Vec::new();
        let mut probes = Vec::new();
        for person in people {
            let Some(enrolled) = template(&person.enrollments) else { continue };
            let starts = (0..).map(|index| f64::from(index) * PROBE_SECONDS);
            let whole = |start: &f64| start + PROBE_SECONDS <= person.unseen.duration_seconds();
            for start in starts.take_while(whole) {
                let part = person.unseen.part(start, PROBE_SECONDS);
                let probe = part.and_then(|part| template(&[part]));
                probes.extend(probe.map(|probe| (templates.len(), probe)));
            }
            templates.push(enrolled);
        }
        if templates.len() < 2 {
            return;
        }
        self.people += templates.len();
        for (owner, probe) in &probes {
            let mut nearest = f32::MIN;
            for (position, template) in templates.iter().enumerate() {
                let score = template.cosine(probe);
                if position == *owner {
                    self.genuine.push(score);
                } else {
                    self.impostors.push(score);
                    nearest = nearest.max(score);
                }
            }
            self.nearest_impostors.push(nearest);
        }
    }

    /// The threshold that impostors reach as often as they reach `threshold` in `other`, which
    /// is of the same people and another network. Where none reaches it, as far above the
    /// largest score.
    pub(super) fn threshold_like(&self, other: &Self, threshold: f32) -> f32 {
        let [own, other] = [self, other].map(|scores| Scores::new(scores.impostors.clone()));
        let share = other.share_from(threshold);
        let at_share = |scores: &Scores| scores.threshold_at(share.into());
        let above = if share > 0.0 { 0.0 } else { threshold - at_share(&other) };
        (at_share(&own) + above).min(1.0)
    }

    /// The threshold that strangers' probes reach in 3 % of cases, and what it costs. `None`
    /// before there are scores.
    pub fn calibrate(&self) -> Option<Calibration> {
        if self.genuine.is_empty() {
            return None;
        }
        let [sorted_genuine, impostors, nearest] =
            [&self.genuine, &self.impostors, &self.nearest_impostors]
                .map(|scores| Scores::new(scores.clone()));
        let threshold = nearest.threshold_at(TARGET_FPIR);
        let scores = self.genuine.iter().zip(&self.nearest_impostors);
        let missed = scores.filter(|(own, other)| **own < threshold || own < other).count();
        let operating_points = FALSE_MATCH_RATES.iter().map(|&fmr| {
            let threshold = impostors.threshold_at(fmr);
            OperatingPoint { fmr, threshold, fnmr: 1.0 - sorted_genuine.share_from(threshold) }
        });
        Some(Calibration {
            operating_points: operating_points.collect(),
            threshold,
            fpir: nearest.share_from(threshold),
            fnir: missed as f32 / self.genuine.len() as f32,
            eer: equal_error_rate(&sorted_genuine, &impostors),
            people: self.people,
            probes: self.genuine.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_carried_over_by_how_many_reach_it() {
        let scores = |divisor: f32| StrangerScores {
            impostors: (0..200).map(|score| score as f32 / divisor).collect(),
            ..StrangerScores::default()
        };
        let (before, after) = (scores(200.0), scores(400.0));
        for (threshold, expected) in [(0.5, 0.25), (0.99, 0.495), (1.2, 0.7025)] {
            let found = after.threshold_like(&before, threshold);
            assert!((found - expected).abs() < 0.003, "{threshold}: {found}");
        }
        let certain = StrangerScores { impostors: vec![1.0; 5], ..StrangerScores::default() };
        assert_eq!(certain.threshold_like(&before, 0.5), 1.0);
    }
}
