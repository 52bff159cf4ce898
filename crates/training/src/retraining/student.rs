//! A student: a network that learns to recognise users, and keeps what its parent knew.
//!
//! Its latent weights start from the parent's signs. Its last layer has classes for the users and for
//! simulated strangers, and the parent's classes too. These must keep the parent's outputs on the same
//! window (learning without forgetting, arXiv 1606.09282). So features stay that separate people who
//! are in none of the recordings.

use bipedalnet_core::bnn::{
    self, Architecture, ArchitectureError, Layer, LayerParameters, Model, NetworkError, Parameters,
};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use super::checkpoint::{Checkpoint, CheckpointError};
use crate::data::{Augmentation, Division, dequantise};
use crate::network::{Network, Pass, State};
use crate::trainer::{
    BINARY_LOGIT_SCALE, CALIBRATION_WINDOWS, Design, Draws, Schedule, cross_entropy,
};

/// Windows in a step.
pub const BATCH: usize = 64;

pub const CALIBRATION_BATCHES: usize = CALIBRATION_WINDOWS.div_ceil(BATCH);

/// Size of the latent weights at the start. It takes a hundred steps of Adam to change a sign. With
/// half the size, the student learns sooner and forgets more.
const LATENT_SIZE: f32 = 0.1;

/// Weight of the parent's outputs in the loss. Without them, other people are confused two to four
/// times as often as by the parent. With a larger weight, the student learns less.
const RECALL_WEIGHT: f32 = 3.0;

/// The parent. A student starts from it, and learns from it and from the recordings.
pub struct Teacher {
    model: Model,
    parameters: Parameters,
    schedule: Schedule,
}

/// A network in training, on the windows of a division.
pub struct Student<'a> {
    teacher: &'a Teacher,
    division: &'a Division,
    draws: Draws<'a>,
    /// The layers that are trained. The last one has the people's classes, then the parent's.
    network: Network,
    /// Number of the parent's first layers, which stay as they are.
    kept_layers: usize,
    /// Layers with weights after the first trained one.
    layers_after: usize,
    /// The whole network, without the parent's classes.
    architecture: Architecture,
}

impl Teacher {
    /// `parameters` are the model's.
    pub fn new(model: Model, parameters: Parameters, seed: u64) -> Self {
        let schedule = Schedule {
            batch: BATCH,
            augmentation: Augmentation::SERVED,
            ..Design::Bipedalnet.schedule(seed)
        };
        Self { model, parameters, schedule }
    }
}

impl Student<'_> {
    /// Estimates the memory that training takes.
    pub fn bytes(parent: &Architecture, people: usize) -> Result<usize, ArchitectureError> {
        let outputs = people.saturating_add(parent.classes());
        let mut architecture = parent.clone();
        set_classes(&mut architecture, outputs);
        let values: usize = architecture.shapes()?.iter().map(|shape| shape.len()).sum();
        let weights: usize = architecture.weight_counts()?.iter().sum();
        // Values and gradients, with padding and with the copies of dense and first layers. Then
        // weights, signs, gradients, two moments, the best network and a checkpoint.
        let floats =
            values.saturating_mul(BATCH * 5 / 2).saturating_add(weights.saturating_mul(12));
        Ok(floats.saturating_mul(size_of::<f32>()))
    }
}

impl<'a> Student<'a> {
    /// A student that knows what the teacher knows, and does not know the division's people yet.
    pub fn new(
        teacher: &'a Teacher,
        division: &'a Division,
        last_layers_only: bool,
    ) -> Result<Self, NetworkError> {
        let parent = &teacher.model.metadata.architecture;
        let people = division.people.len();
        let last = parent.layers.len() - 1;
        // The last layer with weights before the outputs makes the feature.
        let makes_feature =
            |layer: &Layer| matches!(layer, Layer::Dense { .. } | Layer::Projection { .. });
        let first = match last_layers_only {
            true => parent.layers[..last].iter().rposition(makes_feature).unwrap_or(last),
            false => 0,
        };
        let mut trained = parent.clone();
        set_classes(&mut trained, people + parent.classes());
        if first > 0 {
            trained.input = [1, parent.shapes()?[first].len()];
            trained.layers.drain(..first);
        }
        let random = &mut Pcg64Mcg::seed_from_u64(teacher.schedule.seed);
        let mut network = Network::new(&trained, random)?;
        network.import(&teacher.parameters.layers[first..last], LATENT_SIZE);
        if let Some(classes) = &teacher.parameters.layers[last] {
            network.import_outputs(people, classes, LATENT_SIZE);
        }
        let mut architecture = parent.clone();
        set_classes(&mut architecture, people);
        let with_weights = |layer: &&Layer| {
            matches!(
                layer,
                Layer::Convolution { .. } | Layer::Projection { .. } | Layer::Dense { .. }
            )
        };
        Ok(Self {
            teacher,
            division,
            draws: Draws::new(division, &teacher.schedule),
            network,
            kept_layers: first,
            layers_after: parent.layers[first..].iter().filter(with_weights).count() - 1,
            architecture,
        })
    }

