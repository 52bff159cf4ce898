//! A projection in which one person's windows lie close and people's apart, fitted to what a trained
//! network's convolutions make of windows.
//!
//! Of each window the means over time of the signs after the second convolution. What varies in them
//! within a person counts for less: they are multiplied by the inverse of the within-person covariance
//! (as within-class covariance normalisation of speaker recognition, Hatch et al., Interspeech 2006,
//! does with its root), and of the outcome the direction is compared. Nothing is fitted to what tells
//! the people of the training apart, so that it holds for others as well.

use rayon::prelude::*;

use super::compression::Compression;
use super::samples::Division;
use crate::bnn::{
    self, Architecture, Layer, LayerParameters, NetworkError, Parameters, time_share,
};

/// What is added to the covariance, as a share of its mean variance: directions in which the people
/// of the training hardly vary would otherwise count for everything.
const RIDGE: f64 = 0.1;

/// Layers with weights after the one that reads what is averaged.
const LAYERS_AFTER: usize = 2;

/// [`Architecture::pooled`] from a trained [`Architecture::bipedalnet`], fitted to the people whom it
/// was trained on: to their windows with a gyroscope and, the same, without.
///
/// # Errors
/// When the network is another one.
pub(super) fn pooled(
    trained: &Parameters,
    division: &Division,
) -> Result<(Architecture, Parameters), NetworkError> {
    let samples = division.recipe.samples;
    let classes = division.subjects.len();
    let trunk = Architecture::bipedalnet(samples, classes);
    let network = bnn::Network::new(&trunk, trained)?;
    let shape = trunk.shapes()?[Architecture::POOLED_TRUNK_LAYERS];
    let people: Vec<Vec<Vec<f64>>> = (0..classes)
        .into_par_iter()
        .map(|class| {
            let windows = division.plain_windows(class);
            let mut scratch = bnn::Scratch::default();
            let mut signs = Vec::new();
            let mut means = |window: Vec<i16>| {
                network
                    .run_showing(&window, LAYERS_AFTER, &mut signs, &mut scratch)
                    .expect("windows are cut for the network");
                means_over_time(&signs, shape)
            };
            windows.map(&mut means).collect()
        })
        .collect();

    let mut projection = Projection::fit(&people);
    let units = projection.centre.len();
    let weights = projection.round();
    let zero = vec![0.0; units];
    let bias = projection.apply(&zero).into_iter().map(|value| value as f32).collect();

    // A class is named by the signs of where its windows lie among all: weights that are learned by
    // the walks of the training name no more of other walks.
    let directions: Vec<Vec<f64>> = people
        .iter()
        .map(|windows| {
            let directions: Vec<Vec<f64>> =
                windows.iter().map(|window| direction(projection.apply(window))).collect();
            mean(&directions, units)
        })
        .collect();
    let among = mean(&directions, units);
    let names = directions.iter().flat_map(|direction| {
        direction.iter().zip(&among).map(|(a, b)| if a >= b { 1.0 } else { -1.0 })
    });
    let names = Some(LayerParameters::Weights { weights: names.collect(), bias: None });

    let architecture = Architecture::pooled(samples, division.subjects.len());
    let mut layers = trained.layers[..Architecture::POOLED_TRUNK_LAYERS].to_vec();
    for layer in &architecture.layers[Architecture::POOLED_TRUNK_LAYERS..] {
        layers.push(match layer {
            Layer::Projection { .. } => Some(LayerParameters::Weights {
                weights: weights.clone(),
                bias: Some(Vec::clone(&bias)),
            }),
            Layer::Dense { .. } => names.clone(),
            _ => None,
        });
    }
    Ok((architecture, Parameters { layers }))
}

/// Vectors less their mean, multiplied by the inverse of the covariance that one person's have. Of
/// the outcome directions alone tell anything.
pub struct Projection {
    centre: Vec<f64>,
    /// Row by row.
    matrix: Vec<f64>,
}

impl Projection {
    /// Fits it to each person's vectors, of one length and at least one for each. People count alike.
    pub fn fit(people: &[Vec<Vec<f64>>]) -> Self {
        let units = people.first().and_then(|vectors| vectors.first()).map_or(0, Vec::len);
        let mut covariance = vec![0.0; units * units];
        let mut centre = vec![0.0; units];
        for vectors in people {
            let mean = mean(vectors, units);
            for vector in vectors {
                let from_mean: Vec<f64> = vector.iter().zip(&mean).map(|(a, b)| a - b).collect();
                for (row, &a) in covariance.chunks_exact_mut(units).zip(&from_mean) {
                    let share = a / (vectors.len() * people.len()) as f64;
                    row.iter_mut().zip(&from_mean).for_each(|(sum, b)| *sum += share * b);
                }
            }
            let share = people.len() as f64;
            centre.iter_mut().zip(&mean).for_each(|(sum, value)| *sum += value / share);
        }
        let trace: f64 = (0..units).map(|at| covariance[at * units + at]).sum();
        let ridge = RIDGE * trace / units as f64;
        (0..units).for_each(|at| covariance[at * units + at] += ridge);
        let inverse = inverse(covariance, units);
        // To a size at which eight bits have room.
        Self { centre, matrix: inverse.iter().map(|value| value * ridge).collect() }
    }

