//! All enrolled users, and whom a probe is most like.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::iter::zip;
use std::mem::size_of;

use super::{Template, UserId};

/// Templates of all enrolled users, in memory.
///
/// Enrolling costs a hash look-up; an identification one pass over all users' directions, which lie in
/// one block of memory as 16-bit fixed point, and an exact score for those who may be the nearest.
#[derive(Debug)]
pub struct Gallery {
    feature_len: usize,
    positions: HashMap<UserId, usize>,
    users: Vec<(UserId, Template)>,
    /// Each user's direction, rounded, in as many lines as it takes.
    directions: Vec<Line>,
    /// Length of all ids.
    ids_bytes: usize,
}

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
    /// Cosine between probe and template, from -1 to 1.
    pub score: f32,
}

impl Gallery {
    /// An empty gallery for features of a given length.
    pub fn new(feature_len: usize) -> Self {
        let (positions, users, directions) = Default::default();
        Self { feature_len, positions, users, directions, ids_bytes: 0 }
    }

    /// Adds a walk to what is known of a user.
    ///
    /// # Panics
    /// When the template is of another feature length than the gallery.
    pub fn add(&mut self, user: &UserId, template: &Template) {
        assert_eq!(template.values().len(), self.feature_len);
        let position = match self.positions.get(user) {
            Some(&position) => {
                self.users[position].1.add(template);
                position
            }
            None => {
                let position = self.users.len();
                self.ids_bytes += user.as_str().len();
                self.positions.insert(user.clone(), position);
                self.users.push((user.clone(), template.clone()));
                self.directions.resize((position + 1) * self.lines(), Line([0; LINE_VALUES]));
                position
            }
        };
        let lines = rounded(&self.users[position].1);
        let first = position * lines.len();
        self.directions[first..][..lines.len()].copy_from_slice(&lines);
    }

    /// Puts another template in place of all that is known of a user; `None` forgets the user.
    ///
    /// # Panics
    /// As [`Gallery::add`].
    pub fn replace(&mut self, user: &UserId, template: Option<&Template>) {
        if let Some(position) = self.positions.remove(user) {
            self.ids_bytes -= user.as_str().len();
            // The last user moves into the gap.
            self.users.swap_remove(position);
            let (gap, last) = (position * self.lines(), self.users.len() * self.lines());
            self.directions.copy_within(last.., gap);
            self.directions.truncate(last);
            if let Some((moved, _)) = self.users.get(position) {
                self.positions.insert(moved.clone(), position);
            }
        }
        if let Some(template) = template {
            self.add(user, template);
        }
    }

    /// Users with at least one template.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Memory that it takes, but for what an allocator adds.
    pub fn bytes(&self) -> usize {
        let templates = self.users.len() * self.feature_len * size_of::<f32>();
        self.positions.capacity() * size_of::<(UserId, usize)>()
            + self.users.capacity() * size_of::<(UserId, Template)>()
            + self.directions.capacity() * size_of::<Line>()
            // Each id is there twice.
            + 2 * self.ids_bytes
            + templates
    }

    /// Whether a user has a template.
    pub fn contains(&self, user: &UserId) -> bool {
        self.positions.contains_key(user)
    }

    /// Users with a template, of `among` alone where it is given.
    pub fn count(&self, among: Option<&BTreeSet<UserId>>) -> usize {
        among.map_or(self.len(), |users| users.iter().filter(|user| self.contains(user)).count())
    }

    /// A user's template: the sum of their walks.
    pub fn template(&self, user: &UserId) -> Option<&Template> {
        Some(&self.users[*self.positions.get(user)?].1)
    }

    /// Whether nobody is enrolled.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Cosine between a probe and a user's template, where the user has one.
    pub fn score(&self, user: &UserId, probe: &Template) -> Option<f32> {
        Some(self.template(user)?.cosine(probe))
    }

