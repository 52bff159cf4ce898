//! Naming a walker among N (1:N): how errors grow with the gallery.

use rand::SeedableRng;
use rand::seq::index::sample;
use rand_pcg::Pcg64Mcg;
use serde::Serialize;

use super::strangers::Stranger;
use crate::service::rates::Scores;

/// Galleries drawn for each size and model.
const DRAWS: usize = 50;

/// Errors of identification among so many.
#[derive(Clone, Debug, Serialize)]
pub struct Identification {
    /// People enrolled at a time, of any data set.
    pub gallery_size: usize,
    /// Random galleries.
    pub galleries: usize,
    /// At the threshold of a single comparison, whatever the gallery.
    pub fixed: IdentificationErrors,
    /// At the threshold that keeps the false-positive rate at what one comparison has, were
    /// comparisons independent.
    pub following: IdentificationErrors,
    /// False-positive identification rate that the fixed threshold would have, were comparisons
    /// independent: 1 - (1 - FMR)^N.
    pub fpir_of_independent: f64,
}

/// Error rates at one threshold.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct IdentificationErrors {
    /// The least score that identifies.
    pub threshold: f32,
    /// False-positive identification rate: share of strangers' probes that are given a name.
    pub fpir: f32,
    /// False-negative identification rate: share of enrolled people's probes that are given no name,
    /// or a wrong one.
    pub fnir: f32,
}

/// For galleries of 1, 2, 4 and so on, as long as someone is left out.
pub(super) fn identification(models: &[Vec<Stranger>], fmr: f64, seed: u64) -> Vec<Identification> {
    let scores: Vec<Vec<Probe>> = models.iter().map(|strangers| probes(strangers)).collect();
    let impostors = scores.iter().flatten().flat_map(|probe| {
        let others = probe.scores.iter().enumerate().filter(|(other, _)| *other != probe.owner);
        others.map(|(_, score)| *score)
    });
    let impostors = Scores::new(impostors.collect());
    if impostors.as_slice().is_empty() {
        return Vec::new();
    }
    let most = models.iter().map(Vec::len).max().unwrap_or(0);
    let sizes = std::iter::successors(Some(1), |size| Some(size * 2));
    let mut rows = Vec::new();
    for size in sizes.take_while(|size| *size < most) {
        let follows = 1.0 - (1.0 - fmr).powf(1.0 / size as f64);
        let mut tallies = [fmr, follows].map(|fmr| Tally::new(impostors.threshold_at(fmr)));
        let mut galleries = 0;
        let mut random = Pcg64Mcg::seed_from_u64(seed ^ size as u64);
        for (strangers, probes) in models.iter().zip(&scores) {
            if strangers.len() <= size {
                continue;
            }
            for _ in 0..DRAWS {
                let mut enrolled = vec![false; strangers.len()];
                sample(&mut random, strangers.len(), size)
                    .iter()
                    .for_each(|who| enrolled[who] = true);
                tallies.iter_mut().for_each(|tally| tally.add(probes, &enrolled));
                galleries += 1;
            }
        }
        let [fixed, following] = tallies.map(|tally| tally.errors());
        let fpir_of_independent = 1.0 - (1.0 - fmr).powf(size as f64);
        rows.push(Identification {
            gallery_size: size,
            galleries,
            fixed,
            following,
            fpir_of_independent,
        });
    }
    rows
}

/// Scores of a probe with the templates of all strangers of a model.
struct Probe {
    owner: usize,
    scores: Vec<f32>,
}

fn probes(strangers: &[Stranger]) -> Vec<Probe> {
    let with_all = |(owner, stranger): (usize, &Stranger)| {
        let scores = stranger.usual_probes().iter().map(|probe| {
            strangers.iter().map(|other| other.template.cosine(probe)).collect::<Vec<f32>>()
        });
        scores.map(|scores| Probe { owner, scores }).collect::<Vec<_>>()
    };
    strangers.iter().enumerate().flat_map(with_all).collect()
}

/// Errors at a threshold, and of how many.
struct Tally {
    threshold: f32,
    strangers_named: usize,
    strangers: usize,
    enrolled_missed: usize,
    enrolled: usize,
}

impl Tally {
    fn new(threshold: f32) -> Self {
        Self { threshold, strangers_named: 0, strangers: 0, enrolled_missed: 0, enrolled: 0 }
    }

    fn add(&mut self, probes: &[Probe], enrolled: &[bool]) {
        for probe in probes {
            let gallery = probe.scores.iter().enumerate().filter(|(other, _)| enrolled[*other]);
            let nearest = gallery.max_by(|a, b| a.1.total_cmp(b.1));
            let named = nearest.filter(|(_, score)| **score >= self.threshold);
            if enrolled[probe.owner] {
                self.enrolled += 1;
                let right = named.is_some_and(|(nearest, _)| nearest == probe.owner);
                self.enrolled_missed += usize::from(!right);
            } else {
                self.strangers += 1;
                self.strangers_named += usize::from(named.is_some());
            }
        }
    }

    fn errors(self) -> IdentificationErrors {
        let share = |part: usize, all: usize| part as f32 / all.max(1) as f32;
        IdentificationErrors {
            threshold: self.threshold,
            fpir: share(self.strangers_named, self.strangers),
            fnir: share(self.enrolled_missed, self.enrolled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_strangers_named_and_enrolled_missed() {
        let probe = |owner, scores: [f32; 3]| Probe { owner, scores: scores.to_vec() };
        let probes = [
            probe(0, [0.9, 0.1, 0.99]), // named: the third is not enrolled
            probe(0, [0.4, 0.1, 0.0]),  // below the threshold
            probe(1, [0.8, 0.7, 0.0]),  // a wrong name
            probe(2, [0.5, 0.1, 0.9]),  // a stranger named
            probe(2, [0.4, 0.1, 0.9]),
        ];
        let mut tally = Tally::new(0.5);
        tally.add(&probes, &[true, true, false]);
        let errors = tally.errors();
        assert_eq!((errors.fpir, errors.fnir), (0.5, 2.0 / 3.0));
    }
}
