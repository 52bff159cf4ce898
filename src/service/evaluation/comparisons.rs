//! Comparisons of strangers with each other, and their error rates.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::conditions::{CONDITIONS, UNCHANGED, WITHOUT_GYROSCOPE};
use super::strangers::{PROBE_SECONDS, Stranger, USUAL_SECONDS, unchanged_trial};
use crate::identity::Template;
use crate::service::FALSE_MATCH_RATES;
use crate::service::rates::{Figure, Scores, bootstrap, equal_error_rate};

/// Those of all data sets, each compared within its own.
pub const ALL_DATA_SETS: &str = "all";

const ACROSS_DATA_SETS: &str = "across data sets";

/// Error rates of single comparisons between strangers.
#[derive(Clone, Debug, Serialize)]
pub struct StrangerRates {
    /// The folder; [`ALL_DATA_SETS`]; or the same with impostors of other data sets alone.
    pub data_set: String,
    /// Length of the probes.
    pub probe_seconds: f64,
    /// People enrolled.
    pub people: usize,
    /// Those of them whose probes are of the session that was enrolled: an easier task.
    pub people_of_one_session: usize,
    /// Probes compared.
    pub probes: usize,
    /// Probes that are no walk.
    pub refused: usize,
    /// Comparisons of a probe with another's template.
    pub impostor_comparisons: usize,
    /// Equal error rate.
    pub eer: Figure,
    /// For each of [`FALSE_MATCH_RATES`].
    pub operating_points: Vec<Operation>,
    /// What the rates are of.
    #[serde(skip)]
    pub genuine: Scores,
    /// What the rates are of.
    #[serde(skip)]
    pub impostors: Scores,
}

/// What single comparisons do at one threshold.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Operation {
    /// False match rate.
    pub fmr: f64,
    /// The least score that is a match, which has this rate.
    pub threshold: f32,
    /// False non-match rate.
    pub fnmr: Figure,
}

/// What probes that differ from the enrolled walks do to error rates.
#[derive(Clone, Debug, Serialize)]
pub struct Robustness {
    /// How they differ.
    pub condition: &'static str,
    /// Equal error rate.
    pub eer: f32,
    /// Threshold of unchanged probes, at a false match rate of 1 %.
    pub threshold: f32,
    /// False match rate at that threshold.
    pub fmr: f32,
    /// False non-match rate at that threshold.
    pub fnmr: f32,
    /// Share of the probes that are refused as no walk.
    pub refused_share: f32,
}

/// Which probes meet which templates, by folder.
#[derive(Clone, Copy)]
enum Pairs {
    Within(usize),
    WithinEach,
    Across,
}

impl Pairs {
    fn has_owner(self, folder: usize) -> bool {
        match self {
            Self::Within(within) => folder == within,
            Self::WithinEach | Self::Across => true,
        }
    }

    fn has(self, owner: usize, other: usize) -> bool {
        match self {
            Self::Within(_) | Self::WithinEach => owner == other,
            Self::Across => owner != other,
        }
    }
}

/// Scores with the people that they depend on, rising.
pub struct Comparisons {
    genuine: Vec<(f32, usize)>,
    /// Whose probe, and whose template.
    impostors: Vec<(f32, [usize; 2])>,
    /// People compared; the positions in this list are what is written beside the scores.
    people: usize,
}

/// Equal error rate, then FNMR for each of [`FALSE_MATCH_RATES`].
type Rates<T> = [T; 1 + FALSE_MATCH_RATES.len()];

impl Comparisons {
    /// Of any scores, each with whose probe and whose template it is of, both below `people`.
    pub fn new(people: usize, scores: impl IntoIterator<Item = (f32, [usize; 2])>) -> Self {
        let (mut genuine, mut impostors) = (Vec::new(), Vec::new());
        for (score, [owner, other]) in scores {
            if owner == other {
                genuine.push((score, owner));
            } else {
                impostors.push((score, [owner, other]));
            }
        }
        genuine.sort_by(|a, b| a.0.total_cmp(&b.0));
        impostors.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { genuine, impostors, people }
    }

