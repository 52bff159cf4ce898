//! A network that learns: forward, backward, Adam.

use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use super::compression::Compression;
use super::layers::{
    Autocorrelation, BatchNorm, Convolution, Dense, Extent, MaxPool, Mean, Pass, Weights, sign,
};
use bipedalnet_core::bnn::{
    self, Architecture, ArchitectureError, Layer, LayerParameters, NetworkError, Parameters,
    normaliser,
};

enum Stage {
    Convolution(Box<Convolution>),
    MaxPool(MaxPool),
    BatchNorm(BatchNorm),
    /// Straight-through: the gradient passes where the input is no further from 0 than this, the
    /// less the further (Bi-Real Net, arXiv 1808.00278): 1 after BatchNorm, else the unit of the
    /// layer before. Sums of hundreds of signs are hardly ever within 1, and nothing would be
    /// learned.
    Sign(f32),
    Tanh,
    Mean(Mean),
    Autocorrelation(Autocorrelation),
    Normalise,
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

/// What training goes on from. Statistics for inference are not part of it: they are averaged
/// anew after each epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Of each list of parameters the values, and Adam's first and second moments.
    pub lists: Vec<[Vec<f32>; 3]>,
    /// Steps of Adam so far.
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
        let mut unit = 1.0;
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
                    unit = layer.weights.unit;
                    Stage::Convolution(Box::new(layer))
                }
                Layer::MaxPool { size } => {
                    let layer = MaxPool::new(extent, size);
                    extent = layer.output;
                    Stage::MaxPool(layer)
                }
                Layer::BatchNorm => {
                    unit = 1.0;
                    Stage::BatchNorm(BatchNorm::new(extent))
                }
                Layer::Sign => Stage::Sign(unit),
                Layer::Tanh => Stage::Tanh,
                Layer::Mean => {
                    let layer = Mean::new(extent);
                    extent = layer.output;
                    Stage::Mean(layer)
                }
                Layer::Autocorrelation { lags } => {
                    let layer = Autocorrelation::new(extent, lags);
                    extent = layer.output;
                    Stage::Autocorrelation(layer)
                }
                Layer::Deflation { .. } => {
                    let reason =
                        "a deflation is fitted to a trained network, and cannot be learned";
                    return Err(ArchitectureError::Unsupported(reason));
                }
                Layer::Normalise => Stage::Normalise,
                Layer::Dense { units, .. } | Layer::Projection { units } => {
                    let mut layer = match *layer {
                        Layer::Dense { bias, .. } => Dense::new(extent, units, bias, binary),
                        _ => Dense::projection(extent, units),
                    };
                    let fans = layer.inputs() + units;
                    initialise(&mut layer.weights, fans, random);
                    unit = layer.weights.unit;
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
        self.inputs(inputs.len() / self.input_len()).copy_from_slice(inputs);
        self.run(pass)
    }

    /// Where the next [`Network::run`] finds so many inputs.
    pub fn inputs(&mut self, samples: usize) -> &mut [f32] {
        for (values, extent) in self.values.iter_mut().zip(&self.extents) {
            values.resize(samples * extent.len(), 0.0);
        }
        &mut self.values[0]
    }

    /// Outputs for what was written to [`Network::inputs`].
    pub fn run(&mut self, pass: Pass) -> &[f32] {
        let samples = self.values[0].len() / self.input_len();
        for (index, stage) in self.stages.iter_mut().enumerate() {
            let (before, after) = self.values.split_at_mut(index + 1);
            let (input, output) = (&before[index][..], &mut after[0][..]);
            match stage {
                Stage::Convolution(layer) => layer.forward(input, output, samples),
                Stage::MaxPool(layer) => layer.forward(input, output, samples),
                Stage::Mean(layer) => layer.forward(input, output),
                Stage::Autocorrelation(layer) => layer.forward(input, output),
                Stage::BatchNorm(layer) => layer.forward(input, output, samples, pass),
                Stage::Dense(layer) => layer.forward(input, output, samples),
                Stage::Sign(_) => map(input, output, sign),
                Stage::Tanh => map(input, output, f32::tanh),
                Stage::Normalise => {
                    let length = self.extents[index].len();
                    let vectors = input.chunks_exact(length).zip(output.chunks_exact_mut(length));
                    for (input, output) in vectors {
                        let scale = normaliser(input);
                        output.iter_mut().zip(input).for_each(|(to, from)| *to = scale * from);
                    }
                }
            }
        }
        &self.values[self.stages.len()]
    }

    /// Adds to all gradients, given the loss's gradient with respect to the outputs of the last
    /// [`Network::run`], which must have been a training one.
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
                    layer.backward(input, gradient, wanted.then_some(input_gradient), samples);
                }
                Stage::MaxPool(layer) => layer.backward(gradient, input_gradient, samples),
                Stage::Mean(layer) => layer.backward(gradient, input_gradient),
                Stage::Autocorrelation(layer) => layer.backward(input, gradient, input_gradient),
                Stage::BatchNorm(layer) => {
                    layer.backward(output, gradient, input_gradient, samples);
                }
                Stage::Sign(unit) => {
                    let unit = *unit;
                    zip_map(input_gradient, input, gradient, |value, gradient| {
                        gradient * (2.0 - 2.0 * value.abs() / unit).max(0.0)
                    });
                }
                Stage::Normalise => {
                    let length = self.extents[index].len();
                    let vectors = input.chunks_exact(length).zip(output.chunks_exact(length));
                    let gradients =
                        gradient.chunks_exact(length).zip(input_gradient.chunks_exact_mut(length));
                    for ((input, output), (gradient, wanted)) in vectors.zip(gradients) {
                        let scale = normaliser(input);
                        let along: f32 =
                            gradient.iter().zip(output).map(|(a, b)| a * b).sum::<f32>()
                                / length as f32;
                        for ((to, gradient), output) in wanted.iter_mut().zip(gradient).zip(output)
                        {
                            *to = scale * (gradient - along * output);
                        }
                    }
                }
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
                Stage::MaxPool(_)
                | Stage::Sign(_)
                | Stage::Tanh
                | Stage::Mean(_)
                | Stage::Autocorrelation(_)
                | Stage::Normalise => None,
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
        network.import(&parameters.layers, 1.0);
        Ok(network)
    }

    /// Takes the first layers from parameters that were checked against them, weights times
    /// `size`: the smaller latent weights are, the sooner they change their signs.
    pub fn import(&mut self, layers: &[Option<LayerParameters>], size: f32) {
        for (stage, parameters) in self.stages.iter_mut().zip(layers) {
            match (stage, parameters) {
                (Stage::Convolution(layer), Some(from)) => {
                    layer.import(from);
                    layer.weights.latent.iter_mut().for_each(|weight| *weight *= size);
                }
                (Stage::Dense(layer), Some(from)) => {
                    layer.import(from);
                    if !layer.weights.fitted {
                        layer.weights.latent.iter_mut().for_each(|weight| *weight *= size);
                    }
                }
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
        self.refresh();
    }

    /// Takes the last, dense layer's outputs from `first` on from another dense layer's.
    pub fn import_outputs(&mut self, first: usize, parameters: &LayerParameters, size: f32) {
        if let (Some(Stage::Dense(layer)), LayerParameters::Weights { weights, .. }) =
            (self.stages.last_mut(), parameters)
        {
            let (inputs, units) = (layer.inputs(), layer.units);
            for (unit, weights) in (first..units).zip(weights.chunks_exact(inputs)) {
                for (input, weight) in weights.iter().enumerate() {
                    layer.weights.latent[input * units + unit] = size * weight;
                }
            }
        }
        self.refresh();
    }

    /// All that training goes on from.
    pub fn state(&mut self) -> State {
        let lists = lists(&mut self.stages).zip(&self.moments).map(|(list, moments)| {
            [list.values.clone(), moments.first.clone(), moments.second.clone()]
        });
        State { lists: lists.collect(), steps: self.steps }
    }

    /// Moves averages of the parameters, of which `share` is the past.
    pub fn average(&mut self, average: &mut State, share: f32) {
        average.steps = self.steps;
        for (list, [average, ..]) in lists(&mut self.stages).zip(&mut average.lists) {
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

    /// Goes on from a state. `None`, with the network as it was, where it is another network's.
    pub fn restore(&mut self, state: &State) -> Option<()> {
        let lengths = lists(&mut self.stages).map(|list| [list.values.len(); 3]);
        let theirs = state.lists.iter().map(|lists| [0, 1, 2].map(|kind| lists[kind].len()));
        let finite = state.lists.iter().flatten().flatten().all(|value| value.is_finite());
        if !finite || state.steps < 0 || !lengths.eq(theirs) {
            return None;
        }
        let ours = lists(&mut self.stages).zip(&mut self.moments);
        for ((list, moments), [values, first, second]) in ours.zip(&state.lists) {
            list.values.copy_from_slice(values);
            moments.first.copy_from_slice(first);
            moments.second.copy_from_slice(second);
        }
        self.steps = state.steps;
        self.refresh();
        Some(())
    }

    /// Restricts weights from now on.
    pub fn compress(&mut self, compression: Option<Compression>) {
        for stage in &mut self.stages {
            match stage {
                Stage::Convolution(layer) => layer.weights.compression = compression,
                // Fitted ones have theirs.
                Stage::Dense(layer) if !layer.weights.fitted => {
                    layer.weights.compression = compression;
                }
                _ => {}
            }
        }
        self.refresh();
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

/// Share of the rate for fitted weights, which are much smaller than 1 and hardly to be changed.
const FITTED_RATE: f32 = 0.02;

/// Parameters that one task of the optimizer updates.
const VALUES_PER_TASK: usize = 1 << 14;

/// Trained parameters of one kind in one layer.
struct List<'a> {
    values: &'a mut Vec<f32>,
    gradient: &'a mut Vec<f32>,
    /// A step's rate is relative to it.
    unit: f32,
    /// Whether these are latent weights of a binary layer.
    latent: bool,
}

/// All that is trained, in a fixed order.
fn lists(stages: &mut [Stage]) -> impl Iterator<Item = List<'_>> {
    fn of_weights(weights: &mut Weights) -> Vec<List<'_>> {
        let latent = weights.binary;
        let unit = if weights.fitted { FITTED_RATE } else { 1.0 };
        let bias_unit = unit * weights.unit;
        vec![
            List { values: &mut weights.latent, gradient: &mut weights.gradient, unit, latent },
            List {
                values: &mut weights.bias,
                gradient: &mut weights.bias_gradient,
                unit: bias_unit,
                latent: false,
            },
        ]
    }
    stages.iter_mut().flat_map(|stage| match stage {
        Stage::Convolution(layer) => of_weights(&mut layer.weights),
        Stage::Dense(layer) => of_weights(&mut layer.weights),
        Stage::BatchNorm(layer) => vec![List {
            values: &mut layer.beta,
            gradient: &mut layer.beta_gradient,
            unit: 1.0,
            latent: false,
        }],
        Stage::MaxPool(_)
        | Stage::Sign(_)
        | Stage::Tanh
        | Stage::Mean(_)
        | Stage::Autocorrelation(_)
        | Stage::Normalise => Vec::new(),
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

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, StandardNormal};

    use super::*;
    use bipedalnet_core::bnn::reference;

    const BATCH: usize = 5;

    fn normal(count: usize, random: &mut Pcg64Mcg) -> Vec<f32> {
        (0..count).map(|_| StandardNormal.sample(random)).collect()
    }

    /// A random weighting of the outputs, summed in double precision.
    fn loss(network: &mut Network, inputs: &[f32], weighting: &[f32]) -> f64 {
        let outputs = network.forward(inputs, Pass::Training);
        outputs.iter().zip(weighting).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    /// Every parameter's gradient against a central difference.
    fn check_gradients(architecture: &str) {
        let architecture: Architecture = architecture.parse().unwrap();
        let mut random = Pcg64Mcg::seed_from_u64(7);
        let mut network = Network::new(&architecture, &mut random).unwrap();
        for list in lists(&mut network.stages) {
            for value in list.values.iter_mut() {
                let noise: f32 = StandardNormal.sample(&mut random);
                *value += 0.1 * noise;
            }
        }
        network.refresh();
        let inputs = normal(BATCH * network.input_len(), &mut random);
        let weighting = normal(BATCH * architecture.classes(), &mut random);
        loss(&mut network, &inputs, &weighting);
        network.backward(&weighting);
        let gradients: Vec<Vec<f32>> =
            lists(&mut network.stages).map(|list| list.gradient.clone()).collect();
        let mut checked = 0;
        for (number, gradient) in gradients.iter().enumerate() {
            let scale = gradient.iter().map(|g| g.abs()).fold(0.02, f32::max);
            for (index, &gradient) in gradient.iter().enumerate() {
                let mut shifted = |by: f32| {
                    let list = lists(&mut network.stages).nth(number).unwrap();
                    let kept = list.values[index];
                    list.values[index] = kept + by;
                    network.refresh();
                    let loss = loss(&mut network, &inputs, &weighting);
                    lists(&mut network.stages).nth(number).unwrap().values[index] = kept;
                    loss
                };
                let step = 5e-4;
                let difference = ((shifted(step) - shifted(-step)) / f64::from(2.0 * step)) as f32;
                assert!(
                    (gradient - difference).abs() < 0.02 * scale,
                    "{architecture}, list {number}, value {index}: {gradient} against {difference}"
                );
                checked += 1;
            }
        }
        assert_eq!(checked, lists(&mut network.stages).map(|l| l.values.len()).sum::<usize>());
    }

    /// The first convolution is there so that the gradient of the input of what follows shows.
    #[test]
    fn gradients_equal_finite_differences() {
        for architecture in [
            "float 3x7 dense2+",
            "float 3x7 dense4 dense2+",
            "float 4x9 conv2/1x1+ conv3/2x3+ dense2",
            "float 4x9 conv2/2x3 conv3/1x3 dense2",
            "float 4x9 conv2/1x1 conv3/4x4/same+ dense2",
            "float 4x9 conv2/1x1 conv3/3x2/same dense2",
            "float 4x9 conv3/1x2 tanh dense2",
            "float 4x9 conv3/2x2 bn dense2",
            "float 4x9 conv2/1x3 bn tanh conv2/1x3 bn tanh dense3 bn tanh dense2",
            "float 5x9 conv3/2x1 pool2x4 dense2",
            "float 5x9 conv2/1x1 conv3/1x3 pool2x2 dense2",
            "float 5x9 conv3/2x3 tanh mean bn dense3 dense2",
            "float 5x9 conv2/1x1 conv3/1x4 mean dense2",
            "float 4x11 conv2/1x2 acf1,2,5 dense2",
            "float 5x12 conv3/2x3 tanh acf1,3,4 bn norm dense2",
            "float 5x9 conv3/1x3 tanh pool2x2 bn conv2/1x2 tanh dense3+ tanh dense2+",
        ] {
            check_gradients(architecture);
        }
    }

    #[test]
    fn straight_through_weights_learn_as_if_they_were_their_signs() {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let binary: Architecture = "binary 4x9 conv3/2x3 bn conv2/1x3 dense2".parse().unwrap();
        let float = Architecture { weights: bnn::Weights::Float, ..binary.clone() };
        let mut binary = Network::new(&binary, &mut random).unwrap();
        let mut float = Network::from_parameters(&float, &binary.parameters()).unwrap();
        let inputs = normal(BATCH * binary.input_len(), &mut random);
        let weighting = normal(BATCH * 2, &mut random);
        for network in [&mut binary, &mut float] {
            loss(network, &inputs, &weighting);
            network.backward(&weighting);
        }
        for (binary, float) in lists(&mut binary.stages).zip(lists(&mut float.stages)) {
            assert!(binary.gradient.iter().any(|&g| g != 0.0) || binary.gradient.is_empty());
            assert_eq!(binary.gradient, float.gradient);
        }
    }

    #[test]
    fn the_gradient_passes_a_sign_where_its_input_is_within_one() {
        let architecture: Architecture = "float 1x4 conv1/1x1 sign dense1".parse().unwrap();
        let parameters = Parameters {
            layers: vec![
                Some(LayerParameters::Weights { weights: vec![1.0], bias: None }),
                None,
                Some(LayerParameters::Weights { weights: vec![2.0, 3.0, 5.0, 7.0], bias: None }),
            ],
        };
        let mut network = Network::from_parameters(&architecture, &parameters).unwrap();
        assert_eq!(
            network.forward(&[-2.0, 0.5, 3.0, -0.25], Pass::Training),
            [-2.0 + 3.0 + 5.0 - 7.0]
        );
        network.backward(&[1.0]);
        let first = lists(&mut network.stages).next().unwrap();
        // Times 2 - 2 |x|, and nothing beyond 1.
        assert_eq!(*first.gradient, [1.0 * 3.0 * 0.5 + 1.5 * 7.0 * -0.25]);
    }

    #[test]
    fn latent_weights_stay_within_one() {
        let architecture: Architecture = "binary 2x3 dense2".parse().unwrap();
        let mut network = Network::new(&architecture, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
        for _ in 0..20 {
            network.forward(&[1.0; 6], Pass::Training);
            network.backward(&[1.0, -1.0]);
            network.step(0.5);
        }
        let list = lists(&mut network.stages).next().unwrap();
        assert!(list.values.iter().all(|value| value.abs() == 1.0), "{:?}", list.values);
    }

    /// What is trained is what is deployed: same layout, same padding, same statistics.
    #[test]
    fn inference_equals_the_reference() {
        for architecture in [
            "float 8x20 conv3/1x4+ conv4/4x5/same+ tanh pool2x4 dense5+ tanh dense3+",
            "binary 8x20 conv5/3x3 pool2x2 bn sign conv6/1x3 bn sign dense7 bn sign dense3",
            "binary 8x20 conv5/3x3 pool2x2 bn sign conv6/1x3 bn sign mean bn dense7 bn norm dense3",
            "binary 8x20 conv5/3x3 pool2x2 bn sign conv6/1x3 bn sign acf1,2,4 bn norm dense3",
        ] {
            let architecture: Architecture = architecture.parse().unwrap();
            let mut random = Pcg64Mcg::seed_from_u64(3);
            let mut network = Network::new(&architecture, &mut random).unwrap();
            let inputs = normal(32 * network.input_len(), &mut random);
            for number in 0..3 {
                network.forward(&inputs, Pass::Training);
                network.backward(&normal(32 * 3, &mut random));
                network.step(0.01);
                network.forward(&inputs, Pass::Calibration(number));
            }
            let parameters = network.parameters();
            let outputs = network.forward(&inputs, Pass::Inference).to_vec();
            for (input, output) in inputs.chunks_exact(160).zip(outputs.chunks_exact(3)) {
                let layers = reference::forward(&architecture, &parameters, input).unwrap();
                for (a, b) in layers[layers.len() - 1].iter().zip(output) {
                    assert!((a - b).abs() < 1e-3, "{architecture}: {a} against {b}");
                }
            }
            let mut copy = Network::from_parameters(&architecture, &parameters).unwrap();
            assert_eq!(copy.forward(&inputs, Pass::Inference), outputs);
            assert_eq!(copy.parameters(), parameters);
        }
    }
}
