use bipedalnet_core::bnn::reference;
use rand_distr::{Distribution, StandardNormal};

use super::*;

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
    assert_eq!(network.forward(&[-2.0, 0.5, 3.0, -0.25], Pass::Training), [-2.0 + 3.0 + 5.0 - 7.0]);
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