    /// Strangers of each model among themselves.
    fn of_strangers<'a>(
        models: &'a [Vec<Stranger>],
        pairs: Pairs,
        trial: usize,
        template: impl Fn(&'a Stranger) -> Option<&'a Template>,
    ) -> Self {
        let mut positions = BTreeMap::new();
        let mut scores = Vec::new();
        for strangers in models {
            let strangers: Vec<(usize, &Stranger, &Template)> = strangers
                .iter()
                .filter(|stranger| pairs.has_owner(stranger.folder))
                .filter_map(|stranger| {
                    let next = positions.len();
                    let position = *positions.entry(stranger.person).or_insert(next);
                    Some((position, stranger, template(stranger)?))
                })
                .collect();
            for &(owner, stranger, _) in &strangers {
                for probe in &stranger.trials[trial].probes {
                    let compared = strangers.iter().filter(|(position, other, _)| {
                        *position == owner || pairs.has(stranger.folder, other.folder)
                    });
                    scores.extend(compared.map(|(position, _, template)| {
                        (template.cosine(probe), [owner, *position])
                    }));
                }
            }
        }
        Self::new(positions.len(), scores)
    }

    /// Genuine and impostor scores, each as often as its people were drawn. `None` where a kind is
    /// missing.
    fn scores(&self, times: &[usize]) -> Option<[Scores; 2]> {
        let of = |score: f32, times: usize| std::iter::repeat_n(score, times);
        let genuine = self.genuine.iter().flat_map(|&(score, owner)| of(score, times[owner]));
        let impostors = self
            .impostors
            .iter()
            .flat_map(|&(score, [owner, other])| of(score, times[owner] * times[other]));
        let scores = [Scores::new(genuine.collect()), Scores::new(impostors.collect())];
        scores.iter().all(|scores| !scores.as_slice().is_empty()).then_some(scores)
    }

    fn all_scores(&self) -> Option<[Scores; 2]> {
        self.scores(&vec![1; self.people])
    }

    fn rates_of(&self, times: &[usize]) -> Option<Rates<f32>> {
        let [genuine, impostors] = self.scores(times)?;
        let fnmr = |fmr| 1.0 - genuine.share_from(impostors.threshold_at(fmr));
        let [lax, usual, strict] = FALSE_MATCH_RATES.map(fnmr);
        Some([equal_error_rate(&genuine, &impostors), lax, usual, strict])
    }

    /// Equal error rate, then FNMR for each of [`FALSE_MATCH_RATES`]. `None` where there is no score
    /// of either kind.
    pub fn rates(&self, seed: u64) -> Option<Rates<Figure>> {
        bootstrap(self.people, seed, |times| self.rates_of(times))
    }

    /// By how much [`Comparisons::rates`] are above those that the same people have with other
    /// scores: intervals are of the difference.
    pub fn rates_above(&self, other: &Self, seed: u64) -> Option<Rates<Figure>> {
        bootstrap(self.people, seed, |times| {
            let [these, others] = [self.rates_of(times)?, other.rates_of(times)?];
            Some(std::array::from_fn(|rate| these[rate] - others[rate]))
        })
    }
}

/// Error rates by data set and in all, for each length of probes. Empty where nobody can be compared
/// with anybody.
pub(super) fn stranger_rates(
    models: &[Vec<Stranger>],
    folders: &[&str],
    seed: u64,
) -> Vec<StrangerRates> {
    let mut populations = Vec::new();
    if folders.len() > 1 {
        let named = folders.iter().enumerate();
        populations.extend(named.map(|(folder, name)| (*name, Pairs::Within(folder))));
        populations.push((ACROSS_DATA_SETS, Pairs::Across));
    }
    populations.push((ALL_DATA_SETS, Pairs::WithinEach));
    let rows = populations.iter().flat_map(|&(name, pairs)| {
        PROBE_SECONDS.iter().map(move |&seconds| rates(models, name, pairs, seconds, seed))
    });
    rows.flatten().collect()
}

