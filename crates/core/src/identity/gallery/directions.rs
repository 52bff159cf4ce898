//! The directions of all templates in twice four bits, for a search that leaves out nobody.

use std::collections::HashMap;
use std::mem::size_of;

use super::super::{Calibration, Template, UserId};
use crate::bnn::Kernels;
use crate::bnn::vectors::{Bytes, Nibbles};
use crate::rounding::nearest;

/// Distance of two neighbouring values of four bits, times the root of the number of values. Of normally
/// distributed values, 0.1 % are outside, and the others lose a ninth of the length.
const STEP: f32 = 0.4;

/// Values of four bits.
const DIGITS: f32 = 16.0;

/// What is subtracted from a value of four bits.
const MIDDLE: f32 = 7.5;

/// Above all errors of floats, in cosines.
const SLACK: f32 = 1e-4;

/// Directions whose products are computed together.
const TOGETHER: usize = 64;

/// The directions of all templates, in two blocks of memory.
#[derive(Debug)]
pub(super) struct Directions {
    kernels: Kernels,
    feature_len: usize,
    /// The user of each direction.
    owners: Vec<UserId>,
    codes: Vec<Code>,
    /// [`Directions::lines_each`] lines per direction.
    coarse: Vec<Nibbles>,
    /// As many lines, of what the coarse ones lose.
    fine: Vec<Nibbles>,
    /// Positions of each user's directions, in the order of the user's templates.
    positions: HashMap<UserId, Vec<usize>>,
}

/// How to read the lines of a direction.
#[derive(Clone, Copy, Debug)]
struct Code {
    coarse: Part,
    fine: Part,
    /// The factor from a cosine to a similarity.
    gain: f32,
    /// One over the length of the template.
    inverse_length: f32,
}

/// The lines times `scale` are the direction, or what is left of it, up to a vector of length `error`.
#[derive(Clone, Copy, Debug)]
struct Part {
    scale: f32,
    error: f32,
}

/// A probe for a search, in eight bits.
pub(super) struct Probe {
    pub direction: Vec<f32>,
    lines: Vec<Bytes>,
    scale: f32,
    /// Length of what eight bits lose.
    error: f32,
    /// The sum of the bytes times [`MIDDLE`].
    middle: f32,
}

impl Probe {
    pub fn new(template: &Template) -> Self {
        let direction: Vec<f32> = template.direction().collect();
        let largest = direction.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
        let byte = |value: &f32| nearest(value / scale) as i8;
        let bytes: Vec<i8> = direction.iter().map(byte).collect();
        let lines = bytes.chunks(Nibbles::VALUES).map(|bytes| {
            let mut line = Bytes([0; Nibbles::VALUES]);
            line.0[..bytes.len()].copy_from_slice(bytes);
            line
        });
        let pairs = direction.iter().zip(&bytes);
        let lost: Vec<f32> = pairs.map(|(value, &byte)| value - scale * f32::from(byte)).collect();
        let error = product(&lost, &lost).sqrt();
        let sum: i32 = bytes.iter().copied().map(i32::from).sum();
        Self { lines: lines.collect(), scale, error, middle: MIDDLE * sum as f32, direction }
    }

    /// The cosine with the lines of a part, from their product.
    fn cosine(&self, part: Part, product: i32) -> f32 {
        part.scale * self.scale * (product as f32 - self.middle)
    }

    /// How far a cosine with lines can be from that with the direction.
    fn doubt(&self, part: Part) -> f32 {
        part.error + (1.0 + part.error) * self.error + SLACK
    }
}

impl Directions {
    pub fn new(feature_len: usize, kernels: Kernels) -> Self {
        Self {
            kernels,
            feature_len,
            owners: Vec::new(),
            codes: Vec::new(),
            coarse: Vec::new(),
            fine: Vec::new(),
            positions: HashMap::new(),
        }
    }

    /// Replaces a user's directions.
    ///
    /// # Panics
    /// If a template has another feature length.
    pub fn replace(&mut self, user: &UserId, templates: &[Template], calibration: &Calibration) {
        while let Some(position) = self.positions.get_mut(user).and_then(Vec::pop) {
            self.remove(position);
        }
        self.positions.remove(user);
        for template in templates {
            assert_eq!(template.values().len(), self.feature_len);
            self.positions.entry(user.clone()).or_default().push(self.owners.len());
            self.owners.push(user.clone());
            let inverse_length = template.inverse_length();
            let mut values: Vec<f32> =
                template.values().iter().map(|value| value * inverse_length).collect();
            let step = STEP / (self.feature_len as f32).sqrt();
            self.codes.push(Code {
                coarse: pack(&mut values, step, &mut self.coarse),
                fine: pack(&mut values, step / DIGITS, &mut self.fine),
                gain: 1.0 / calibration.attenuation(template.windows()),
                inverse_length,
            });
        }
    }

