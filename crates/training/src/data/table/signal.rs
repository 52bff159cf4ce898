//! Faults of recordings in the words of tables: which option or column to change.

use bipedalnet_core::gait::{Recipe, Recording, SignalError, cut_windows};

use super::sensor::Sensor;
use super::unit::{Quantity, Unit};

/// Says a fault of the samples. An error of a recording speaks of the fields of JSON.
pub fn in_words(error: &SignalError) -> String {
    match error {
        SignalError::TimeUnits { interval, unit, rate_hz } => format!(
            "times rise by {interval} s from sample to sample, as if in {unit} at {rate_hz:.0} Hz. {}",
            time_option(unit)
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
) -> Option<String> {
    match (cut_windows(recording, &Recipe::OPENSET, Recipe::OPENSET.samples), angular_rate) {
        (Err(SignalError::GravityUnits { mean_m_s2, .. }), _) => Some(format!(
            "acceleration in {} has a mean of {mean_m_s2:.4} m/s^2; expected gravity, about 9.8. {}",
            acceleration.unit,
            acceleration_option(f64::from(mean_m_s2) / acceleration.unit.si)
        )),
        (Err(SignalError::ImplausibleAngularRate { rms_rad_s, .. }), Some(sensor)) => {
            Some(format!(
                "angular rate in {} has an RMS of {rms_rad_s:.4} rad/s; walking has 0.4 to 6. {}. To leave the \
             gyroscope out, name the columns to read, with --columns",
                sensor.unit,
                angular_rate_option(f64::from(rms_rad_s) / sensor.unit.si)
            ))
        }
        (Err(error @ SignalError::ImplausibleGravity { .. }), _) => Some(error.to_string()),
        (Err(error), _) if error.field() == "angular_rate" => Some(in_words(&error)),
        _ => None,
    }
}

fn time_option(unit: &str) -> String {
    let name = match unit {
        "milliseconds" => "ms",
        "microseconds" => "us",
        "ticks of 100 ns" => "s/10000000",
        "nanoseconds" => "ns",
        "days" => "days",
        _ => return "Convert them to seconds".to_owned(),
    };
    format!("If they are, say {} {name}", Quantity::Time.option())
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

fn acceleration_option(magnitude: f64) -> String {
    let mut units = Unit::gravity(magnitude, 0.88..1.36);
    units.extend(Unit::counts(magnitude));
    let option = Quantity::Acceleration.option();
    match &units[..] {
        [] => format!(
            "Say the unit, with {option}, such as g/4096 if 4096 counts of the sensor are 1 g"
        ),
        units => {
            let units: Vec<String> = units.iter().map(Unit::to_string).collect();
            format!("As if in {0}: say {option} {0}", units.join(" or "))
        }
    }
}

fn angular_rate_option(rms: f64) -> String {
    let option = Quantity::AngularRate.option();
    let mut units = Unit::all(Quantity::AngularRate);
    match units.find(|unit| (0.25..8.0).contains(&(rms * unit.si))) {
        Some(unit) => format!("As if in {unit}: say {option} {unit}"),
        None => format!(
            "Say the unit, with {option}, such as deg/s/131 if 131 counts of the sensor are 1 deg/s"
        ),
    }
}
