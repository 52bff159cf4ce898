//! The walking check. Its limits come from real recordings: each limit accepts at least 98 % of the
//! windows of walking.

use std::ops::{Range, RangeInclusive};

use super::SignalError;
use super::orientation::{dot, means};
use super::resample::{LONGEST_GAP_SECONDS, Signal};

const LEAST_DEVIATION_M_S2: f32 = 0.5;
const LARGEST_RMS_M_S2: f32 = 16.0;
const LARGEST_CLIPPED_SHARE: f32 = 0.05;
const LEAST_CORRELATION: f32 = 0.35;
/// A running step takes 0.3 s. Movement that repeats as well at a shorter lag is not walking.
const SHORTEST_STEP_SECONDS: f64 = 0.3;
const SHORTEST_LAG_SECONDS: f64 = 0.08;
/// Duration of a slow stride, which is two steps.
const LONGEST_STRIDE_SECONDS: f64 = 1.5;

impl Signal {
    /// Whether the window of `samples` grid points at `start` is walking.
    pub fn is_walking(&self, start: usize, samples: usize) -> bool {
        self.check_walking(start, samples, &mut Correlated::default()).is_ok()
    }

    /// Checks the window of `samples` grid points at `start`.
    pub(super) fn check_walking(
        &self,
        start: usize,
        samples: usize,
        Correlated { movement, correlations }: &mut Correlated,
    ) -> Result<(), SignalError> {
        let range = start..start + samples;
        let gaps = &self.gap_seconds[range.clone()];
        if let Some(offset) = gaps.iter().position(|&gap| gap > 0.0) {
            return Err(SignalError::Gap {
                gap_seconds: f64::from(gaps[offset]),
                at_seconds: (start + offset) as f64 / self.rate_hz,
                allowed_seconds: LONGEST_GAP_SECONDS,
            });
        }
        let acceleration = &self.acceleration_m_s2[range.clone()];
        moving("acceleration", acceleration)?;
        if let Some(rates) = &self.angular_rate_rad_s {
            moving("angular_rate", &rates[range.clone()])?;
        }
        let clipped = self.clipped[range.clone()].iter().filter(|&&clipped| clipped).count();
        let clipped_share = clipped as f32 / samples as f32;
        if clipped_share > LARGEST_CLIPPED_SHARE {
            return Err(SignalError::ClippedSensor {
                field: "acceleration",
                percent: clipped_share * 100.0,
            });
        }

        let count = samples as f32;
        let magnitudes = &self.magnitude_m_s2[range.clone()];
        let (mean, mean_magnitude) = means(acceleration, magnitudes);
        let deviation =
            (magnitudes.iter().map(|m| (m - mean_magnitude).powi(2)).sum::<f32>() / count).sqrt();
        if deviation < LEAST_DEVIATION_M_S2 {
            return Err(SignalError::StandingStill {
                deviation_m_s2: deviation,
                needed_m_s2: LEAST_DEVIATION_M_S2,
            });
        }

        let seconds = samples as f64 / self.rate_hz;
        let taken = self.sample[range.start] as usize..self.sample[range.end - 1] as usize + 1;
        self.changes.check("acceleration", &taken, seconds)?;

        movement.set(acceleration, mean);
        let rms_m_s2 = (movement.energy(0..samples) / count).sqrt();
        let lag = |seconds: f64| ((seconds * self.rate_hz).round() as usize).min(samples - 1);
        let [shortest, step, longest] =
            [SHORTEST_LAG_SECONDS, SHORTEST_STEP_SECONDS, LONGEST_STRIDE_SECONDS].map(lag);
        // A peak is higher than the lags on both sides, so one more lag is needed.
        correlations.set(movement, shortest - 1..=longest);
        let (step_correlation, step_lag) = correlations.strongest(step..=longest);
        let (tremor_correlation, tremor_lag) =
            correlations.strongest((shortest..=step - 1).filter(|&lag| correlations.is_peak(lag)));
        let tremor = tremor_correlation > 0.6 && tremor_correlation > 0.85 * step_correlation;
        if rms_m_s2 > LARGEST_RMS_M_S2 || tremor {
            let period = if tremor { tremor_lag } else { step_lag };
            return Err(SignalError::Shaking {
                repeats_hz: (self.rate_hz / period as f64) as f32,
                rms_m_s2,
                allowed_hz: (1.0 / SHORTEST_STEP_SECONDS) as f32,
                allowed_m_s2: LARGEST_RMS_M_S2,
            });
        }
        if step_correlation < LEAST_CORRELATION {
            return Err(SignalError::NoSteps {
                correlation: step_correlation,
                needed: LEAST_CORRELATION,
            });
        }
        match &self.gyroscope {
            Some(gyroscope) => gyroscope.check(&taken, seconds),
            None => Ok(()),
        }
    }
}

