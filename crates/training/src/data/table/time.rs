//! Which column gives the times, and in which unit.

use super::columns::Column;
use super::error::TableError;
use super::rows::Times;
use super::unit::{Quantity, Unit};

/// Times of the samples, in seconds.
pub struct Time<'a> {
    pub seconds: Vec<f64>,
    pub column: &'a Column,
    /// The unit, in words.
    pub unit: String,
}

/// Fastest and slowest sampling that phones and sensors have, as the mean time between samples.
const SECONDS_BETWEEN_SAMPLES: std::ops::RangeInclusive<f64> = 0.0004..=1.5;

/// Times that repeat more often than this were rounded. An event that was delivered twice repeats a
/// time now and then.
const MAX_REPEATED: f64 = 0.1;

/// Takes the column in which time rises most often. `said` is the unit that the caller names. Only rows
/// with acceleration count; those of another sensor may have the same times.
pub fn choose<'a>(
    columns: &'a [Column],
    times: Vec<Times>,
    acceleration: &[Option<[f64; 3]>],
    said: Option<&'static Unit>,
) -> Result<Time<'a>, TableError> {
    let of_acceleration = |times: &Times| -> Vec<f64> {
        let values = times.values.iter().zip(acceleration);
        values.filter(|(_, value)| value.is_some()).map(|(time, _)| *time).collect()
    };
    let rises =
        |times: &Times| of_acceleration(times).windows(2).filter(|pair| pair[1] > pair[0]).count();
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
    let own = of_acceleration(&times);
    check_repeated(column, &own, &times)?;
    if times.is_clock {
        return Ok(Time { seconds: times.values, column, unit: "as time of day".to_owned() });
    }
    let (unit, how) = match said.or(column.unit) {
        Some(unit) => (unit, ""),
        None => (likely(column, &own)?, " (told by its steps)"),
    };
    let mut seconds = times.values;
    if unit.si != 1.0 {
        // Of large numbers, the difference is more exact.
        let first = seconds.first().copied().unwrap_or_default();
        seconds.iter_mut().for_each(|time| *time = (*time - first) * unit.si);
    }
    Ok(Time { seconds, column, unit: format!("in {}{how}", unit.name) })
}

fn check_repeated(column: &Column, own: &[f64], times: &Times) -> Result<(), TableError> {
    let Some(value) = &times.repeated else { return Ok(()) };
    let steps = own.windows(2);
    let repeated = steps.clone().filter(|pair| pair[0] == pair[1]).count();
    let share = repeated as f64 / steps.len() as f64;
    if share <= MAX_REPEATED || repeated < 5 {
        return Ok(());
    }
    let (column, value) = (column.name.clone(), value.clone());
    Err(TableError::RoundedTimes { column, value, percent: share * 100.0 })
}

/// The only unit in which the table has a sensor's sample rate.
fn likely(column: &Column, times: &[f64]) -> Result<&'static Unit, TableError> {
    let mut steps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.retain(|step| *step > 0.0);
    if steps.is_empty() {
        return Ok(Unit::si(Quantity::Time));
    }
    steps.sort_by(f64::total_cmp);
    let median = steps[steps.len() / 2];
    // Without pauses.
    steps.truncate((steps.len() * 19).div_ceil(20));
    let mean = steps.iter().sum::<f64>() / steps.len() as f64;
    let fits = |unit: &&Unit| {
        [median, mean].iter().all(|step| SECONDS_BETWEEN_SAMPLES.contains(&(step * unit.si)))
    };
    let fitting: Vec<&'static Unit> = Unit::all(Quantity::Time).filter(fits).collect();
    if let [unit] = fitting[..] {
        return Ok(unit);
    }
    let readings: Vec<String> = fitting
        .iter()
        .map(|unit| format!("in {}, {} samples a second", unit.name, short(1.0 / (mean * unit.si))))
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