    /// The layers of the whole network, as it will serve.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Learns from one window for each label. Gives the mean cross-entropy.
    pub fn step(&mut self, labels: &[usize], rate: f32) -> f32 {
        let taught = self.read(labels);
        let logits = self.network.run(Pass::Training);
        let scaled = |logits: &[f32]| -> Vec<f32> {
            logits.iter().map(|logit| logit * BINARY_LOGIT_SCALE).collect()
        };
        let people = self.division.people.len();
        let outputs = logits.len() / labels.len();
        let (named, recalled): (Vec<&[f32]>, Vec<&[f32]>) =
            logits.chunks_exact(outputs).map(|logits| logits.split_at(people)).unzip();
        let mut naming = vec![0.0; labels.len() * people];
        let loss = cross_entropy(&scaled(&named.concat()), labels, people, &mut naming);
        let classes = outputs - people;
        let mut recalling = scaled(&recalled.concat());
        let mut taught = scaled(&taught);
        for (recalling, taught) in
            recalling.chunks_exact_mut(classes).zip(taught.chunks_exact_mut(classes))
        {
            softmax(recalling);
            softmax(taught);
            for (recalling, taught) in recalling.iter_mut().zip(taught) {
                *recalling = RECALL_WEIGHT * (*recalling - *taught) / labels.len() as f32;
            }
        }
        let gradient: Vec<f32> = naming
            .chunks_exact(people)
            .zip(recalling.chunks_exact(classes))
            .flat_map(|(naming, recalling)| naming.iter().chain(recalling))
            .map(|gradient| gradient * BINARY_LOGIT_SCALE)
            .collect();
        self.network.backward(&gradient);
        self.network.step(rate);
        loss
    }

    /// Averages the statistics for inference over one more batch. The first is number 0.
    pub fn calibrate(&mut self, labels: &[usize], number: usize) {
        self.read(labels);
        self.network.run(Pass::Calibration(number));
    }

    /// Writes a window for each label to the network's inputs. Gives the teacher's logits for them.
    fn read(&mut self, labels: &[usize]) -> Vec<f32> {
        let (teacher, layers_after) = (&self.teacher.model.network, self.layers_after);
        let input_len = self.network.input_len();
        let inputs = self.network.inputs(labels.len()).par_chunks_mut(input_len);
        let logits = inputs.zip(self.draws.draw(labels)).map_init(
            || (bnn::Scratch::default(), Vec::new()),
            |(scratch, shown), (input, window)| {
                let output = teacher
                    .run_showing(&window, layers_after, shown, scratch)
                    .expect("windows are cut for the parent");
                if shown.is_empty() {
                    dequantise(&window, input);
                } else {
                    input.copy_from_slice(shown);
                }
                output.logits.to_vec()
            },
        );
        logits.collect::<Vec<_>>().concat()
    }

    /// The parameters of the whole network, without the parent's classes.
    pub fn parameters(&self) -> Parameters {
        let mut layers = self.teacher.parameters.layers[..self.kept_layers].to_vec();
        layers.extend(self.network.parameters().layers);
        let outputs = self.division.people.len() + self.teacher.model.metadata.classes.len();
        if let Some(Some(LayerParameters::Weights { weights, .. })) = layers.last_mut() {
            weights.truncate(weights.len() / outputs * self.division.people.len());
        }
        Parameters { layers }
    }

    /// The state between two epochs: the network's state, and the number of windows drawn.
    pub fn state(&mut self) -> (State, u64) {
        (self.network.state(), self.draws.drawn)
    }

    /// Resumes from a checkpoint.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        if checkpoint.best.parameters.check(&self.architecture).is_err() {
            return Err(CheckpointError::Content("best network"));
        }
        self.network.restore(&checkpoint.network).ok_or(CheckpointError::Content("network"))?;
        self.draws.drawn = checkpoint.drawn;
        Ok(())
    }
}

fn set_classes(architecture: &mut Architecture, classes: usize) {
    if let Some(layer) = architecture.layers.last_mut() {
        *layer = Layer::Dense { units: classes, bias: false };
    }
}

fn softmax(logits: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
    let total: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|logit| *logit /= total);
}
