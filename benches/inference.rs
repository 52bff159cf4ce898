//! Time of one window: the packed networks, and the float reference for comparison.

use std::hint::black_box;

use bipedalnet::bnn::{
    Architecture, Layer, LayerParameters, Network, Parameters, Scratch, reference,
};
use criterion::{Criterion, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

fn random_parameters(architecture: &Architecture, random: &mut Pcg64Mcg) -> Parameters {
    let shapes = architecture.shapes().expect("a published architecture");
    let counts = architecture.weight_counts().expect("a published architecture");
    let layers = architecture.layers.iter().enumerate().map(|(index, layer)| {
        let channels = shapes[index + 1].channels;
        match *layer {
            Layer::Convolution { bias, .. } | Layer::Dense { bias, .. } => {
                let weight = |_| if random.random() { 1.0 } else { -1.0 };
                Some(LayerParameters::Weights {
                    weights: (0..counts[index]).map(weight).collect(),
                    bias: bias.then(|| vec![0.5; channels]),
                })
            }
            Layer::BatchNorm => Some(LayerParameters::BatchNorm {
                beta: vec![0.1; channels],
                mean: vec![0.2; channels],
                variance: vec![3.0; channels],
            }),
            Layer::MaxPool { .. } | Layer::Sign | Layer::Tanh => None,
        }
    });
    Parameters { layers: layers.collect() }
}

fn inference(criterion: &mut Criterion) {
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let mut group = criterion.benchmark_group("window");
    for (name, architecture) in [
        ("bipedalnet", Architecture::bipedalnet(100, 38)),
        ("binarized-idnet", Architecture::binarized_idnet(38)),
    ] {
        let parameters = random_parameters(&architecture, &mut random);
        let network = Network::new(&architecture, &parameters).expect("a binary network");
        let window: Vec<i16> =
            (0..network.input_len()).map(|_| random.random_range(-2048..2048)).collect();
        let mut scratch = Scratch::default();
        group.bench_function(format!("{name}/packed"), |bencher| {
            bencher.iter(|| {
                let output = network.run(black_box(&window), &mut scratch);
                output.expect("a window of its length").logits[0]
            });
        });

        let floats: Vec<f32> = window.iter().map(|&value| f32::from(value) / 1024.0).collect();
        group.bench_function(format!("{name}/float-reference"), |bencher| {
            bencher.iter(|| reference::forward(&architecture, &parameters, black_box(&floats)));
        });
    }
    group.finish();
}

criterion_group!(benches, inference);
criterion_main!(benches);
