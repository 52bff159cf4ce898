//! Fits the last layer of the network that serves, in closed form.
//!
//! What varies most within a person is how they walk just then and how the phone lies. A deflation
//! makes these directions of the feature count for less (nuisance attribute projection of speaker
//! recognition, Solomonoff et al., ICASSP 2005, with weights). It is not told what tells the people of
//! the training apart, so that it holds for others as well.

use rayon::prelude::*;

use super::eigen::largest;
use super::matrix::{View, multiply};
use super::samples::Division;
use crate::bnn::{
    self, Architecture, Layer, LayerParameters, NetworkError, Parameters, round_int8,
};

/// Windows of one person that it is fitted to, at most.
pub(super) const WINDOWS_A_PERSON: usize = 200;

/// People whose windows are laid out at a time.
const PEOPLE_AT_A_TIME: usize = 8;

/// Rows of the covariance that one task computes.
const ROWS_PER_TASK: usize = 64;

/// A fitted deflation: `y = d - V^T (V d)` with `d = x - centre`.
#[derive(Clone, Debug, PartialEq)]
pub struct Deflation {
    centre: Vec<f32>,
    /// `V`, direction by direction, rounded to what a model file holds.
    directions: Vec<f32>,
}

impl Deflation {
    /// Fits it to each person's values, a vector of the same length for each window. There is one
    /// person at least, and one window of each. People count alike.
    ///
    /// The directions are the first eigenvectors of the within-person covariance. Each one keeps the
    /// share `rest / lambda` of its length, where `rest` is the mean of the eigenvalues that are left.
    /// So no direction varies more within a person than the others do in the mean.
    pub fn fit(people: &[Vec<Vec<f32>>], directions: usize) -> Self {
        let length = people[0][0].len();
        let mut centre = vec![0.0; length];
        for vectors in people {
            let share = 1.0 / people.len() as f64;
            let sums = centre.iter_mut().zip(mean(vectors));
            sums.for_each(|(sum, mean)| *sum += share * mean);
        }
        let covariance = within_person_covariance(people, length);
        let trace: f64 = (0..length).map(|at| covariance[at * length + at]).sum();
        let pairs = largest(&covariance, length, directions.min(length));
        let explained: f64 = pairs.iter().map(|(value, _)| value).sum();
        let rest = (trace - explained).max(0.0) / (length - pairs.len()).max(1) as f64;
        let mut rows = Vec::with_capacity(directions * length);
        for (value, vector) in &pairs {
            // `V` is applied twice.
            let weight = (1.0 - rest / value.max(f64::MIN_POSITIVE)).max(0.0).sqrt();
            let mut row: Vec<f32> = vector.iter().map(|entry| (weight * entry) as f32).collect();
            round_int8(&mut row);
            rows.extend(row);
        }
        rows.resize(directions * length, 0.0);
        Self { centre: centre.into_iter().map(|value| value as f32).collect(), directions: rows }
    }

    /// One that changes nothing, for so many values.
    pub fn none(length: usize, directions: usize) -> Self {
        Self { centre: vec![0.0; length], directions: vec![0.0; directions * length] }
    }

    /// As a model file holds it.
    pub fn parameters(&self) -> LayerParameters {
        LayerParameters::Deflation {
            centre: self.centre.clone(),
            directions: self.directions.clone(),
        }
    }
}

/// [`Architecture::openset`] from a trained [`Architecture::openset_classifier`], with a deflation
/// that is fitted to the people whom it was trained on.
///
/// # Errors
/// When the parameters are another network's.
pub(super) fn openset(
    trained: &Parameters,
    division: &Division,
) -> Result<(Architecture, Parameters), NetworkError> {
    let architecture = Architecture::openset(division.recipe.samples);
    let last = architecture.layers.len() - 1;
    let (length, directions) = (architecture.shapes()?[last].len(), directions(&architecture));
    let mut parameters = Parameters { layers: trained.layers[..last].to_vec() };
    parameters.layers.push(Some(Deflation::none(length, directions).parameters()));
    let network = bnn::Network::new(&architecture, &parameters)?;
    let deflation = Deflation::fit(&division.features(&network, WINDOWS_A_PERSON), directions);
    parameters.layers[last] = Some(deflation.parameters());
    Ok((architecture, parameters))
}

fn directions(architecture: &Architecture) -> usize {
    match architecture.layers.last() {
        Some(Layer::Deflation { directions }) => *directions,
        _ => 0,
    }
}

