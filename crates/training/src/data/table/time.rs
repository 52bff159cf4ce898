//! Which column gives the times, and in which unit.

use super::columns::Column;
use super::error::TableError;
use super::rows::Times;
use super::time_unit::unknown_time_unit;
use super::unit::{Quantity, Unit};

/// Times of the samples, in seconds.
pub struct Time {
    pub seconds: Vec<f64>,
    /// Unit in the table.
    pub unit: Unit,
    /// Column and unit, in words.
    pub understood: String,
}

impl Time {
    fn new(seconds: Vec<f64>, unit: Unit, column: &Column, how: &str) -> Self {
        Self { seconds, unit, understood: format!("{:?} {how}", column.name) }
    }

    /// Even sampling.
    pub fn even(rate_hz: f64, acceleration: &[Option<[f64; 3]>]) -> Self {
        let mut samples = 0u32;
        let seconds = acceleration.iter().map(|sample| {
            let time = f64::from(samples) / rate_hz;
            samples += u32::from(sample.is_some());
            time
        });
        Self {
            seconds: seconds.collect(),
            unit: Unit::si(Quantity::Time),
            understood: format!("from {rate_hz} Hz"),
        }
    }
}

/// Fastest and slowest sampling that phones and sensors have, as the mean time between samples.
const SECONDS_BETWEEN_SAMPLES: std::ops::RangeInclusive<f64> = 0.0004..=1.5;

/// Longest time between samples in ticks. Slower ones are no recording, but nanoseconds would look like
/// them.
const MOST_SECONDS_BETWEEN_TICKS: f64 = 0.2;

/// The years 2000 to 2100 in seconds since 1970, and, for ticks, since 1601 and the year 1.
const DATES: [std::ops::Range<f64>; 3] = [0.946e9..4.103e9, 12.591e9..15.748e9, 63.082e9..66.239e9];

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
        return Ok(Time::new(times.values, Unit::si(Quantity::Time), column, "as time of day"));
    }
    let steps = Steps::new(&samples);
    let unknown = || unknown_time_unit(&column.name);
    let (unit, how) = match (said.or(column.unit), unknown()) {
        (Some(unit), _) => {
            steps.check(unit, column)?;
            (unit, "")
        }
        (None, Some(unit)) => {
            return Err(TableError::UnknownTimeUnit { column: column.name.clone(), unit });
        }
        (None, None) => (steps.likely(column)?, " (told by its steps)"),
    };
    let mut seconds = times.values;
    if unit.si != 1.0 {
        // Of large numbers, the difference is more exact.
        let first = seconds.first().copied().unwrap_or_default();
        seconds.iter_mut().for_each(|time| *time = (*time - first) * unit.si);
    }
    Ok(Time::new(seconds, unit, column, &format!("in {unit}{how}")))
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

/// How times rise from sample to sample, in the unit of the table. 0 if they do not.
struct Steps {
    first: f64,
    median: f64,
    mean: f64,
    mean_without_pauses: f64,
}

impl Steps {
    fn new(samples: &[(f64, [f64; 3])]) -> Self {
        let mut steps: Vec<f64> = samples.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        steps.retain(|step| *step > 0.0);
        steps.sort_by(f64::total_cmp);
        let mean = |steps: &[f64]| steps.iter().sum::<f64>() / steps.len().max(1) as f64;
        Self {
            first: samples.first().map_or(0.0, |sample| sample.0),
            median: steps.get(steps.len() / 2).copied().unwrap_or_default(),
            mean: mean(&steps),
            mean_without_pauses: mean(&steps[..(steps.len() * 19).div_ceil(20)]),
        }
    }

    /// The units in which the table has a sensor's sample rate. If one of them makes the first time a
    /// date of our days, it is the only one.
    fn fitting(&self) -> Vec<Unit> {
        let ticks = Unit::spelled("100ns");
        let fits = |unit: &Unit| {
            let range = SECONDS_BETWEEN_SAMPLES;
            let steps = [self.median, self.mean_without_pauses].map(|step| step * unit.si);
            steps.iter().all(|step| range.contains(step))
                && (Some(*unit) != ticks || self.median * unit.si <= MOST_SECONDS_BETWEEN_TICKS)
        };
        let is_date = |unit: &Unit| {
            let epochs = if Some(*unit) == ticks { &DATES[..] } else { &DATES[..1] };
            epochs.iter().any(|dates| dates.contains(&(self.first * unit.si)))
        };
        let fitting: Vec<Unit> = Unit::all(Quantity::Time).filter(fits).collect();
        match fitting.iter().copied().find(is_date) {
            Some(unit) => vec![unit],
            None => fitting,
        }
    }

    fn readings(&self, units: &[Unit]) -> String {
        let reading = |unit: &Unit| format!("in {unit}, {} samples a second", self.rate(*unit));
        units.iter().map(reading).collect::<Vec<_>>().join(", or ")
    }

    /// The mean step with four digits.
    fn shown(&self) -> f64 {
        let step = self.mean_without_pauses;
        format!("{step:.3e}").parse().unwrap_or(step)
    }

    fn rate(&self, unit: Unit) -> String {
        short(1.0 / (self.mean_without_pauses * unit.si))
    }

    /// The only unit that fits.
    fn likely(&self, column: &Column) -> Result<Unit, TableError> {
        if self.mean == 0.0 {
            return Ok(Unit::si(Quantity::Time));
        }
        let fitting = self.fitting();
        if let [unit] = fitting[..] {
            return Ok(unit);
        }
        let readings = match fitting.is_empty() {
            true => "no unit gives the sample rate of a sensor".to_owned(),
            false => self.readings(&fitting),
        };
        let step = self.shown();
        Err(TableError::TimeUnit { column: column.name.clone(), step, readings })
    }

    /// Refuses a unit that makes no sensor's sample rate, if another does.
    fn check(&self, unit: Unit, column: &Column) -> Result<(), TableError> {
        // Samples that arrive in batches have a short median, and pauses make a mean long.
        let is_too_fast = self.mean * unit.si < *SECONDS_BETWEEN_SAMPLES.start();
        let is_too_slow = self.median * unit.si > *SECONDS_BETWEEN_SAMPLES.end();
        let others = self.fitting();
        if self.mean == 0.0 || !(is_too_fast || is_too_slow) || others.is_empty() {
            return Ok(());
        }
        Err(TableError::WrongTimeUnit {
            column: column.name.clone(),
            said: format!(
                "in {unit}, but rises by about {} from sample to sample: that would be {} samples a second",
                self.shown(),
                self.rate(unit)
            ),
            readings: self.readings(&others),
        })
    }
}

fn short(number: f64) -> String {
    match number {
        _ if number < 0.01 => format!("{number:.1e}"),
        _ if number < 10.0 => format!("{number:.2}"),
        _ => format!("{number:.0}"),
    }
}
