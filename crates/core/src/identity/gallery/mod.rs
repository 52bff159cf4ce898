//! All enrolled users, and the comparison of probes with them.

mod cohort;
mod directions;

use std::collections::{BTreeSet, HashMap};
use std::iter::zip;
use std::mem::size_of;

pub use cohort::Cohort;
use directions::{Directions, Line, rounded};
use sha2::{Digest, Sha256};

use super::calibration::{Calibration, Reference, Tail, Tails};
use super::decision::{Decision, Doubt, Verdict};
use super::device_template::DeviceTemplate;
use super::user_templates::{MOST_TEMPLATES, UserTemplates};
use super::{Template, UserId};

/// Templates of all enrolled users, in memory.
///
/// An enrollment takes a hash look-up. An identification passes once over the rounded directions of
/// all templates, and computes exact scores for the users who may be nearest. Each comparison is then
/// normalised by a cohort of at most `COHORT_USERS` users.
#[derive(Debug)]
pub struct Gallery {
    feature_len: usize,
    calibration: Calibration,
    tails: Tails,
    users: HashMap<UserId, UserTemplates>,
    directions: Directions,
    /// Users in an order that does not depend on what they are. The first are the cohort.
    order: BTreeSet<(u64, UserId)>,
    /// Length of all ids.
    ids_bytes: usize,
}

/// At least this many of the nearest users are normalised: a slightly less similar user may be
/// stronger.
const NORMALISED: usize = 8;

/// Number of users that a comparison is normalised by.
const COHORT_USERS: usize = 128;

/// A probe is like many people if, at one of these false match rates, this many other users match it.
/// Each rule loses none of the accepted genuine walks in galleries of 44 to 54 people of left-out data
/// sets, and at most about 0.2 % in a gallery of 135.
const FEW_ALIKE: (f64, usize) = (0.01, 2);
const SOME_ALIKE: (f64, usize) = (0.03, 4);
/// For verifications at this rate or a looser one.
const MANY_ALIKE: (f64, usize) = (0.1, 9);

/// In large cohorts, two others match at the rate of [`FEW_ALIKE`] by chance. So they are counted at the
/// rate that lets this many match by chance, if it is lower.
const ALIKE_BY_CHANCE: f64 = 0.3;

/// Other users, nearest first, of whom those who match are counted.
const ALIKE_COMPARED: usize = 12;

/// A user that a probe was compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The user's id.
    pub user: UserId,
    /// Cosine of the probe and the nearest of the user's templates, from -1 to 1.
    pub score: f32,
    /// Similarity above that of impostors, in standard deviations.
    pub strength: f32,
}

impl Gallery {
    /// An empty gallery for features of this length.
    pub fn new(feature_len: usize, calibration: Calibration) -> Self {
        let tails = calibration.refine(&[], 0);
        Self {
            feature_len,
            calibration,
            tails,
            users: HashMap::new(),
            directions: Directions::new(feature_len),
            order: BTreeSet::new(),
            ids_bytes: 0,
        }
    }

    /// The calibration of the gallery's model.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The thresholds in use.
    pub fn tails(&self) -> Tails {
        self.tails
    }

    /// Replaces the thresholds in use.
    pub fn set_tails(&mut self, tails: Tails) {
        self.tails = tails;
    }

    /// Adds a walk to a user's templates.
    ///
    /// # Panics
    /// If the walk has another feature length than the gallery.
    pub fn add(&mut self, user: &UserId, walk: &Template) {
        assert_eq!(walk.values().len(), self.feature_len);
        let mut templates = self.users.get(user).cloned().unwrap_or_default();
        templates.add(walk, &self.calibration);
        self.replace(user, templates);
    }

    /// Replaces all templates of a user. Empty templates remove the user.
    ///
    /// # Panics
    /// See [`Gallery::add`].
    pub fn replace(&mut self, user: &UserId, templates: UserTemplates) {
        let ordered = (hash(user), user.clone());
        if self.users.remove(user).is_some() {
            self.ids_bytes -= user.as_str().len();
            self.order.remove(&ordered);
        }
        self.directions.replace(user, templates.as_slice());
        if templates.is_empty() {
            return;
        }
        self.ids_bytes += user.as_str().len();
        self.order.insert(ordered);
        self.users.insert(user.clone(), templates);
    }