fn rates(
    models: &[Vec<Stranger>],
    data_set: &str,
    pairs: Pairs,
    probe_seconds: f64,
    seed: u64,
) -> Option<StrangerRates> {
    let trial = unchanged_trial(probe_seconds);
    let comparisons = Comparisons::of_strangers(models, pairs, trial, Stranger::as_enrolled);
    let [genuine, impostors] = comparisons.all_scores()?;
    let [eer, fnmrs @ ..] = comparisons.rates(seed)?;
    let operating_points = FALSE_MATCH_RATES
        .iter()
        .zip(fnmrs)
        .map(|(&fmr, fnmr)| Operation { fmr, threshold: impostors.threshold_at(fmr), fnmr })
        .collect();
    let strangers = || models.iter().flatten().filter(|stranger| pairs.has_owner(stranger.folder));
    let mut of_one_session: Vec<usize> = strangers()
        .filter(|stranger| stranger.of_one_session)
        .map(|stranger| stranger.person)
        .collect();
    of_one_session.sort_unstable();
    of_one_session.dedup();
    Some(StrangerRates {
        data_set: data_set.to_owned(),
        probe_seconds,
        people: comparisons.people,
        people_of_one_session: of_one_session.len(),
        probes: genuine.as_slice().len(),
        refused: strangers().map(|stranger| stranger.trials[trial].refused).sum(),
        impostor_comparisons: impostors.as_slice().len(),
        eer,
        operating_points,
        genuine,
        impostors,
    })
}

