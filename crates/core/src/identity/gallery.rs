//! All enrolled users, and whom a probe is most like.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::iter::zip;
use std::mem::size_of;

use sha2::{Digest, Sha256};

use super::calibration::{Calibration, Tails, nearest_spread};
use super::user_templates::{MOST_TEMPLATES, UserTemplates};
use super::{Template, UserId};

/// Templates of all enrolled users, in memory.
///
/// Enrolling costs a hash look-up; an identification one pass over all templates' directions, which lie
/// in one block of memory as 16-bit fixed point, and an exact score for those who may be the nearest.
/// Each comparison is then normalised by a cohort of at most `COHORT_USERS`.
#[derive(Debug)]
pub struct Gallery {
    feature_len: usize,
    calibration: Calibration,
    tails: Tails,
    users: HashMap<UserId, UserTemplates>,
    /// The user of each direction.
    owners: Vec<UserId>,
    /// Windows of each direction's template.
    windows: Vec<u32>,
    /// Each template's direction, rounded, in as many lines as it takes.
    directions: Vec<Line>,
    /// Positions of each user's directions.
    positions: HashMap<UserId, Vec<usize>>,
    /// Users in an order that has nothing to do with them. The first are the cohort.
    order: BTreeSet<(u64, UserId)>,
    /// Length of all ids.
    ids_bytes: usize,
}

/// Nearest users who are normalised, at least: one who is a little less similar may be stronger.
const NORMALISED: usize = 8;

/// Users whom a comparison is normalised by.
const COHORT_USERS: usize = 128;

const LINE_VALUES: usize = 32;

/// Values of a direction, times [`ONE`]: a line of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([i16; LINE_VALUES]);

/// Sums of products fit 32 bits: directions are of length 1, give or take the rounding.
const ONE: f32 = 32_767.0;

/// Users that are kept in mind at a time, at least, while the nearest are looked for.
const LEAST_KEPT: usize = 64;

/// A user whom a probe may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The user.
    pub user: UserId,
    /// Cosine between probe and the nearest of the user's templates, from -1 to 1.
    pub score: f32,
    /// By how many standard deviations they are more alike than strangers.
    pub strength: f32,
}

/// Similarities between users of the cohort: enough to tell how strong strangers are here.
#[derive(Debug)]
pub struct Cohort {
    calibration: Calibration,
    users: usize,
    /// Row by row: how similar one template, taken as a probe, is to each user.
    similarities: Vec<f32>,
    /// Windows of the probe of each row.
    windows: Vec<u32>,
    /// User of the probe of each row.
    owners: Vec<usize>,
}

impl Gallery {
    /// An empty gallery for features of a given length.
    pub fn new(feature_len: usize, calibration: Calibration) -> Self {
        let tails = calibration.refine(&[], 0);
        Self {
            feature_len,
            calibration,
            tails,
            users: HashMap::new(),
            owners: Vec::new(),
            windows: Vec::new(),
            directions: Vec::new(),
            positions: HashMap::new(),
            order: BTreeSet::new(),
            ids_bytes: 0,
        }
    }

    /// What similarities mean to its model.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The thresholds that decide.
    pub fn tails(&self) -> Tails {
        self.tails
    }

    /// Lets other thresholds decide.
    pub fn set_tails(&mut self, tails: Tails) {
        self.tails = tails;
    }

    /// Adds a walk to what is known of a user.
    ///
    /// # Panics
    /// If the walk is of another feature length than the gallery.
    pub fn add(&mut self, user: &UserId, walk: &Template) {
        assert_eq!(walk.values().len(), self.feature_len);
        let mut templates = self.users.get(user).cloned().unwrap_or_default();
        templates.add(walk, &self.calibration);
        self.replace(user, templates);
    }

    /// Puts other templates in place of all that is known of a user; none forget the user.
    ///
    /// # Panics
    /// As [`Gallery::add`].
    pub fn replace(&mut self, user: &UserId, templates: UserTemplates) {
        let ordered = (hash(user), user.clone());
        if self.users.remove(user).is_some() {
            self.ids_bytes -= user.as_str().len();
            self.order.remove(&ordered);
        }
        while let Some(position) = self.positions.get_mut(user).and_then(Vec::pop) {
            self.remove_direction(position);
        }
        self.positions.remove(user);
        if templates.is_empty() {
            return;
        }
        for template in templates.as_slice() {
            assert_eq!(template.values().len(), self.feature_len);
            self.positions.entry(user.clone()).or_default().push(self.owners.len());
            self.owners.push(user.clone());
            self.windows.push(template.windows());
            self.directions.extend(rounded(template));
        }
        self.ids_bytes += user.as_str().len();
        self.order.insert(ordered);
        self.users.insert(user.clone(), templates);
    }

