//! A network that learns: forward, backward, Adam.

use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use super::layers::{BatchNorm, Convolution, Dense, Extent, MaxPool, Pass, Weights, sign};
use crate::bnn::{
    self, Architecture, ArchitectureError, Layer, LayerParameters, NetworkError, Parameters,
};

enum Stage {
    Convolution(Box<Convolution>),
    MaxPool(MaxPool),
    BatchNorm(BatchNorm),
    /// Straight-through: the gradient passes where the input lies within [-1, 1].
    Sign,
    Tanh,
    Dense(Box<Dense>),
}

/// A trainable network, its batch buffers and Adam's moments.
pub(super) struct Network {
    stages: Vec<Stage>,
    /// Extent before each stage and, last, of the output.
    extents: Vec<Extent>,
    /// Values before each stage and, last, the output.
    values: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    moments: Vec<Moments>,
    steps: i32,
}

/// Adam's moving averages for one list of parameters.
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

const ADAM_BETA_1: f32 = 0.9;
const ADAM_BETA_2: f32 = 0.999;
const ADAM_EPSILON: f32 = 1e-7;

impl Network {
    /// A network with weights drawn as Glorot and Bengio do (AISTATS 2010).
    pub fn new(
        architecture: &Architecture,
        random: &mut impl Rng,
    ) -> Result<Self, ArchitectureError> {
        architecture.shapes()?;
        let binary = architecture.weights == bnn::Weights::Binary;
        let [rows, samples] = architecture.input;
        let mut extent = Extent { rows, width: samples, valid: samples, channels: 1 };
        let mut extents = vec![extent];
        let mut stages = Vec::new();
        for layer in &architecture.layers {
            let stage = match *layer {
                Layer::Convolution { filters, kernel, padding, bias } => {
                    let mut layer =
                        Convolution::new(extent, filters, kernel, padding, bias, binary);
                    let window = kernel[0] * kernel[1];
                    let fans = window * (extent.channels + filters);
                    initialise(&mut layer.weights, fans, random);
                    extent = layer.output;
                    Stage::Convolution(Box::new(layer))
                }
                Layer::MaxPool { size } => {
                    let layer = MaxPool::new(extent, size);
                    extent = layer.output;
                    Stage::MaxPool(layer)
                }
                Layer::BatchNorm => Stage::BatchNorm(BatchNorm::new(extent)),
                Layer::Sign => Stage::Sign,
                Layer::Tanh => Stage::Tanh,
                Layer::Dense { units, bias } => {
                    let mut layer = Dense::new(extent, units, bias, binary);
                    let fans = layer.inputs() + units;
                    initialise(&mut layer.weights, fans, random);
                    extent = Extent { rows: 1, width: 1, valid: 1, channels: units };
                    Stage::Dense(Box::new(layer))
                }
            };
            stages.push(stage);
            extents.push(extent);
        }
        let buffers = vec![Vec::new(); extents.len()];
        let moments = lists(&mut stages)
            .map(|list| Moments {
                first: vec![0.0; list.values.len()],
                second: vec![0.0; list.values.len()],
            })
            .collect();
        Ok(Self { stages, extents, values: buffers.clone(), gradients: buffers, moments, steps: 0 })
    }

    /// Length of one input.
    pub fn input_len(&self) -> usize {
        self.extents[0].len()
    }

    /// Outputs for as many inputs as `inputs` holds.
    pub fn forward(&mut self, inputs: &[f32], pass: Pass) -> &[f32] {
        let samples = inputs.len() / self.input_len();
        for (values, extent) in self.values.iter_mut().zip(&self.extents) {
            values.resize(samples * extent.len(), 0.0);
        }
        self.values[0].copy_from_slice(inputs);
        for (index, stage) in self.stages.iter_mut().enumerate() {
            let (before, after) = self.values.split_at_mut(index + 1);
            let (input, output) = (&before[index][..], &mut after[0][..]);
            match stage {
                Stage::Convolution(layer) => layer.forward(input, output, samples),
                Stage::MaxPool(layer) => layer.forward(input, output, samples),
                Stage::BatchNorm(layer) => layer.forward(input, output, samples, pass),
                Stage::Dense(layer) => layer.forward(input, output, samples),
                Stage::Sign => map(input, output, sign),
                Stage::Tanh => map(input, output, f32::tanh),
            }
        }
        &self.values[self.stages.len()]
    }

