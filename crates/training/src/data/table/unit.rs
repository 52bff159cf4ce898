//! Units of columns, and how tables spell them.

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

/// A unit of a column.
#[derive(Debug, PartialEq)]
pub struct Unit {
    pub(super) quantity: Quantity,
    pub(super) name: &'static str,
    /// The unit in s, m/s^2 or rad/s.
    pub(super) si: f64,
    /// Without blanks, in lower case, as [`plain`] leaves them.
    spellings: &'static [&'static str],
}

/// Standard gravity in m/s^2 (ISO 80000-3).
pub(super) const STANDARD_GRAVITY: f64 = 9.80665;

static UNITS: [Unit; 10] = [
    Unit {
        quantity: Quantity::Time,
        name: "s",
        si: 1.0,
        spellings: &["s", "sec", "secs", "second", "seconds"],
    },
    Unit {
        quantity: Quantity::Time,
        name: "ms",
        si: 1e-3,
        spellings: &["ms", "msec", "msecs", "millis", "millisecond", "milliseconds"],
    },
    Unit {
        quantity: Quantity::Time,
        name: "us",
        si: 1e-6,
        spellings: &["us", "usec", "usecs", "micros", "microsecond", "microseconds"],
    },
    Unit {
        quantity: Quantity::Time,
        name: "ns",
        si: 1e-9,
        spellings: &["ns", "nsec", "nsecs", "nanos", "nanosecond", "nanoseconds"],
    },
    // Spreadsheets keep dates and times of day as a number of days.
    Unit { quantity: Quantity::Time, name: "days", si: 86_400.0, spellings: &["d", "day", "days"] },
    Unit {
        quantity: Quantity::Acceleration,
        name: "m/s^2",
        si: 1.0,
        spellings: &["m/s2", "m/s/s", "m/sec2", "ms-2", "m/ss", "ms2", "mps2", "mpss"],
    },
    Unit {
        quantity: Quantity::Acceleration,
        name: "g",
        si: STANDARD_GRAVITY,
        spellings: &["g", "gs", "g-force"],
    },
    Unit {
        quantity: Quantity::Acceleration,
        name: "mg",
        si: STANDARD_GRAVITY / 1000.0,
        spellings: &["mg", "milli-g", "millig"],
    },
    Unit {
        quantity: Quantity::AngularRate,
        name: "rad/s",
        si: 1.0,
        spellings: &["rad/s", "rad/sec", "radians/s", "radians/second", "rads-1", "rads"],
    },
    Unit {
        quantity: Quantity::AngularRate,
        name: "deg/s",
        si: std::f64::consts::PI / 180.0,
        spellings: &["deg/s", "deg/sec", "°/s", "°/sec", "d/s", "dps", "degrees/s", "degs-1"],
    },
];

impl Unit {
    /// The unit with this spelling.
    pub(super) fn spelled(text: &str) -> Option<&'static Self> {
        let text = plain(text);
        UNITS.iter().find(|unit| unit.spellings.contains(&text.as_str()))
    }

    /// The unit of this quantity with this spelling.
    ///
    /// # Errors
    /// If there is none. The error lists the units.
    pub fn of(quantity: Quantity, text: &str) -> Result<&'static Self, String> {
        let unit = Self::spelled(text).filter(|unit| unit.quantity == quantity);
        unit.ok_or_else(|| {
            let names: Vec<_> = Self::all(quantity).map(|unit| unit.name).collect();
            format!("{} is needed", names.join(" or "))
        })
    }

    /// All units of a quantity; the first one is that of SI.
    pub(super) fn all(quantity: Quantity) -> impl Iterator<Item = &'static Self> {
        UNITS.iter().filter(move |unit| unit.quantity == quantity)
    }

    /// The unit of SI.
    pub(super) fn si(quantity: Quantity) -> &'static Self {
        Self::all(quantity).next().expect("each quantity has units")
    }
}

/// A spelling without what varies between programs and character sets.
fn plain(text: &str) -> String {
    let text = text.trim().to_lowercase();
    let kept = text.chars().filter(|c| !" ^*·â".contains(*c));
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
            ("G", "g"),
            ("°/s", "deg/s"),
            ("μs", "us"),
            (" Milliseconds", "ms"),
        ] {
            assert_eq!(Unit::spelled(text).map(|unit| unit.name), Some(name), "{text}");
        }
        assert!(Unit::spelled("μT").is_none() && Unit::spelled("m/s").is_none());
        assert_eq!(
            Unit::of(Quantity::Time, "g").unwrap_err(),
            "s or ms or us or ns or days is needed"
        );
    }
}
