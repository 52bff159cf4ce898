//! What a sensor measured, on its own clock.

use super::recording_file::FormatError;

/// Values of one sensor with their times in seconds.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub times: Vec<f64>,
    pub values: Vec<[f32; 3]>,
}

impl Series {
    /// Median length of the vectors, or 0 without samples.
    pub fn median_length(&self) -> f32 {
        let mut lengths: Vec<f32> = self.values.iter().map(length).collect();
        lengths.sort_by(f32::total_cmp);
        lengths.get(lengths.len() / 2).copied().unwrap_or_default()
    }

    /// Length of the mean vector, or 0 without samples.
    pub fn length_of_mean(&self) -> f32 {
        let samples = self.values.len().max(1) as f32;
        length(
            &[0, 1, 2]
                .map(|axis| self.values.iter().map(|value| value[axis]).sum::<f32>() / samples),
        )
    }

    /// Root mean square of the vectors' lengths, or 0 without samples.
    pub fn rms_length(&self) -> f32 {
        let squares = self.values.iter().map(|value| length(value).powi(2)).sum::<f32>();
        (squares / self.values.len().max(1) as f32).sqrt()
    }

    /// Interpolates linearly. `time` lies between the first time and the last.
    fn at(&self, time: f64) -> [f32; 3] {
        let Self { times, values } = self;
        let right = times.partition_point(|&t| t < time).clamp(1, times.len().max(2) - 1);
        let (Some(&before), Some(&after)) = (values.get(right - 1), values.get(right)) else {
            return values[0];
        };
        let share = (time - times[right - 1]) / (times[right] - times[right - 1]);
        [0, 1, 2].map(|axis| before[axis] + (after[axis] - before[axis]) * share as f32)
    }
}

fn length(value: &[f32; 3]) -> f32 {
    value.iter().map(|it| it * it).sum::<f32>().sqrt()
}

/// Brings angular rates to the times of the acceleration.
///
/// If they have other times, they are interpolated, and times that only one sensor recorded are left out
/// of both.
pub fn on_one_clock(acceleration: &mut Series, rates: &mut Series) -> Result<(), FormatError> {
    if rates.times == acceleration.times {
        return Ok(());
    }
    let (&[first, ..], &[.., last]) = (&rates.times[..], &rates.times[..]) else {
        return Err(FormatError::NoOverlap);
    };
    let begin = acceleration.times.partition_point(|&time| time < first);
    let end = acceleration.times.partition_point(|&time| time <= last);
    if begin >= end {
        return Err(FormatError::NoOverlap);
    }
    acceleration.times = acceleration.times[begin..end].to_vec();
    acceleration.values = acceleration.values[begin..end].to_vec();
    rates.values = acceleration.times.iter().map(|&time| rates.at(time)).collect();
    rates.times = acceleration.times.clone();
    Ok(())
}