/// Rejects an axis that never changes. Real sensors have noise, even at rest.
pub(super) fn moving(field: &'static str, samples: &[[f32; 3]]) -> Result<(), SignalError> {
    for (axis, name) in ['x', 'y', 'z'].into_iter().enumerate() {
        let value = samples[0][axis];
        // Interpolating between equal values may differ in the last bits.
        let tolerance = value.abs() * 1e-6;
        if samples.iter().all(|sample| (sample[axis] - value).abs() <= tolerance) {
            return Err(SignalError::FlatSensor { field, axis: name, value });
        }
    }
    Ok(())
}

/// What a check computes. Used again, it needs no new memory.
#[derive(Default)]
pub(super) struct Correlated {
    movement: Movement,
    correlations: Correlations,
}

/// Acceleration minus its mean.
#[derive(Default)]
struct Movement {
    samples: usize,
    /// The three axes of each sample, then zeros, so that chunks of lanes and blocks of lags need no
    /// special end.
    values: Vec<f32>,
    /// Sums of squares up to each sample. The sum over a range is one subtraction.
    sums: Vec<f64>,
}

/// Parallel sums of each lag, which the compiler keeps in a vector register.
const LANES: usize = 4;

/// Number of lags that are summed together. Each sample is read once for all of them.
const LAGS: usize = 6;

const PADDING: usize = LANES + 3 * LAGS;

impl Movement {
    fn set(&mut self, acceleration: &[[f32; 3]], mean: [f32; 3]) {
        let Self { samples, values, sums } = self;
        *samples = acceleration.len();
        values.clear();
        values.reserve(3 * *samples + PADDING);
        sums.clear();
        sums.reserve(*samples + 1);
        let mut sum = 0.0;
        sums.push(sum);
        for sample in acceleration {
            let moved = [0, 1, 2].map(|axis| sample[axis] - mean[axis]);
            values.extend(moved);
            sum += f64::from(dot(moved, moved));
            sums.push(sum);
        }
        values.resize(3 * *samples + PADDING, 0.0);
    }

    fn energy(&self, range: Range<usize>) -> f32 {
        (self.sums[range.end] - self.sums[range.start]) as f32
    }

    /// Sums of products of the movement with itself, at [`LAGS`] lags from `lag` on.
    ///
    /// Not inlined: next to the code that adds up lanes, the compiler would build vectors across lags,
    /// with many shuffles.
    #[inline(never)]
    fn products(&self, lag: usize) -> [[f32; LANES]; LAGS] {
        let chunks = (3 * (self.samples - lag)).div_ceil(LANES);
        let from = |start: usize| &self.values[start..].as_chunks::<LANES>().0[..chunks];
        let early = from(0);
        let late: [_; LAGS] = std::array::from_fn(|more| from(3 * (lag + more)));
        let mut sums = [[0.0; LANES]; LAGS];
        for at in 0..chunks {
            for (sums, late) in sums.iter_mut().zip(late) {
                for (sum, (a, b)) in sums.iter_mut().zip(early[at].iter().zip(&late[at])) {
                    *sum += a * b;
                }
            }
        }
        sums
    }
}

/// Correlations of a movement with itself, by lag.
#[derive(Default)]
struct Correlations {
    first: usize,
    values: Vec<f32>,
}

impl Correlations {
    fn set(&mut self, movement: &Movement, lags: RangeInclusive<usize>) {
        let samples = movement.samples;
        let (first, last) = lags.into_inner();
        self.first = first;
        let values = &mut self.values;
        values.clear();
        values.reserve(last + LAGS - first);
        for lag in (first..=last).step_by(LAGS) {
            values.extend(movement.products(lag).map(|[a, b, c, d]| a + b + (c + d)));
        }
        values.truncate(last + 1 - first);
        let early = movement.sums[..=samples - first].iter().rev();
        let late = movement.sums[first..].iter();
        let (none, all) = (movement.sums[0], movement.sums[samples]);
        for (value, (early, late)) in values.iter_mut().zip(early.zip(late)) {
            let energies = (early - none) as f32 * (all - late) as f32;
            *value /= energies.sqrt().max(f32::MIN_POSITIVE);
        }
    }

    fn at(&self, lag: usize) -> f32 {
        self.values[lag - self.first]
    }

    /// Whether the neighbouring lags are not stronger. A smooth movement correlates with itself at every
    /// short lag.
    fn is_peak(&self, lag: usize) -> bool {
        self.at(lag) >= self.at(lag - 1) && self.at(lag) >= self.at(lag + 1)
    }

    /// The highest correlation of these lags, and its lag.
    fn strongest(&self, lags: impl Iterator<Item = usize>) -> (f32, usize) {
        lags.map(|lag| (self.at(lag), lag)).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, 1))
    }
}
