//! A network that learns: forward, backward, Adam.

mod compression;
mod layers;
mod matrix;

use bipedalnet_core::bnn::{
    self, Architecture, ArchitectureError, Layer, LayerParameters, NetworkError, Parameters,
};
pub use compression::Compression;
pub use layers::Pass;
use layers::{Batch, Extent, ParameterList, TrainableLayer, Weights, build};
pub use matrix::{View, multiply};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

/// A trainable network, its batch buffers and Adam's moments.
pub struct Network {
    layers: Vec<Box<dyn TrainableLayer>>,
    /// Extent before each layer and, last, of the output.
    extents: Vec<Extent>,
    /// Values before each layer and, last, the output.
    values: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    moments: Vec<Moments>,
    steps: i32,
}

/// The state that training resumes from. It has no statistics for inference, because they are
/// averaged again after each epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// For each list of parameters: the values, and Adam's first and second moments.
    pub lists: Vec<[Vec<f32>; 3]>,
    /// Steps of Adam that were taken.
    pub steps: i32,
}

/// Adam's moving averages for one list of parameters.
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

const ADAM_BETA_1: f32 = 0.9;
const ADAM_BETA_2: f32 = 0.999;
const ADAM_EPSILON: f32 = 1e-7;

/// Parameters that one task of the optimizer updates.
const VALUES_PER_TASK: usize = 1 << 14;

impl Network {
    /// A network with random weights.
    pub fn new(
        architecture: &Architecture,
        random: &mut impl Rng,
    ) -> Result<Self, ArchitectureError> {
        architecture.shapes()?;
        let binary = architecture.weights == bnn::Weights::Binary;
        let [rows, samples] = architecture.input;
        let mut extent = Extent { rows, width: samples, valid: samples, channels: 1 };
        let mut extents = vec![extent];
        let mut unit = 1.0;
        let mut layers = Vec::new();
        for layer in &architecture.layers {
            let mut built = build(layer, extent, unit, binary, random)?;
            if let Some(weights) = built.weights() {
                unit = weights.unit;
            } else if *layer == Layer::BatchNorm {
                unit = 1.0;
            }
            extent = built.output();
            layers.push(built);
            extents.push(extent);
        }
        let buffers = vec![Vec::new(); extents.len()];
        let moments = trained(&mut layers)
            .map(|list| Moments {
                first: vec![0.0; list.values.len()],
                second: vec![0.0; list.values.len()],
            })
            .collect();
        Ok(Self { layers, extents, values: buffers.clone(), gradients: buffers, moments, steps: 0 })
    }

    /// Length of one input.
    pub fn input_len(&self) -> usize {
        self.extents[0].len()
    }

    /// Outputs for all inputs in `inputs`, one after another.
    pub fn forward(&mut self, inputs: &[f32], pass: Pass) -> &[f32] {
        self.inputs(inputs.len() / self.input_len()).copy_from_slice(inputs);
        self.run(pass)
    }

    /// The buffer from which the next [`Network::run`] reads this many inputs.
    pub fn inputs(&mut self, samples: usize) -> &mut [f32] {
        for (values, extent) in self.values.iter_mut().zip(&self.extents) {
            values.resize(samples * extent.len(), 0.0);
        }
        &mut self.values[0]
    }

