//! Other ways than signs to save bytes, for comparison.

use bipedalnet_core::bnn::int8_step;
use rayon::prelude::*;

/// A restriction of weights, during training and after. It is for comparisons only
/// (`examples/ablations.rs`): the model file does not store compressed weights in fewer bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compression {
    /// -1, 0 or 1. Weights below 0.7 of a layer's mean size become 0 (Ternary Weight Networks, arXiv
    /// 1605.04711).
    Ternary,
    /// Keeps this share of a layer's weights, the largest, as [`Compression::Int8`] does. The others
    /// become 0.
    Pruned(f32),
    /// Whole multiples, at most 127, of a power of two that each filter or unit has.
    Int8,
}

/// Share of the mean size below which a ternary weight is 0.
const TERNARY_THRESHOLD: f32 = 0.7;

impl Compression {
    /// Compresses weights. The weights of the `outputs` filters or units lie side by side.
    pub(super) fn apply(self, weights: &[f32], outputs: usize, compressed: &mut [f32]) {
        let each = |to: &mut [f32], compress: &(dyn Fn(f32) -> f32 + Sync)| {
            to.par_iter_mut().zip(weights).for_each(|(to, &weight)| *to = compress(weight));
        };
        match self {
            Self::Ternary => {
                let sizes: f64 = weights.iter().map(|weight| f64::from(weight.abs())).sum();
                let least = TERNARY_THRESHOLD * (sizes / weights.len() as f64) as f32;
                each(compressed, &|weight| {
                    if weight.abs() < least { 0.0 } else { weight.signum() }
                });
            }
            Self::Pruned(share) => {
                let dropped = weights.len() - (weights.len() as f32 * share).ceil() as usize;
                let mut sizes: Vec<f32> = weights.iter().map(|weight| weight.abs()).collect();
                let least = match dropped {
                    0 => 0.0,
                    _ => *sizes.select_nth_unstable_by(dropped, f32::total_cmp).1,
                };
                each(compressed, &|weight| if weight.abs() < least { 0.0 } else { weight });
                round(compressed, outputs);
            }
            Self::Int8 => {
                compressed.copy_from_slice(weights);
                round(compressed, outputs);
            }
        }
    }
}

/// Rounds to whole multiples of each output's step.
fn round(weights: &mut [f32], outputs: usize) {
    let of_output = |output: usize| weights.iter().skip(output).step_by(outputs).copied();
    let steps: Vec<f32> =
        (0..outputs).map(|output| int8_step(&of_output(output).collect::<Vec<_>>())).collect();
    for weights in weights.chunks_exact_mut(outputs) {
        for (weight, step) in weights.iter_mut().zip(&steps) {
            *weight = (*weight / step).round() * step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(compression: Compression, weights: &[f32], outputs: usize) -> Vec<f32> {
        let mut compressed = vec![f32::NAN; weights.len()];
        compression.apply(weights, outputs, &mut compressed);
        compressed
    }

    #[test]
    fn small_weights_are_zero_in_a_ternary_layer() {
        // The mean size is 0.5.
        let weights = [0.9, -0.9, 0.34, -0.34, 0.36, -0.36, 0.6, -0.2];
        let expected = [1.0, -1.0, 0.0, 0.0, 1.0, -1.0, 1.0, 0.0];
        assert_eq!(compressed(Compression::Ternary, &weights, 2), expected);
    }

    #[test]
    fn the_largest_weights_survive_pruning() {
        let weights = [0.1, -0.5, 0.3, 0.2, -0.4, 0.0];
        let near = |got: Vec<f32>, expected: [f32; 6]| {
            got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 0.004)
        };
        let half = [0.0, -0.5, 0.3, 0.0, -0.4, 0.0];
        assert!(near(compressed(Compression::Pruned(0.5), &weights, 1), half));
        assert!(near(compressed(Compression::Pruned(1.0), &weights, 1), weights));
    }

    #[test]
    fn int8_has_steps_that_suit_each_unit() {
        // Two units of very different sizes, and one of nothing.
        let weights = [1.27, 0.001, 0.0, -0.634, 0.1, 0.0];
        let got = compressed(Compression::Int8, &weights, 3);
        let steps = [1.0 / 64.0, 1.0 / 1024.0, 1.0];
        for (at, (got, weight)) in got.iter().zip(weights).enumerate() {
            let step = steps[at % 3];
            assert!((got - weight).abs() <= step / 2.0, "{got} {weight}");
            assert_eq!((got / step).fract(), 0.0);
        }
    }
}
