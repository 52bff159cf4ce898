//! The simple float forward pass that all other implementations are tested against.

use super::parameters::{batch_norm, deviation, normaliser, time_share};
use super::{Architecture, Layer, LayerParameters, NetworkError, Padding, Parameters, Shape};

/// Runs a network layer by layer and returns the output of each.
///
/// Slow and simple. `input` has rows x samples real values.
///
/// # Errors
/// If the parameters do not fit the architecture, or the input has another size.
pub fn forward(
    architecture: &Architecture,
    parameters: &Parameters,
    input: &[f32],
) -> Result<Vec<Vec<f32>>, NetworkError> {
    parameters.check(architecture)?;
    let shapes = architecture.shapes()?;
    if input.len() != shapes[0].len() {
        return Err(NetworkError::InputLength { length: input.len(), needed: shapes[0].len() });
    }
    let mut outputs: Vec<Vec<f32>> = Vec::new();
    for (index, layer) in architecture.layers.iter().enumerate() {
        let values = outputs.last().map_or(input, |values| &values[..]);
        let (from, to) = (shapes[index], shapes[index + 1]);
        let output = match (layer, &parameters.layers[index]) {
            (
                Layer::Convolution { kernel, padding, .. },
                Some(LayerParameters::Weights { weights, bias }),
            ) => convolution(values, from, to, *kernel, *padding, weights, bias.as_deref()),
            (
                Layer::Dense { .. } | Layer::Projection { .. },
                Some(LayerParameters::Weights { weights, bias }),
            ) => dense(values, weights, bias.as_deref()),
            (Layer::MaxPool { size }, _) => max_pool(values, from, to, *size),
            (Layer::BatchNorm, Some(LayerParameters::BatchNorm { beta, mean, variance })) => values
                .iter()
                .enumerate()
                .map(|(at, &value)| {
                    let channel = at % to.channels;
                    batch_norm(value, beta[channel], mean[channel], deviation(variance[channel]))
                })
                .collect(),
            (Layer::Sign, _) => values.iter().map(|&v| if v >= 0.0 { 1.0 } else { -1.0 }).collect(),
            (Layer::Tanh, _) => values.iter().map(|v| v.tanh()).collect(),
            (Layer::Mean, _) => mean(values, from),
            (Layer::Autocorrelation { lags }, _) => autocorrelation(values, from, *lags),
            (Layer::Deflation { .. }, Some(LayerParameters::Deflation { centre, directions })) => {
                deflation(values, centre, directions)
            }
            (Layer::Normalise, _) => {
                let scale = normaliser(values);
                values.iter().map(|value| value * scale).collect()
            }
            _ => unreachable!("`check` found parameters of each layer's kind"),
        };
        outputs.push(output);
    }
    Ok(outputs)
}

fn convolution(
    values: &[f32],
    from: Shape,
    to: Shape,
    [kernel_rows, kernel_samples]: [usize; 2],
    padding: Padding,
    weights: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let before = match padding {
        Padding::Valid => [0, 0],
        Padding::Same => [(kernel_rows - 1) / 2, (kernel_samples - 1) / 2],
    };
    let mut output = Vec::with_capacity(to.len());
    for row in 0..to.rows {
        for sample in 0..to.samples {
            for filter in 0..to.channels {
                let mut sum = 0.0;
                for kernel_row in 0..kernel_rows {
                    for kernel_sample in 0..kernel_samples {
                        // Taps before the edge wrap around to a huge number, past the other edge.
                        let from_row = (row + kernel_row).wrapping_sub(before[0]);
                        let from_sample = (sample + kernel_sample).wrapping_sub(before[1]);
                        if from_row >= from.rows || from_sample >= from.samples {
                            continue;
                        }
                        for channel in 0..from.channels {
                            let weight = ((filter * kernel_rows + kernel_row) * kernel_samples
                                + kernel_sample)
                                * from.channels
                                + channel;
                            let value =
                                (from_row * from.samples + from_sample) * from.channels + channel;
                            sum += values[value] * weights[weight];
                        }
                    }
                }
                output.push(bias.map_or(sum, |bias| sum + bias[filter]));
            }
        }
    }
    output
}

fn dense(values: &[f32], weights: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    weights
        .chunks_exact(values.len())
        .enumerate()
        .map(|(unit, weights)| {
            let sum: f32 = values.iter().zip(weights).map(|(value, weight)| value * weight).sum();
            bias.map_or(sum, |bias| sum + bias[unit])
        })
        .collect()
}

fn mean(values: &[f32], from: Shape) -> Vec<f32> {
    let mut output = Vec::new();
    for row in values.chunks_exact(from.samples * from.channels) {
        for channel in 0..from.channels {
            let sum: f32 = row.iter().skip(channel).step_by(from.channels).sum();
            output.push(sum * time_share(from.samples));
        }
    }
    output
}

fn autocorrelation(values: &[f32], from: Shape, lags: [usize; 3]) -> Vec<f32> {
    let mut output = mean(values, from);
    for lag in lags {
        for row in values.chunks_exact(from.samples * from.channels) {
            for channel in 0..from.channels {
                let series: Vec<f32> =
                    row.iter().skip(channel).step_by(from.channels).copied().collect();
                let sum: f32 = series.iter().zip(&series[lag..]).map(|(a, b)| a * b).sum();
                output.push(sum * time_share(from.samples - lag));
            }
        }
    }
    output
}

fn deflation(values: &[f32], centre: &[f32], directions: &[f32]) -> Vec<f32> {
    let from_centre: Vec<f32> = values.iter().zip(centre).map(|(a, b)| a - b).collect();
    let along = dense(&from_centre, directions, None);
    let removed = |at: usize| -> f32 {
        let directions = directions.chunks_exact(values.len());
        along.iter().zip(directions).map(|(along, direction)| along * direction[at]).sum()
    };
    from_centre.iter().enumerate().map(|(at, value)| value - removed(at)).collect()
}

fn max_pool(values: &[f32], from: Shape, to: Shape, size: [usize; 2]) -> Vec<f32> {
    let mut output = vec![f32::NEG_INFINITY; to.len()];
    for row in 0..to.rows * size[0] {
        for sample in 0..to.samples * size[1] {
            for channel in 0..to.channels {
                let value = values[(row * from.samples + sample) * from.channels + channel];
                let at = (row / size[0] * to.samples + sample / size[1]) * to.channels + channel;
                output[at] = output[at].max(value);
            }
        }
    }
    output
}
