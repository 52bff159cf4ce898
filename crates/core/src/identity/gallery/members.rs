//! The users that comparisons are normalised by.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::size_of;

use sha2::{Digest, Sha256};

use super::super::{Calibration, Template, UserId, UserTemplates};
use super::rounded::Rounded;

/// Number of users that a comparison is normalised by.
const MEMBERS: usize = 128;

/// A user's place in an order that does not depend on what they are.
type Place = (u64, UserId);

/// All users in an order that does not depend on what they are. The first are the cohort.
#[derive(Debug, Default)]
pub(super) struct Members {
    order: BTreeSet<Place>,
    /// The first of the order, with the directions of their templates.
    cohort: BTreeMap<Place, Vec<Rounded>>,
    /// Grows with each change of the cohort.
    cohort_number: u64,
}

impl Members {
    /// Adds a user or changes their templates.
    pub fn replace(&mut self, user: &UserId, templates: &[Template], calibration: &Calibration) {
        let place = place(user);
        self.order.insert(place.clone());
        let is_member = |(last, _): (&Place, _)| place <= *last;
        if self.cohort.len() < MEMBERS || self.cohort.last_key_value().is_some_and(is_member) {
            self.cohort_number += 1;
            self.cohort.insert(place, rounded(templates, calibration));
            if self.cohort.len() > MEMBERS {
                self.cohort.pop_last();
            }
        }
    }

    /// Removes a user. The next one in the order takes their place in the cohort.
    pub fn remove<'a>(
        &mut self,
        user: &UserId,
        calibration: &Calibration,
        templates: impl FnOnce(&UserId) -> &'a UserTemplates,
    ) {
        let place = place(user);
        self.order.remove(&place);
        if self.cohort.remove(&place).is_none() {
            return;
        }
        self.cohort_number += 1;
        if let Some(next) = self.order.iter().nth(self.cohort.len()) {
            let templates = templates(&next.1).as_slice();
            self.cohort.insert(next.clone(), rounded(templates, calibration));
        }
    }

    /// The users of the cohort, with the directions of their templates.
    pub fn cohort(&self) -> Vec<(&UserId, &[Rounded])> {
        self.cohort.iter().map(|((_, user), directions)| (user, &directions[..])).collect()
    }

    /// The same number means the same cohort.
    pub fn cohort_number(&self) -> u64 {
        self.cohort_number
    }

    /// Memory in bytes, without the text of ids and the cohort.
    pub fn bytes(&self) -> usize {
        self.order.len() * size_of::<Place>()
    }
}

fn rounded(templates: &[Template], calibration: &Calibration) -> Vec<Rounded> {
    templates.iter().map(|template| Rounded::new(template, calibration)).collect()
}

/// The same in every version and on every machine, so that a restart does not change thresholds.
fn place(user: &UserId) -> Place {
    let digest = Sha256::digest(user.as_str());
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    (u64::from_be_bytes(*first), user.clone())
}
