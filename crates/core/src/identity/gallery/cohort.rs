//! How strong impostors are in one gallery.

use super::super::calibration::{Calibration, Nearest, Spread, Tails};

/// Similarities between the users of a cohort. They show how strong impostors are in this gallery.
#[derive(Debug)]
pub struct Cohort {
    pub(super) calibration: Calibration,
    pub(super) users: usize,
    /// One row per template: its similarity, as a probe, to each user.
    pub(super) similarities: Vec<f32>,
    /// Windows of each row's template.
    pub(super) windows: Vec<u32>,
    /// User of each row's template.
    pub(super) owners: Vec<usize>,
}

impl Cohort {
    /// Strengths of impostors: of each user's templates, as probes, compared with each other user.
    pub fn impostor_strengths(&self) -> Vec<f32> {
        let Self { calibration, users, .. } = self;
        let rows = || self.similarities.chunks_exact((*users).max(1)).zip(&self.owners);
        // Mean similarity of each user's templates to each user.
        let mut means = vec![0.0; users * users];
        for (row, &owner) in rows() {
            let count = self.owners.iter().filter(|&&other| other == owner).count() as f32;
            let means = &mut means[owner * users..][..*users];
            means.iter_mut().zip(row).for_each(|(mean, similarity)| *mean += similarity / count);
        }
        let references: Vec<_> = (0..*users)
            .map(|user| {
                let similarities = (0..*users).map(|other| means[other * users + user]);
                calibration.reference(&Nearest::new(similarities), |other| other == user)
            })
            .collect();
        let mut strengths = Vec::with_capacity(self.similarities.len());
        for ((row, &owner), &windows) in rows().zip(&self.windows) {
            let nearest = Nearest::new(row.iter().copied());
            for user in (0..*users).filter(|&user| user != owner) {
                let probe =
                    calibration.reference(&nearest, |other| other == user || other == owner);
                strengths.push(calibration.strength(row[user], references[user], probe, windows));
            }
        }
        strengths
    }

    /// Mean and standard deviation of a template's similarity to the nearest other users. `None` for
    /// fewer than three users.
    pub fn similarity_of_strangers(&self) -> Option<(f32, f32)> {
        let rows = self.similarities.chunks_exact(self.users.max(1)).zip(&self.owners);
        let spreads = rows
            .map(|(row, &owner)| Nearest::new(row.iter().copied()).spread(|user| user == owner));
        let spreads: Vec<Spread> = spreads.collect();
        let mean =
            |of: fn(&Spread) -> f32| spreads.iter().map(of).sum::<f32>() / spreads.len() as f32;
        (self.users > 2).then(|| (mean(|it| it.mean), mean(|it| it.deviation)))
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.users
    }

    /// The thresholds for the gallery of this cohort.
    pub fn tails(&self) -> Tails {
        self.tails_of(&self.impostor_strengths())
    }

    /// The same, computed from [`Cohort::impostor_strengths`].
    pub fn tails_of(&self, strengths: &[f32]) -> Tails {
        self.calibration.refine(strengths, self.users)
    }
}
