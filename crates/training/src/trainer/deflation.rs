//! The deflation: the last layer of the open-set network, fitted in closed form.
//!
//! Within a person, features vary most with the way of walking on the day and the place of the
//! phone. A deflation makes these directions count for less. It is the nuisance attribute projection
//! of speaker recognition (Solomonoff et al., ICASSP 2005), with weights. It does not learn what
//! separates the people of the training, so it holds for other people as well.

use bipedalnet_core::bnn::{
    self, Architecture, Layer, LayerParameters, NetworkError, Parameters, round_int8,
};
use rayon::prelude::*;

use super::eigen::largest;
use super::spread::Spread;
use crate::data::{Division, dequantise};

/// Most windows of one person that it is fitted to.
pub const WINDOWS_A_PERSON: usize = 200;

/// People with windows in memory at a time.
pub const PEOPLE_AT_A_TIME: usize = 8;

/// The smallest share of a direction's variance that a deflation is taken to leave. Its weights are
/// rounded, so the computed share can be smaller.
const LEAST_REST: f64 = 0.002;

/// A fitted deflation: `y = d - V^T (V d)` with `d = x - centre`.
#[derive(Clone, Debug, PartialEq)]
pub struct Deflation {
    centre: Vec<f32>,
    /// `V`, direction by direction, rounded to the values that a model file can store.
    directions: Vec<f32>,
}

impl Deflation {
    /// Fits it to each person's vectors, one for each window, all of the same length. There must be at
    /// least one person, with at least one window each. All people count alike.
    ///
    /// The directions are the first eigenvectors of the within-person covariance. Each one keeps the
    /// share `rest / lambda` of its length. `rest` is the mean of the other eigenvalues. Afterwards,
    /// no direction varies more within a person than the others do on average.
    pub fn fit(people: &[Vec<Vec<f32>>], directions: usize) -> Self {
        let mut spread = Spread::of_nobody(people[0][0].len());
        people.chunks(PEOPLE_AT_A_TIME).for_each(|some| spread.add(some));
        Self::to(&spread, directions)
    }

    fn to(spread: &Spread, directions: usize) -> Self {
        let length = spread.centre.len();
        let share = 1.0 / spread.people;
        let centre = spread.centre.iter().map(|sum| (share * sum) as f32).collect();
        let covariance: Vec<f64> =
            spread.covariance.iter().map(|sum| share * f64::from(*sum)).collect();
        let pairs = largest(&covariance, length, directions.min(length));
        let explained: f64 = pairs.iter().map(|(value, _)| value).sum();
        let rest =
            (share * spread.trace() - explained).max(0.0) / (length - pairs.len()).max(1) as f64;
        let mut rows = Vec::with_capacity(directions * length);
        for (value, vector) in &pairs {
            // `V` is applied twice.
            let weight = (1.0 - rest / value.max(f64::MIN_POSITIVE)).max(0.0).sqrt();
            let mut row: Vec<f32> = vector.iter().map(|entry| (weight * entry) as f32).collect();
            round_int8(&mut row);
            rows.extend(row);
        }
        rows.resize(directions * length, 0.0);
        Self { centre, directions: rows }
    }

    /// Refits it to the people of the first fit and to others. All people count alike.
    ///
    /// The deflation gives the covariance of the first people up to a factor, and only along its
    /// directions. The rest is taken to be the same in every direction. The factor makes one of the
    /// first people vary as much as one of the others, over all directions.
    pub(crate) fn refit(&self, people: usize, others: &Spread) -> Self {
        let length = self.centre.len();
        let mut spread = Spread::of_nobody(length);
        for direction in self.directions.chunks_exact(length) {
            let explained: f64 = direction.iter().map(|value| f64::from(value * value)).sum();
            let more = 1.0 / (1.0 - explained).max(LEAST_REST);
            for (sums, &factor) in spread.covariance.chunks_exact_mut(length).zip(direction) {
                let factor = factor * more as f32;
                sums.iter_mut().zip(direction).for_each(|(sum, value)| *sum += factor * value);
            }
        }
        (0..length).for_each(|at| spread.covariance[at * length + at] += 1.0);
        let people = people as f64;
        let factor = people * others.trace() / others.people / spread.trace();
        if factor <= 0.0 {
            return self.clone();
        }
        let sums = spread.covariance.iter_mut().zip(&others.covariance);
        sums.for_each(|(sum, other)| *sum = factor as f32 * *sum + other);
        let sums = spread.centre.iter_mut().zip(self.centre.iter().zip(&others.centre));
        sums.for_each(|(sum, (centre, other))| *sum = people * f64::from(*centre) + other);
        spread.people = people + others.people;
        Self::to(&spread, self.directions.len() / length)
    }

    /// A deflation that changes nothing.
    pub fn none(length: usize, directions: usize) -> Self {
        Self { centre: vec![0.0; length], directions: vec![0.0; directions * length] }
    }

    /// A deflation of the same size that changes nothing.
    pub(crate) fn flattened(&self) -> Self {
        Self::none(self.centre.len(), self.directions.len() / self.centre.len())
    }

    /// Reads a layer. `None` if it is not a deflation.
    pub(crate) fn read(layer: &LayerParameters) -> Option<Self> {
        match layer {
            LayerParameters::Deflation { centre, directions } => {
                Some(Self { centre: centre.clone(), directions: directions.clone() })
            }
            LayerParameters::Weights { .. } | LayerParameters::BatchNorm { .. } => None,
        }
    }