    /// The last direction moves into the gap.
    fn remove_direction(&mut self, position: usize) {
        self.owners.swap_remove(position);
        self.windows.swap_remove(position);
        let (gap, last) = (position * self.lines(), self.owners.len() * self.lines());
        self.directions.copy_within(last.., gap);
        self.directions.truncate(last);
        if let Some(moved) = self.owners.get(position) {
            let positions = self.positions.get_mut(moved).expect("every direction's user has it");
            let from = self.owners.len();
            positions.iter_mut().filter(|it| **it == from).for_each(|it| *it = position);
        }
    }

    /// Values of a feature.
    pub fn feature_len(&self) -> usize {
        self.feature_len
    }

    /// Users with at least one template.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Memory that it takes, but for what an allocator adds.
    pub fn bytes(&self) -> usize {
        let templates = self.owners.len() * (self.feature_len + 1) * size_of::<f32>();
        self.users.capacity() * size_of::<(UserId, UserTemplates)>()
            + self.positions.capacity() * size_of::<(UserId, Vec<usize>)>()
            + self.owners.capacity() * (size_of::<UserId>() + size_of::<u32>() + size_of::<usize>())
            + self.order.len() * size_of::<(u64, UserId)>()
            + self.directions.capacity() * size_of::<Line>()
            // Each id is there four times, if the user has one template.
            + 4 * self.ids_bytes
            + templates
    }

