//! Scales each feature vector to one length.

use bipedalnet_core::bnn::normaliser;

use super::{Batch, Extent, Pass, TrainableLayer};

pub struct Normalise {
    extent: Extent,
}

impl Normalise {
    pub fn new(extent: Extent) -> Self {
        Self { extent }
    }
}

impl TrainableLayer for Normalise {
    fn output(&self) -> Extent {
        self.extent
    }

    fn forward(&mut self, input: &[f32], output: &mut [f32], _: usize, _: Pass) {
        let length = self.extent.len();
        for (input, output) in input.chunks_exact(length).zip(output.chunks_exact_mut(length)) {
            let scale = normaliser(input);
            output.iter_mut().zip(input).for_each(|(to, from)| *to = scale * from);
        }
    }

    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>) {
        let Batch { input, output, output_gradient, .. } = *batch;
        let Some(input_gradient) = input_gradient else { return };
        let length = self.extent.len();
        let vectors = input.chunks_exact(length).zip(output.chunks_exact(length));
        let gradients =
            output_gradient.chunks_exact(length).zip(input_gradient.chunks_exact_mut(length));
        for ((input, output), (gradient, wanted)) in vectors.zip(gradients) {
            let scale = normaliser(input);
            let along: f32 =
                gradient.iter().zip(output).map(|(a, b)| a * b).sum::<f32>() / length as f32;
            for ((to, gradient), output) in wanted.iter_mut().zip(gradient).zip(output) {
                *to = scale * (gradient - along * output);
            }
        }
    }
}
