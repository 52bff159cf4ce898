//! The last layers of a network, which read reals.

use super::super::kernels::{Kernels, Matrix};
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
    /// One bias per unit.
    Dense {
        weights: Matrix,
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
    /// From values to their components along the directions.
    to_directions: Matrix,
    /// Back to values.
    from_directions: Matrix,
}

impl Deflation {
    pub fn new(kernels: Kernels, centre: &[f32], directions: &[f32]) -> Self {
        let (values, count) = (centre.len(), directions.len() / centre.len());
        let weight = |value, direction| directions[direction * values + value];
        Self {
            centre: centre.to_vec(),
            to_directions: Matrix::new(kernels, [values, count], weight),
            from_directions: Matrix::new(kernels, [count, values], |direction, value| {
                weight(value, direction)
            }),
        }
    }

    /// Replaces `values`; `spare` is working memory.
    fn run(&self, values: &mut [f32], spare: &mut Vec<f32>) {
        values.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value -= centre);
        spare.resize(self.to_directions.outputs() + values.len(), 0.0);
        let (along, removed) = spare.split_at_mut(self.to_directions.outputs());
        self.to_directions.multiply(values, along);
        self.from_directions.multiply(along, removed);
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

impl RealLayer {
    /// Replaces `values`; `spare` is working memory.
    fn run(&self, values: &mut Vec<f32>, spare: &mut Vec<f32>, feature: &mut Vec<f32>) {
        match self {
            Self::Dense { weights, bias } => {
                spare.resize(bias.len(), 0.0);
                weights.multiply(values, spare);
                spare.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
                values.clone_from(spare);
            }
            Self::BatchNorm(step) => {
                step.apply_all(values);
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