    /// What becomes of a vector of the length that it was fitted to.
    pub fn apply(&self, values: &[f64]) -> Vec<f64> {
        let from_centre: Vec<f64> = values.iter().zip(&self.centre).map(|(a, b)| a - b).collect();
        let rows = self.matrix.chunks_exact(from_centre.len());
        rows.map(|row| row.iter().zip(&from_centre).map(|(a, b)| a * b).sum()).collect()
    }

    /// Rounds the matrix to what a model file holds, and gives it row by row.
    fn round(&mut self) -> Vec<f32> {
        let units = self.centre.len();
        let exact: Vec<f32> = self.matrix.iter().map(|value| *value as f32).collect();
        let mut columns = vec![0.0; exact.len()];
        // Symmetric, so that it does not matter which index is the output's.
        Compression::Int8.apply(&exact, units, &mut columns);
        let rows = transposed(&columns, units);
        self.matrix = rows.iter().copied().map(f64::from).collect();
        rows
    }
}

/// Of each row and channel.
fn means_over_time(signs: &[f32], shape: bnn::Shape) -> Vec<f64> {
    let share = f64::from(time_share(shape.samples));
    let mut means = Vec::with_capacity(shape.rows * shape.channels);
    for row in signs.chunks_exact(shape.samples * shape.channels) {
        let first = means.len();
        means.resize(first + shape.channels, 0.0);
        for values in row.chunks_exact(shape.channels) {
            let sums = means[first..].iter_mut().zip(values);
            sums.for_each(|(sum, &value)| *sum += share * f64::from(value));
        }
    }
    means
}

fn mean(vectors: &[Vec<f64>], length: usize) -> Vec<f64> {
    let mut mean = vec![0.0; length];
    for vector in vectors {
        let share = 1.0 / vectors.len() as f64;
        mean.iter_mut().zip(vector).for_each(|(sum, value)| *sum += share * value);
    }
    mean
}

fn direction(mut values: Vec<f64>) -> Vec<f64> {
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    values.iter_mut().for_each(|value| *value /= length.max(f64::MIN_POSITIVE));
    values
}

fn transposed(matrix: &[f32], size: usize) -> Vec<f32> {
    (0..matrix.len()).map(|at| matrix[at % size * size + at / size]).collect()
}

/// Of a symmetric, positive definite matrix: Gauss and Jordan's way, which needs no pivots there.
fn inverse(mut matrix: Vec<f64>, size: usize) -> Vec<f64> {
    for pivot in 0..size {
        let scale = 1.0 / matrix[pivot * size + pivot];
        let mut row = matrix[pivot * size..][..size].to_vec();
        row[pivot] = 1.0;
        row.iter_mut().for_each(|value| *value *= scale);
        for (at, other) in matrix.chunks_exact_mut(size).enumerate() {
            if at == pivot {
                other.copy_from_slice(&row);
                continue;
            }
            let factor = std::mem::take(&mut other[pivot]);
            other.iter_mut().zip(&row).for_each(|(value, row)| *value -= factor * row);
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_times_its_inverse_is_one() {
        // A sum of squares and a ridge: symmetric and positive definite.
        let size = 5;
        let value = |at: usize| ((at * 7919 + 13) % 23) as f64 / 10.0 - 1.1;
        let mut matrix = vec![0.0; size * size];
        for (row, column) in (0..size).flat_map(|row| (0..size).map(move |column| (row, column))) {
            let products = (0..9).map(|at| value(at * size + row) * value(at * size + column));
            matrix[row * size + column] =
                products.sum::<f64>() + if row == column { 0.5 } else { 0.0 };
        }
        let inverse = inverse(matrix.clone(), size);
        for (row, column) in (0..size).flat_map(|row| (0..size).map(move |column| (row, column))) {
            let products =
                (0..size).map(|at| matrix[row * size + at] * inverse[at * size + column]);
            let one = if row == column { 1.0 } else { 0.0 };
            assert!((products.sum::<f64>() - one).abs() < 1e-9, "{row} {column}");
        }
    }

    #[test]
    fn means_are_of_rows_and_channels() {
        let shape = bnn::Shape { rows: 2, samples: 4, channels: 1 };
        let signs = [1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0];
        assert_eq!(means_over_time(&signs, shape), [0.5, 0.0]);
    }
}
