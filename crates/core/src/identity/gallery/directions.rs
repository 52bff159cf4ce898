//! The directions of all templates, rounded for a fast search.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::iter::zip;
use std::mem::size_of;

use super::super::{Template, UserId};

const LINE_VALUES: usize = 32;

/// A cache line of values of a direction, in units of 1 / [`ONE`].
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Line([i16; LINE_VALUES]);

/// Sums of products fit into 32 bits, because directions have a length of about 1.
const ONE: f32 = 32_767.0;

/// The search keeps at least this many candidates.
const LEAST_KEPT: usize = 64;

/// The directions of all templates, in one block of memory as 16-bit fixed point.
#[derive(Debug)]
pub(super) struct Directions {
    feature_len: usize,
    /// The user of each direction.
    owners: Vec<UserId>,
    /// Number of windows of each direction's template.
    windows: Vec<u32>,
    /// [`Directions::lines_each`] lines per direction.
    lines: Vec<Line>,
    /// Positions of each user's directions.
    positions: HashMap<UserId, Vec<usize>>,
}

impl Directions {
    pub fn new(feature_len: usize) -> Self {
        Self {
            feature_len,
            owners: Vec::new(),
            windows: Vec::new(),
            lines: Vec::new(),
            positions: HashMap::new(),
        }
    }

    /// Replaces a user's directions.
    ///
    /// # Panics
    /// If a template has another feature length.
    pub fn replace(&mut self, user: &UserId, templates: &[Template]) {
        while let Some(position) = self.positions.get_mut(user).and_then(Vec::pop) {
            self.remove(position);
        }
        self.positions.remove(user);
        for template in templates {
            assert_eq!(template.values().len(), self.feature_len);
            self.positions.entry(user.clone()).or_default().push(self.owners.len());
            self.owners.push(user.clone());
            self.windows.push(template.windows());
            self.lines.extend(rounded(template));
        }
    }

    /// Moves the last direction into the gap.
    fn remove(&mut self, position: usize) {
        self.owners.swap_remove(position);
        self.windows.swap_remove(position);
        let each = self.lines_each();
        let (gap, last) = (position * each, self.owners.len() * each);
        self.lines.copy_within(last.., gap);
        self.lines.truncate(last);
        if let Some(moved) = self.owners.get(position) {
            let positions = self.positions.get_mut(moved).expect("every direction's user has it");
            let from = self.owners.len();
            positions.iter_mut().filter(|it| **it == from).for_each(|it| *it = position);
        }
    }

    /// The user of each direction, by position.
    pub fn owners(&self) -> &[UserId] {
        &self.owners
    }

    /// Positions of a user's directions.
    ///
    /// # Panics
    /// If the user has none.
    pub fn of(&self, user: &UserId) -> &[usize] {
        &self.positions[user]
    }

    pub fn windows(&self, position: usize) -> u32 {
        self.windows[position]
    }

    pub fn lines(&self, position: usize) -> &[Line] {
        &self.lines[position * self.lines_each()..][..self.lines_each()]
    }

    /// Cosine of a direction and a probe, both rounded.
    pub fn cosine(&self, position: usize, probe: &[Line]) -> f32 {
        score(self.lines(position), probe) as f32 / (ONE * ONE)
    }

    /// Positions of all directions that may be among the `limit` nearest to a probe. Rounding may add
    /// some.
    pub fn near(&self, probe: &Template, limit: usize) -> Vec<usize> {
        let probe = rounded(probe);
        let slack = self.slack();
        let mut near: Vec<(i32, usize)> = Vec::new();
        let (mut bar, mut most) = (i32::MIN, LEAST_KEPT.max(2 * limit));
        for (position, lines) in self.lines.chunks_exact(self.lines_each()).enumerate() {
            let score = score(lines, &probe);
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

    /// The largest difference by which rounding can change the order of two scores.
    ///
    /// Rounding moves each value of a direction by at most half a unit. So it moves a vector of length
    /// [`ONE`] by at most `sqrt(feature_len) / 2`, and a product of two by at most `ONE` times twice
    /// that. The last term is far above what else is left: the product of two rounding errors, and the
    /// error of the exact score.
    fn slack(&self) -> i32 {
        let length = self.feature_len as f32;
        let off = ONE * length.sqrt() + 1024.0 * length;
        (2.0 * off) as i32
    }

    fn lines_each(&self) -> usize {
        self.feature_len.div_ceil(LINE_VALUES)
    }

    /// Memory in bytes, without the text of ids.
    pub fn bytes(&self) -> usize {
        self.positions.capacity() * size_of::<(UserId, Vec<usize>)>()
            + self.owners.capacity() * (size_of::<UserId>() + size_of::<u32>() + size_of::<usize>())
            + self.lines.capacity() * size_of::<Line>()
    }
}

/// A template's direction in lines, padded with zeros.
pub(super) fn rounded(template: &Template) -> Vec<Line> {
    let values: Vec<i16> = template.direction().map(|value| (value * ONE).round() as i16).collect();
    let line = |values: &[i16]| {
        let mut line = Line([0; LINE_VALUES]);
        line.0[..values.len()].copy_from_slice(values);
        line
    };
    values.chunks(LINE_VALUES).map(line).collect()
}

fn score(a: &[Line], b: &[Line]) -> i32 {
    zip(a, b).map(|(a, b)| product(a, b)).sum()
}

/// Simple enough that the compiler vectorises it.
fn product(a: &Line, b: &Line) -> i32 {
    zip(&a.0, &b.0).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}