    /// Number of values of a feature.
    pub fn feature_len(&self) -> usize {
        self.feature_len
    }

    /// Number of users with at least one template.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Number of templates of all users.
    pub fn templates_len(&self) -> usize {
        self.directions.owners().len()
    }

    /// Memory in bytes, without the overhead of the allocator.
    pub fn bytes(&self) -> usize {
        let templates = self.directions.owners().len() * (self.feature_len + 1) * size_of::<f32>();
        self.users.capacity() * size_of::<(UserId, UserTemplates)>()
            + self.directions.bytes()
            + self.order.len() * size_of::<(u64, UserId)>()
            // Four copies of each id, if the user has one template.
            + 4 * self.ids_bytes
            + templates
    }

    /// Whether a user has a template.
    pub fn contains(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// Number of users with a template, restricted to `among` if given.
    pub fn count(&self, among: Option<&BTreeSet<UserId>>) -> usize {
        among.map_or(self.len(), |users| users.iter().filter(|user| self.contains(user)).count())
    }

    /// A user's templates.
    pub fn templates(&self, user: &UserId) -> Option<&UserTemplates> {
        self.users.get(user)
    }

    /// Whether nobody is enrolled.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// What a device needs to verify a user. `original` undoes the transform of a template. `None` if the
    /// user has no template.
    pub fn device_template(
        &self,
        model: &str,
        user: &UserId,
        original: impl Fn(&Template) -> Template,
    ) -> Option<DeviceTemplate> {
        let templates = self.users.get(user)?;
        let strangers = self.of_templates(user, templates, &self.cohort_positions());
        let original: Vec<Template> = templates.as_slice().iter().map(original).collect();
        Some(DeviceTemplate::new(model, user, &original, strangers, self.tails))
    }

    /// Compares a probe with a user. `None` if the user has no template.
    pub fn compare(&self, user: &UserId, probe: &Template) -> Option<Candidate> {
        let templates = self.users.get(user)?;
        Some(self.compare_with(user, templates, probe))
    }

    /// Compares a probe with these templates, as if they were the user's.
    pub fn compare_with(
        &self,
        user: &UserId,
        templates: &UserTemplates,
        probe: &Template,
    ) -> Candidate {
        let cohort = self.cohort_positions();
        let similarities = self.similarities(&cohort, probe);
        self.normalised(user, templates, probe, &cohort, &similarities)
    }

    /// The verdict about a candidate of this gallery at a false match rate, by one of its tails.
    pub fn verdict(
        &self,
        candidate: &Candidate,
        probe: &Template,
        fmr: f64,
        tail: &Tail,
    ) -> Verdict {
        match Verdict::new(candidate.strength, probe, fmr, &self.calibration, tail) {
            Verdict::Accept if self.matches_others(&candidate.user, probe, fmr) => {
                Verdict::Inconclusive(Doubt::Ambiguous)
            }
            verdict => verdict,
        }
    }

    /// The decision about the strongest candidates of this gallery, see [`Decision::new`].
    pub fn decision(
        &self,
        candidates: &[Candidate],
        compared: usize,
        probe: &Template,
    ) -> Decision {
        let (calibration, tail) = (&self.calibration, &self.tails.single);
        match Decision::new(candidates, compared, probe, calibration, tail) {
            Decision::Identified(user) if self.matches_others(&user, probe, 0.0) => {
                Decision::Inconclusive(Doubt::Ambiguous)
            }
            decision => decision,
        }
    }

    /// Whether a probe of one user also matches others of the cohort. Walks do not; a vector that was
    /// made up to resemble many templates does.
    fn matches_others(&self, user: &UserId, probe: &Template, asked: f64) -> bool {
        let cohort = self.cohort_positions();
        let similarities = self.similarities(&cohort, probe);
        let mut others: Vec<(f32, &UserId)> = zip(&cohort, &similarities)
            .filter(|((other, _), _)| *other != user)
            .map(|((other, _), similarity)| (*similarity, *other))
            .collect();
        let by_chance = ALIKE_BY_CHANCE / others.len().max(1) as f64;
        others.sort_by(|a, b| b.0.total_cmp(&a.0));
        others.truncate(ALIKE_COMPARED);
        let few = (FEW_ALIKE.0.min(by_chance), FEW_ALIKE.1);
        let many = (asked >= MANY_ALIKE.0).then_some(MANY_ALIKE);
        let are_alike = |rates: &[f64]| {
            [few, SOME_ALIKE]
                .into_iter()
                .chain(many)
                .any(|(fmr, count)| rates.iter().filter(|rate| **rate <= fmr).count() >= count)
        };
        let rate = |strength| self.tails.single.fmr(strength);
        // Rules most walks out without a look at the other users' templates.
        let least = others.iter().map(|&(similarity, other)| {
            let reference = self.of_probe(other, &cohort, &similarities);
            rate(self.calibration.most_strength(similarity, reference, probe.windows()))
        });
        if !are_alike(&least.collect::<Vec<f64>>()) {
            return false;
        }
        let rates = others.iter().map(|&(_, other)| {
            let templates = &self.users[other];
            rate(self.normalised(other, templates, probe, &cohort, &similarities).strength)
        });
        are_alike(&rates.collect::<Vec<f64>>())
    }

    /// The users nearest to a probe, strongest first: at most `limit`, restricted to `among` if given.
    ///
    /// # Panics
    /// See [`Gallery::add`].
    pub fn rank(
        &self,
        probe: &Template,
        among: Option<&BTreeSet<UserId>>,
        limit: usize,
    ) -> Vec<Candidate> {
        self.rank_without(None, probe, among, limit)
    }

    /// Like [`Gallery::rank`], as if the user `absent` were not enrolled.
    pub fn rank_without(
        &self,
        absent: Option<&UserId>,
        probe: &Template,
        among: Option<&BTreeSet<UserId>>,
        limit: usize,
    ) -> Vec<Candidate> {
        assert_eq!(probe.values().len(), self.feature_len);
        let normalised = limit.max(NORMALISED);
        let near: BTreeSet<&UserId> = match among {
            Some(users) => users.iter().filter(|user| self.contains(user)).collect(),
            None => {
                let near = self.directions.near(probe, limit * MOST_TEMPLATES);
                near.into_iter().map(|at| &self.directions.owners()[at]).collect()
            }
        };
        let similarity = |user: &UserId| {
            let templates = self.users[user].as_slice().iter();
            let similarities = templates.map(|template| {
                template.cosine(probe) / self.calibration.attenuation(template.windows())
            });
            similarities.fold(f32::MIN, f32::max)
        };
        let present = near.into_iter().filter(|user| Some(*user) != absent);
        let mut nearest: Vec<(f32, &UserId)> =
            present.map(|user| (similarity(user), user)).collect();
        nearest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        nearest.truncate(normalised);
        if nearest.is_empty() {
            return Vec::new();
        }
        let mut cohort = self.cohort_positions();
        cohort.retain(|(user, _)| Some(*user) != absent);
        let similarities = self.similarities(&cohort, probe);
        let candidate = |(_, user): (f32, &UserId)| {
            self.normalised(user, &self.users[user], probe, &cohort, &similarities)
        };
        let mut candidates: Vec<Candidate> = nearest.into_iter().map(candidate).collect();
        candidates
            .sort_by(|a, b| b.strength.total_cmp(&a.strength).then(b.score.total_cmp(&a.score)));
        candidates.truncate(limit);
        candidates
    }

    /// The users of the cohort, with the positions of their directions.
    fn cohort_positions(&self) -> Vec<(&UserId, &[usize])> {
        let cohort = self.order.iter().take(COHORT_USERS);
        cohort.map(|(_, user)| (user, self.directions.of(user))).collect()
    }

    /// Similarity of a probe to the nearest template of each user of a cohort.
    fn similarities(&self, cohort: &[(&UserId, &[usize])], probe: &Template) -> Vec<f32> {
        let lines = rounded(probe);
        let attenuation = self.calibration.attenuation(probe.windows());
        cohort
            .iter()
            .map(|(_, positions)| {
                let similarities = positions.iter().map(|&position| {
                    self.directions.cosine(position, &lines)
                        / (attenuation
                            * self.calibration.attenuation(self.directions.windows(position)))
                });
                similarities.fold(f32::MIN, f32::max)
            })
            .collect()
    }

    fn normalised(
        &self,
        user: &UserId,
        templates: &UserTemplates,
        probe: &Template,
        cohort: &[(&UserId, &[usize])],
        similarities: &[f32],
    ) -> Candidate {
        let calibration = &self.calibration;
        let (similarity, score) =
            calibration.nearest(templates.as_slice(), probe).unwrap_or((0.0, 0.0));
        let strength = calibration.strength(
            similarity,
            self.of_templates(user, templates, cohort),
            self.of_probe(user, cohort, similarities),
            probe.windows(),
        );
        Candidate { user: user.clone(), score, strength }
    }

    /// The reference of a user's templates, from the similarities of all of a cohort but the user.
    fn of_templates(
        &self,
        user: &UserId,
        templates: &UserTemplates,
        cohort: &[(&UserId, &[usize])],
    ) -> Reference {
        let calibration = &self.calibration;
        let own: Vec<(Vec<Line>, f32)> = templates
            .as_slice()
            .iter()
            .map(|template| (rounded(template), calibration.attenuation(template.windows())))
            .collect();
        let others = cohort.iter().filter(|(other, _)| *other != user);
        let mut similarities: Vec<f32> =
            others.map(|(_, positions)| self.mean_similarity(positions, &own)).collect();
        calibration.reference(&mut similarities)
    }

    /// The reference of a probe, from its similarities to all of a cohort but one user.
    fn of_probe(
        &self,
        user: &UserId,
        cohort: &[(&UserId, &[usize])],
        similarities: &[f32],
    ) -> Reference {
        let others = zip(cohort, similarities).filter(|((other, _), _)| *other != user);
        let mut similarities: Vec<f32> = others.map(|(_, similarity)| *similarity).collect();
        self.calibration.reference(&mut similarities)
    }

    /// Mean similarity of a user's templates, each as a probe, to the nearest of other templates.
    fn mean_similarity(&self, probes: &[usize], templates: &[(Vec<Line>, f32)]) -> f32 {
        let of_probe = |&position: &usize| {
            let attenuation = self.calibration.attenuation(self.directions.windows(position));
            let similarities = templates
                .iter()
                .map(|(lines, own)| self.directions.cosine(position, lines) / (own * attenuation));
            similarities.fold(f32::MIN, f32::max)
        };
        probes.iter().map(of_probe).sum::<f32>() / probes.len().max(1) as f32
    }

    /// The similarities between the users of the cohort. Costs a thousand times as much as one
    /// comparison.
    pub fn cohort(&self) -> Cohort {
        let cohort = self.cohort_positions();
        let mut similarities = Vec::new();
        let (mut windows, mut owners) = (Vec::new(), Vec::new());
        for (row, (_, positions)) in cohort.iter().enumerate() {
            for &probe in *positions {
                let lines = self.directions.lines(probe);
                let of_probe = self.calibration.attenuation(self.directions.windows(probe));
                similarities.extend(cohort.iter().map(|(_, positions)| {
                    let similarities = positions.iter().map(|&position| {
                        let attenuation =
                            self.calibration.attenuation(self.directions.windows(position));
                        self.directions.cosine(position, lines) / (attenuation * of_probe)
                    });
                    similarities.fold(f32::MIN, f32::max)
                }));
                windows.push(self.directions.windows(probe));
                owners.push(row);
            }
        }
        let users = cohort.len();
        let calibration = self.calibration.clone();
        Cohort { calibration, users, similarities, windows, owners }
    }
}

/// The same in every version and on every machine, so that a restart does not change thresholds.
fn hash(user: &UserId) -> u64 {
    let digest = Sha256::digest(user.as_str());
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests;
