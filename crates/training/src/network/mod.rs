//! A network that learns: forward, backward, Adam.

mod compression;
mod layers;
mod matrix;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use bipedalnet_core::bnn::{
    self, Architecture, ArchitectureError, Layer, LayerParameters, NetworkError, Parameters,
};
pub use compression::Compression;
pub use layers::Pass;
use layers::{Batch, Extent, ParameterList, TrainableLayer, Weights, build};
pub use matrix::{View, multiply};

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

/// The state that training resumes from. It has no statistics for inference, which are averaged
/// anew after each epoch.
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
        for list in trained(&mut network.layers) {
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
            trained(&mut network.layers).map(|list| list.gradient.clone()).collect();
        let mut checked = 0;
        for (number, gradient) in gradients.iter().enumerate() {
            let scale = gradient.iter().map(|g| g.abs()).fold(0.02, f32::max);
            for (index, &gradient) in gradient.iter().enumerate() {
                let mut shifted = |by: f32| {
                    let list = trained(&mut network.layers).nth(number).unwrap();
                    let kept = list.values[index];
                    list.values[index] = kept + by;
                    network.refresh();
                    let loss = loss(&mut network, &inputs, &weighting);
                    trained(&mut network.layers).nth(number).unwrap().values[index] = kept;
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
        assert_eq!(checked, trained(&mut network.layers).map(|l| l.values.len()).sum::<usize>());
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
        for (binary, float) in trained(&mut binary.layers).zip(trained(&mut float.layers)) {
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
        let first = trained(&mut network.layers).next().unwrap();
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
        let list = trained(&mut network.layers).next().unwrap();
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
