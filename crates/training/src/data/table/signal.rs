//! Faults of recordings in the words of tables: which option or column to change.

use bipedalnet_core::gait::{Recipe, Recording, SignalError, cut_windows};

use super::sensor::Sensor;
use super::unit::{Quantity, Unit};

/// Says a fault of the samples of a table with this unit of time. An error of a recording speaks of the
/// fields of JSON.
pub fn in_words(error: &SignalError, time_unit: Unit) -> String {
    match error {
        SignalError::TimeUnits { interval, unit, rate_hz } => format!(
            "times in {time_unit} rise by {interval} s from sample to sample, as if they were {unit} that are \
             read as seconds, at {rate_hz:.0} Hz. If so, say {} {}",
            Quantity::Time.option(),
            time_option(unit, time_unit)
        ),
        SignalError::RoundedTimes { percent, rate_hz, .. } => format!(
            "{percent:.0} % of the samples have the time of the sample before. Export times with \
             milliseconds{}",
            even(*rate_hz)
        ),
        SignalError::BatchedTimes { samples, gap_seconds, rate_hz } => format!(
            "samples arrive in batches of about {samples} every {gap_seconds:.2} s. Export the times at \
             which the sensor took them{}",
            even(*rate_hz)
        ),
        SignalError::BackwardTime { index, previous_seconds, time_seconds } => format!(
            "the time of sample {} is {time_seconds} s, but that of the sample before is \
             {previous_seconds} s. Sort the rows by time. If the clock was set back, export the sensor's \
             own time",
            index + 1
        ),
        SignalError::NonFinite { field, index } => format!(
            "{} of sample {} is too large for a number. Correct or remove its row",
            field.replace('_', " "),
            index + 1
        ),
        error if error.field() == "angular_rate" => format!(
            "{error}. To leave the gyroscope's columns out, name those to read, with --columns"
        ),
        error => error.to_string(),
    }
}

/// Judges the samples as the service does. Says what an option can mend, or `None`. Other faults are left
/// to the service.
pub fn fault(
    recording: &Recording,
    acceleration: &Sensor,
    angular_rate: Option<&Sensor>,
    time_unit: Unit,
) -> Option<String> {
    match (cut_windows(recording, &Recipe::OPENSET, Recipe::OPENSET.samples), angular_rate) {
        (Err(SignalError::GravityUnits { mean_m_s2, .. }), _) => Some(format!(
            "acceleration in {} has a mean of {mean_m_s2:.4} m/s^2; expected gravity, about 9.8. {}",
            acceleration.unit,
            acceleration_option(f64::from(mean_m_s2), acceleration.unit)
        )),
        (Err(SignalError::ImplausibleAngularRate { rms_rad_s, .. }), Some(sensor)) => {
            Some(format!(
                "angular rate in {} has an RMS of {rms_rad_s:.4} rad/s; walking has 0.4 to 6. {}. To leave the \
             gyroscope out, name the columns to read, with --columns",
                sensor.unit,
                angular_rate_option(f64::from(rms_rad_s), sensor.unit)
            ))
        }
        (Err(error @ SignalError::ImplausibleGravity { .. }), _) => Some(error.to_string()),
        (Err(error), _) if error.field() == "angular_rate" => Some(in_words(&error, time_unit)),
        _ => None,
    }
}

/// The unit of which one is taken for `read`, if seconds in it are really in `unit`.
fn time_option(unit: &str, read: Unit) -> String {
    let factor = match unit {
        "milliseconds" => 1e-3,
        "microseconds" => 1e-6,
        "ticks of 100 ns" => 1e-7,
        "nanoseconds" => 1e-9,
        "minutes" => 60.0,
        "hours" => 3_600.0,
        _ => 86_400.0,
    };
    let seconds = read.si * factor;
    let is_it = |unit: &Unit| (unit.si / seconds - 1.0).abs() < 1e-9;
    match Unit::all(Quantity::Time).find(is_it) {
        Some(unit) => unit.to_string(),
        None if seconds > 1.0 => format!("days/{}", (86_400.0 / seconds).round()),
        None => format!("s/{}", (1.0 / seconds).round()),
    }
}

