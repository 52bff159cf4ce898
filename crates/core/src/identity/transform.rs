//! Renewable templates (ISO/IEC 24745).

use std::iter::zip;

use sha2::{Digest, Sha256};

use super::Template;

/// With one round, values that are zero would show which others they were mixed with.
const ROUNDS: usize = 3;

/// A secret orthogonal transform of templates.
///
/// Lengths and cosines do not change, so templates with the same transform are compared as before.
/// Templates with different transforms have nothing in common. A stolen template is useless where
/// another transform is in use, and can be revoked by changing the transform. Anybody who knows the
/// secret can invert the transform.
///
/// Each round changes signs, shuffles the values, and mixes them by Walsh-Hadamard transforms of
/// blocks. All operations are exactly specified, so all machines compute the same values.
#[derive(Clone)]
pub struct Transform([Round; ROUNDS]);

#[derive(Clone)]
struct Round {
    signs: Vec<f32>,
    /// The position that each value comes from.
    order: Vec<usize>,
}

impl Transform {
    /// The transform for templates of this length. The secret must be random.
    pub fn new(secret: &[u8; 32], feature_len: usize) -> Self {
        let mut stream = Stream { secret, blocks: 0, left: Vec::new() };
        Self(std::array::from_fn(|_| {
            let signs = (0..feature_len).map(|_| if stream.below(2) == 0 { 1.0 } else { -1.0 });
            let signs = signs.collect();
            let mut order: Vec<usize> = (0..feature_len).collect();
            for last in (1..feature_len).rev() {
                order.swap(last, stream.below(last + 1));
            }
            Round { signs, order }
        }))
    }

    /// Transforms a template.
    ///
    /// # Panics
    /// If the template has another length than the transform.
    pub fn apply(&self, template: &Template) -> Template {
        template.with_values(|values| {
            self.0.iter().fold(values.to_vec(), |values, round| {
                let shuffled = round.order.iter().map(|&from| values[from]);
                let mut values: Vec<f32> =
                    zip(shuffled, &round.signs).map(|(value, sign)| value * sign).collect();
                mix(&mut values);
                values
            })
        })
    }

    /// Undoes [`Transform::apply`].
    ///
    /// # Panics
    /// See [`Transform::apply`].
    pub fn invert(&self, template: &Template) -> Template {
        template.with_values(|values| {
            self.0.iter().rev().fold(values.to_vec(), |mut values, round| {
                mix(&mut values);
                let mut original = vec![0.0; values.len()];
                for ((value, sign), &from) in zip(zip(values, &round.signs), &round.order) {
                    original[from] = value * sign;
                }
                original
            })
        })
    }
}

/// Mixes values within blocks. The blocks have different powers of two as their lengths. Its own
/// inverse.
fn mix(values: &mut [f32]) {
    let mut rest = values;
    while let Some(exponent) = rest.len().checked_ilog2() {
        let (block, others) = std::mem::take(&mut rest).split_at_mut(1 << exponent);
        walsh_hadamard(block);
        rest = others;
    }
}