    /// Moves the last direction into the gap.
    fn remove(&mut self, position: usize) {
        self.owners.swap_remove(position);
        self.codes.swap_remove(position);
        let each = self.lines_each();
        let (gap, last) = (position * each, self.owners.len() * each);
        for lines in [&mut self.coarse, &mut self.fine] {
            lines.copy_within(last.., gap);
            lines.truncate(last);
        }
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

    /// The factors that make directions of a user's templates. Empty if the user has none.
    pub fn inverse_lengths(&self, user: &UserId) -> impl Iterator<Item = f32> {
        let positions = self.positions.get(user).into_iter().flatten();
        positions.map(|&position| self.codes[position].inverse_length)
    }

    /// The users of all directions that may be among the `count` most similar to a probe.
    ///
    /// The coarse lines give an upper bound of each similarity. Few reach the lower bound of the `count`
    /// most similar so far. Those are compared by their fine lines as well.
    pub fn near(&self, probe: &Probe, count: usize) -> impl Iterator<Item = &UserId> {
        let each = self.lines_each();
        // Positions with a lower and an upper bound of their similarities.
        let mut near: Vec<([f32; 2], usize)> = Vec::new();
        let (mut least, mut most) = (f32::MIN, 2 * count);
        let mut products = [0; TOGETHER];
        for (group, codes) in self.codes.chunks(TOGETHER).enumerate() {
            let first = group * TOGETHER;
            let coarse = &self.coarse[first * each..][..codes.len() * each];
            self.kernels.nibble_products(coarse, &probe.lines, &mut products);
            for ((position, code), &product) in (first..).zip(codes).zip(&products) {
                let cosine = probe.cosine(code.coarse, product);
                if (cosine + probe.doubt(code.coarse)) * code.gain < least {
                    continue;
                }
                let mut product = [0];
                let fine = &self.fine[position * each..][..each];
                self.kernels.nibble_products(fine, &probe.lines, &mut product);
                let cosine = cosine + probe.cosine(code.fine, product[0]);
                let doubt = probe.doubt(code.fine);
                let bounds = [cosine - doubt, cosine + doubt].map(|bound| bound * code.gain);
                if bounds[1] < least {
                    continue;
                }
                near.push((bounds, position));
                if near.len() == most {
                    near.select_nth_unstable_by(count - 1, |(a, _), (b, _)| b[0].total_cmp(&a[0]));
                    least = near[count - 1].0[0];
                    near.retain(|(bounds, _)| bounds[1] >= least);
                    most = near.len() + count;
                }
            }
        }
        if near.len() > count {
            near.select_nth_unstable_by(count - 1, |(a, _), (b, _)| b[0].total_cmp(&a[0]));
            least = near[count - 1].0[0];
        }
        let near = near.into_iter().filter(move |(bounds, _)| bounds[1] >= least);
        near.map(|(_, position)| &self.owners[position])
    }

    fn lines_each(&self) -> usize {
        self.feature_len.div_ceil(Nibbles::VALUES)
    }

    /// Memory in bytes, without the text of ids.
    pub fn bytes(&self) -> usize {
        self.positions.capacity() * size_of::<(UserId, Vec<usize>)>()
            + self.owners.capacity() * (size_of::<UserId>() + size_of::<usize>())
            + self.codes.capacity() * size_of::<Code>()
            + (self.coarse.capacity() + self.fine.capacity()) * size_of::<Nibbles>()
    }
}

/// Appends lines of the nearest multiples of a step, and leaves what they lose.
fn pack(values: &mut [f32], step: f32, lines: &mut Vec<Nibbles>) -> Part {
    let digit = |value: &f32| (value / step + MIDDLE + 0.5).clamp(0.0, DIGITS - 1.0) as u8;
    let digits: Vec<u8> = values.iter().map(digit).collect();
    lines.extend(digits.chunks(Nibbles::VALUES).map(|digits| {
        let mut line = Nibbles([0; Nibbles::VALUES / 2]);
        for (at, digit) in digits.iter().enumerate() {
            line.0[at % line.0.len()] |= digit << (4 * (at / line.0.len()));
        }
        line
    }));
    let multiples: Vec<f32> = digits.iter().map(|&digit| f32::from(digit) - MIDDLE).collect();
    // The scale that loses least.
    let scale = product(values, &multiples) / product(&multiples, &multiples);
    values.iter_mut().zip(&multiples).for_each(|(value, multiple)| *value -= scale * multiple);
    Part { scale, error: product(values, values).sqrt() }
}

/// The sum of products, with eight sums side by side.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
