//! What the name of a column says.

use super::time_unit::without_remarks;
use super::unit::{Quantity, Unit};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Time,
    /// Acceleration whose name says that it includes gravity.
    WithGravity,
    /// Acceleration. Its name does not say whether it includes gravity.
    Acceleration,
    /// Acceleration whose name says that gravity was removed.
    Linear,
    AngularRate,
    /// An axis without the name of a sensor.
    Unnamed,
    Other,
}

/// The name of a column, taken apart.
#[derive(Debug, PartialEq)]
pub struct Name {
    pub kind: Kind,
    /// 0 to 2 for x to z.
    pub axis: Option<usize>,
    /// The name without axis and unit. The axes of one sensor share it.
    pub sensor: String,
    pub unit: Option<Unit>,
}

impl Name {
    pub fn of(cell: &str) -> Self {
        let (text, said) = without_unit(cell);
        let said = said.map(without_remarks).filter(|unit| !is_no_unit(unit));
        let mut words = words(text);
        let mut unit = Unit::spelled(said.unwrap_or_default());
        let time_unit = words.iter().rev().find_map(|word| {
            let unit = Unit::spelled(word).filter(|unit| unit.quantity == Quantity::Time)?;
            (word.len() > 1 || words.last() == Some(word)).then_some(unit)
        });
        let axis = take_axis(&mut words);
        if axis.is_some() && said.is_none() {
            unit = words.last().and_then(|word| Unit::spelled(word));
            if unit.is_some() && words.len() > 1 {
                words.pop();
            } else {
                unit = None;
            }
        }
        words.retain(|word| !["axis", "data", "raw", "value"].contains(&word.as_str()));
        let sensor = words.concat();
        let is_other_unit = said.is_some_and(|text| !text.is_empty()) && unit.is_none();
        let kind = match (axis, unit.map(|unit| unit.quantity)) {
            (None, Some(Quantity::Time)) if !is_of_other_sensor(&sensor) => Kind::Time,
            (None, None) if is_time(&words) && !is_of_other_sensor(&sensor) => Kind::Time,
            (Some(_), quantity) if !is_other_unit && quantity != Some(Quantity::Time) => {
                // The place of a sensor does not change what it measures.
                let without_place: String =
                    words.iter().filter(|word| !is_place(word)).map(String::as_str).collect();
                match without_place.is_empty() {
                    true => sensor_kind(&sensor, quantity),
                    false => sensor_kind(&without_place, quantity),
                }
            }
            _ => Kind::Other,
        };
        let unit = unit.or(time_unit.filter(|_| axis.is_none())).or_else(|| {
            implied(&sensor).filter(|_| matches!(kind, Kind::WithGravity | Kind::Time))
        });
        Self { kind, axis, sensor, unit }
    }
}

/// The unit of names that need none.
fn implied(sensor: &str) -> Option<Unit> {
    match sensor {
        "gf" | "gforce" => Unit::spelled("g"),
        // Xsens DOT.
        "sampletimefine" => Unit::spelled("us"),
        _ => None,
    }
}

fn is_place(word: &str) -> bool {
    let places = [
        "ankle", "arm", "back", "chest", "foot", "hand", "hip", "left", "leg", "phone", "pocket",
        "right", "thigh", "waist", "watch", "wrist",
    ];
    places.contains(&word)
}

/// A name and the unit after it, in parentheses or after "in".
pub fn without_unit(cell: &str) -> (&str, Option<&str>) {
    let cell = cell.trim();
    let closed = cell.strip_suffix([')', ']']);
    if let Some((name, unit)) = closed.and_then(|cell| cell.rsplit_once(['(', '['])) {
        return (name, Some(unit));
    }
    match cell.rsplit_once(" in ") {
        Some((name, unit)) if Unit::spelled(unit).is_some() => (name, Some(unit)),
        _ => (cell, None),
    }
}

/// A name and the unit that another cell gives it.
pub fn with_unit(name: &str, cell: &str) -> String {
    match Unit::spelled(cell) {
        Some(unit) => format!("{name} ({unit})"),
        None => format!("{name} ({})", cell.trim_matches(['(', ')', '[', ']'])),
    }
}