/// Divided by the root of the length, so that the length of the vector does not change.
fn walsh_hadamard(block: &mut [f32]) {
    // The loop below is slow for neighbours.
    for [a, b] in block.as_chunks_mut().0 {
        (*a, *b) = (*a + *b, *a - *b);
    }
    for [a, b, c, d] in block.as_chunks_mut().0 {
        (*a, *b, *c, *d) = (*a + *c, *b + *d, *a - *c, *b - *d);
    }
    let mut half = 4;
    while half < block.len() {
        for pair in block.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in zip(left, right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (block.len() as f32).sqrt();
    block.iter_mut().for_each(|value| *value *= scale);
}

/// Random numbers from a secret: SHA-256 of the secret and a counter.
struct Stream<'a> {
    secret: &'a [u8; 32],
    blocks: u64,
    left: Vec<u8>,
}

impl Stream<'_> {
    /// A number below `bound`. The bias is below `bound` in 2^64.
    fn below(&mut self, bound: usize) -> usize {
        if self.left.is_empty() {
            let block =
                Sha256::new().chain_update(self.secret).chain_update(self.blocks.to_le_bytes());
            self.left = block.finalize().to_vec();
            self.blocks += 1;
        }
        let at = self.left.len() - size_of::<u64>();
        let bytes = self.left.split_off(at).try_into().expect("a block has 32 bytes");
        ((u128::from(u64::from_le_bytes(bytes)) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    fn template(values: &[f32]) -> Template {
        let mut template = Template::empty(values.len());
        template.add_window(values);
        template
    }

    fn random(length: usize, seed: u64) -> Template {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let values: Vec<f32> = (0..length).map(|_| random.random_range(-1.0..1.0)).collect();
        template(&values)
    }

    /// A few bits of one byte, so that neighbouring secrets are tested.
    fn secret(number: u8) -> [u8; 32] {
        let mut secret = [7; 32];
        secret[31] = number;
        secret
    }

    /// Without the passes by hand.
    fn plain_walsh_hadamard(block: &mut [f32]) {
        let length = block.len();
        for half in (0..length.ilog2()).map(|exponent| 1 << exponent) {
            for at in (0..length).filter(|at| at & half == 0) {
                let (a, b) = (block[at], block[at + half]);
                (block[at], block[at + half]) = (a + b, a - b);
            }
        }
        let scale = 1.0 / (length as f32).sqrt();
        block.iter_mut().for_each(|value| *value *= scale);
    }

    #[test]
    fn passes_by_hand_change_no_bit() {
        for exponent in 0..10 {
            let values = random(1 << exponent, exponent).values().to_vec();
            let (mut fast, mut plain) = (values.clone(), values);
            walsh_hadamard(&mut fast);
            plain_walsh_hadamard(&mut plain);
            assert_eq!(fast, plain);
        }
    }

    #[test]
    fn the_same_secret_gives_the_same_values_everywhere() {
        let one = template(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let found = Transform::new(&secret(1), 7).apply(&one);
        let expected = [-0.25, -0.25, -0.103553385, 0.6035534, 0.35355338, 0.35355338, 0.5];
        assert_eq!(found.values(), expected);
    }

    #[test]
    fn templates_of_two_secrets_are_strangers() {
        let length = 768;
        let pairs = (0..200).map(|number| {
            let walk = random(length, number.into());
            let [a, b] = [secret(number), secret(number.wrapping_add(1))]
                .map(|secret| Transform::new(&secret, length).apply(&walk));
            a.cosine(&b)
        });
        let cosines: Vec<f32> = pairs.collect();
        let mean = cosines.iter().sum::<f32>() / cosines.len() as f32;
        let largest = cosines.iter().fold(0.0f32, |largest, cosine| largest.max(cosine.abs()));
        // As for random directions: the standard deviation is 1 / sqrt(768) = 0.036.
        assert!(mean.abs() < 0.01 && largest < 0.16, "{mean} {largest}");
    }

    #[test]
    fn a_template_of_few_values_is_spread_over_all() {
        let mut values = vec![0.0; 768];
        values[5] = 1.0;
        let spread = Transform::new(&secret(3), 768).apply(&template(&values));
        let largest = spread.values().iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let zeros = spread.values().iter().filter(|value| value.abs() < 1e-6).count();
        assert!(largest < 0.25 && zeros < 100, "{largest} {zeros}");
    }

    proptest! {
        #[test]
        fn lengths_and_cosines_are_kept(length in 1..200usize, seeds: [u64; 2], number: u8) {
            let [a, b] = seeds.map(|seed| random(length, seed));
            let transform = Transform::new(&secret(number), length);
            let [c, d] = [&a, &b].map(|walk| transform.apply(walk));
            prop_assert!((a.cosine(&b) - c.cosine(&d)).abs() < 1e-5);
            let square = |walk: &Template| walk.values().iter().map(|v| v * v).sum::<f32>();
            prop_assert!((square(&a) - square(&c)).abs() < 1e-5);
            let back = transform.invert(&c);
            for (found, expected) in zip(back.values(), a.values()) {
                prop_assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
            prop_assert_eq!(back.windows(), a.windows());
        }
    }
}
