use proptest::prelude::*;

use super::affine::{Affine, Step};
use super::packing::{NEEDS_SIGN, NEEDS_SUMS, TOO_MANY_PRODUCTS, TOO_MANY_TAPS};
use super::*;
use crate::bnn::arbitrary::{architectures, kernel_architectures, parameters, window};
use crate::bnn::parameters::time_share;
use crate::bnn::{Layer, LayerParameters, Shape, reference};

fn signs(words: &[u64], channels: usize) -> Vec<f32> {
    words
        .chunks(channels.div_ceil(64))
        .flat_map(|words| (0..channels).map(|at| words[at / 64] >> (at % 64) & 1))
        .map(|bit| if bit == 1 { 1.0 } else { -1.0 })
        .collect()
}

fn assert_same(layer: usize, packed: &[f32], float: &[f32]) {
    assert_eq!(packed.len(), float.len(), "length of layer {layer}");
    for (at, (packed, float)) in packed.iter().zip(float).enumerate() {
        let same = packed == float || packed.is_nan() && float.is_nan();
        assert!(same, "layer {layer}, value {at}: packed {packed}, float {float}");
    }
}

/// Compares the output of each layer with the reference, and then that of all kernels.
fn assert_equals_reference(architecture: &Architecture, seed: u64, scratch: &mut Scratch) {
    let parameters = parameters(architecture, seed);
    let values = window(architecture.input[0] * architecture.input[1], seed);
    assert_run_equals_reference(architecture, &parameters, &values, scratch);
}

fn assert_run_equals_reference(
    architecture: &Architecture,
    parameters: &Parameters,
    values: &[i16],
    scratch: &mut Scratch,
) {
    let network = packing::pack(architecture, parameters, Kernels::preferred()).unwrap();
    let input: Vec<f32> = values.iter().map(|&value| f32::from(value) / 1024.0).collect();
    let expected = reference::forward(architecture, parameters, &input).unwrap();
    let shapes = architecture.shapes().unwrap();

    let mut stages = network.stages.iter();
    // The float steps that turn a packed sum into its float value.
    let mut affine = Affine::new(1.0 / 1024.0);
    let mut is_bits = false;
    let of_direction = architecture.layers.iter().position(|layer| *layer == Layer::Normalise);
    let of_mean = architecture
        .layers
        .iter()
        .position(|layer| matches!(layer, Layer::Mean | Layer::Autocorrelation { .. }));
    let with_stages = of_mean.or(of_direction).unwrap_or(architecture.layers.len());
    for (index, layer) in architecture.layers[..with_stages].iter().enumerate() {
        match (layer, &parameters.layers[index]) {
            (Layer::BatchNorm, Some(LayerParameters::BatchNorm { beta, mean, variance })) => {
                affine.steps.push(Step::batch_norm(beta, mean, variance));
            }
            (_, layer_parameters) => {
                stages.next().expect("one stage a layer").run(values, scratch);
                if let Some(LayerParameters::Weights { bias, .. }) = layer_parameters {
                    affine = Affine::new(if index == 0 { 1.0 / 1024.0 } else { 1.0 });
                    affine.steps.extend(bias.clone().map(Step::Bias));
                    is_bits = false;
                }
                is_bits |= *layer == Layer::Sign;
            }
        }
        let channels = shapes[index + 1].channels;
        let mut packed = Vec::new();
        if is_bits {
            packed = signs(&scratch.bits, channels);
        } else {
            affine.apply_all(&scratch.integers, channels, &mut packed);
        }
        assert_same(index, &packed, &expected[index]);
    }
    if let Some(index) = of_mean {
        stages.next().expect("a stage for the mean").run(values, scratch);
        let mut packed = Vec::new();
        let Shape { rows, samples, channels } = shapes[index];
        let affine = match architecture.layers[index] {
            Layer::Autocorrelation { lags } => {
                let scales = [0, lags[0], lags[1], lags[2]]
                    .map(|lag| vec![time_share(samples - lag); rows * channels]);
                Affine { scale: 1.0, steps: vec![Step::Scale(scales.concat())] }
            }
            _ => Affine::new(time_share(samples)),
        };
        affine.apply_all(&scratch.integers, shapes[index + 1].channels, &mut packed);
        assert_same(index, &packed, &expected[index]);
    }
    assert!(stages.next().is_none());

    let output = network.run(values, scratch).unwrap();
    let last = architecture.layers.len() - 1;
    if architecture.classes() > 0 {
        assert_same(last, output.logits, &expected[last]);
    } else {
        assert!(output.logits.is_empty());
        assert_same(last, output.feature, &expected[last]);
    }
    let of_sign = architecture.layers.iter().rposition(|layer| *layer == Layer::Sign);
    match of_direction.or(of_sign) {
        _ if architecture.classes() == 0 => {}
        None => assert!(output.feature.is_empty()),
        Some(after) => assert_same(after - 1, output.feature, &expected[after - 1]),
    }
    assert_eq!(output.feature.len(), network.feature_len());

    let expected =
        (bits_of_stages(&network, values, scratch), output_bits(&network, values, scratch));
    for kernels in Kernels::available() {
        let network = Network::with_kernels(architecture, parameters, kernels).unwrap();
        let packed =
            (bits_of_stages(&network, values, scratch), output_bits(&network, values, scratch));
        assert!(packed == expected, "{}, {architecture}", kernels.name());
    }
}