/// Whether the unit is that of the sensor itself, which says nothing.
fn is_no_unit(text: &str) -> bool {
    let names =
        ["", "-", "1", "adc", "count", "counts", "digit", "digits", "lsb", "raw", "unitless"];
    names.contains(&text.trim().to_lowercase().as_str())
}

/// Words in lower case. `camelCase` has two.
pub fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in text.chars() {
        let begins = c.is_uppercase() && before.is_lowercase();
        if begins || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Removes the axis from the words: a word of its own, or the last letter of a short name as in `ax`.
fn take_axis(words: &mut Vec<String>) -> Option<usize> {
    const AXES: [&str; 3] = ["x", "y", "z"];
    let position = |text: &str| AXES.iter().position(|axis| *axis == text);
    let own: Vec<usize> =
        (0..words.len()).filter(|&i| position(without_number(&words[i])).is_some()).collect();
    if let [index] = own[..] {
        let (axis, number) = words[index].split_at(1);
        let (axis, number) = (position(axis), number.to_owned());
        words[index] = number;
        words.retain(|word| !word.is_empty());
        return axis;
    }
    let begin = words.iter().take_while(|word| is_place(word)).count();
    // `gFx` has two words.
    for end in begin + 1..=words.len().min(begin + 2) {
        let joined = words[begin..end].concat();
        // The number of a sensor may stand after the axis, as in `ax2`.
        let (name, number) = joined.split_at(without_number(&joined).len());
        let Some((last, _)) = name.char_indices().next_back() else { continue };
        let (sensor, axis) = name.split_at(last);
        let known = [
            "a",
            "acc",
            "accel",
            "acceleration",
            "accelerometer",
            "g",
            "gf",
            "gyr",
            "gyro",
            "gyroscope",
            "lin",
            "m",
            "mag",
            "w",
            "b",
        ];
        if let Some(axis) = position(axis).filter(|_| known.contains(&without_number(sensor))) {
            words.splice(begin..end, [format!("{sensor}{number}")]);
            return Some(axis);
        }
    }
    None
}

fn without_number(word: &str) -> &str {
    word.trim_end_matches(|c: char| c.is_ascii_digit())
}

fn is_time(words: &[String]) -> bool {
    let known = [
        "time",
        "times",
        "timestamp",
        "timestamps",
        "datetime",
        "date",
        "elapsed",
        "epoch",
        "epoc",
        "seconds",
        "milliseconds",
        "microseconds",
        "nanoseconds",
        "zeit",
        "temps",
        "tiempo",
        "tempo",
    ];
    // `millis`, but no letter, which could be anything.
    let is_unit = |word: &String| {
        word.len() > 1 && Unit::spelled(word).is_some_and(|unit| unit.quantity == Quantity::Time)
    };
    words == ["t"]
        || matches!(words, [word] if is_unit(word))
        || words.iter().any(|word| known.contains(&word.as_str()))
}

/// Whether a time belongs to another sensor, or is a length of time.
fn is_of_other_sensor(sensor: &str) -> bool {
    let others = [
        "gyr",
        "mag",
        "gps",
        "location",
        "heading",
        "motion",
        "pressure",
        "baro",
        "light",
        "audio",
        "battery",
        "heart",
        "step",
        "pedometer",
        "altimeter",
        "activity",
        "duration",
        "delta",
        "interval",
        "zone",
    ];
    others.iter().any(|other| sensor.contains(other))
}

fn sensor_kind(sensor: &str, quantity: Option<Quantity>) -> Kind {
    let sensor = without_number(sensor);
    let has = |parts: &[&str]| parts.iter().any(|part| sensor.contains(part));
    let begins = |parts: &[&str]| parts.iter().any(|part| sensor.starts_with(part));
    let turns = [
        "gyr",
        "giro",
        "drehrate",
        "rotationrate",
        "angular",
        "angvel",
        "turnrate",
        "rateofturn",
        "omega",
    ];
    if has(&["includinggravity", "inclgravity", "withgravity", "total"])
        || ["gf", "gforce"].contains(&sensor)
    {
        Kind::WithGravity
    } else if has(&[
        "linear",
        "linacc",
        "useracc",
        "freeacc",
        "without",
        "nograv",
        "excludingg",
        "lineal",
        "linéa",
        "ohneg",
    ]) || sensor == "lin"
    {
        Kind::Linear
    } else if has(&["grav"]) || begins(&["mag", "orient", "quat", "attitude", "euler"]) {
        Kind::Other
    } else if has(&turns) || ["w", "rotation"].contains(&sensor) {
        if quantity == Some(Quantity::Acceleration) { Kind::Other } else { Kind::AngularRate }
    } else {
        match quantity {
            // In m/s^2 or g, `gx` is gravity.
            Some(Quantity::Acceleration) if sensor != "g" => Kind::Acceleration,
            Some(Quantity::AngularRate) => Kind::AngularRate,
            None if sensor == "g" => Kind::AngularRate,
            None if sensor == "a" || has(&["acc", "beschl", "acel"]) => Kind::Acceleration,
            None if sensor.is_empty() => Kind::Unnamed,
            _ => Kind::Other,
        }
    }
}

/// What the name of a file says about columns without the name of a sensor.
pub fn kind_of_file(stem: &str) -> Kind {
    let sensor = words(stem).concat();
    let named = |parts: &[&str]| parts.iter().any(|part| sensor.contains(part));
    if named(&["gyroscope", "accelerometer", "acceleration", "gravity", "magnetometer"]) {
        match sensor_kind(&sensor, None) {
            Kind::Other if named(&["accelerometer", "acceleration"]) => Kind::Acceleration,
            kind => kind,
        }
    } else {
        Kind::Unnamed
    }
}

/// What a cell says about the sensor of its row. `Unnamed` if it names no sensor of movement.
pub fn kind_of_sensor(cell: &str) -> Kind {
    let words = words(cell);
    let sensor = words.concat();
    let short = ["acc", "acce", "accel", "gyr", "gyro"];
    let long = [
        "accelerom",
        "acceleration",
        "acelerom",
        "beschleunigung",
        "girosc",
        "gyrosc",
        "gyrosk",
        "rotationrate",
    ];
    let named = long.iter().any(|part| sensor.contains(part))
        || words.iter().any(|word| short.contains(&word.as_str()));
    match sensor_kind(&sensor, None) {
        Kind::Other => Kind::Unnamed,
        kind if named => kind,
        _ => Kind::Unnamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_programs_are_known() {
        let unit = |name: &Name| name.unit.map_or_else(String::new, |unit| unit.to_string());
        for (cells, kind, expected) in [
            ("t|time|Timestamp|timestamp (-0700)|YYYY date|loggingTime(txt)|Date", Kind::Time, ""),
            (
                "Time (s)|seconds_elapsed|Temps (s)|elapsed (s)|t [s]|time_s|Zeit (s)",
                Kind::Time,
                "s",
            ),
            (
                "Time since start in ms |epoc (ms)|timestampMs|TIME SINCE START (ms)|millis",
                Kind::Time,
                "ms",
            ),
            ("SampleTimeFine|time_us", Kind::Time, "us"),
            ("timestamp_ns|ns|time in nanoseconds|sensor time [ns]", Kind::Time, "ns"),
            (
                "time (ms since boot)|t [ms, UTC]|Zeit (Millisekunden)|t (unix ms)|t (msec.)",
                Kind::Time,
                "ms",
            ),
            ("time (100 ns)", Kind::Time, "100ns"),
            ("ax|Acc X|accel_x|AccelX|accelerometer_x_data|a_x|acc.x", Kind::Acceleration, ""),
            ("ax2|accX2|acc_x2|acc2x|acc_x_2|ax.1|ax_1", Kind::Acceleration, ""),
            ("ax_left|wrist_ax|left.hand.ax2|acc_x_hip", Kind::Acceleration, ""),
            ("gx2|gyroX2|gx_left", Kind::AngularRate, ""),
            ("accelerometerX|X acceleration|accelx|ACCELERATIONX", Kind::Acceleration, ""),
            ("ax (counts)|acc_x [LSB]|Beschleunigung x|Aceleración x", Kind::Acceleration, ""),
            ("Acceleration x (m/s^2)|ACCELEROMETER X (m/s²)|x [m/s2]", Kind::Acceleration, "m/s^2"),
            (
                "Accel-X (g)| x-axis (g)|accelerometerAccelerationX(G)|acc_x_g",
                Kind::Acceleration,
                "g",
            ),
            ("gFx|gForceX", Kind::WithGravity, "g"),
            ("accelerationIncludingGravity.x|TotalAcceleration x", Kind::WithGravity, ""),
            ("Linear Acceleration x (m/s^2)|LINEAR ACCELERATION X (m/s²)", Kind::Linear, "m/s^2"),
            ("userAccelerationX|linAccX|linx|Accélération linéaire x", Kind::Linear, ""),
            ("gx|gyro_x|wx|rotationRate.x|GyroX|Angular velocity x", Kind::AngularRate, ""),
            ("Gyroscope x (rad/s)|GYROSCOPE X (rad/s)|x (rad/s)", Kind::AngularRate, "rad/s"),
            ("Gyro-X (d/s)|x-axis (deg/s)|gyro x [°/s]|gyro_x_dps", Kind::AngularRate, "deg/s"),
            ("x|X|x-axis|x_data|x2", Kind::Unnamed, ""),
            (
                "gravityX|Bx|mag_x|x-axis (T)|qx|MAGNETIC FIELD X (μT)|Orientation x (°)",
                Kind::Other,
                "",
            ),
            (
                "gyroTimestamp_sinceReboot|locationTimestamp|Absolute acceleration|aT|gFTotal|label|x y",
                Kind::Other,
                "",
            ),
            ("gx (m/s^2)|GRAVITY X (m/s²)", Kind::Other, "m/s^2"),
        ] {
            for cell in cells.split('|') {
                let name = Name::of(cell);
                assert_eq!((name.kind, &unit(&name)[..]), (kind, expected), "{cell}: {name:?}");
                let has_axis = !matches!(kind, Kind::Time | Kind::Other);
                assert!(!has_axis || name.axis == Some(0), "{cell}: {name:?}");
            }
        }
        assert_eq!(Name::of("Accel-Z (g)").sensor, Name::of("Accel-X (g)").sensor);
    }

    #[test]
    fn names_of_files_say_what_their_axes_are() {
        for (stem, kind) in [
            ("TotalAcceleration", Kind::WithGravity),
            ("Accelerometer", Kind::Acceleration),
            ("AccelerometerUncalibrated", Kind::Acceleration),
            ("ann_2024-05-07T16.29_C8_Accelerometer_50.000Hz_1.4", Kind::Acceleration),
            ("Linear Accelerometer", Kind::Linear),
            ("Gyroscope", Kind::AngularRate),
            ("Magnetometer", Kind::Other),
            ("zaccaria", Kind::Unnamed),
            ("magda-1", Kind::Unnamed),
            ("walk", Kind::Unnamed),
        ] {
            assert_eq!(kind_of_file(stem), kind, "{stem}");
        }
    }

    #[test]
    fn cells_say_which_sensor_a_row_is_of() {
        for (cell, kind) in [
            ("accelerometer", Kind::Acceleration),
            ("android.sensor.accelerometer", Kind::Acceleration),
            ("TYPE_ACCELEROMETER", Kind::Acceleration),
            ("ACCE", Kind::Acceleration),
            ("TotalAcceleration", Kind::WithGravity),
            ("linear_acceleration", Kind::Linear),
            ("LSM6DSO Gyroscope", Kind::AngularRate),
            ("GYR", Kind::AngularRate),
            ("gravity", Kind::Unnamed),
            ("magnetometer", Kind::Unnamed),
            ("walking", Kind::Unnamed),
            ("accident", Kind::Unnamed),
            ("g", Kind::Unnamed),
        ] {
            assert_eq!(kind_of_sensor(cell), kind, "{cell}");
        }
    }
}