/// What to do instead, if the sampling is even.
fn even(rate_hz: f64) -> String {
    match rate_hz {
        0.0 => String::new(),
        _ => format!(
            " or, if the sampling is even, say its rate: --columns \
             \"t={rate_hz:.1}Hz,ax=...,ay=...,az=...\""
        ),
    }
}

/// What could mend a mean acceleration that was read in a unit. The same unit again could not.
fn acceleration_option(mean_m_s2: f64, read: Unit) -> String {
    let magnitude = mean_m_s2 / read.si;
    let mut units = Unit::gravity(magnitude, 0.88..1.36);
    units.extend(Unit::counts(magnitude));
    units.retain(|unit| unit.si != read.si);
    let option = Quantity::Acceleration.option();
    match &units[..] {
        [] => format!(
            "Say the unit, with {option}: g/R if a phone at rest reads R, such as g/4096 if the sensor's \
             counts for 1 g are 4096. The table has a mean of {magnitude:.4}"
        ),
        units => {
            let units: Vec<String> = units.iter().map(Unit::to_string).collect();
            format!("As if in {0}: say {option} {0}", units.join(" or "))
        }
    }
}

/// What could mend an RMS that was read in a unit. The same unit again could not.
fn angular_rate_option(rms_rad_s: f64, read: Unit) -> String {
    let option = Quantity::AngularRate.option();
    let rms = rms_rad_s / read.si;
    let is_it = |unit: &Unit| (0.25..8.0).contains(&(rms * unit.si)) && unit.si != read.si;
    match Unit::all(Quantity::AngularRate).find(is_it) {
        Some(unit) => format!("As if in {unit}: say {option} {unit}"),
        None => format!(
            "Say the unit, with {option}: deg/s/N if N counts of the sensor are 1 deg/s. The table has an \
             RMS of {rms:.4}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_never_repeats_the_unit_that_was_read() {
        let unit = |quantity, text| Unit::of(quantity, text).unwrap();
        for (text, mean_m_s2, expected) in [
            ("m/s^2", 8.7, "g/R if a phone at rest reads R"),
            ("m/s^2", 13.32, "g/R if a phone at rest reads R"),
            ("g", 8.7, "g/R if a phone at rest reads R"),
            ("g/256", 8.7, "g/R if a phone at rest reads R"),
            ("m/s^2", 1.0, "say --acceleration-unit g"),
            ("g", 9.8 * 9.80665, "say --acceleration-unit m/s^2"),
            ("g/256", 9.8 * 4.0, "say --acceleration-unit mg or g/1024"),
        ] {
            let advice = acceleration_option(mean_m_s2, unit(Quantity::Acceleration, text));
            assert!(advice.contains(expected), "{mean_m_s2} in {text}: {advice}");
        }
        for (text, rms_rad_s, expected) in [
            ("rad/s", 0.3, "deg/s/N if N counts"),
            ("deg/s", 7.0, "deg/s/N if N counts"),
            ("deg/s/131", 0.3, "deg/s/N if N counts"),
            ("rad/s", 60.0, "say --angular-rate-unit deg/s"),
            ("deg/s", 0.03, "say --angular-rate-unit rad/s"),
        ] {
            let advice = angular_rate_option(rms_rad_s, unit(Quantity::AngularRate, text));
            assert!(advice.contains(expected), "{rms_rad_s} in {text}: {advice}");
        }
    }

    #[test]
    fn a_unit_of_time_is_found_from_the_one_that_was_read() {
        for (unit, read, expected) in [
            ("milliseconds", "s", "ms"),
            ("ticks of 100 ns", "s", "100ns"),
            ("milliseconds", "ms", "us"),
            ("nanoseconds", "s/1000", "s/1000000000000"),
            ("minutes", "s", "days/1440"),
            ("days", "s", "days"),
        ] {
            let read = Unit::of(Quantity::Time, read).unwrap();
            assert_eq!(time_option(unit, read), expected, "{unit} in {read}");
        }
    }
}
