//! Float steps that follow an integer sum.

use super::super::parameters::{batch_norm, deviation};

/// Float steps between an integer sum and the next sign. Each is monotone, with its own function
/// for every channel.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub scale: f32,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Scale(Vec<f32>),
    Bias(Vec<f32>),
    BatchNorm { beta: Vec<f32>, mean: Vec<f32>, deviation: Vec<f32> },
}

impl Step {
    pub fn batch_norm(beta: &[f32], mean: &[f32], variance: &[f32]) -> Self {
        Self::BatchNorm {
            beta: beta.to_vec(),
            mean: mean.to_vec(),
            deviation: variance.iter().copied().map(deviation).collect(),
        }
    }

    fn apply(&self, value: f32, channel: usize) -> f32 {
        match self {
            Self::Scale(scale) => value * scale[channel],
            Self::Bias(bias) => value + bias[channel],
            Self::BatchNorm { beta, mean, deviation } => {
                batch_norm(value, beta[channel], mean[channel], deviation[channel])
            }
        }
    }

    /// Applies the step to one value per channel.
    pub fn apply_all(&self, values: &mut [f32]) {
        match self {
            Self::Scale(scale) => {
                values.iter_mut().zip(scale).for_each(|(value, scale)| *value *= scale);
            }
            Self::Bias(bias) => {
                values.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            }
            Self::BatchNorm { beta, mean, deviation } => {
                let channels = beta.iter().zip(mean.iter().zip(deviation));
                for (value, (&beta, (&mean, &deviation))) in values.iter_mut().zip(channels) {
                    *value = batch_norm(*value, beta, mean, deviation);
                }
            }
        }
    }
}

impl Affine {
    pub fn new(scale: f32) -> Self {
        Self { scale, steps: Vec::new() }
    }

    fn apply(&self, integer: i32, channel: usize) -> f32 {
        let value = integer as f32 * self.scale;
        self.steps.iter().fold(value, |value, step| step.apply(value, channel))
    }

    pub fn apply_all(&self, integers: &[i32], channels: usize, into: &mut Vec<f32>) {
        into.resize(integers.len(), 0.0);
        let scale = self.scale;
        into.iter_mut().zip(integers).for_each(|(value, &integer)| *value = integer as f32 * scale);
        for step in &self.steps {
            for values in into.chunks_exact_mut(channels) {
                step.apply_all(values);
            }
        }
    }

    /// The smallest integer in `-bound..=bound` with a sign of +1, or `bound + 1`.
    ///
    /// Evaluates the float function itself, so that ties fall as in the float network.
    pub fn threshold(&self, channel: usize, bound: i32) -> i32 {
        let (mut low, mut high) = (-bound, bound + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.apply(middle, channel) >= 0.0 {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}
