//! Units of columns, and how tables spell them.

use std::fmt;
use std::ops::Range;

/// What a unit measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Time of a sample.
    Time,
    /// Acceleration.
    Acceleration,
    /// Angular rate.
    AngularRate,
}

impl Quantity {
    /// The option of the commands that says its unit.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Time => "--time-unit",
            Self::Acceleration => "--acceleration-unit",
            Self::AngularRate => "--angular-rate-unit",
        }
    }
}

/// A unit of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    pub(super) quantity: Quantity,
    name: &'static str,
    /// The unit in s, m/s^2 or rad/s.
    pub(super) si: f64,
    /// What the named unit is divided by: the counts of a sensor that are one of it.
    divisor: f64,
    /// Without blanks, in lower case, as [`plain`] leaves them.
    spellings: &'static [&'static str],
}

/// Standard gravity in m/s^2 (ISO 80000-3).
pub(super) const STANDARD_GRAVITY: f64 = 9.80665;

static UNITS: [Unit; 11] = [
    Unit {
        quantity: Quantity::Time,
        name: "s",
        si: 1.0,
        divisor: 1.0,
        spellings: &[
            "s", "sec", "secs", "second", "seconds", "sek", "sekunden", "secondes", "segundos",
            "secondi",
        ],
    },
    Unit {
        quantity: Quantity::Time,
        name: "ms",
        si: 1e-3,
        divisor: 1.0,
        spellings: &[
            "ms",
            "msec",
            "msecs",
            "millis",
            "millisecond",
            "milliseconds",
            "millisekunden",
            "millisecondes",
            "milisegundos",
            "millisecondi",
        ],
    },
    Unit {
        quantity: Quantity::Time,
        name: "us",
        si: 1e-6,
        divisor: 1.0,
        spellings: &["us", "usec", "usecs", "micros", "microsecond", "microseconds"],
    },
    // Ticks of .NET and of Windows.
    Unit {
        quantity: Quantity::Time,
        name: "100ns",
        si: 1e-7,
        divisor: 1.0,
        spellings: &["100ns", "0.1us"],
    },
    Unit {
        quantity: Quantity::Time,
        name: "ns",
        si: 1e-9,
        divisor: 1.0,
        spellings: &["ns", "nsec", "nsecs", "nanos", "nanosecond", "nanoseconds"],
    },
    // Spreadsheets keep dates and times of day as a number of days.
    Unit {
        quantity: Quantity::Time,
        name: "days",
        si: 86_400.0,
        divisor: 1.0,
        spellings: &["d", "day", "days"],
    },
    Unit {
        quantity: Quantity::Acceleration,
        name: "m/s^2",
        si: 1.0,
        divisor: 1.0,
        spellings: &["m/s2", "m/s/s", "m/sec2", "ms-2", "m/ss", "ms2", "mps2", "mpss"],
    },
    Unit {
        quantity: Quantity::Acceleration,
        name: "g",
        si: STANDARD_GRAVITY,
        divisor: 1.0,
        spellings: &["g", "gs", "g-force"],
    },
    Unit {
        quantity: Quantity::Acceleration,
        name: "mg",
        si: STANDARD_GRAVITY / 1000.0,
        divisor: 1.0,
        spellings: &["mg", "milli-g", "millig"],
    },
    Unit {
        quantity: Quantity::AngularRate,
        name: "rad/s",
        si: 1.0,
        divisor: 1.0,
        spellings: &["rad/s", "rad/sec", "radians/s", "radians/second", "rads-1", "rads"],
    },
    Unit {
        quantity: Quantity::AngularRate,
        name: "deg/s",
        si: std::f64::consts::PI / 180.0,
        divisor: 1.0,
        spellings: &["deg/s", "deg/sec", "°/s", "°/sec", "d/s", "dps", "degrees/s", "degs-1"],
    },
];

/// What walking measures in a table whose unit is not gravity's, if it is counts of a sensor.
const COUNTS_FOR_1_G: [f64; 9] =
    [128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0];

impl Unit {
    /// The unit with this spelling.
    pub(super) fn spelled(text: &str) -> Option<Self> {
        let text = plain(text);
        UNITS.iter().find(|unit| unit.spellings.contains(&text.as_str())).copied()
    }