    /// Whether a user has a template.
    pub fn contains(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// Users with a template, of `among` alone if given.
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

    /// Compares a probe with a user, if the user has a template.
    pub fn compare(&self, user: &UserId, probe: &Template) -> Option<Candidate> {
        let templates = self.users.get(user)?;
        Some(self.compare_with(user, templates, probe))
    }

    /// Compares a probe with templates as if they were the user's.
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

    /// The users nearest to a probe, strongest first: at most `limit`, and of `among` alone if given.
    ///
    /// # Panics
    /// As [`Gallery::add`].
    pub fn rank(
        &self,
        probe: &Template,
        among: Option<&BTreeSet<UserId>>,
        limit: usize,
    ) -> Vec<Candidate> {
        self.rank_without(None, probe, among, limit)
    }

    /// As [`Gallery::rank`], as if a user were not enrolled.
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
            None => self
                .near(probe, limit * MOST_TEMPLATES)
                .into_iter()
                .map(|at| &self.owners[at])
                .collect(),
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

    /// Positions of the cohort's directions, user by user.
    fn cohort_positions(&self) -> Vec<(&UserId, &[usize])> {
        let cohort = self.order.iter().take(COHORT_USERS);
        cohort.map(|(_, user)| (user, &self.positions[user][..])).collect()
    }

    /// Similarity of a probe to the nearest template of each user of a cohort.
    fn similarities(&self, cohort: &[(&UserId, &[usize])], probe: &Template) -> Vec<f32> {
        let lines = rounded(probe);
        let attenuation = self.calibration.attenuation(probe.windows());
        cohort
            .iter()
            .map(|(_, positions)| {
                let similarities = positions.iter().map(|&position| {
                    self.cosine_at(position, &lines)
                        / (attenuation * self.calibration.attenuation(self.windows[position]))
                });
                similarities.fold(f32::MIN, f32::max)
            })
            .collect()
    }

    /// Cosine of a direction and a probe, of rounded values.
    fn cosine_at(&self, position: usize, probe: &[Line]) -> f32 {
        let lines = &self.directions[position * self.lines()..];
        let products = zip(lines, probe).map(|(a, b)| product(a, b)).sum::<i32>();
        products as f32 / (ONE * ONE)
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
        let nearest = templates.as_slice().iter().map(|template| {
            let cosine = template.cosine(probe);
            (cosine / calibration.attenuation(template.windows()), cosine)
        });
        let nearest = nearest.max_by(|a, b| a.0.total_cmp(&b.0));
        let (similarity, score) = nearest.unwrap_or((0.0, 0.0));
        let similarity = similarity / calibration.attenuation(probe.windows());

        let mut of_probe: Vec<f32> = zip(cohort, similarities)
            .filter(|((other, _), _)| *other != user)
            .map(|(_, similarity)| *similarity)
            .collect();
        let own: Vec<(Vec<Line>, f32)> = templates
            .as_slice()
            .iter()
            .map(|template| (rounded(template), calibration.attenuation(template.windows())))
            .collect();
        let mut of_template: Vec<f32> = cohort
            .iter()
            .filter(|(other, _)| *other != user)
            .map(|(_, positions)| self.mean_similarity(positions, &own))
            .collect();
        let strength = calibration.strength(
            similarity,
            calibration.reference(&mut of_template),
            calibration.reference(&mut of_probe),
            probe.windows(),
        );
        Candidate { user: user.clone(), score, strength }
    }

    /// Similarity of a user's templates, each as a probe, to the nearest of some others; their mean.
    fn mean_similarity(&self, probes: &[usize], templates: &[(Vec<Line>, f32)]) -> f32 {
        let of_probe = |&position: &usize| {
            let attenuation = self.calibration.attenuation(self.windows[position]);
            let similarities = templates
                .iter()
                .map(|(lines, own)| self.cosine_at(position, lines) / (own * attenuation));
            similarities.fold(f32::MIN, f32::max)
        };
        probes.iter().map(of_probe).sum::<f32>() / probes.len().max(1) as f32
    }

    /// The cohort's similarities among one another. Costs a thousand times what a comparison does.
    pub fn cohort(&self) -> Cohort {
        let cohort = self.cohort_positions();
        let mut similarities = Vec::new();
        let (mut windows, mut owners) = (Vec::new(), Vec::new());
        for (row, (_, positions)) in cohort.iter().enumerate() {
            for &probe in *positions {
                let lines = &self.directions[probe * self.lines()..][..self.lines()];
                let of_probe = self.calibration.attenuation(self.windows[probe]);
                similarities.extend(cohort.iter().map(|(_, positions)| {
                    let similarities = positions.iter().map(|&position| {
                        let attenuation = self.calibration.attenuation(self.windows[position]);
                        self.cosine_at(position, lines) / (attenuation * of_probe)
                    });
                    similarities.fold(f32::MIN, f32::max)
                }));
                windows.push(self.windows[probe]);
                owners.push(row);
            }
        }
        let users = cohort.len();
        let calibration = self.calibration.clone();
        Cohort { calibration, users, similarities, windows, owners }
    }

    /// Positions of all directions that may be among the `limit` nearest, as far as rounding tells.
    fn near(&self, probe: &Template, limit: usize) -> Vec<usize> {
        let probe = rounded(probe);
        let slack = self.slack();
        let mut near: Vec<(i32, usize)> = Vec::new();
        let (mut bar, mut most) = (i32::MIN, LEAST_KEPT.max(2 * limit));
        for (position, lines) in self.directions.chunks_exact(self.lines()).enumerate() {
            let score = zip(lines, &probe).map(|(a, b)| product(a, b)).sum::<i32>();
            if score < bar {
                continue;
            }
            near.push((score, position));
            if near.len() == most {
                let last = limit.saturating_sub(1);
                let (_, &mut (last, _), _) =
                    near.select_nth_unstable_by_key(last, |&(score, _)| Reverse(score));
                bar = last.saturating_sub(slack);
                near.retain(|&(score, _)| score >= bar);
                most = most.max(2 * near.len());
            }
        }
        near.into_iter().map(|(_, position)| position).collect()
    }

    /// By how much a rounded score may be above another whose exact score is not below it.
    ///
    /// Each value of a direction is off by half a unit at most; so each of two vectors as long as
    /// [`ONE`] is off by `sqrt(feature_len) / 2`, and their product by `ONE` times as much twice. The
    /// rest is far more than the products of what is off, and what the exact score is off by itself.
    fn slack(&self) -> i32 {
        let length = self.feature_len as f32;
        let off = ONE * length.sqrt() + 1024.0 * length;
        (2.0 * off) as i32
    }

    fn lines(&self) -> usize {
        self.feature_len.div_ceil(LINE_VALUES)
    }
}

impl Cohort {
    /// Strengths of each user's templates, as probes, at each other user: impostors of this gallery.
    pub fn impostor_strengths(&self) -> Vec<f32> {
        let Self { calibration, users, .. } = self;
        let rows = || self.similarities.chunks_exact((*users).max(1)).zip(&self.owners);
        // Similarity of each user's templates, in the mean, to each user.
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

    /// Mean and standard deviation of the similarity of a template to the nearest strangers. `None` for
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

    /// Users of the cohort.
    pub fn users(&self) -> usize {
        self.users
    }

    /// Thresholds for the gallery that the cohort is of.
    pub fn tails(&self) -> Tails {
        self.tails_of(&self.impostor_strengths())
    }

    /// The same, from [`Cohort::impostor_strengths`].
    pub fn tails_of(&self, strengths: &[f32]) -> Tails {
        self.calibration.refine(strengths, self.users)
    }
}

/// The same in every version and on every machine, so that a restart changes no threshold.
fn hash(user: &UserId) -> u64 {
    let digest = Sha256::digest(user.as_str());
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    u64::from_be_bytes(*first)
}

/// A template's direction in lines, filled up with zeros.
fn rounded(template: &Template) -> Vec<Line> {
    let values: Vec<i16> = template.direction().map(|value| (value * ONE).round() as i16).collect();
    let line = |values: &[i16]| {
        let mut line = Line([0; LINE_VALUES]);
        line.0[..values.len()].copy_from_slice(values);
        line
    };
    values.chunks(LINE_VALUES).map(line).collect()
}

/// Plain enough for the compiler to take vector instructions.
fn product(a: &Line, b: &Line) -> i32 {
    zip(&a.0, &b.0).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::super::calibration::tests::calibration;
    use super::*;

    fn walk(feature: &[f32], windows: usize) -> Template {
        let mut template = Template::empty(feature.len());
        (0..windows).for_each(|_| template.add_window(feature));
        template
    }

    fn template(feature: [f32; 3]) -> Template {
        walk(&feature, 9)
    }

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    fn gallery() -> Gallery {
        Gallery::new(3, calibration())
    }

    #[test]
    fn the_nearest_come_first() {
        let mut gallery = gallery();
        let probe = template([1.0, 0.1, 0.0]);
        assert_eq!(gallery.rank(&probe, None, 5), []);
        gallery.add(&user("ann"), &template([2.0, 0.0, 0.0]));
        gallery.add(&user("bob"), &template([0.0, 1.0, 0.0]));
        gallery.add(&user("cem"), &template([-1.0, 0.0, 0.0]));
        let names = |among: Option<&[&str]>, limit| -> Vec<String> {
            let among = among.map(|names| names.iter().map(|name| user(name)).collect());
            let ranked = gallery.rank(&probe, among.as_ref(), limit);
            ranked.into_iter().map(|candidate| candidate.user.to_string()).collect()
        };
        assert_eq!(names(None, 5), ["ann", "bob", "cem"]);
        assert_eq!(names(None, 1), ["ann"]);
        assert_eq!(names(Some(&["cem", "bob", "eve"]), 5), ["bob", "cem"]);
        let among = ["cem", "bob", "eve"].map(user).into();
        assert_eq!((gallery.count(None), gallery.count(Some(&among))), (3, 2));
        let ann = gallery.compare(&user("ann"), &probe).unwrap();
        assert!(ann.score > 0.99);
        assert_eq!(gallery.rank(&probe, None, 1), [ann]);
        assert_eq!(gallery.compare(&user("eve"), &probe), None);
    }

    #[test]
    fn each_way_of_walking_is_known() {
        let mut gallery = gallery();
        let (slow, quick) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]);
        for way in [slow, quick, slow] {
            gallery.add(&user("ann"), &template(way));
        }
        gallery.add(&user("bob"), &template([0.0, 0.0, 1.0]));
        assert_eq!(gallery.templates(&user("ann")).unwrap().as_slice().len(), 2);
        for way in [slow, quick] {
            let [ann, bob] = &gallery.rank(&template(way), None, 5)[..] else { panic!() };
            assert!(ann.user == user("ann") && ann.score > 0.99 && bob.strength < ann.strength);
        }
    }

