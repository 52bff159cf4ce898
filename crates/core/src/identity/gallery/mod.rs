//! All enrolled users, and the comparison of probes with them.

mod cohort;
mod directions;
mod members;
mod rounded;

use std::collections::{BTreeSet, HashMap};
use std::iter::zip;
use std::mem::size_of;
use std::sync::{Mutex, PoisonError};

pub use cohort::Cohort;
use directions::{Directions, Probe};
use members::Members;
use rounded::Rounded;

use super::calibration::{Calibration, Nearest, Reference, Tail, Tails};
use super::decision::{Decision, Doubt, Verdict};
use super::device_template::DeviceTemplate;
use super::user_templates::{MOST_TEMPLATES, UserTemplates};
use super::{Template, UserId};
use crate::bnn::Kernels;

/// Templates of all enrolled users, in memory.
///
/// An enrollment takes a hash look-up. An identification passes once over the directions of all
/// templates in four bits, and computes exact scores for the users who may be nearest. Each comparison
/// is then normalised by a cohort of at most 128 users.
#[derive(Debug)]
pub struct Gallery {
    feature_len: usize,
    calibration: Calibration,
    tails: Tails,
    users: HashMap<UserId, Enrolled>,
    directions: Directions,
    members: Members,
    kernels: Kernels,
    /// Length of all ids.
    ids_bytes: usize,
}

#[derive(Debug)]
struct Enrolled {
    templates: UserTemplates,
    /// The reference of the templates, with the number of the cohort that it comes from. It takes a
    /// hundred comparisons, and stays the same until the cohort changes.
    reference: Mutex<Option<(u64, Reference)>>,
}