    /// Adds to all gradients, given the loss's gradient with respect to the outputs of the last
    /// [`Network::forward`], which must have been a training one.
    pub fn backward(&mut self, output_gradient: &[f32]) {
        let samples = self.values[0].len() / self.input_len();
        for (gradient, values) in self.gradients.iter_mut().zip(&self.values) {
            gradient.resize(values.len(), 0.0);
        }
        let last = self.stages.len();
        self.gradients[last].copy_from_slice(output_gradient);
        for (index, stage) in self.stages.iter_mut().enumerate().rev() {
            let (before, after) = self.gradients.split_at_mut(index + 1);
            let gradient = &after[0][..];
            let input = &self.values[index];
            let output = &self.values[index + 1];
            let wanted = index > 0;
            let input_gradient = &mut before[index][..];
            match stage {
                Stage::Convolution(layer) => {
                    layer.backward(input, gradient, wanted.then_some(input_gradient), samples);
                }
                Stage::Dense(layer) => {
                    layer.backward(gradient, wanted.then_some(input_gradient), samples);
                }
                Stage::MaxPool(layer) => layer.backward(gradient, input_gradient, samples),
                Stage::BatchNorm(layer) => {
                    layer.backward(output, gradient, input_gradient, samples);
                }
                Stage::Sign => zip_map(input_gradient, input, gradient, |value, gradient| {
                    if value.abs() <= 1.0 { gradient } else { 0.0 }
                }),
                Stage::Tanh => zip_map(input_gradient, output, gradient, |value, gradient| {
                    gradient * (1.0 - value * value)
                }),
            }
        }
    }

    /// One step of Adam (arXiv 1412.6980) down the gradients, which are then zero again.
    /// Latent weights stay within [-1, 1].
    pub fn step(&mut self, rate: f32) {
        self.steps += 1;
        let correction =
            (1.0 - ADAM_BETA_2.powi(self.steps)).sqrt() / (1.0 - ADAM_BETA_1.powi(self.steps));
        let rate = rate * correction;
        for (list, moments) in lists(&mut self.stages).zip(&mut self.moments) {
            list.values
                .par_chunks_mut(VALUES_PER_TASK)
                .zip(list.gradient.par_chunks_mut(VALUES_PER_TASK))
                .zip(moments.first.par_chunks_mut(VALUES_PER_TASK))
                .zip(moments.second.par_chunks_mut(VALUES_PER_TASK))
                .for_each(|(((values, gradient), first), second)| {
                    for (((value, gradient), first), second) in
                        values.iter_mut().zip(gradient).zip(first).zip(second)
                    {
                        *first += (1.0 - ADAM_BETA_1) * (*gradient - *first);
                        *second += (1.0 - ADAM_BETA_2) * (*gradient * *gradient - *second);
                        *value -= rate * *first / (second.sqrt() + ADAM_EPSILON);
                        if list.latent {
                            *value = value.clamp(-1.0, 1.0);
                        }
                        *gradient = 0.0;
                    }
                });
        }
        self.refresh();
    }

    /// What was learned, as inference reads it: signs instead of latent weights.
    pub fn parameters(&self) -> Parameters {
        let layers = self
            .stages
            .iter()
            .map(|stage| match stage {
                Stage::Convolution(layer) => Some(layer.export()),
                Stage::Dense(layer) => Some(layer.export()),
                Stage::BatchNorm(layer) => Some(LayerParameters::BatchNorm {
                    beta: layer.beta.clone(),
                    mean: layer.inference_mean.clone(),
                    variance: layer.inference_variance.clone(),
                }),
                Stage::MaxPool(_) | Stage::Sign | Stage::Tanh => None,
            })
            .collect();
        Parameters { layers }
    }