    const FEATURES: usize = 200;

    /// People with a direction of their own beside one that all share.
    fn crowd(people: usize, shared: f32, seed: u64) -> Vec<Vec<f32>> {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut value = || random.random_range(-1.0..1.0f32);
        let common: Vec<f32> = (0..FEATURES).map(|_| value()).collect();
        let person = |_| common.iter().map(|common| shared * common + value()).collect();
        (0..people).map(person).collect()
    }

    #[test]
    fn strangers_are_as_strong_whatever_they_have_in_common() {
        for shared in [0.0, 1.0, 2.0] {
            let people = crowd(60, shared, 5);
            let (enrolled, strangers) = people.split_at(30);
            let mut gallery = Gallery::new(FEATURES, calibration());
            for (number, person) in enrolled.iter().enumerate() {
                gallery.add(&user(&format!("user{number}")), &walk(person, 29));
            }
            let strengths = |walker: &Vec<f32>| {
                let ranked = gallery.rank(&walk(walker, 9), None, 30);
                ranked.into_iter().map(|candidate| candidate.strength).collect::<Vec<f32>>()
            };
            let impostors: Vec<f32> = strangers.iter().flat_map(strengths).collect();
            let count = impostors.len() as f32;
            let mean = impostors.iter().sum::<f32>() / count;
            let high = impostors.iter().filter(|strength| **strength > 3.5).count() as f32 / count;
            assert!(mean.abs() < 1.5 && high < 0.01, "{shared}: {mean} {high}");
            let own = enrolled.iter().filter(|walker| strengths(walker)[0] > 3.5).count();
            assert!(own > 27, "{shared}: {own}");

            let cohort = gallery.cohort();
            assert_eq!((cohort.users(), cohort.impostor_strengths().len()), (30, 30 * 29));
            assert_eq!(cohort.tails().users, 30);
        }
    }

