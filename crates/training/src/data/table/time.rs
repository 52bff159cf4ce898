//! Which column gives the times, and in which unit.

use super::columns::Column;
use super::error::TableError;
use super::rows::Times;
use super::unit::{Quantity, Unit};

/// Times of the samples, in seconds.
pub struct Time {
    pub seconds: Vec<f64>,
    /// Column and unit, in words.
    pub understood: String,
}

impl Time {
    fn new(seconds: Vec<f64>, column: &Column, unit: &str) -> Self {
        Self { seconds, understood: format!("{:?} {unit}", column.name) }
    }

    /// Even sampling.
    pub fn even(rate_hz: f64, acceleration: &[Option<[f64; 3]>]) -> Self {
        let mut samples = 0u32;
        let seconds = acceleration.iter().map(|sample| {
            let time = f64::from(samples) / rate_hz;
            samples += u32::from(sample.is_some());
            time
        });
        Self { seconds: seconds.collect(), understood: format!("from {rate_hz} Hz") }
    }
}

/// Fastest and slowest sampling that phones and sensors have, as the mean time between samples.
const SECONDS_BETWEEN_SAMPLES: std::ops::RangeInclusive<f64> = 0.0004..=1.5;

/// If more samples have the time of the one before, times were rounded.
const MAX_REPEATED: f64 = 0.1;

/// Takes the column in which time rises most often. `said` is the unit that the caller names. Only rows
/// with acceleration count; those of another sensor may have the same times.
pub fn choose(
    columns: &[Column],
    times: Vec<Times>,
    acceleration: &[Option<[f64; 3]>],
    said: Option<Unit>,
) -> Result<Time, TableError> {
    let samples = |times: &Times| -> Vec<(f64, [f64; 3])> {
        let rows = times.values.iter().zip(acceleration);
        rows.filter_map(|(time, value)| Some((*time, (*value)?))).collect()
    };
    let rises =
        |times: &Times| samples(times).windows(2).filter(|pair| pair[1].0 > pair[0].0).count();
    let mut error = None;
    let mut best: Option<(usize, &Column, Times)> = None;
    for (column, mut times) in columns.iter().zip(times) {
        if let Some(found) = times.error.take() {
            error.get_or_insert(found);
            continue;
        }
        let rises = rises(&times);
        if best.as_ref().is_none_or(|(most, ..)| rises > *most) {
            best = Some((rises, column, times));
        }
    }
    let Some((_, column, times)) = best else {
        return Err(error.expect("each column has times or an error, and there is a column"));
    };
    let samples = samples(&times);
    check_repeated(column, &samples, &times)?;
    if times.is_clock {
        return Ok(Time::new(times.values, column, "as time of day"));
    }
    let (unit, how) = match said.or(column.unit) {
        Some(unit) => (unit, ""),
        None => (likely(column, &samples)?, " (told by its steps)"),
    };
    let mut seconds = times.values;
    if unit.si != 1.0 {
        // Of large numbers, the difference is more exact.
        let first = seconds.first().copied().unwrap_or_default();
        seconds.iter_mut().for_each(|time| *time = (*time - first) * unit.si);
    }
    Ok(Time::new(seconds, column, &format!("in {unit}{how}")))
}

/// A sample that is delivered twice has the same values too, which does not count.
fn check_repeated(
    column: &Column,
    samples: &[(f64, [f64; 3])],
    times: &Times,
) -> Result<(), TableError> {
    let Some(value) = &times.repeated else { return Ok(()) };
    let is_repeated = |pair: &&[(f64, [f64; 3])]| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1;
    let repeated = samples.windows(2).filter(is_repeated).count();
    let share = repeated as f64 / samples.len() as f64;
    if share <= MAX_REPEATED || repeated < 5 {
        return Ok(());
    }
    let (column, value) = (column.name.clone(), value.clone());
    Err(TableError::RoundedTimes { column, value, percent: share * 100.0 })
}

/// The only unit in which the table has a sensor's sample rate.
fn likely(column: &Column, samples: &[(f64, [f64; 3])]) -> Result<Unit, TableError> {
    let mut steps: Vec<f64> = samples.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    steps.retain(|step| *step > 0.0);
    if steps.is_empty() {
        return Ok(Unit::si(Quantity::Time));
    }
    steps.sort_by(f64::total_cmp);
    let median = steps[steps.len() / 2];
    // Without pauses.
    steps.truncate((steps.len() * 19).div_ceil(20));
    let mean = steps.iter().sum::<f64>() / steps.len() as f64;
    let fits = |unit: &Unit| {
        [median, mean].iter().all(|step| SECONDS_BETWEEN_SAMPLES.contains(&(step * unit.si)))
    };
    let fitting: Vec<Unit> = Unit::all(Quantity::Time).filter(fits).collect();
    if let [unit] = fitting[..] {
        return Ok(unit);
    }
    let readings: Vec<String> = fitting
        .iter()
        .map(|unit| format!("in {unit}, {} samples a second", short(1.0 / (mean * unit.si))))
        .collect();
    let readings = match readings.is_empty() {
        true => "no unit gives the sample rate of a sensor".to_owned(),
        false => readings.join(", or "),
    };
    Err(TableError::TimeUnit { column: column.name.clone(), step: mean, readings })
}

fn short(number: f64) -> String {
    if number < 10.0 { format!("{number:.2}") } else { format!("{number:.0}") }
}