    /// A network with parameters as [`Network::parameters`] gives them.
    pub fn from_parameters(
        architecture: &Architecture,
        parameters: &Parameters,
    ) -> Result<Self, NetworkError> {
        parameters.check(architecture)?;
        let mut network = Self::new(architecture, &mut Pcg64Mcg::seed_from_u64(0))?;
        for (stage, parameters) in network.stages.iter_mut().zip(&parameters.layers) {
            match (stage, parameters) {
                (Stage::Convolution(layer), Some(from)) => layer.import(from),
                (Stage::Dense(layer), Some(from)) => layer.import(from),
                (
                    Stage::BatchNorm(layer),
                    Some(LayerParameters::BatchNorm { beta, mean, variance }),
                ) => {
                    layer.beta.copy_from_slice(beta);
                    layer.inference_mean.copy_from_slice(mean);
                    layer.inference_variance.copy_from_slice(variance);
                }
                _ => {}
            }
        }
        network.refresh();
        Ok(network)
    }

    fn refresh(&mut self) {
        for stage in &mut self.stages {
            match stage {
                Stage::Convolution(layer) => layer.weights.refresh(),
                Stage::Dense(layer) => layer.weights.refresh(),
                _ => {}
            }
        }
    }
}

/// Parameters that one task of the optimizer updates.
const VALUES_PER_TASK: usize = 1 << 14;

/// Trained parameters of one kind in one layer.
struct List<'a> {
    values: &'a mut Vec<f32>,
    gradient: &'a mut Vec<f32>,
    /// Whether these are latent weights of a binary layer.
    latent: bool,
}

/// All that is trained, in a fixed order.
fn lists(stages: &mut [Stage]) -> impl Iterator<Item = List<'_>> {
    fn of_weights(weights: &mut Weights) -> Vec<List<'_>> {
        let latent = weights.binary;
        vec![
            List { values: &mut weights.latent, gradient: &mut weights.gradient, latent },
            List { values: &mut weights.bias, gradient: &mut weights.bias_gradient, latent: false },
        ]
    }
    stages.iter_mut().flat_map(|stage| match stage {
        Stage::Convolution(layer) => of_weights(&mut layer.weights),
        Stage::Dense(layer) => of_weights(&mut layer.weights),
        Stage::BatchNorm(layer) => vec![List {
            values: &mut layer.beta,
            gradient: &mut layer.beta_gradient,
            latent: false,
        }],
        Stage::MaxPool(_) | Stage::Sign | Stage::Tanh => Vec::new(),
    })
}

fn initialise(weights: &mut Weights, fans: usize, random: &mut impl Rng) {
    let limit = (6.0 / fans as f32).sqrt();
    for value in &mut weights.latent {
        *value = random.random_range(-limit..=limit);
    }
    weights.refresh();
}

fn map(input: &[f32], output: &mut [f32], function: impl Fn(f32) -> f32 + Sync) {
    output.par_chunks_mut(VALUES_PER_TASK).zip(input.par_chunks(VALUES_PER_TASK)).for_each(
        |(output, input)| {
            for (output, &input) in output.iter_mut().zip(input) {
                *output = function(input);
            }
        },
    );
}

fn zip_map(output: &mut [f32], a: &[f32], b: &[f32], function: impl Fn(f32, f32) -> f32 + Sync) {
    output
        .par_chunks_mut(VALUES_PER_TASK)
        .zip(a.par_chunks(VALUES_PER_TASK))
        .zip(b.par_chunks(VALUES_PER_TASK))
        .for_each(|((output, a), b)| {
            for ((output, &a), &b) in output.iter_mut().zip(a).zip(b) {
                *output = function(a, b);
            }
        });
}
