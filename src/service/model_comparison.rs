//! Compares a model with the active one on kept recordings: the last recording of each user is a
//! probe, the others are enrolled.

use std::collections::BTreeMap;
use std::sync::Arc;

use bipedalnet_core::identity::{CollectionId, Decision, Gallery, Template, UserId};

use super::ServiceError;
use super::active_model::LoadedModel;
use super::pool::{Admission, Pool};
use crate::store::{Comparison, Outcomes, Store, StoredTemplate};

/// With fewer probes, a comparison means nothing.
const MIN_PROBES: usize = 2;

/// More probes would not change the result. They are picked evenly over the users.
const MAX_PROBES: usize = 2000;

/// Candidates that a decision needs.
const NEAREST: usize = 5;

/// Probes in one job on the pool: few enough that a request behind it hardly waits.
const PROBES_PER_JOB: usize = 16;

/// Whether the new model did worse in any respect.
pub(super) fn is_worse(Comparison { old, new, .. }: &Comparison) -> bool {
    new.right < old.right || new.wrong > old.wrong || new.strangers > old.strangers
}

/// A model with all recordings enrolled except the probes. A probe is compared with the users of its own
/// collection.
struct Trial {
    galleries: BTreeMap<CollectionId, Gallery>,
    probes: Vec<(UserId, Template)>,
}

/// Compares two models on the same recordings. `None` if there are too few.
pub(super) async fn compare(
    store: &Store,
    pool: &Pool,
    old: &LoadedModel,
    new: &LoadedModel,
) -> Result<Option<Comparison>, ServiceError> {
    let [of_old, of_new] = [
        store.templates_of_recordings(old.id(), old.feature_len()).await?,
        store.templates_of_recordings(new.id(), new.feature_len()).await?,
    ];
    let empty = |model: &LoadedModel| {
        let (feature_len, calibration) = (model.feature_len(), model.model.calibration.clone());
        move || Gallery::new(feature_len, calibration.clone())
    };
    let (old_gallery, new_gallery) = (empty(old), empty(new));
    let prepare = move |_: &mut _| {
        let (of_old, of_new) = of_both(of_old, of_new);
        let old = Trial::new(old_gallery, of_old);
        Arc::new((old, Trial::new(new_gallery, of_new)))
    };
    let trials = pool.run(Admission::Always, prepare).await?;
    let probes = trials.0.probes.len();
    if probes < MIN_PROBES {
        return Ok(None);
    }
    let picked: Vec<usize> = (0..probes).step_by(probes.div_ceil(MAX_PROBES)).collect();
    let mut comparison = Comparison {
        served: old.id().to_owned(),
        recordings: picked.len() as u32,
        old: Outcomes::default(),
        new: Outcomes::default(),
    };
    for positions in picked.chunks(PROBES_PER_JOB) {
        let (trials, positions) = (Arc::clone(&trials), positions.to_vec());
        let ask = move |_: &mut _| {
            let (old, new) = &*trials;
            positions.iter().map(|&at| [old.ask(at), new.ask(at)]).collect::<Vec<_>>()
        };
        for [old, new] in pool.run(Admission::Always, ask).await? {
            add(&mut comparison.old, old);
            add(&mut comparison.new, new);
        }
    }
    Ok(Some(comparison))
}

/// Keeps the walks that both models read.
fn of_both(
    mut old: Vec<StoredTemplate>,
    mut new: Vec<StoredTemplate>,
) -> (Vec<StoredTemplate>, Vec<StoredTemplate>) {
    // Both are in the order of enrollment.
    let has = |walks: &[StoredTemplate], walk: &StoredTemplate| {
        walks.binary_search_by_key(&walk.enrollment, |walk| walk.enrollment).is_ok()
    };
    old.retain(|walk| has(&new, walk));
    new.retain(|walk| has(&old, walk));
    (old, new)
}

impl Trial {
    /// Takes walks in the order of enrollment. `empty` makes a gallery.
    fn new(empty: impl Fn() -> Gallery, walks: Vec<StoredTemplate>) -> Self {
        let mut by_user: BTreeMap<UserId, Vec<Template>> = BTreeMap::new();
        for walk in walks {
            by_user.entry(walk.user).or_default().push(walk.template);
        }
        let mut probes = Vec::new();
        let mut galleries = BTreeMap::new();
        for (user, mut walks) in by_user {
            let gallery: &mut Gallery = galleries.entry(user.collection()).or_insert_with(&empty);
            let last = if walks.len() > 1 { walks.pop() } else { None };
            walks.iter().for_each(|walk| gallery.add(&user, walk));
            probes.extend(last.map(|last| (user, last)));
        }
        for gallery in galleries.values_mut() {
            let tails = gallery.cohort().tails();
            gallery.set_tails(tails);
        }
        Self { galleries, probes }
    }

