//! From similarities to strengths and false match rates.
//!
//! The similarity of two strangers depends on phone, pocket and pace, so a fixed threshold on cosines
//! does not keep a false match rate. A [`Calibration`] compares a similarity with two references from
//! the gallery: the similarity of the claimed template to other users, and that of the probe.
//! This is symmetric score normalisation (S-norm) with the nearest part of a cohort (adaptive S-norm,
//! Matějka et al., Interspeech 2017). With few users, a prior from the model file fills in.

mod metrics;
mod tail;

use std::ops::RangeInclusive;

pub use tail::{FALSE_MATCH_RATES, STRICTEST_FMR, Tail, Tails};

use super::Template;

/// Number of nearest users of a cohort in a reference. In a mixed gallery, these have a similar phone
/// and pace.
const NEAREST: usize = 16;

/// Users whom a reference leaves out at most: the one who is compared, and the owner of a template that
/// serves as a probe.
const MOST_ABSENT: usize = 2;

/// Weight of the prior in the mean of a reference and in its variance, as a number of users. The mean
/// differs more between galleries than the variance.
const PRIOR_USERS: (f32, f32) = (2.0, 8.0);

/// Weight of the prior in refined thresholds, as a number of users.
const PRIOR_GALLERY_USERS: f32 = 20.0;

/// With fewer comparisons between users, no tail is fitted.
const FEWEST_PAIRS: usize = 15;

/// Added to thresholds without a gallery, because a reference of few users is uncertain. With 5 and 10
/// users of left-out data sets, impostor strengths were 0.3 to 0.4 higher than with all users.
const FEW_USERS_MARGIN: f32 = 0.5;

/// A strength is at most this much above the lower of its two parts. Genuine walks rarely reach the
/// limit. A probe or a template that resembles everybody does.
const MOST_DISAGREEMENT: f32 = 1.0;

/// How to read similarities, from people who were not in the training data: the worst case of all
/// left-out data sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Cosine of a window and its walker's mean direction. Windows are noisy, so few windows lower all
    /// similarities.
    pub coherence: f32,
    /// Mean similarity of impostors.
    pub impostor_mean: f32,
    /// Standard deviation of the similarity of impostors.
    pub impostor_deviation: f32,
    /// Variance that one window adds to a strength, in units of the variance between people.
    pub window_noise: f32,
    /// Thresholds without a gallery.
    pub prior: Tails,
    /// The tail of comparisons between users, as a mean of all data sets. A gallery with this tail
    /// keeps the prior.
    pub pairs: Tail,
    /// Coherence of probes that resemble the walks of the training.
    pub familiar_coherence: RangeInclusive<f32>,
}

/// Similarity of impostors to one template or probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reference {
    pub mean: f32,
    pub deviation: f32,
}

impl Calibration {
    /// The factor, from 0 to 1, by which noise of this many windows lowers a cosine (correction for
    /// attenuation, Spearman 1904).
    pub(super) fn attenuation(&self, windows: u32) -> f32 {
        let square = self.coherence * self.coherence;
        (1.0 + (1.0 - square) / (square * windows.max(1) as f32)).sqrt().recip()
    }

    /// The highest similarity of a probe to templates, and the cosine behind it. `None` without
    /// templates.
    pub(super) fn nearest(&self, templates: &[Template], probe: &Template) -> Option<(f32, f32)> {
        let nearest = templates.iter().map(|template| {
            let cosine = template.cosine(probe);
            (cosine / self.attenuation(template.windows()), cosine)
        });
        let (similarity, cosine) = nearest.max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((similarity / self.attenuation(probe.windows()), cosine))
    }

    /// The reference from the nearest users of a cohort, without those who are absent.
    pub(super) fn reference(
        &self,
        nearest: &Nearest,
        is_absent: impl Fn(usize) -> bool,
    ) -> Reference {
        let Spread { users, mean, deviation } = nearest.spread(is_absent);
        let (of_mean, of_variance) = PRIOR_USERS;
        let sum_of_squares =
            users * deviation.powi(2) + of_variance * self.impostor_deviation.powi(2);
        Reference {
            mean: (users * mean + of_mean * self.impostor_mean) / (users + of_mean),
            deviation: (sum_of_squares / (users + of_variance)).sqrt(),
        }
    }