/// At least this many of the nearest users are normalised: a slightly less similar user may be
/// stronger.
const NORMALISED: usize = 8;

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
        let kernels = Kernels::preferred();
        Self {
            feature_len,
            calibration,
            tails,
            users: HashMap::new(),
            directions: Directions::new(feature_len, kernels),
            members: Members::default(),
            kernels,
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
        let mut templates = self.templates(user).cloned().unwrap_or_default();
        templates.add(walk, &self.calibration);
        self.replace(user, templates);
    }

    /// Replaces all templates of a user. Empty templates remove the user.
    ///
    /// # Panics
    /// See [`Gallery::add`].
    pub fn replace(&mut self, user: &UserId, templates: UserTemplates) {
        self.directions.replace(user, templates.as_slice(), &self.calibration);
        let is_new = !self.contains(user);
        if templates.is_empty() {
            if !is_new {
                self.ids_bytes -= user.as_str().len();
                self.users.remove(user);
                self.members.remove(user, &self.calibration, |next| &self.users[next].templates);
            }
            return;
        }
        if is_new {
            self.ids_bytes += user.as_str().len();
        }
        self.members.replace(user, templates.as_slice(), &self.calibration);
        self.users.insert(user.clone(), Enrolled { templates, reference: Mutex::default() });
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
        self.users.capacity() * size_of::<(UserId, Enrolled)>()
            + self.directions.bytes()
            + self.members.bytes()
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
        self.users.get(user).map(|enrolled| &enrolled.templates)
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
        let templates = self.templates(user)?;
        let strangers = self.of_enrolled(user);
        let original: Vec<Template> = templates.as_slice().iter().map(original).collect();
        Some(DeviceTemplate::new(model, user, &original, strangers, self.tails))
    }

    /// Compares a probe with a user. `None` if the user has no template.
    pub fn compare(&self, user: &UserId, probe: &Template) -> Option<Candidate> {
        let templates = self.templates(user)?;
        Some(self.normalised(
            user,
            templates,
            probe,
            self.of_enrolled(user),
            self.of_probe(user, probe),
        ))
    }

    /// Compares a probe with these templates, as if they were the user's.
    pub fn compare_with(
        &self,
        user: &UserId,
        templates: &UserTemplates,
        probe: &Template,
    ) -> Candidate {
        let rounded = templates.as_slice().iter();
        let rounded: Vec<Rounded> =
            rounded.map(|template| Rounded::new(template, &self.calibration)).collect();
        let of_templates = self.of_templates(user, &rounded, &self.members.cohort());
        self.normalised(user, templates, probe, of_templates, self.of_probe(user, probe))
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
        let cohort = self.members.cohort();
        let similarities = self.similarities(&cohort, probe);
        let nearest = Nearest::new(similarities.iter().copied());
        let mut others: Vec<(f32, &UserId)> = zip(&cohort, &similarities)
            .filter(|((other, _), _)| *other != user)
            .map(|((other, _), similarity)| (*similarity, *other))
            .collect();
        let by_chance = ALIKE_BY_CHANCE / others.len().max(1) as f64;
        others.sort_by(|a, b| b.0.total_cmp(&a.0));
        others.truncate(ALIKE_COMPARED);
        let of_probe = others.iter().map(|(_, it)| self.reference_without(it, &cohort, &nearest));
        let of_probe: Vec<Reference> = of_probe.collect();
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
        let least = zip(&others, &of_probe).map(|(&(similarity, _), &of_probe)| {
            rate(self.calibration.most_strength(similarity, of_probe, probe.windows()))
        });
        if !are_alike(&least.collect::<Vec<f64>>()) {
            return false;
        }
        let rates = zip(&others, &of_probe).map(|(&(_, other), &of_probe)| {
            let templates = &self.users[other].templates;
            let of_templates = self.of_enrolled(other);
            rate(self.normalised(other, templates, probe, of_templates, of_probe).strength)
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
        let searched = Probe::new(probe);
        let near: BTreeSet<&UserId> = match among {
            Some(users) => users.iter().filter(|user| self.contains(user)).collect(),
            None => {
                // So many directions have at least as many owners as needed, even without the absent.
                let more = self.directions.owners().len() - self.len();
                let users = normalised + usize::from(absent.is_some());
                let count = (users + more).min(users * MOST_TEMPLATES);
                self.directions.near(&searched, count).collect()
            }
        };
        let present: Vec<&UserId> = near.into_iter().filter(|user| Some(*user) != absent).collect();
        let mut nearest: Vec<(&UserId, (f32, f32))> =
            zip(present.iter().copied(), self.exact(&present, &searched)).collect();
        nearest.sort_by(|a, b| b.1.0.total_cmp(&a.1.0).then(a.0.cmp(b.0)));
        nearest.truncate(normalised);
        if nearest.is_empty() {
            return Vec::new();
        }
        let mut cohort = self.members.cohort();
        let members = cohort.len();
        cohort.retain(|(user, _)| Some(*user) != absent);
        let is_whole = cohort.len() == members;
        let near_probe = Nearest::new(self.similarities(&cohort, probe));
        let attenuation = self.calibration.attenuation(probe.windows());
        let candidate = |(user, (similarity, score)): (&UserId, (f32, f32))| {
            let of_templates = match is_whole {
                true => self.of_enrolled(user),
                false => self.of_templates(user, &self.rounded(user), &cohort),
            };
            let strength = self.calibration.strength(
                similarity / attenuation,
                of_templates,
                self.reference_without(user, &cohort, &near_probe),
                probe.windows(),
            );
            Candidate { user: user.clone(), score, strength }
        };
        let mut candidates: Vec<Candidate> = nearest.into_iter().map(candidate).collect();
        candidates
            .sort_by(|a, b| b.strength.total_cmp(&a.strength).then(b.score.total_cmp(&a.score)));
        candidates.truncate(limit);
        candidates
    }

    /// For each user, the highest similarity of their templates to a probe without the probe's
    /// attenuation, and the cosine behind it.
    fn exact(&self, users: &[&UserId], probe: &Probe) -> Vec<(f32, f32)> {
        let templates = users.iter().enumerate().flat_map(|(at, user)| {
            let templates = self.users[*user].templates.as_slice().iter();
            templates.zip(self.directions.inverse_lengths(user)).map(move |it| (at, it))
        });
        let templates: Vec<(usize, (&Template, f32))> = templates.collect();
        let mut highest = vec![(f32::MIN, 0.0); users.len()];
        for some in templates.chunks(COSINES) {
            // Repeats the last one if there are too few.
            let of = |at: usize| some[at.min(some.len() - 1)].1;
            let cosines = cosines(std::array::from_fn(of), &probe.direction);
            for (&(at, (template, _)), cosine) in zip(some, cosines) {
                let similarity = cosine / self.calibration.attenuation(template.windows());
                if similarity >= highest[at].0 {
                    highest[at] = (similarity, cosine);
                }
            }
        }
        highest
    }

    /// Similarity of a probe to the nearest template of each user of a cohort.
    fn similarities(&self, cohort: &[(&UserId, &[Rounded])], probe: &Template) -> Vec<f32> {
        let probe = Rounded::new(probe, &self.calibration);
        let highest = |(_, directions): &(_, &[Rounded])| probe.highest(directions, self.kernels);
        cohort.iter().map(highest).collect()
    }

    fn normalised(
        &self,
        user: &UserId,
        templates: &UserTemplates,
        probe: &Template,
        of_templates: Reference,
        of_probe: Reference,
    ) -> Candidate {
        let nearest = self.calibration.nearest(templates.as_slice(), probe);
        let (similarity, score) = nearest.unwrap_or((0.0, 0.0));
        let strength =
            self.calibration.strength(similarity, of_templates, of_probe, probe.windows());
        Candidate { user: user.clone(), score, strength }
    }

    /// The directions of an enrolled user's templates.
    fn rounded(&self, user: &UserId) -> Vec<Rounded> {
        zip(self.users[user].templates.as_slice(), self.directions.inverse_lengths(user))
            .map(|(template, length)| Rounded::with_length(template, length, &self.calibration))
            .collect()
    }

    /// The reference of an enrolled user's templates.
    fn of_enrolled(&self, user: &UserId) -> Reference {
        let mut known = self.users[user].reference.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some((number, reference)) if number == self.members.cohort_number() => reference,
            _ => {
                let cohort = self.members.cohort();
                let reference = self.of_templates(user, &self.rounded(user), &cohort);
                *known = Some((self.members.cohort_number(), reference));
                reference
            }
        }
    }

    /// The reference of a probe that is compared with a user.
    fn of_probe(&self, user: &UserId, probe: &Template) -> Reference {
        let cohort = self.members.cohort();
        let nearest = Nearest::new(self.similarities(&cohort, probe));
        self.reference_without(user, &cohort, &nearest)
    }

    /// The reference of a user's templates, from the similarities of all of a cohort but the user.
    fn of_templates(
        &self,
        user: &UserId,
        templates: &[Rounded],
        cohort: &[(&UserId, &[Rounded])],
    ) -> Reference {
        let mean = |(_, directions): &(_, &[Rounded])| self.mean_similarity(directions, templates);
        self.reference_without(user, cohort, &Nearest::new(cohort.iter().map(mean)))
    }

    /// The reference without one user, from the nearest users of this cohort.
    fn reference_without(
        &self,
        user: &UserId,
        cohort: &[(&UserId, &[Rounded])],
        nearest: &Nearest,
    ) -> Reference {
        self.calibration.reference(nearest, |member| cohort[member].0 == user)
    }

    /// Mean similarity of a user's templates, each as a probe, to the nearest of other templates.
    fn mean_similarity(&self, probes: &[Rounded], templates: &[Rounded]) -> f32 {
        let similarities = probes.iter().map(|probe| probe.highest(templates, self.kernels));
        similarities.sum::<f32>() / probes.len().max(1) as f32
    }

    /// The similarities between the users of the cohort. Costs a thousand times as much as one
    /// comparison.
    pub fn cohort(&self) -> Cohort {
        let cohort = self.members.cohort();
        let mut similarities = Vec::new();
        let (mut windows, mut owners) = (Vec::new(), Vec::new());
        for (row, (_, probes)) in cohort.iter().enumerate() {
            for probe in *probes {
                let highest = |(_, others): &(_, &[Rounded])| probe.highest(others, self.kernels);
                similarities.extend(cohort.iter().map(highest));
                windows.push(probe.windows);
                owners.push(row);
            }
        }
        let users = cohort.len();
        let calibration = self.calibration.clone();
        Cohort { calibration, users, similarities, windows, owners }
    }
}

/// Cosines that are computed together.
const COSINES: usize = 4;

/// The same as [`Template::cosine`] for several templates, each with its inverse length. One sum at a time
/// would wait for each of its additions.
fn cosines(templates: [(&Template, f32); COSINES], direction: &[f32]) -> [f32; COSINES] {
    let templates =
        templates.map(|(template, length)| (&template.values()[..direction.len()], length));
    let mut sums = [0.0; COSINES];
    for (at, value) in direction.iter().enumerate() {
        for (sum, (values, length)) in sums.iter_mut().zip(templates) {
            *sum += values[at] * length * value;
        }
    }
    sums
}

#[cfg(test)]
mod tests;
