//! Whether features can be those of one walk.
//!
//! A client that runs the network itself sends features, and nothing shows that a recording is behind
//! them. Windows of real walks are neither alike nor unrelated, and their similarities vary. Vectors
//! that are made up to approach a user's template rarely are so. This stops simple attempts. Somebody
//! who has the model can imitate a walk, so features also need a scope and a strict threshold.

use std::iter::zip;

use super::{Calibration, LAST_WINDOWS, Template};

/// Fewest windows of a walk that is sent as features: nine seconds. With fewer, a walk cannot be told
/// from made-up vectors, and each guess would cost less.
pub const FEWEST_FEATURES: usize = 8;

/// Each window is compared with this many before it, to bound the time for a long walk.
const COMPARED: usize = 30;

/// The largest cosine of two windows of a walk is at most this part of the way from the square of the
/// largest coherence to 1. The limit is 0.90 for the shipped model; the largest cosine in six data
/// sets is 0.75, and 0.83 on data sets that a network was not trained on.
const MOST_ALIKE: f32 = 2.0 / 3.0;

/// The standard deviation of the cosines is at least this part of `1 - coherence²`. The limit is 0.045
/// for the shipped model. The lowest among 4,935 walks of 8 windows is 0.048, and 0.046 on data sets
/// that a network was not trained on. One direction with independent noise has 0.012 to 0.044.
const LEAST_SPREAD: f32 = 0.06;

/// Neighbours overlap by half. In walks of [`LAST_WINDOWS`] and more, their cosines are higher than
/// the others by at least this part of `1 - mean cosine`. The lowest among 1,200 walks is 0.035.
/// Independent noise has at most 0.016.
const LEAST_OVERLAP: f32 = 0.02;

/// Why features are not those of one walk.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ImplausibleFeatures {
    /// The windows have too little in common.
    #[error("the windows have nothing in common; send the windows of one walk")]
    Unrelated,
    /// Two windows are nearly the same.
    #[error("two windows are nearly the same; send each window of the walk once")]
    Repeated,
    /// The windows differ from one another in an even way, as with noise.
    #[error("the windows vary too evenly for walking; send what the network computed, unchanged")]
    Even,
    /// Neighbours are not more similar than other windows.
    #[error(
        "neighbouring windows are no more alike than others; send the windows in their order, each \
         overlapping the one before by half"
    )]
    Unordered,
}

impl ImplausibleFeatures {
    /// Checks the features of a walk's windows, in their order. There should be at least
    /// [`FEWEST_FEATURES`].
    ///
    /// # Errors
    /// If they cannot be those of one walk.
    ///
    /// # Panics
    /// If a feature is no direction ([`Template::is_direction`]).
    pub fn check(windows: &[Vec<f32>], calibration: &Calibration) -> Result<(), Self> {
        let directions: Vec<Vec<f32>> = windows.iter().map(|window| direction(window)).collect();
        let (mut near, mut far) = (Cosines::default(), Cosines::default());
        for (at, window) in directions.iter().enumerate() {
            let before = &directions[at.saturating_sub(COMPARED)..at];
            for (distance, other) in before.iter().rev().enumerate() {
                let cosines = if distance == 0 { &mut near } else { &mut far };
                cosines.add(product(window, other));
            }
        }
        let all = near.and(far);
        let (least, largest) = calibration.familiar_coherence.clone().into_inner();
        let most = largest.powi(2) + (1.0 - largest.powi(2)) * MOST_ALIKE;
        let varies = 1.0 - calibration.coherence.powi(2);
        if all.mean() < least.powi(2) {
            Err(Self::Unrelated)
        } else if all.largest > most.min(0.999) {
            Err(Self::Repeated)
        } else if all.deviation() < LEAST_SPREAD * varies {
            Err(Self::Even)
        } else if windows.len() >= LAST_WINDOWS as usize
            && near.mean() - far.mean() < LEAST_OVERLAP * (1.0 - all.mean())
        {
            Err(Self::Unordered)
        } else {
            Ok(())
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Cosines {
    count: f32,
    sum: f32,
    squares: f32,
    largest: f32,
}

impl Cosines {
    fn add(&mut self, cosine: f32) {
        self.count += 1.0;
        self.sum += cosine;
        self.squares += cosine * cosine;
        self.largest = self.largest.max(cosine);
    }

    fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
            largest: self.largest.max(other.largest),
        }
    }

    fn mean(self) -> f32 {
        self.sum / self.count
    }

    fn deviation(self) -> f32 {
        (self.squares / self.count - self.mean().powi(2)).max(0.0).sqrt()
    }
}

fn direction(feature: &[f32]) -> Vec<f32> {
    let mut one = Template::empty(feature.len());
    one.add_window(feature);
    one.values().to_vec()
}

/// In lanes, so that the compiler vectorises it.
fn product(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in zip(a, b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + zip(a_rest, b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::super::calibration::tests::calibration;
    use super::*;

    /// Windows around one direction. With `drift`, each also resembles the one before.
    fn windows(count: usize, noise: f32, drift: f32) -> Vec<Vec<f32>> {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let mut vector =
            || -> Vec<f32> { (0..768).map(|_| random.random_range(-1.0..1.0)).collect() };
        let (one, mut state) = (vector(), vector());
        let window = |_| {
            let new = vector();
            state = zip(&state, new).map(|(state, new)| drift * state + new).collect();
            zip(&one, &state).map(|(one, state)| one + noise * state).collect()
        };
        (0..count).map(window).collect()
    }

    #[test]
    fn windows_of_a_walk_are_alike_but_not_too_much() {
        use ImplausibleFeatures::{Even, Repeated, Unordered, Unrelated};
        let calibration =
            Calibration { coherence: 0.5, familiar_coherence: 0.12..=0.83, ..calibration() };
        let check = |windows: &[Vec<f32>]| ImplausibleFeatures::check(windows, &calibration);
        assert_eq!(check(&windows(29, 1.0, 0.6)), Ok(()));
        assert_eq!(check(&windows(29, 100.0, 0.0)), Err(Unrelated));
        assert_eq!(check(&windows(29, 0.1, 0.0)), Err(Repeated));
        assert_eq!(check(&windows(29, 1.5, 0.0)), Err(Even));
        assert_eq!(check(&windows(8, 1.5, 0.0)), Err(Even));
        let walk = windows(58, 1.0, 0.6);
        let apart: Vec<Vec<f32>> = (0..58).map(|at| walk[at * 23 % 58].clone()).collect();
        assert_eq!(check(&apart), Err(Unordered));
        let mut repeated = windows(29, 1.0, 0.6);
        repeated[28] = repeated[0].clone();
        assert_eq!(check(&repeated), Err(Repeated));
    }
}