    /// The layer for a model file.
    pub fn parameters(&self) -> LayerParameters {
        LayerParameters::Deflation {
            centre: self.centre.clone(),
            directions: self.directions.clone(),
        }
    }
}

/// Gives an architecture whose last layer is a deflation its parameters: the first layers of a trained
/// network, and a deflation that is fitted to the people of the training. A network that cannot be
/// packed is slow here.
///
/// # Errors
/// If the parameters are another network's.
pub fn with_deflation(
    architecture: &Architecture,
    trained: &Parameters,
    division: &Division,
) -> Result<Parameters, NetworkError> {
    let last = architecture.layers.len() - 1;
    let (length, directions) = (architecture.shapes()?[last].len(), directions(architecture));
    let mut parameters = Parameters { layers: trained.layers[..last].to_vec() };
    parameters.layers.push(Some(Deflation::none(length, directions).parameters()));
    let people = 0..division.people.len();
    let features = match bnn::Network::new(architecture, &parameters) {
        Ok(network) => division.features(&network, people, WINDOWS_A_PERSON),
        Err(NetworkError::Unsupported { .. }) => {
            let feature = |window: Vec<i16>| {
                let mut input = vec![0.0; window.len()];
                dequantise(&window, &mut input);
                let outputs = bnn::reference::forward(architecture, &parameters, &input)?;
                Ok(outputs.into_iter().next_back().expect("the deflation is a layer"))
            };
            let of_person = |person| {
                let windows = division.plain_windows(person, WINDOWS_A_PERSON);
                windows.into_iter().map(feature).collect()
            };
            people.into_par_iter().map(of_person).collect::<Result<_, NetworkError>>()?
        }
        Err(error) => return Err(error),
    };
    parameters.layers[last] = Some(Deflation::fit(&features, directions).parameters());
    Ok(parameters)
}

fn directions(architecture: &Architecture) -> usize {
    match architecture.layers.last() {
        Some(Layer::Deflation { directions }) => *directions,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    use rand_pcg::Pcg64Mcg;

    use super::super::spread::mean;
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

    /// People with means far apart. Their windows vary ten times as much along two directions.
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
            let mut spread = Spread::of_nobody(LENGTH);
            spread.add(people);
            let share = 1.0 / spread.people;
            let covariance: Vec<f64> =
                spread.covariance.iter().map(|sum| share * f64::from(*sum)).collect();
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

    /// A user who also varies tenfold along one more direction, from session to session.
    fn users(people: u64) -> (Spread, Vec<f32>) {
        let mut direction = vec![0.0; LENGTH];
        (direction[1], direction[5]) = (0.6, -0.8);
        let mut spread = Spread::of_nobody(LENGTH);
        for person in 0..people {
            let mut random = Pcg64Mcg::seed_from_u64(100 + person);
            let mut normal = move || -> f32 { StandardNormal.sample(&mut random) };
            let mean: Vec<f32> = (0..LENGTH).map(|_| 3.0 * normal()).collect();
            let windows = (0..80).map(|window| {
                let session = if window % 2 == 0 { 10.0 } else { -10.0 };
                let moved = mean.iter().zip(&direction);
                moved.map(|(mean, along)| mean + session * along + normal()).collect()
            });
            spread.add(&[windows.collect()]);
        }
        (spread, direction)
    }

    /// What is left of a direction of length 1.
    fn left(deflation: &Deflation, direction: &[f32]) -> f64 {
        let moved: Vec<f32> =
            deflation.centre.iter().zip(direction).map(|(centre, value)| centre + value).collect();
        apply(deflation, &moved).iter().map(|value| f64::from(value * value)).sum::<f64>().sqrt()
    }

    #[test]
    fn what_varies_between_a_users_sessions_counts_less_after_a_refit() {
        let parent = Deflation::fit(&people(), 3);
        let direction = users(1).1;
        assert!(left(&parent, &direction) > 0.7);
        let mut before = left(&parent, &direction);
        for number in [1, 5, 20, 80] {
            let refitted = parent.refit(20, &users(number).0);
            assert_eq!(refitted, parent.refit(20, &users(number).0));
            let now = left(&refitted, &direction);
            assert!(now < before, "{number} users: {now} of {before}");
            before = now;
        }
        assert!(before < 0.15, "{before}");
        // What the parent knows is not forgotten.
        let even: Vec<f32> = (0..LENGTH).map(|at| ((at + 1) % 2) as f32 / 12f32.sqrt()).collect();
        assert!(left(&parent.refit(20, &users(20).0), &even) < 0.2);
    }

    #[test]
    fn a_refit_to_more_of_the_same_changes_little() {
        let people = people();
        let parent = Deflation::fit(&people, 2);
        let mut same = Spread::of_nobody(LENGTH);
        same.add(&people);
        let refitted = parent.refit(people.len(), &same);
        for at in 0..LENGTH {
            let mut unit = vec![0.0; LENGTH];
            unit[at] = 1.0;
            let (before, after) = (left(&parent, &unit), left(&refitted, &unit));
            assert!((before - after).abs() < 0.02, "{before} {after}");
        }
        for (before, after) in parent.centre.iter().zip(&refitted.centre) {
            assert!((before - after).abs() < 1e-3);
        }
        // Few users among many people move it little, whatever they do.
        let (few, direction) = users(1);
        let refitted = parent.refit(1000, &few);
        assert!(left(&refitted, &direction) > 0.9 * left(&parent, &direction));
        // People without variation carry no information.
        let mut still = Spread::of_nobody(LENGTH);
        still.add(&[vec![vec![1.0; LENGTH]; 8]]);
        assert_eq!(parent.refit(20, &still), parent);
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
