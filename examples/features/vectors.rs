//! Vectors, and a head that is learned from those of a background of people.

use std::iter::zip;

pub type Vector = Vec<f32>;

/// Added to a covariance's diagonal, as a share of its mean.
const RIDGE: f64 = 0.1;

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    zip(a, b).map(|(a, b)| a * b).sum()
}

pub fn sum(vectors: &[Vector]) -> Vector {
    let mut sums = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        zip(&mut sums, vector).for_each(|(sum, value)| *sum += value);
    }
    sums
}

pub fn unit(vector: &[f32]) -> Vector {
    let length = dot(vector, vector).sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|value| value / length).collect()
}

/// Directions that tell people apart: differences from the mean, weighed by the inverse of the
/// covariance that one person's windows have.
pub struct Head {
    mean: Vec<f64>,
    /// Row by row.
    inverse: Vec<f64>,
}

impl Head {
    /// Learned from each person's windows. People count alike.
    pub fn new(people: &[Vec<Vector>]) -> Self {
        let length = people.first().and_then(|windows| windows.first()).map_or(0, Vec::len);
        let (mut mean, mut covariance) = (vec![0.0; length], vec![0.0; length * length]);
        for windows in people {
            let of_person: Vec<f32> =
                sum(windows).iter().map(|sum| sum / windows.len() as f32).collect();
            zip(&mut mean, &of_person).for_each(|(sum, value)| *sum += f64::from(*value));
            let weight = 1.0 / windows.len() as f64;
            for window in windows {
                let off: Vec<f64> =
                    zip(window, &of_person).map(|(value, mean)| f64::from(value - mean)).collect();
                for (row, &a) in zip(covariance.chunks_exact_mut(length), &off) {
                    zip(row, &off).for_each(|(sum, b)| *sum += weight * a * b);
                }
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= people.len() as f64);
        let diagonal = || (0..length).map(|index| index * (length + 1));
        let ridge = RIDGE / length as f64 * diagonal().map(|at| covariance[at]).sum::<f64>();
        diagonal().for_each(|at| covariance[at] += ridge);
        Self { mean, inverse: inverse(covariance, length) }
    }

    pub fn apply(&self, vector: &[f32]) -> Vector {
        let off: Vec<f64> =
            zip(vector, &self.mean).map(|(value, mean)| f64::from(*value) - mean).collect();
        let rows = self.inverse.chunks_exact(off.len());
        rows.map(|row| zip(row, &off).map(|(a, b)| a * b).sum::<f64>() as f32).collect()
    }
}

/// Of a positive definite matrix, by Gauss and Jordan in place.
fn inverse(mut matrix: Vec<f64>, length: usize) -> Vec<f64> {
    for pivot in 0..length {
        let scale = 1.0 / std::mem::replace(&mut matrix[pivot * length + pivot], 1.0);
        let row = &mut matrix[pivot * length..][..length];
        row.iter_mut().for_each(|value| *value *= scale);
        let row = row.to_vec();
        for (index, other) in matrix.chunks_exact_mut(length).enumerate() {
            if index != pivot {
                let factor = std::mem::take(&mut other[pivot]);
                zip(other, &row).for_each(|(value, of_pivot)| *value -= factor * of_pivot);
            }
        }
    }
    matrix
}