    /// Outputs for the inputs that were written to [`Network::inputs`].
    pub fn run(&mut self, pass: Pass) -> &[f32] {
        let samples = self.values[0].len() / self.input_len();
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let (before, after) = self.values.split_at_mut(index + 1);
            layer.forward(&before[index], &mut after[0], samples, pass);
        }
        &self.values[self.layers.len()]
    }

    /// Adds to all gradients, given the loss's gradient of the outputs of the last
    /// [`Network::run`], which must have been a training pass.
    pub fn backward(&mut self, output_gradient: &[f32]) {
        let samples = self.values[0].len() / self.input_len();
        for (gradient, values) in self.gradients.iter_mut().zip(&self.values) {
            gradient.resize(values.len(), 0.0);
        }
        let last = self.layers.len();
        self.gradients[last].copy_from_slice(output_gradient);
        for (index, layer) in self.layers.iter_mut().enumerate().rev() {
            let (before, after) = self.gradients.split_at_mut(index + 1);
            let batch = Batch {
                input: &self.values[index],
                output: &self.values[index + 1],
                output_gradient: &after[0],
                samples,
            };
            layer.backward(&batch, (index > 0).then_some(&mut before[index][..]));
        }
    }

    /// Takes one step of Adam (arXiv 1412.6980) and sets the gradients to zero. Latent weights stay
    /// within [-1, 1].
    pub fn step(&mut self, rate: f32) {
        self.steps += 1;
        let correction =
            (1.0 - ADAM_BETA_2.powi(self.steps)).sqrt() / (1.0 - ADAM_BETA_1.powi(self.steps));
        let rate = rate * correction;
        for (list, moments) in trained(&mut self.layers).zip(&mut self.moments) {
            let rate = rate * list.unit;
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

    /// The trained parameters as inference reads them: signs instead of latent weights.
    pub fn parameters(&self) -> Parameters {
        Parameters { layers: self.layers.iter().map(|layer| layer.export()).collect() }
    }

    /// A network with parameters as [`Network::parameters`] gives them.
    pub fn from_parameters(
        architecture: &Architecture,
        parameters: &Parameters,
    ) -> Result<Self, NetworkError> {
        parameters.check(architecture)?;
        let mut network = Self::new(architecture, &mut Pcg64Mcg::seed_from_u64(0))?;
        network.import(&parameters.layers, 1.0);
        Ok(network)
    }

    /// Takes the first layers from parameters that were checked against them. Weights are
    /// multiplied by `size`: the smaller a latent weight is, the sooner it changes its sign.
    pub fn import(&mut self, layers: &[Option<LayerParameters>], size: f32) {
        for (layer, parameters) in self.layers.iter_mut().zip(layers) {
            let Some(parameters) = parameters else { continue };
            layer.import(parameters);
            if let Some(weights) = layer.weights()
                && !weights.fitted
            {
                weights.latent.iter_mut().for_each(|weight| *weight *= size);
            }
        }
        self.refresh();
    }

    /// Takes the last, dense layer's outputs from `first` on from another dense layer's.
    pub fn import_outputs(&mut self, first: usize, parameters: &LayerParameters, size: f32) {
        if let Some(weights) = self.layers.last_mut().and_then(|layer| layer.weights()) {
            weights.import_outputs(first, parameters, size);
        }
        self.refresh();
    }

    /// The state that training can resume from.
    pub fn state(&mut self) -> State {
        let lists = trained(&mut self.layers).zip(&self.moments).map(|(list, moments)| {
            [list.values.clone(), moments.first.clone(), moments.second.clone()]
        });
        State { lists: lists.collect(), steps: self.steps }
    }

    /// Moves averages of the parameters, which keep `share` of their past.
    pub fn average(&mut self, average: &mut State, share: f32) {
        average.steps = self.steps;
        for (list, [average, ..]) in trained(&mut self.layers).zip(&mut average.lists) {
            average
                .par_chunks_mut(VALUES_PER_TASK)
                .zip(list.values.par_chunks(VALUES_PER_TASK))
                .for_each(|(average, values)| {
                    for (average, value) in average.iter_mut().zip(values) {
                        *average = value + share * (*average - value);
                    }
                });
        }
    }

    /// Resumes from a state. Returns `None` and changes nothing if the state is another network's.
    pub fn restore(&mut self, state: &State) -> Option<()> {
        let lengths = trained(&mut self.layers).map(|list| [list.values.len(); 3]);
        let theirs = state.lists.iter().map(|lists| [0, 1, 2].map(|kind| lists[kind].len()));
        let finite = state.lists.iter().flatten().flatten().all(|value| value.is_finite());
        if !finite || state.steps < 0 || !lengths.eq(theirs) {
            return None;
        }
        let ours = trained(&mut self.layers).zip(&mut self.moments);
        for ((list, moments), [values, first, second]) in ours.zip(&state.lists) {
            list.values.copy_from_slice(values);
            moments.first.copy_from_slice(first);
            moments.second.copy_from_slice(second);
        }
        self.steps = state.steps;
        self.refresh();
        Some(())
    }

    /// Restricts weights from now on. Fitted weights keep their own restriction.
    pub fn compress(&mut self, compression: Option<Compression>) {
        for layer in &mut self.layers {
            if let Some(weights) = layer.weights()
                && !weights.fitted
            {
                weights.compression = compression;
            }
        }
        self.refresh();
    }

    fn refresh(&mut self) {
        self.layers.iter_mut().filter_map(|layer| layer.weights()).for_each(Weights::refresh);
    }
}

/// Everything that is trained, in a fixed order.
fn trained(layers: &mut [Box<dyn TrainableLayer>]) -> impl Iterator<Item = ParameterList<'_>> {
    layers.iter_mut().flat_map(|layer| layer.trained())
}

#[cfg(test)]
mod tests;