    /// Similarity above that of impostors, in standard deviations.
    pub(super) fn strength(
        &self,
        similarity: f32,
        template: Reference,
        probe: Reference,
        windows: u32,
    ) -> f32 {
        let [a, b] =
            [template, probe].map(|reference| (similarity - reference.mean) / reference.deviation);
        let noise = (1.0 + self.window_noise / windows.max(1) as f32).sqrt();
        f32::midpoint(a, b).min(a.min(b) + MOST_DISAGREEMENT) / noise
    }

    /// The strength that a similarity reaches with any template at most.
    pub(super) fn most_strength(&self, similarity: f32, probe: Reference, windows: u32) -> f32 {
        let any = Reference { mean: f32::MIN, deviation: 1.0 };
        self.strength(similarity, any, probe, windows)
    }

    /// The thresholds for a gallery, from the strengths of comparisons between its users.
    pub fn refine(&self, pairs: &[f32], users: usize) -> Tails {
        let found = Tail::fit_few(pairs).filter(|_| pairs.len() >= FEWEST_PAIRS);
        let users = if found.is_some() { users } else { 0 };
        let share = users as f32 / (users as f32 + PRIOR_GALLERY_USERS);
        let margin = FEW_USERS_MARGIN * (1.0 - share).powi(2);
        let refined = |tail: Tail| {
            let moved = tail.moved(share, self.pairs, found.unwrap_or(self.pairs));
            Tail(moved.0.map(|strength| strength + margin))
        };
        let Tails { single, session, .. } = self.prior;
        Tails { single: refined(single), session: refined(session), users }
    }
}

/// The users of a cohort who are nearest to a template, nearest first: as many as a reference needs, and
/// [`MOST_ABSENT`] more.
pub(super) struct Nearest(Vec<(usize, f32)>);

/// The mean and the standard deviation of the highest similarities, and their number. Zeros if there
/// are none.
pub(super) struct Spread {
    users: f32,
    pub mean: f32,
    pub deviation: f32,
}

impl Nearest {
    /// From the similarities to the users of a cohort, in their order.
    pub fn new(similarities: impl IntoIterator<Item = f32>) -> Self {
        let mut nearest: Vec<(usize, f32)> = similarities.into_iter().enumerate().collect();
        let by_similarity = |a: &(_, f32), b: &(_, f32)| b.1.total_cmp(&a.1);
        let kept = NEAREST + MOST_ABSENT;
        if nearest.len() > kept {
            nearest.select_nth_unstable_by(kept, by_similarity);
            nearest.truncate(kept);
        }
        nearest.sort_unstable_by(by_similarity);
        Self(nearest)
    }