    #[test]
    fn a_gallery_of_one_has_the_thresholds_of_the_model() {
        let mut gallery = gallery();
        let of_model = gallery.tails();
        assert_eq!(gallery.cohort().tails(), of_model);
        gallery.add(&user("ann"), &template([1.0, 0.0, 0.0]));
        assert_eq!(gallery.cohort().tails(), of_model);
    }

    proptest! {
        #[test]
        fn replaced_users_leave_no_trace(
            walks in prop::collection::vec((0..6usize, prop::array::uniform3(-9.0..9.0f32)), 0..12),
            gone in prop::collection::vec(0..6usize, 0..6),
            probe in prop::array::uniform3(-9.0..9.0f32),
        ) {
            let name = |number: usize| user(&format!("user{number}"));
            let (mut one, mut fresh) = (gallery(), gallery());
            for (who, feature) in &walks {
                one.add(&name(*who), &template(*feature));
                if !gone.contains(who) {
                    fresh.add(&name(*who), &template(*feature));
                }
            }
            for &who in &gone {
                one.replace(&name(who), UserTemplates::default());
            }
            let probe = template(probe);
            let scores = |gallery: &Gallery| -> Vec<Option<Candidate>> {
                (0..6).map(|who| gallery.compare(&name(who), &probe)).collect()
            };
            prop_assert_eq!(one.len(), fresh.len());
            prop_assert_eq!(one.ids_bytes, fresh.ids_bytes);
            prop_assert_eq!(one.directions.len(), fresh.directions.len());
            prop_assert_eq!(scores(&one), scores(&fresh));
            prop_assert_eq!(one.rank(&probe, None, 9), fresh.rank(&probe, None, 9));
            prop_assert_eq!(one.cohort().tails(), fresh.cohort().tails());
        }

        #[test]
        fn the_nearest_are_those_with_the_highest_scores(
            seed: u64,
            users in 0..400usize,
            feature_len in prop::sample::select(vec![2usize, 32, 40]),
            spread in prop::sample::select(vec![1e-5f32, 1e-3, 1.0]),
            limit in 0..9usize,
        ) {
            let mut random = Pcg64Mcg::seed_from_u64(seed);
            let mut near = || {
                let values = (0..feature_len).map(|_| 1.0 + random.random_range(-spread..spread));
                walk(&values.collect::<Vec<f32>>(), 1)
            };
            let mut gallery = Gallery::new(feature_len, calibration());
            for number in 0..users {
                gallery.add(&user(&format!("user{number}")), &near());
            }
            let probe = near();
            let everybody = gallery.users.keys().cloned().collect();
            let ranked = gallery.rank(&probe, None, limit);
            prop_assert_eq!(ranked, gallery.rank(&probe, Some(&everybody), limit));
        }
    }
}
