//! All enrolled users, and whom a probe is most like.

use std::collections::{BTreeSet, HashMap};
use std::mem::size_of;

use super::{Template, UserId};

/// Templates of all enrolled users, in memory.
///
/// Enrolling costs a hash look-up; an identification one pass over all users' directions, which lie in
/// one block of memory.
#[derive(Debug)]
pub struct Gallery {
    feature_len: usize,
    positions: HashMap<UserId, usize>,
    users: Vec<(UserId, Template)>,
    /// Each user's direction, one after the other.
    directions: Vec<f32>,
    /// Length of all ids.
    ids_bytes: usize,
}

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
                self.directions.resize((position + 1) * self.feature_len, 0.0);
                position
            }
        };
        let directions = &mut self.directions[position * self.feature_len..][..self.feature_len];
        for (to, from) in directions.iter_mut().zip(self.users[position].1.direction()) {
            *to = from;
        }
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
            let last = self.users.len() * self.feature_len;
            self.directions.copy_within(last.., position * self.feature_len);
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
            + self.directions.capacity() * size_of::<f32>()
            // Each id is there twice.
            + 2 * self.ids_bytes
            + templates
    }

    /// Whether a user has a template.
    pub fn contains(&self, user: &UserId) -> bool {
        self.positions.contains_key(user)
    }

    /// Whether nobody is enrolled.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Cosine between a probe and a user's template, where the user has one.
    pub fn score(&self, user: &UserId, probe: &Template) -> Option<f32> {
        let position = *self.positions.get(user)?;
        let probe: Vec<f32> = probe.direction().collect();
        Some(dot(self.direction(position), &probe))
    }

    /// The users nearest to a probe, nearest first: at most `limit`, and of `among` alone where
    /// it is given.
    pub fn rank(
        &self,
        probe: &Template,
        among: Option<&BTreeSet<UserId>>,
        limit: usize,
    ) -> Vec<Candidate> {
        let probe: Vec<f32> = probe.direction().collect();
        let scored = |position: usize| (position, dot(self.direction(position), &probe));
        let mut scores: Vec<(usize, f32)> = match among {
            Some(users) => users
                .iter()
                .filter_map(|user| self.positions.get(user))
                .map(|&p| scored(p))
                .collect(),
            None => (0..self.users.len()).map(scored).collect(),
        };
        let nearest_first = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1);
        if scores.len() > limit {
            scores.select_nth_unstable_by(limit, nearest_first);
            scores.truncate(limit);
        }
        scores.sort_by(nearest_first);
        let candidate = |(position, score): (usize, f32)| Candidate {
            user: self.users[position].0.clone(),
            score,
        };
        scores.into_iter().map(candidate).collect()
    }

    fn direction(&self, position: usize) -> &[f32] {
        &self.directions[position * self.feature_len..][..self.feature_len]
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
