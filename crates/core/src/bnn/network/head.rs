//! The last layers of a network, which read reals.

use super::super::parameters::normaliser;
use super::Scratch;
use super::affine::{Affine, Step};

/// The end of a network: from the last stage's integers to outputs.
#[derive(Debug)]
pub(super) enum Head {
    /// These steps turn integers into logits.
    Sums(Affine),
    Reals(Reals),
}

/// Integers that become reals, and the layers that read these.
#[derive(Debug)]
pub(super) struct Reals {
    /// Channels of each position of the integers.
    pub channels: usize,
    pub affine: Affine,
    pub layers: Vec<RealLayer>,
}

/// A layer that reads reals.
#[derive(Debug)]
pub(super) enum RealLayer {
    /// Weights are `[value][unit]`, with one bias per unit.
    Dense {
        weights: Vec<f32>,
        bias: Vec<f32>,
    },
    BatchNorm(Step),
    /// Its input is the feature.
    Normalise,
    /// The last layer. Its output is the feature.
    Deflation(Deflation),
}

/// A deflation, with its directions laid out for both products.
#[derive(Debug)]
pub(super) struct Deflation {
    centre: Vec<f32>,
    count: usize,
    /// `[value][direction]`
    by_value: Vec<f32>,
    /// `[direction][value]`
    by_direction: Vec<f32>,
}

impl Deflation {
    pub fn new(centre: &[f32], directions: &[f32]) -> Self {
        let (values, count) = (centre.len(), directions.len() / centre.len());
        let by_value = (0..directions.len()).map(|at| directions[at % count * values + at / count]);
        Self {
            centre: centre.to_vec(),
            count,
            by_value: by_value.collect(),
            by_direction: directions.to_vec(),
        }
    }

    /// Replaces `values`; `spare` is working memory.
    fn run(&self, values: &mut [f32], spare: &mut Vec<f32>) {
        values.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value -= centre);
        spare.clear();
        spare.resize(self.count + values.len(), 0.0);
        let (along, removed) = spare.split_at_mut(self.count);
        add_products(values, &self.by_value, along);
        add_products(along, &self.by_direction, removed);
        values.iter_mut().zip(removed).for_each(|(value, removed)| *value -= *removed);
    }
}

impl Head {
    /// Computes the logits, and the feature if one of these layers makes it.
    ///
    /// If exactly `layers_after` layers with weights follow one of these, copies the input of that
    /// layer to `shown`.
    pub fn run(&self, scratch: &mut Scratch, layers_after: usize, shown: &mut Vec<f32>) {
        let Scratch { integers, feature, logits, reals, .. } = scratch;
        match self {
            Self::Sums(affine) => affine.apply_all(integers, integers.len(), logits),
            Self::Reals(Reals { channels, affine, layers }) => {
                affine.apply_all(integers, *channels, logits);
                let mut dense_left = self.dense_layers();
                for layer in layers {
                    if matches!(layer, RealLayer::Dense { .. }) {
                        dense_left -= 1;
                        if dense_left == layers_after {
                            shown.clone_from(logits);
                        }
                    }
                    layer.run(logits, reals, feature);
                }
            }
        }
    }

    /// Number of layers with weights.
    pub fn dense_layers(&self) -> usize {
        match self {
            Self::Sums(_) => 0,
            Self::Reals(Reals { layers, .. }) => {
                layers.iter().filter(|layer| matches!(layer, RealLayer::Dense { .. })).count()
            }
        }
    }
}

/// Number of values that [`add_products`] multiplies at a time.
const REALS_AT_A_TIME: usize = 8;

impl RealLayer {
    /// Replaces `values`; `spare` is working memory.
    fn run(&self, values: &mut Vec<f32>, spare: &mut Vec<f32>, feature: &mut Vec<f32>) {
        match self {
            Self::Dense { weights, bias } => {
                let units = bias.len();
                spare.clear();
                spare.resize(units, 0.0);
                add_products(values, weights, spare);
                spare.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
                values.clone_from(spare);
            }
            Self::BatchNorm(step) => {
                for (channel, value) in values.iter_mut().enumerate() {
                    *value = step.apply(*value, channel);
                }
            }
            Self::Normalise => {
                feature.clone_from(values);
                let scale = normaliser(values);
                values.iter_mut().for_each(|value| *value *= scale);
            }
            Self::Deflation(deflation) => {
                deflation.run(values, spare);
                feature.clone_from(values);
                values.clear();
            }
        }
    }
}

/// Adds to each sum the products of values and weights, which are `[value][sum]`.
fn add_products(values: &[f32], weights: &[f32], sums: &mut [f32]) {
    let units = sums.len();
    // Several values at a time, so that sums are loaded and stored less often. They are added one
    // after another, as in the reference.
    let blocks = values.chunks(REALS_AT_A_TIME);
    for (values, weights) in blocks.zip(weights.chunks(REALS_AT_A_TIME * units)) {
        if let Ok(values) = <[f32; REALS_AT_A_TIME]>::try_from(values) {
            let rows: [&[f32]; REALS_AT_A_TIME] =
                std::array::from_fn(|row| &weights[row * units..][..units]);
            let sums = &mut sums[..units];
            for unit in 0..units {
                let mut sum = sums[unit];
                for (value, row) in values.iter().zip(rows) {
                    sum += value * row[unit];
                }
                sums[unit] = sum;
            }
            continue;
        }
        for (value, weights) in values.iter().zip(weights.chunks_exact(units)) {
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
        }
    }
}