fn mean(vectors: &[Vec<f32>]) -> Vec<f64> {
    let mut mean = vec![0.0; vectors[0].len()];
    let share = 1.0 / vectors.len() as f64;
    for vector in vectors {
        mean.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += share * f64::from(value));
    }
    mean
}

fn within_person_covariance(people: &[Vec<Vec<f32>>], length: usize) -> Vec<f64> {
    let mut covariance = vec![0.0f32; length * length];
    for some in people.chunks(PEOPLE_AT_A_TIME) {
        let rows: Vec<f32> = some
            .par_iter()
            .flat_map_iter(|vectors| {
                let mean = mean(vectors);
                let scale = 1.0 / ((vectors.len() * people.len()) as f64).sqrt();
                vectors.iter().flat_map(move |vector| {
                    let from_mean = vector.iter().zip(&mean);
                    from_mean
                        .map(|(value, mean)| (scale * (f64::from(*value) - mean)) as f32)
                        .collect::<Vec<f32>>()
                })
            })
            .collect();
        let windows = rows.len() / length;
        covariance.par_chunks_mut(ROWS_PER_TASK * length).enumerate().for_each(|(task, sums)| {
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
    covariance.into_iter().map(f64::from).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    const LENGTH: usize = 24;

    fn apply(deflation: &Deflation, values: &[f32]) -> Vec<f32> {
        let architecture = Architecture {
            input: [1, 1],
            weights: bnn::Weights::Float,
            layers: vec![
                Layer::Dense { units: LENGTH, bias: true },
                Layer::Deflation { directions: deflation.directions.len() / LENGTH },
            ],
        };
        let input =
            LayerParameters::Weights { weights: vec![0.0; LENGTH], bias: Some(values.to_vec()) };
        let parameters = Parameters { layers: vec![Some(input), Some(deflation.parameters())] };
        bnn::reference::forward(&architecture, &parameters, &[0.0]).unwrap().pop().unwrap()
    }

    /// People with means far apart, whose windows vary ten times as much along two directions.
    fn people() -> Vec<Vec<Vec<f32>>> {
        let mut random = Pcg64Mcg::seed_from_u64(4);
        let mut normal = move || -> f32 { StandardNormal.sample(&mut random) };
        (0..20)
            .map(|person| {
                let mean: Vec<f32> = (0..LENGTH).map(|_| 3.0 * normal()).collect();
                (0..20 + 9 * person)
                    .map(|_| {
                        let (a, b) = (10.0 * normal(), 10.0 * normal());
                        let value = |(at, mean): (usize, &f32)| {
                            let nuisance = if at % 2 == 0 { a } else { b };
                            mean + nuisance / (LENGTH as f32 / 2.0).sqrt() + normal()
                        };
                        mean.iter().enumerate().map(value).collect()
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn what_varies_within_a_person_counts_no_more_than_the_rest() {
        let people = people();
        let deflation = Deflation::fit(&people, 2);
        let after: Vec<Vec<Vec<f32>>> = people
            .iter()
            .map(|vectors| vectors.iter().map(|vector| apply(&deflation, vector)).collect())
            .collect();
        let values = |people: &[Vec<Vec<f32>>]| {
            let covariance = within_person_covariance(people, LENGTH);
            let pairs = largest(&covariance, LENGTH, LENGTH);
            pairs.into_iter().map(|(value, _)| value).collect::<Vec<f64>>()
        };
        let (before, after) = (values(&people), values(&after));
        assert!(before[1] > 80.0 && before[2] < 2.0, "{before:?}");
        assert!(after[0] < 2.0, "{after:?}");
        // The mean of people's means, not of windows, is the centre.
        let means: Vec<Vec<f32>> = people
            .iter()
            .map(|vectors| mean(vectors).into_iter().map(|value| value as f32).collect())
            .collect();
        for (centre, expected) in deflation.centre.iter().zip(mean(&means)) {
            assert!((f64::from(*centre) - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn no_deflation_changes_nothing_and_few_windows_fit_one() {
        let values: Vec<f32> = (0..LENGTH).map(|at| at as f32 - 3.5).collect();
        assert_eq!(apply(&Deflation::none(LENGTH, 3), &values), values);
        // Nothing varies within a person, and there are more directions than values.
        let deflation = Deflation::fit(&[vec![values.clone()], vec![values.clone()]], LENGTH + 1);
        assert_eq!(apply(&deflation, &values), [0.0; LENGTH]);
        assert_eq!(deflation.directions, [0.0; (LENGTH + 1) * LENGTH]);
    }
}
