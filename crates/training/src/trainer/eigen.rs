//! The largest eigenvalues of a symmetric matrix.

use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

/// Extra vectors to iterate. They make the last of the wanted ones converge sooner.
const SPARE_VECTORS: usize = 16;

const ITERATIONS: usize = 60;

/// Sweeps of Jacobi's method. It converges quadratically.
const SWEEPS: usize = 12;

/// Computes the `count` largest eigenvalues of a symmetric, positive semidefinite matrix, in falling
/// order, each with its eigenvector of length 1.
///
/// This is subspace iteration from a fixed start. The same matrix gives the same result, whatever
/// the number of threads.
pub fn largest(matrix: &[f64], size: usize, count: usize) -> Vec<(f64, Vec<f64>)> {
    let width = (count + SPARE_VECTORS).min(size);
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let mut vectors: Vec<Vec<f64>> = (0..width)
        .map(|_| (0..size).map(|_| StandardNormal.sample(&mut random)).collect())
        .collect();
    for _ in 0..ITERATIONS {
        orthonormalise(&mut vectors);
        vectors = product(matrix, &vectors);
    }
    orthonormalise(&mut vectors);
    let images = product(matrix, &vectors);
    let small: Vec<f64> = vectors
        .iter()
        .flat_map(|vector| images.iter().map(move |image| dot(vector, image)))
        .collect();
    let (values, rotation) = jacobi(small, width);
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let rotated = |column: usize| {
        let mut sum = vec![0.0; size];
        for (row, vector) in vectors.iter().enumerate() {
            let share = rotation[row * width + column];
            sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += share * value);
        }
        sum
    };
    order.into_iter().take(count).map(|column| (values[column], rotated(column))).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The matrix times each vector.
fn product(matrix: &[f64], vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let (size, width) = (vectors[0].len(), vectors.len());
    // Vectors side by side, so that the inner loop runs along all of them.
    let columns: Vec<f64> = (0..size * width).map(|at| vectors[at % width][at / width]).collect();
    let mut products = vec![0.0; size * width];
    products.par_chunks_mut(width).zip(matrix.par_chunks(size)).for_each(|(sums, row)| {
        for (factor, columns) in row.iter().zip(columns.chunks_exact(width)) {
            sums.iter_mut().zip(columns).for_each(|(sum, value)| *sum += factor * value);
        }
    });
    (0..width).map(|at| products.iter().skip(at).step_by(width).copied().collect()).collect()
}

/// The Gram-Schmidt process. Vectors that depend on those before become zero.
fn orthonormalise(vectors: &mut [Vec<f64>]) {
    for at in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(at);
        let vector = &mut rest[0];
        let length = dot(vector, vector).sqrt();
        // The second round removes the rounding errors of the first.
        for other in before.iter().chain(before.iter()) {
            let along = dot(vector, other);
            vector.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
        }
        let left = dot(vector, vector).sqrt();
        let scale = if left > 1e-12 * length { 1.0 / left } else { 0.0 };
        vector.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Computes all eigenvalues of a small symmetric matrix, and the eigenvectors as columns.
fn jacobi(mut matrix: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>) {
    let mut rotation = vec![0.0; size * size];
    (0..size).for_each(|at| rotation[at * size + at] = 1.0);
    let pairs = || (0..size).flat_map(|p| (p + 1..size).map(move |q| (p, q)));
    for (p, q) in std::iter::repeat_n((), SWEEPS).flat_map(|()| pairs()) {
        let between = matrix[p * size + q];
        if between == 0.0 {
            continue;
        }
        let difference = matrix[q * size + q] - matrix[p * size + p];
        let angle = 0.5 * (2.0 * between).atan2(-difference);
        let (sine, cosine) = angle.sin_cos();
        let turn = |a: &mut f64, b: &mut f64| {
            (*a, *b) = (cosine * *a + sine * *b, cosine * *b - sine * *a);
        };
        for at in 0..size {
            let row = &mut matrix[at * size..][..size];
            let (left, right) = row.split_at_mut(q);
            turn(&mut left[p], &mut right[0]);
            let (left, right) = rotation[at * size..][..size].split_at_mut(q);
            turn(&mut left[p], &mut right[0]);
        }
        let (above, below) = matrix.split_at_mut(q * size);
        let rows = above[p * size..][..size].iter_mut().zip(&mut below[..size]);
        rows.for_each(|(a, b)| turn(a, b));
    }
    ((0..size).map(|at| matrix[at * size + at]).collect(), rotation)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of the outer products of `rank` random vectors.
    fn covariance(size: usize, rank: usize) -> Vec<f64> {
        let mut random = Pcg64Mcg::seed_from_u64(9);
        let mut matrix = vec![0.0; size * size];
        for number in 0..rank {
            let scale = 0.9f64.powi(number as i32);
            let vector: Vec<f64> = (0..size)
                .map(|_| {
                    let value: f64 = StandardNormal.sample(&mut random);
                    scale * value
                })
                .collect();
            for (row, a) in matrix.chunks_exact_mut(size).zip(&vector) {
                row.iter_mut().zip(&vector).for_each(|(sum, b)| *sum += a * b);
            }
        }
        matrix
    }

    #[test]
    fn eigenvectors_are_stretched_and_stand_upright_on_each_other() {
        for (size, rank, count) in [(60, 80, 5), (12, 20, 12), (30, 4, 6), (1, 1, 1)] {
            let matrix = covariance(size, rank);
            let pairs = largest(&matrix, size, count);
            assert_eq!(pairs.len(), count);
            assert!(pairs.is_sorted_by(|a, b| a.0 >= b.0));
            let trace: f64 = (0..size).map(|at| matrix[at * size + at]).sum();
            for (number, (value, vector)) in pairs.iter().enumerate() {
                let image = &product(&matrix, std::slice::from_ref(vector))[0];
                for (image, entry) in image.iter().zip(vector) {
                    assert!((image - value * entry).abs() < 1e-5 * trace, "{size}, {number}");
                }
                for (_, other) in &pairs[..number] {
                    assert!(dot(vector, other).abs() < 1e-9);
                }
                let exists = number < rank;
                assert!((dot(vector, vector) - f64::from(u8::from(exists))).abs() < 1e-9);
            }
            if count >= size.min(rank) {
                let sum: f64 = pairs.iter().map(|(value, _)| value).sum();
                assert!((sum - trace).abs() < 1e-9 * trace, "{sum} {trace}");
            }
        }
    }
}
