//! All enrolled users, and whom a probe is most like.

use std::collections::HashMap;

use super::{Template, UserId};

/// Templates of all enrolled users, in memory.
///
/// Enrolling costs a hash look-up; a decision one pass over all users' directions, which lie in
/// one block of memory.
#[derive(Debug)]
pub struct Gallery {
    feature_len: usize,
    positions: HashMap<UserId, usize>,
    users: Vec<(UserId, Template)>,
    /// Each user's direction, one after the other.
    directions: Vec<f32>,
}

/// Who a probe is.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// An enrolled user.
    Identified {
        /// The user.
        user: UserId,
        /// Cosine between probe and template, from -1 to 1.
        score: f32,
    },
    /// Nobody who is enrolled, as far as can be told.
    Unknown,
}

impl Gallery {
    /// An empty gallery for features of a given length.
    pub fn new(feature_len: usize) -> Self {
        Self { feature_len, positions: HashMap::new(), users: Vec::new(), directions: Vec::new() }
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

    /// Users with at least one template.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody is enrolled.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The user nearest to a probe and the cosine between them.
    pub fn nearest(&self, probe: &Template) -> Option<(&UserId, f32)> {
        let probe: Vec<f32> = probe.direction().collect();
        let score = |direction: &[f32]| direction.iter().zip(&probe).map(|(a, b)| a * b).sum();
        let scores = self.directions.chunks_exact(self.feature_len).map(score);
        let (position, score) = scores.enumerate().max_by(|a, b| f32::total_cmp(&a.1, &b.1))?;
        Some((&self.users[position].0, score))
    }

    /// The nearest user where the score reaches `threshold`, nobody otherwise.
    pub fn identify(&self, probe: &Template, threshold: f32) -> Decision {
        match self.nearest(probe) {
            Some((user, score)) if score >= threshold => {
                Decision::Identified { user: user.clone(), score }
            }
            _ => Decision::Unknown,
        }
    }
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

    #[test]
    fn a_stranger_is_unknown_and_so_is_anyone_in_an_empty_gallery() {
        let mut gallery = Gallery::new(3);
        let probe = template([1.0, 0.1, 0.0]);
        assert_eq!(gallery.identify(&probe, -1.0), Decision::Unknown);
        gallery.add(&"ann".parse().unwrap(), &template([2.0, 0.0, 0.0]));
        gallery.add(&"bob".parse().unwrap(), &template([0.0, 1.0, 0.0]));
        assert!(matches!(
            gallery.identify(&probe, 0.9),
            Decision::Identified { user, score } if user.as_str() == "ann" && score > 0.99
        ));
        assert_eq!(gallery.identify(&template([0.0, 0.0, 1.0]), 0.9), Decision::Unknown);
    }

    proptest! {
        #[test]
        fn the_order_of_enrollment_does_not_matter(
            walks in prop::collection::vec((0..4usize, prop::array::uniform3(-9.0..9.0f32)), 1..20),
            probe in prop::array::uniform3(-9.0..9.0f32),
        ) {
            let fill = |walks: &mut dyn Iterator<Item = &(usize, [f32; 3])>| {
                let mut gallery = Gallery::new(3);
                for (user, feature) in walks {
                    gallery.add(&format!("user{user}").parse().unwrap(), &template(*feature));
                }
                gallery
            };
            let (one, other) = (fill(&mut walks.iter()), fill(&mut walks.iter().rev()));
            prop_assert_eq!(one.len(), other.len());
            let probe = template(probe);
            let (a, b) = (one.nearest(&probe).unwrap(), other.nearest(&probe).unwrap());
            prop_assert!((a.1 - b.1).abs() < 1e-3, "{a:?} {b:?}");
        }
    }
}