    /// The spread without at most [`MOST_ABSENT`] users, by their places in the cohort.
    pub fn spread(&self, is_absent: impl Fn(usize) -> bool) -> Spread {
        let present = self.0.iter().filter(|(user, _)| !is_absent(*user));
        let (mut nearest, mut count) = ([0.0; NEAREST], 0);
        for (kept, (_, similarity)) in nearest.iter_mut().zip(present) {
            *kept = *similarity;
            count += 1;
        }
        let nearest = &nearest[..count];
        let users = count as f32;
        let mean = nearest.iter().sum::<f32>() / users.max(1.0);
        let squares: f32 = nearest.iter().map(|similarity| (similarity - mean).powi(2)).sum();
        Spread { users, mean, deviation: (squares / users.max(1.0)).sqrt() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    /// Impostors have a similarity of about 0.
    pub fn calibration() -> Calibration {
        let tail = |strengths| Tail::new(strengths).unwrap();
        Calibration {
            coherence: 0.9,
            impostor_mean: 0.0,
            impostor_deviation: 0.1,
            window_noise: 0.5,
            prior: Tails {
                single: tail([1.3, 2.4, 3.2]),
                session: tail([1.5, 2.7, 3.6]),
                users: 0,
            },
            pairs: tail([1.3, 2.4, 3.2]),
            familiar_coherence: 0.0..=1.0,
        }
    }

    pub fn normal(seed: u64, count: usize) -> Vec<f32> {
        StandardNormal.sample_iter(Pcg64Mcg::seed_from_u64(seed)).take(count).collect()
    }

    #[test]
    fn a_gallery_moves_the_thresholds_by_its_size() {
        let calibration = calibration();
        let stronger: Vec<f32> = normal(3, 5000).iter().map(|value| value + 1.0).collect();
        let fmr = |tails: Tails| tails.single.fmr(3.0);
        let [few, more, many] =
            [3, 30, 1000].map(|users| fmr(calibration.refine(&stronger, users)));
        assert!(few < more && more < many, "{few} {more} {many}");
        assert!((many / 0.023).ln().abs() < 0.5, "{many}");
        // Without a gallery, the same strength means a higher rate.
        let none = calibration.refine(&[], 0);
        assert!(none.users == 0 && fmr(none) > fmr(calibration.prior));
    }

    #[test]
    fn one_person_with_two_ids_does_not_shut_out_others() {
        let calibration = calibration();
        // Six users, two of them certainly one person.
        let mut pairs = normal(4, 28);
        pairs.extend([9.0, 9.0]);
        let tails = calibration.refine(&pairs, 6);
        assert!(tails.users == 6 && tails.single.fmr(3.2 + 1.0) < 0.001, "{tails:?}");
        assert_eq!(calibration.refine(&pairs[..12], 4).users, 0);
    }

    #[test]
    fn fewer_windows_lower_similarity_and_strength() {
        let calibration = calibration();
        let attenuation = [1, 2, 9, 1000].map(|windows| calibration.attenuation(windows));
        assert!((attenuation[0] - 0.9).abs() < 1e-6 && attenuation[3] > 0.999);
        assert!(attenuation.is_sorted());
        let reference = calibration.reference(&Nearest::new([]), |_| false);
        let strength = |windows| calibration.strength(0.5, reference, reference, windows);
        assert!(strength(1) < strength(9) && (strength(10_000) - 5.0).abs() < 0.01);
    }

    proptest! {
        #[test]
        fn a_reference_is_of_the_nearest_who_are_present(
            similarities in vec(-1.0..1.0f32, 0..40),
            absent in any::<[Index; MOST_ABSENT]>(),
        ) {
            let absent = absent.map(|it| it.index(similarities.len().max(1)));
            let is_absent = |user| absent.contains(&user);
            let users = 0..similarities.len();
            let mut present: Vec<f32> =
                users.filter(|user| !is_absent(*user)).map(|user| similarities[user]).collect();
            present.sort_by(|a, b| b.total_cmp(a));
            present.truncate(NEAREST);
            let calibration = calibration();
            let found = calibration.reference(&Nearest::new(similarities), is_absent);
            let expected = calibration.reference(&Nearest::new(present), |_| false);
            prop_assert_eq!(found.mean, expected.mean);
            prop_assert_eq!(found.deviation, expected.deviation);
        }
    }

    #[test]
    fn a_probe_that_resembles_everybody_is_weak() {
        let calibration = calibration();
        let reference = |others: Vec<f32>| calibration.reference(&Nearest::new(others), |_| false);
        let template = reference(vec![0.0; 30]);
        let strength =
            |others: Vec<f32>| calibration.strength(0.6, template, reference(others), 20);
        assert!(strength(vec![0.0; 30]) > 5.0 && strength(vec![0.6; 30]) < 2.3);
        // Only the nearest count.
        let nearest = [vec![0.5; NEAREST], vec![0.0; 100]].concat();
        assert_eq!(strength(nearest), strength(vec![0.5; NEAREST]));
    }
}