    /// The unit of this quantity with this spelling, or a fraction of it: `g/16384` if 16384 counts of
    /// a sensor are 1 g.
    ///
    /// # Errors
    /// If there is none. The error lists the units.
    pub fn of(quantity: Quantity, text: &str) -> Result<Self, String> {
        let fraction = || {
            let (name, divisor) = text.rsplit_once('/')?;
            let divisor =
                divisor.trim().parse().ok().filter(|it: &f64| it.is_normal() && *it > 0.0);
            Some(Self::spelled(name)?.divided_by(divisor?))
        };
        let unit = Self::spelled(text).or_else(fraction).filter(|unit| unit.quantity == quantity);
        unit.ok_or_else(|| {
            let names: Vec<_> = Self::all(quantity).map(|unit| unit.name).collect();
            let example = match quantity {
                Quantity::Time => "s/32768",
                Quantity::Acceleration => "g/16384",
                Quantity::AngularRate => "deg/s/131",
            };
            format!(
                "{} is needed, or one divided by the counts of the sensor that are 1 of it, such as {example}",
                names.join(" or ")
            )
        })
    }

    /// All units of a quantity; the first one is that of SI.
    pub(super) fn all(quantity: Quantity) -> impl Iterator<Item = Self> {
        UNITS.iter().filter(move |unit| unit.quantity == quantity).copied()
    }

    /// The unit of SI.
    pub(super) fn si(quantity: Quantity) -> Self {
        Self::all(quantity).next().expect("each quantity has units")
    }

    /// The units in which a magnitude is that of gravity, within a range around 1 g.
    pub(super) fn gravity(magnitude: f64, around_1_g: Range<f64>) -> Vec<Self> {
        let all = Self::all(Quantity::Acceleration);
        let fits = |unit: &Self| around_1_g.contains(&(magnitude * unit.si / STANDARD_GRAVITY));
        all.filter(fits).collect()
    }

    /// The unit of counts, if a magnitude is that of gravity with a usual range of a sensor.
    pub(super) fn counts(magnitude: f64) -> Option<Self> {
        let fits = |counts: &&f64| (0.88..1.36).contains(&(magnitude / **counts));
        let counts = COUNTS_FOR_1_G.iter().find(fits)?;
        Some(Self::spelled("g")?.divided_by(*counts))
    }

    fn divided_by(self, divisor: f64) -> Self {
        Self { si: self.si / divisor, divisor, ..self }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.divisor {
            1.0 => out.write_str(self.name),
            divisor => write!(out, "{}/{divisor}", self.name),
        }
    }
}

/// A spelling without what varies between programs and character sets.
fn plain(text: &str) -> String {
    let text = text.trim().trim_end_matches('.').to_lowercase();
    let kept = text.chars().filter(|c| !" ^*·â()[]".contains(*c));
    kept.map(|c| match c {
        '²' => '2',
        'µ' | 'μ' => 'u',
        'º' => '°',
        '−' => '-',
        other => other,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_many_spellings() {
        for (text, name) in [
            ("m/s²", "m/s^2"),
            ("m/sÂ²", "m/s^2"),
            ("m s^-2", "m/s^2"),
            ("m/(s^2)", "m/s^2"),
            ("G", "g"),
            ("°/s", "deg/s"),
            ("μs", "us"),
            (" Milliseconds", "ms"),
            ("100 ns", "100ns"),
        ] {
            assert_eq!(Unit::spelled(text).map(|unit| unit.name), Some(name), "{text}");
        }
        for (quantity, text, si) in [
            (Quantity::Acceleration, "g/16384", STANDARD_GRAVITY / 16384.0),
            (Quantity::Acceleration, "m/s^2/100", 0.01),
            (Quantity::AngularRate, "deg/s / 16.4", 1f64.to_radians() / 16.4),
            (Quantity::Time, "s/1e7", 1e-7),
        ] {
            let unit = Unit::of(quantity, text).unwrap();
            assert!((unit.si / si - 1.0).abs() < 1e-12, "{text}");
            assert_eq!(Unit::of(quantity, &unit.to_string()), Ok(unit));
        }
        for text in ["g/0", "g/-1", "g/x", "g/", "/2", "rad/s/2", "g/inf"] {
            assert!(Unit::of(Quantity::Acceleration, text).is_err(), "{text}");
        }
        assert!(Unit::spelled("μT").is_none() && Unit::spelled("m/s").is_none());
        let message = Unit::of(Quantity::Time, "g").unwrap_err();
        assert!(
            message.starts_with("s or ms or us or 100ns or ns or days is needed, or"),
            "{message}"
        );
    }
}
