//! The spread of features within people.

use rayon::prelude::*;

use crate::network::{View, multiply};

/// Rows of the covariance that one task computes.
const ROWS_PER_TASK: usize = 64;

/// The spread of people's windows about each person's mean, summed over people.
pub struct Spread {
    pub people: f64,
    /// Sum of the people's means.
    pub centre: Vec<f64>,
    /// Sum of the people's covariances.
    pub covariance: Vec<f32>,
}

impl Spread {
    /// A spread without people, for values of this length.
    pub fn of_nobody(length: usize) -> Self {
        Self { people: 0.0, centre: vec![0.0; length], covariance: vec![0.0; length * length] }
    }

    /// Adds people, given the vectors of each one's windows. Each needs at least one.
    pub fn add(&mut self, people: &[Vec<Vec<f32>>]) {
        let length = self.centre.len();
        self.people += people.len() as f64;
        for vectors in people {
            self.centre.iter_mut().zip(mean(vectors)).for_each(|(sum, mean)| *sum += mean);
        }
        let rows: Vec<f32> = people
            .par_iter()
            .flat_map_iter(|vectors| {
                let mean = mean(vectors);
                let scale = 1.0 / (vectors.len() as f64).sqrt();
                vectors.iter().flat_map(move |vector| {
                    let from_mean = vector.iter().zip(&mean);
                    from_mean
                        .map(|(value, mean)| (scale * (f64::from(*value) - mean)) as f32)
                        .collect::<Vec<f32>>()
                })
            })
            .collect();
        let windows = rows.len() / length;
        let sums = self.covariance.par_chunks_mut(ROWS_PER_TASK * length).enumerate();
        sums.for_each(|(task, sums)| {
            let columns = View {
                data: &rows[task * ROWS_PER_TASK..],
                rows: sums.len() / length,
                columns: windows,
                row_stride: 1,
                column_stride: length,
            };
            multiply(sums, length, columns, View::new(&rows, windows, length), true);
        });
    }

    pub fn trace(&self) -> f64 {
        let length = self.centre.len();
        (0..length).map(|at| f64::from(self.covariance[at * length + at])).sum()
    }
}

pub fn mean(vectors: &[Vec<f32>]) -> Vec<f64> {
    let mut mean = vec![0.0; vectors[0].len()];
    let share = 1.0 / vectors.len() as f64;
    for vector in vectors {
        mean.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += share * f64::from(value));
    }
    mean
}