/// Error rates in each condition, the unchanged one first.
pub(super) fn robustness(models: &[Vec<Stranger>], fmr: f64) -> Vec<Robustness> {
    let unchanged = unchanged_trial(USUAL_SECONDS);
    let usual =
        Comparisons::of_strangers(models, Pairs::WithinEach, unchanged, Stranger::as_enrolled);
    let Some([_, impostors]) = usual.all_scores() else { return Vec::new() };
    let threshold = impostors.threshold_at(fmr);
    let row = |condition, trial: usize, comparisons: &Comparisons| {
        let [genuine, impostors] = comparisons.all_scores()?;
        let refused: usize =
            models.iter().flatten().map(|stranger| stranger.trials[trial].refused).sum();
        let probes = genuine.as_slice().len() + refused;
        Some(Robustness {
            condition,
            eer: equal_error_rate(&genuine, &impostors),
            threshold,
            fmr: impostors.share_from(threshold),
            fnmr: 1.0 - genuine.share_from(threshold),
            refused_share: refused as f32 / probes as f32,
        })
    };
    let changed: Vec<_> = (PROBE_SECONDS.len()..)
        .zip(CONDITIONS)
        .collect::<Vec<_>>()
        .par_iter()
        .filter_map(|(trial, condition)| {
            let comparisons =
                Comparisons::of_strangers(models, Pairs::WithinEach, *trial, Stranger::as_enrolled);
            row(condition.name, *trial, &comparisons)
        })
        .collect();
    let enrolled_without = |condition, trial| {
        let comparisons = Comparisons::of_strangers(models, Pairs::WithinEach, trial, |stranger| {
            stranger.template_without_gyroscope.as_ref()
        });
        row(condition, trial, &comparisons)
    };
    let without = CONDITIONS.iter().position(|condition| condition.name == WITHOUT_GYROSCOPE.name);
    let both = without.map(|position| PROBE_SECONDS.len() + position);
    let last = [
        enrolled_without("enrolled without gyroscope, probed with", unchanged),
        both.and_then(|trial| enrolled_without("enrolled and probed without gyroscope", trial)),
    ];
    let first = row(UNCHANGED.name, unchanged, &usual);
    first.into_iter().chain(changed).chain(last.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::evaluation::strangers::Trial;

    /// Walks in one direction.
    fn stranger(person: usize, folder: usize, values: [f32; 2], probes: usize) -> Stranger {
        let mut template = Template::empty(2);
        template.add_window(&values);
        let trial = || Trial { probes: vec![template.clone(); probes], refused: person };
        Stranger {
            person,
            folder,
            of_one_session: folder == 1,
            template_without_gyroscope: None,
            trials: (0..PROBE_SECONDS.len() + CONDITIONS.len()).map(|_| trial()).collect(),
            template,
        }
    }

    /// Two people of one folder and two of another, whom two models do not know.
    fn models() -> [Vec<Stranger>; 2] {
        let of_first = vec![
            stranger(3, 0, [1.0, 0.0], 2),
            stranger(5, 0, [0.0, 1.0], 1),
            stranger(6, 1, [0.6, 0.8], 3),
        ];
        [of_first, vec![stranger(6, 1, [0.6, 0.8], 1), stranger(7, 1, [0.8, 0.6], 0)]]
    }

    #[test]
    fn strangers_of_a_model_meet_by_data_set() {
        let models = models();
        let counts = |pairs| {
            let comparisons = Comparisons::of_strangers(&models, pairs, 0, Stranger::as_enrolled);
            let [genuine, impostors] = [comparisons.genuine.len(), comparisons.impostors.len()];
            (comparisons.people, genuine, impostors)
        };
        assert_eq!(counts(Pairs::Within(0)), (2, 3, 3));
        assert_eq!(counts(Pairs::Within(1)), (2, 4, 1));
        assert_eq!(counts(Pairs::WithinEach), (4, 7, 4));
        assert_eq!(counts(Pairs::Across), (4, 7, 2 + 1 + 6));
    }

    #[test]
    fn comparisons_count_as_often_as_both_people_are_drawn() {
        let models = models();
        let comparisons =
            Comparisons::of_strangers(&models, Pairs::Within(0), 0, Stranger::as_enrolled);
        let counts = |times: &[usize]| {
            comparisons.scores(times).map(|scores| scores.map(|scores| scores.as_slice().len()))
        };
        assert_eq!(counts(&[1, 1]), Some([3, 3]));
        assert_eq!(counts(&[3, 2]), Some([3 * 2 + 2, 3 * 2 * 3]));
        assert_eq!(counts(&[2, 0]), None);
    }

    #[test]
    fn scores_of_the_same_people_are_compared_person_by_person() {
        // Six people, each with a probe that is missed where it is an odd person's, or never.
        let comparisons = |missed: f32| {
            let all = (0..6).flat_map(|owner| (0..6).map(move |other| [owner, other]));
            Comparisons::new(
                6,
                all.map(|[owner, other]| {
                    let own = if owner % 2 == 1 { missed } else { 1.0 };
                    (if owner == other { own } else { 0.5 }, [owner, other])
                }),
            )
        };
        let (good, bad) = (comparisons(1.0), comparisons(0.0));
        let [_, _, fnmr, _] = bad.rates(1).unwrap();
        assert_eq!(fnmr.value, 0.5);
        assert!(fnmr.low < 0.3 && fnmr.high > 0.7, "{fnmr:?}");
        let zero = Figure { value: 0.0, low: 0.0, high: 0.0 };
        assert_eq!(bad.rates_above(&bad, 1), Some([zero; 4]));
        let [_, _, more, _] = bad.rates_above(&good, 1).unwrap();
        assert_eq!(more, fnmr);
        assert!(Comparisons::new(6, [(1.0, [0, 0])]).rates(1).is_none());
    }

    #[test]
    fn rows_tell_of_whom_they_are() {
        let rows = stranger_rates(&models(), &["home", "away"], 1);
        let of = |data_set: &str| {
            let row = rows.iter().find(|row| row.data_set == data_set).unwrap();
            (row.people, row.people_of_one_session, row.probes, row.refused, row.eer.value)
        };
        assert_eq!(of("home"), (2, 0, 3, 8, 0.0));
        assert_eq!(of(ALL_DATA_SETS), (4, 2, 7, 8 + 6 + 6 + 7, 0.0));
        let conditions = robustness(&models(), 0.01);
        // Nobody has a template without gyroscope.
        assert_eq!(conditions.len(), 1 + CONDITIONS.len());
        assert_eq!(conditions[0].refused_share, 27.0 / 34.0);
    }
}