    /// The users nearest to a probe, nearest first: at most `limit`, and of `among` alone where
    /// it is given.
    ///
    /// # Panics
    /// As [`Gallery::add`].
    pub fn rank(
        &self,
        probe: &Template,
        among: Option<&BTreeSet<UserId>>,
        limit: usize,
    ) -> Vec<Candidate> {
        assert_eq!(probe.values().len(), self.feature_len);
        let positions = match among {
            Some(users) => {
                users.iter().filter_map(|user| self.positions.get(user)).copied().collect()
            }
            None => self.near(probe, limit),
        };
        let scored = |position: usize| (position, self.users[position].1.cosine(probe));
        let mut scores: Vec<(usize, f32)> = positions.into_iter().map(scored).collect();
        scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scores.truncate(limit);
        let candidate = |(position, score): (usize, f32)| Candidate {
            user: self.users[position].0.clone(),
            score,
        };
        scores.into_iter().map(candidate).collect()
    }

    /// Positions of all users who may be among the `limit` nearest, as far as rounded directions tell.
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

    use super::*;

    fn template(feature: [f32; 3]) -> Template {
        let mut template = Template::empty(3);
        template.add_window(&feature);
        template
    }

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    #[test]
    fn the_nearest_come_first() {
        let mut gallery = Gallery::new(3);
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
        assert!(gallery.score(&user("ann"), &probe).unwrap() > 0.99);
        assert_eq!(gallery.score(&user("eve"), &probe), None);
    }

    proptest! {
        #[test]
        fn replaced_users_leave_no_trace(
            walks in prop::collection::vec((0..6usize, prop::array::uniform3(-9.0..9.0f32)), 0..12),
            gone in prop::collection::vec(0..6usize, 0..6),
            probe in prop::array::uniform3(-9.0..9.0f32),
        ) {
            let name = |number: usize| user(&format!("user{number}"));
            let (mut gallery, mut fresh) = (Gallery::new(3), Gallery::new(3));
            for (who, feature) in &walks {
                gallery.add(&name(*who), &template(*feature));
                if !gone.contains(who) {
                    fresh.add(&name(*who), &template(*feature));
                }
            }
            for &who in &gone {
                gallery.replace(&name(who), None);
            }
            let probe = template(probe);
            let scores = |gallery: &Gallery| -> Vec<Option<f32>> {
                (0..6).map(|who| gallery.score(&name(who), &probe)).collect()
            };
            prop_assert_eq!(gallery.len(), fresh.len());
            prop_assert_eq!(gallery.ids_bytes, fresh.ids_bytes);
            prop_assert_eq!(scores(&gallery), scores(&fresh));
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
                let mut template = Template::empty(feature_len);
                let values = (0..feature_len).map(|_| 1.0 + random.random_range(-spread..spread));
                template.add_window(&values.collect::<Vec<f32>>());
                template
            };
            let mut gallery = Gallery::new(feature_len);
            for number in 0..users {
                gallery.add(&user(&format!("user{number}")), &near());
            }
            let probe = near();
            let everybody = gallery.users.iter().map(|(user, _)| user.clone()).collect();
            let ranked = gallery.rank(&probe, None, limit);
            prop_assert_eq!(ranked, gallery.rank(&probe, Some(&everybody), limit));
        }

        #[test]
        fn the_order_of_enrollment_does_not_matter(
            walks in prop::collection::vec((0..4usize, prop::array::uniform3(-9.0..9.0f32)), 1..20),
            probe in prop::array::uniform3(-9.0..9.0f32),
        ) {
            let fill = |walks: &mut dyn Iterator<Item = &(usize, [f32; 3])>| {
                let mut gallery = Gallery::new(3);
                for (who, feature) in walks {
                    gallery.add(&user(&format!("user{who}")), &template(*feature));
                }
                gallery
            };
            let (one, other) = (fill(&mut walks.iter()), fill(&mut walks.iter().rev()));
            prop_assert_eq!(one.len(), other.len());
            let probe = template(probe);
            let (a, b) = (&one.rank(&probe, None, 1)[0], &other.rank(&probe, None, 1)[0]);
            prop_assert!((a.score - b.score).abs() < 1e-3, "{a:?} {b:?}");
        }
    }
}