/// The output of each stage that ends in bits.
fn bits_of_stages(network: &Network, values: &[i16], scratch: &mut Scratch) -> Vec<Vec<u64>> {
    let mut bits = Vec::new();
    for stage in &network.stages {
        stage.run(values, scratch);
        if matches!(
            stage,
            Stage::Sign { .. }
                | Stage::MaxPoolBits { .. }
                | Stage::FirstBlock(_)
                | Stage::FilterSigns { .. }
        ) {
            bits.push(scratch.bits.clone());
        }
    }
    bits
}

/// The bits of the feature and the logits.
fn output_bits(network: &Network, values: &[i16], scratch: &mut Scratch) -> [Vec<u32>; 2] {
    let output = network.run(values, scratch).unwrap();
    [output.feature, output.logits].map(|values| values.iter().map(|v| v.to_bits()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn packed_equals_float_in_every_layer(
        networks in prop::collection::vec(
            (prop_oneof![architectures(), kernel_architectures()], any::<u64>()),
            1..3,
        ),
    ) {
        // One scratch for several networks: one must not change the results of the next.
        let mut scratch = Scratch::default();
        for (architecture, seed) in networks {
            assert_equals_reference(&architecture, seed, &mut scratch);
        }
    }
}

#[test]
fn the_trained_networks_equal_their_float_forms() {
    let mut scratch = Scratch::default();
    for seed in 0..5 {
        assert_equals_reference(&Architecture::bipedalnet(100, 38), seed, &mut scratch);
        assert_equals_reference(&Architecture::pooled(100, 38), seed, &mut scratch);
        assert_equals_reference(&Architecture::openset(100), seed, &mut scratch);
        let classifier = Architecture::openset_classifier(100, 38);
        assert_equals_reference(&classifier, seed, &mut scratch);
    }
    assert_equals_reference(&Architecture::binarized_idnet(38), 5, &mut scratch);
}

#[test]
fn all_stages_of_bipedalnet_have_kernels() {
    let architecture = Architecture::bipedalnet(100, 38);
    for kernels in Kernels::available() {
        let network =
            Network::with_kernels(&architecture, &parameters(&architecture, 1), kernels).unwrap();
        assert!(
            matches!(
                network.stages[..],
                [
                    Stage::FirstBlock(_),
                    Stage::FilterSigns { .. },
                    Stage::FilterSigns { .. },
                    Stage::FilterSums { .. },
                ]
            ),
            "{}",
            kernels.name()
        );
    }
}

#[test]
fn the_largest_sums_of_the_first_block_are_exact() {
    let architecture: Architecture =
        "binary 4x20 conv32/3x3 pool2x2 bn sign dense32 sign dense1".parse().unwrap();
    let mut parameters = parameters(&architecture, 1);
    let mut scratch = Scratch::default();
    // Nine values of 3640 are a sum of 16 bits, nine of 3641 are not.
    for value in [i16::MIN, i16::MIN + 1, i16::MAX, 3640, -3640, 3641, -3641] {
        // Thresholds below, at and above the largest sum, and its negative.
        let largest = 9.0 * f32::from(value) / 1024.0;
        let threshold = |filter: i32| {
            let sign = if filter % 2 == 0 { 1.0 } else { -1.0 };
            sign * largest + (filter / 2 - 8) as f32 / 1024.0
        };
        for weight in [1.0, -1.0] {
            let first = LayerParameters::Weights { weights: vec![weight; 32 * 9], bias: None };
            let batch_norm = LayerParameters::BatchNorm {
                beta: vec![0.0; 32],
                mean: (0..32).map(threshold).collect(),
                variance: vec![1.0; 32],
            };
            parameters.layers[0] = Some(first);
            parameters.layers[2] = Some(batch_norm);
            assert_run_equals_reference(&architecture, &parameters, &[value; 80], &mut scratch);
        }
    }
}

#[test]
fn sums_of_the_widest_first_filter_are_exact() {
    // The sum of 512 values of -32768 is the largest that a float holds exactly.
    let architecture: Architecture = "binary 2x256 dense3+ bn sign dense1".parse().unwrap();
    for seed in 0..64 {
        assert_equals_reference(&architecture, seed, &mut Scratch::default());
    }
}

#[test]
fn features_come_before_the_last_sign_or_direction() {
    for (architecture, length) in [
        (Architecture::bipedalnet(100, 38), 32),
        (Architecture::binarized_idnet(38), 40),
        (Architecture::pooled(100, 38), 192),
        (Architecture::openset(100), 768),
    ] {
        let network = Network::new(&architecture, &parameters(&architecture, 1)).unwrap();
        assert_eq!(network.feature_len(), length);
    }
}

#[test]
fn the_input_of_a_layer_is_shown() {
    let architecture: Architecture =
        "binary 8x20 conv5/3x3 pool2x2 bn sign conv70/1x3 bn sign mean bn dense7 bn norm dense3"
            .parse()
            .unwrap();
    let parameters = parameters(&architecture, 4);
    let network = Network::new(&architecture, &parameters).unwrap();
    let window = window(160, 4);
    let input: Vec<f32> = window.iter().map(|&value| f32::from(value) / 1024.0).collect();
    let layers = reference::forward(&architecture, &parameters, &input).unwrap();
    // Four layers have weights; the first reads the window.
    for (layers_after, read) in [(0, &layers[10][..]), (1, &layers[8]), (2, &layers[3]), (3, &[])] {
        let mut shown = vec![f32::NAN; 3];
        network.run_showing(&window, layers_after, &mut shown, &mut Scratch::default()).unwrap();
        assert_same(layers_after, &shown, read);
    }
}

#[test]
fn a_tie_is_plus_one() {
    // With one weight of +1 and no bias, the sum is the input. An input equal to the mean is a tie.
    let architecture: Architecture = "binary 1x3 conv1/1x1 bn sign dense1".parse().unwrap();
    let weights = |count| Some(LayerParameters::Weights { weights: vec![1.0; count], bias: None });
    let batch_norm = LayerParameters::BatchNorm {
        beta: vec![0.0],
        mean: vec![2.0 / 1024.0],
        variance: vec![1.0],
    };
    let parameters = Parameters { layers: vec![weights(1), Some(batch_norm), None, weights(3)] };
    let network = Network::new(&architecture, &parameters).unwrap();
    let mut scratch = Scratch::default();
    for (window, logit) in [([1, 1, 1], -3.0), ([1, 2, 1], -1.0), ([2, 3, 2], 3.0)] {
        assert_eq!(network.run(&window, &mut scratch).unwrap().logits, [logit]);
    }
}

#[test]
fn layers_that_cannot_run_packed_are_named() {
    for (text, layer, reason) in [
        ("float 8x20 sign dense2", 0, "float weights cannot be packed"),
        ("binary 8x20 conv4/3x3 conv4/3x3 sign dense2", 1, NEEDS_SIGN),
        ("binary 8x20 conv4/3x3 bn dense2", 2, NEEDS_SIGN),
        ("binary 8x20 conv4/3x3 sign bn dense2", 2, NEEDS_SUMS),
        ("binary 8x20 conv4/3x3 sign sign dense2", 2, NEEDS_SUMS),
        ("binary 8x20 bn conv4/3x3 sign dense2", 0, NEEDS_SUMS),
        ("binary 8x20 pool2x2 dense2", 0, NEEDS_SUMS),
        ("binary 8x20 sign dense2", 0, NEEDS_SUMS),
        ("binary 8x20 conv4/3x3 tanh dense2", 1, "tanh cannot be packed"),
        ("binary 8x20 conv4/3x3 bn mean dense2", 2, NEEDS_SUMS),
        ("binary 8x20 conv4/3x3 sign mean bn sign dense2", 4, NEEDS_SUMS),
        ("binary 8x20 conv4/3x3 bn acf1,2,3 dense2", 2, NEEDS_SUMS),
        ("binary 1x1 deflate1", 0, NEEDS_SUMS),
        ("binary 27x19 dense2", 0, TOO_MANY_TAPS),
        ("binary 30x40 conv1/27x19 sign dense2", 0, TOO_MANY_TAPS),
        (
            "binary 512x512 conv64/1x1 sign conv64/3x3/same sign pool512x512 dense2",
            2,
            TOO_MANY_PRODUCTS,
        ),
    ] {
        let architecture: Architecture = text.parse().unwrap();
        let error = Network::new(&architecture, &parameters(&architecture, 1)).unwrap_err();
        assert_eq!(error, NetworkError::Unsupported { layer, reason }, "{text}");
    }
}

#[test]
fn parameters_of_another_network_are_rejected() {
    let architecture: Architecture = "binary 4x9 conv3/2x2+ bn sign dense2".parse().unwrap();
    let fitting = parameters(&architecture, 1);
    type Damage = fn(&mut Parameters);
    let weights = |parameters: &mut Parameters,
                   change: fn(&mut Vec<f32>, &mut Option<Vec<f32>>)| {
        match &mut parameters.layers[0] {
            Some(LayerParameters::Weights { weights, bias }) => change(weights, bias),
            _ => unreachable!(),
        }
    };
    let change_weights = |change| {
        let mut parameters = fitting.clone();
        weights(&mut parameters, change);
        parameters.check(&architecture).unwrap_err()
    };
    let change = |damage: Damage| {
        let mut parameters = fitting.clone();
        damage(&mut parameters);
        parameters.check(&architecture).unwrap_err()
    };
    let length = |layer, list, length, needed| NetworkError::Length { layer, list, length, needed };
    let kind = |layer, kind| NetworkError::Kind { layer, kind };
    let value = |list, index, value| NetworkError::Value { layer: 0, list, index, value };

    let error = change_weights(|weights, _| weights.truncate(11));
    assert_eq!(error, length(0, "weights", 11, 12));
    let error = change_weights(|weights, _| weights[3] = 0.5);
    assert_eq!(error, value("weights", 3, 0.5));
    let error = change_weights(|_, bias| bias.as_mut().unwrap()[2] = f32::INFINITY);
    assert_eq!(error, value("bias", 2, f32::INFINITY));
    let error = change_weights(|_, bias| bias.as_mut().unwrap().push(0.0));
    assert_eq!(error, length(0, "bias", 4, 3));
    let error = change_weights(|_, bias| *bias = None);
    assert_eq!(error, kind(0, "a convolution with a bias"));
    let error = change(|parameters| parameters.layers.truncate(3));
    assert_eq!(error, length(4, "parameters", 3, 4));
    let error = change(|parameters| parameters.layers.swap(1, 2));
    assert_eq!(error, kind(1, "BatchNorm"));
    let error = change(|parameters| parameters.layers[2] = parameters.layers[1].clone());
    assert_eq!(error, kind(2, "a layer that has none"));
    let error = change(|parameters| match &mut parameters.layers[3] {
        Some(LayerParameters::Weights { bias, .. }) => *bias = Some(Vec::new()),
        _ => unreachable!(),
    });
    assert_eq!(error, kind(3, "a dense layer without a bias"));
    let error = change(|parameters| match &mut parameters.layers[1] {
        Some(LayerParameters::BatchNorm { variance, .. }) => variance[0] = -1.0,
        _ => unreachable!(),
    });
    assert_eq!(error, NetworkError::Value { layer: 1, list: "variance", index: 0, value: -1.0 });
}

#[test]
fn weights_of_eight_bits_need_no_more_bits() {
    let architecture: Architecture =
        "binary 4x9 conv3/2x2 sign mean project2 norm dense2".parse().unwrap();
    let fitting = parameters(&architecture, 1);
    fitting.check(&architecture).unwrap();
    for (value, is_one) in [(127.0, true), (127.5, false), (f32::NAN, false), (0.0, true)] {
        let mut parameters = fitting.clone();
        let Some(LayerParameters::Weights { weights, .. }) = &mut parameters.layers[3] else {
            unreachable!();
        };
        // The largest weight of its unit. The others are as far apart as eight bits allow.
        let length = weights.len();
        weights[length / 2..].fill(1.0);
        weights[length - 1] = value;
        let error = parameters.check(&architecture).err();
        let at_fault = |error: NetworkError| match error {
            NetworkError::Value { layer, list, .. } => (layer, list),
            other => panic!("{other}"),
        };
        let expected = (!is_one).then_some((3, "weights"));
        assert_eq!(error.map(at_fault), expected, "{value}");
    }
}

#[test]
fn a_window_of_another_length_is_rejected() {
    let architecture = Architecture::bipedalnet(100, 3);
    let parameters = parameters(&architecture, 1);
    let network = Network::new(&architecture, &parameters).unwrap();
    for length in [0, 799, 801] {
        let refused = NetworkError::InputLength { length, needed: 800 };
        let error = network.run(&vec![0; length], &mut Scratch::default()).unwrap_err();
        assert_eq!(error, refused);
        let error = reference::forward(&architecture, &parameters, &vec![0.0; length]).unwrap_err();
        assert_eq!(error, refused);
    }
}

#[test]
fn later_runs_allocate_nothing() {
    let every_stage =
        "binary 8x100 conv32/3x3 pool2x2 bn sign conv70/1x3 sign pool1x2 dense32 sign dense38+";
    let with_means = "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign mean bn dense32 bn norm dense38";
    let ours = [
        Architecture::bipedalnet(100, 38),
        Architecture::pooled(100, 38),
        Architecture::openset(100),
    ];
    let others = [every_stage, with_means].map(|text| text.parse().unwrap());
    for architecture in ours.into_iter().chain(others) {
        let network = Network::new(&architecture, &parameters(&architecture, 1)).unwrap();
        let mut scratch = Scratch::default();
        // A buffer that grew or was replaced would have another address.
        let buffers = |scratch: &Scratch| {
            (
                scratch.integers.as_ptr(),
                [scratch.bits.as_ptr(), scratch.next_bits.as_ptr()],
                [&scratch.feature, &scratch.logits, &scratch.reals].map(|values| values.as_ptr()),
            )
        };
        network.run(&window(800, 0), &mut scratch).unwrap();
        let before = buffers(&scratch);
        for seed in 1..6 {
            network.run(&window(800, seed), &mut scratch).unwrap();
            assert_eq!(buffers(&scratch), before);
        }
    }
}
