//! How strong impostors are in one gallery.

use super::super::calibration::{Calibration, Tails, nearest_spread};

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
                let others = (0..*users).filter(|&other| other != user);
                let mut similarities: Vec<f32> =
                    others.map(|other| means[other * users + user]).collect();
                calibration.reference(&mut similarities)
            })
            .collect();
        let mut strengths = Vec::new();
        for ((row, &owner), &windows) in rows().zip(&self.windows) {
            for user in (0..*users).filter(|&user| user != owner) {
                let others = (0..*users).filter(|&other| other != user && other != owner);
                let mut similarities: Vec<f32> = others.map(|other| row[other]).collect();
                let probe = calibration.reference(&mut similarities);
                strengths.push(calibration.strength(row[user], references[user], probe, windows));
            }
        }
        strengths
    }

    /// Mean and standard deviation of a template's similarity to the nearest other users. `None` for
    /// fewer than three users.
    pub fn similarity_of_strangers(&self) -> Option<(f32, f32)> {
        let rows = self.similarities.chunks_exact(self.users.max(1)).zip(&self.owners);
        let spreads = rows.map(|(row, &owner)| {
            let others = row.iter().enumerate().filter(|(user, _)| *user != owner);
            nearest_spread(&mut others.map(|(_, similarity)| *similarity).collect::<Vec<_>>())
        });
        let spreads: Vec<(f32, f32)> = spreads.collect();
        let mean =
            |of: fn(&(f32, f32)) -> f32| spreads.iter().map(of).sum::<f32>() / spreads.len() as f32;
        (self.users > 2).then(|| (mean(|it| it.0), mean(|it| it.1)))
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