    /// The outcome of a probe. It is never both right and wrong.
    fn ask(&self, position: usize) -> Outcomes {
        let (user, probe) = &self.probes[position];
        let gallery = &self.galleries[&user.collection()];
        let nearest = gallery.rank(probe, None, NEAREST);
        let decide = |candidates: &[_], users| {
            let (calibration, tails) = (gallery.calibration(), gallery.tails());
            match Decision::new(candidates, users, probe, calibration, &tails.single) {
                Decision::Identified(named) => Some(named),
                Decision::Unknown | Decision::Inconclusive(_) => None,
            }
        };
        let users = gallery.len();
        let named = decide(&nearest, users);
        let others = gallery.rank_without(Some(user), probe, None, NEAREST);
        let mistaken_for = decide(&others, users - 1);
        Outcomes {
            right: u32::from(named.as_ref() == Some(user)),
            wrong: u32::from(named.is_some_and(|named| named != *user)),
            strangers: u32::from(mistaken_for.is_some()),
        }
    }
}

fn add(sum: &mut Outcomes, outcomes: Outcomes) {
    sum.right += outcomes.right;
    sum.wrong += outcomes.wrong;
    sum.strangers += outcomes.strangers;
}

#[cfg(test)]
mod tests {
    use bipedalnet_core::identity::{Calibration, Tail, Tails};

    use super::*;

    fn walk(enrollment: i64, user: &str, direction: [f32; 2]) -> StoredTemplate {
        let mut template = Template::empty(2);
        (0..9).for_each(|_| template.add_window(&direction));
        StoredTemplate { enrollment, user: UserId::from_stored(user).unwrap(), template }
    }

    /// For a model that accepts a walk from about this strength on.
    fn outcomes(walks: Vec<StoredTemplate>, strength: f32) -> Vec<Outcomes> {
        let tail = Tail::new([strength, strength + 0.1, strength + 0.2]).unwrap();
        let calibration = Calibration {
            coherence: 1.0,
            impostor_mean: 0.0,
            impostor_deviation: 0.5,
            window_noise: 0.0,
            prior: Tails { single: tail, session: tail, users: 0 },
            pairs: tail,
            familiar_coherence: 0.0..=1.0,
        };
        let mut trial = Trial::new(|| Gallery::new(2, calibration.clone()), walks);
        // Three users tell too little of thresholds to test with.
        trial.galleries.values_mut().for_each(|gallery| gallery.set_tails(calibration.prior));
        (0..trial.probes.len()).map(|position| trial.ask(position)).collect()
    }

    #[test]
    fn the_last_walk_of_each_user_is_a_probe_and_the_others_are_enrolled() {
        let walks = vec![
            walk(1, "ann", [1.0, 0.0]),
            walk(2, "bob", [0.0, 1.0]),
            walk(3, "ann", [1.0, 0.2]),
            walk(4, "bob", [1.0, 0.3]),
            // Enrolled, but no probe.
            walk(5, "cem", [-1.0, 0.0]),
        ];
        let [right, wrong] = [[1, 0, 0], [0, 1, 1]].map(|[right, wrong, strangers]| Outcomes {
            right,
            wrong,
            strangers,
        });
        assert_eq!(outcomes(walks.clone(), 1.3), [right, wrong]);
        // Too near for strangers, and too far for anyone.
        let stranger = Outcomes { strangers: 1, ..right };
        assert_eq!(outcomes(walks.clone(), -0.5), [stranger, wrong]);
        assert_eq!(outcomes(walks, 9.0), [Outcomes::default(); 2]);
    }

    #[test]
    fn a_probe_is_compared_within_its_collection() {
        let [near, far] = [[1.0, 0.0], [0.0, 1.0]];
        let walks = vec![
            walk(1, "ann", near),
            walk(2, "shop/ann", far),
            walk(3, "shop/bob", near),
            // Like a user of the other collection, whom nobody may be taken for.
            walk(4, "ann", near),
            walk(5, "shop/ann", far),
        ];
        let right = Outcomes { right: 1, wrong: 0, strangers: 0 };
        let of_both = outcomes(walks, 0.5);
        assert_eq!(of_both[0].wrong + of_both[1].wrong, 0, "{of_both:?}");
        assert_eq!(of_both[0].strangers, 0, "{of_both:?}");
        assert_eq!(of_both[1], right, "{of_both:?}");
    }

    #[test]
    fn only_walks_that_both_models_read_are_compared() {
        let old: Vec<_> = [1, 2, 4].map(|id| walk(id, "ann", [1.0, 0.0])).into();
        let new: Vec<_> = [2, 3, 4, 5].map(|id| walk(id, "ann", [0.0, 1.0])).into();
        let (old, new) = of_both(old, new);
        let ids = |walks: &[StoredTemplate]| walks.iter().map(|w| w.enrollment).collect::<Vec<_>>();
        assert_eq!((ids(&old), ids(&new)), (vec![2, 4], vec![2, 4]));
    }

    #[test]
    fn a_model_is_worse_if_it_loses_in_any_respect() {
        let old = Outcomes { right: 5, wrong: 1, strangers: 1 };
        let worse = |right, wrong, strangers| {
            let new = Outcomes { right, wrong, strangers };
            is_worse(&Comparison { served: String::new(), recordings: 9, old, new })
        };
        assert!(!worse(5, 1, 1) && !worse(6, 0, 0));
        assert!(worse(4, 0, 0) && worse(6, 2, 0) && worse(6, 0, 2));
    }
}
