use bipedalnet_core::gait::simulator::{Conditions, Walker};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::data::text::decode;

/// Ways to write a table.
#[derive(Clone, Debug)]
struct Written {
    delimiter: char,
    decimal_comma: bool,
    before: &'static str,
    line_end: &'static str,
    /// Whether the units are in a line of their own.
    units: bool,
    /// Order of time, x, y and z of both sensors, and a column that nobody needs.
    order: Vec<usize>,
    header: [&'static str; 8],
    quoted: bool,
    encoding: usize,
}

const HEADERS: [[&str; 8]; 4] = [
    [
        "t (s)",
        "ax (m/s²)",
        "ay (m/s²)",
        "az (m/s²)",
        "gx (rad/s)",
        "gy (rad/s)",
        "gz (rad/s)",
        "no",
    ],
    [
        "Time (s)",
        "Acceleration x (m/s^2)",
        "Acceleration y (m/s^2)",
        "Acceleration z (m/s^2)",
        "Gyroscope x (rad/s)",
        "Gyroscope y (rad/s)",
        "Gyroscope z (rad/s)",
        "Absolute acceleration (m/s^2)",
    ],
    [
        "seconds_elapsed",
        "accX [m/s2]",
        "accY [m/s2]",
        "accZ [m/s2]",
        "omega_x [rad/s]",
        "omega_y [rad/s]",
        "omega_z [rad/s]",
        "temperature",
    ],
    ["time_s", "x [m/s2]", "y [m/s2]", "z [m/s2]", "x [rad/s]", "y [rad/s]", "z [rad/s]", "x [uT]"],
];

/// Between cells, and whether numbers have decimal commas.
const DELIMITERS: [(char, bool); 9] = [
    (',', false),
    (';', false),
    ('|', false),
    (' ', false),
    ('\t', false),
    (',', true),
    (';', true),
    (' ', true),
    ('\t', true),
];

fn ways() -> impl Strategy<Value = Written> {
    let order = Just((0..8).collect::<Vec<usize>>()).prop_shuffle();
    (
        select(&DELIMITERS[..]),
        select(&["", "\n", "# walk\n", "recorded by ann\n"][..]),
        select(&["\n", "\r\n"][..]),
        order,
        select(&HEADERS[..]),
        any::<[bool; 3]>(),
        0..5usize,
    )
        .prop_map(
            |((delimiter, decimal_comma), before, line_end, order, header, flags, encoding)| {
                let [quoted, sep, units] = flags;
                let before = match (sep, delimiter) {
                    (true, ',') => "sep=,\n",
                    (true, ';') => "sep=;\n",
                    _ => before,
                };
                // A name must not look like two.
                let quoted = quoted || delimiter == ' ' || (decimal_comma && delimiter == ',');
                Written {
                    delimiter,
                    decimal_comma,
                    before,
                    line_end,
                    units,
                    order,
                    header,
                    quoted,
                    encoding,
                }
            },
        )
}

impl Written {
    fn bytes(&self, recording: &Recording) -> Vec<u8> {
        let rates = recording.angular_rate_rad_s();
        let mut text = self.before.to_owned();
        let mut line = |cells: [String; 8]| {
            let used =
                self.order.iter().filter(|&&column| rates.is_some() || !(4..7).contains(&column));
            let cells = used.map(|&column| match self.quoted {
                true => format!("\"{}\"", cells[column]),
                false => cells[column].clone(),
            });
            let cells: Vec<String> = cells.collect();
            text += &cells.join(&self.delimiter.to_string());
            text += self.line_end;
        };
        if self.units {
            let name =
                |name: &str| name.split(['(', '[']).next().unwrap_or_default().trim().to_owned();
            let unit =
                |name: &str| name.split(['(', '[']).nth(1).map(|it| it[..it.len() - 1].to_owned());
            line(self.header.map(name));
            line(self.header.map(|name| unit(name).unwrap_or_default()));
        } else {
            line(self.header.map(str::to_owned));
        }
        for (index, time) in recording.time_seconds().iter().enumerate() {
            let [x, y, z] = recording.acceleration_m_s2()[index];
            let [a, b, c] = rates.map_or([0.0; 3], |rates| rates[index]);
            let cells = [x, y, z, a, b, c].map(|value| value.to_string());
            let [x, y, z, a, b, c] = cells;
            let cells = [time.to_string(), x, y, z, a, b, c, "7".to_owned()];
            line(cells.map(|cell| match self.decimal_comma {
                true => cell.replace('.', ","),
                false => cell,
            }));
        }
        let units = || text.encode_utf16();
        match self.encoding {
            0 => text.into_bytes(),
            1 => [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            2 => units().flat_map(u16::to_le_bytes).collect(),
            3 => [0xfe, 0xff].into_iter().chain(units().flat_map(u16::to_be_bytes)).collect(),
            _ => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(),
        }
    }
}

/// Parts of tables, in any order.
const PARTS: &[&str] = &[
    "t",
    "x",
    "y",
    "z",
    "ax",
    "ay",
    "az",
    "gFx",
    "gx (deg/s)",
    "seconds_elapsed",
    "time in ms",
    "0",
    "1",
    "-2.5",
    "3,5",
    "1e300",
    "NaN",
    "12:30:05.1",
    "2024-05-07 12:30",
    "é",
    "²",
    "(",
    "g)",
    "[",
    " ",
    ",",
    ",",
    ",",
    ";",
    "\t",
    "\"",
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "#",
    "sep=;\n",
    "t,ax,ay,az\n",
    "0.04,1,2,9.8\n",
    "0.08,1,2,9.9\n",
    "1;2;3;4\n",
    "%",
    "|",
    " -> ",
    "ax:1",
    "sensor",
    "accelerometer",
    "gyroscope",
    "value",
    "0 1 2 3 4 5 6 7 8 9 10",
    "t,sensor,axis,value\n",
    "0.04,acc,x,1\n",
    "s,g,g,g\n",
];

fn recordings() -> impl Strategy<Value = Recording> {
    let sample = (0.015..0.03f64, prop::array::uniform6(-80.0..80.0f32));
    (prop::collection::vec(sample, 1..50), any::<bool>()).prop_map(|(samples, gyroscope)| {
        let mut time = 0.0;
        let times = samples.iter().map(|(step, _)| {
            time += step;
            time
        });
        let times = times.collect();
        let acceleration = samples.iter().map(|(_, it)| [it[0], it[1], it[2]]).collect();
        let rates = samples.iter().map(|(_, it)| [it[3], it[4], it[5]]).collect();
        Recording::new(times, acceleration, gyroscope.then_some(rates)).unwrap()
    })
}

/// The same table with a line for each channel, with a row for each sample of one sensor, and with a row
/// for each value.
fn layouts(recording: &Recording) -> [String; 3] {
    let rates = recording.angular_rate_rad_s();
    let mut channels = vec![("t", "s", recording.time_seconds().to_vec())];
    let axis = |samples: &[[f32; 3]], axis: usize| {
        samples.iter().map(|sample| f64::from(sample[axis])).collect::<Vec<_>>()
    };
    for (at, [a, g]) in [["ax", "gx"], ["ay", "gy"], ["az", "gz"]].into_iter().enumerate() {
        channels.push((a, "m/s^2", axis(recording.acceleration_m_s2(), at)));
        channels.extend(rates.map(|rates| (g, "rad/s", axis(rates, at))));
    }
    let transposed = channels.iter().map(|(name, unit, values)| {
        let values: Vec<_> = values.iter().map(f64::to_string).collect();
        format!("{name};{unit};{}\n", values.join(";"))
    });
    let row = |time: f64, sensor: &str, sample: [f32; 3]| {
        let [x, y, z] = sample;
        format!("{sensor},{time},{x},{y},{z}\n")
    };
    let mut rows = String::from("sensor,seconds_elapsed,x,y,z\n");
    let mut values = String::from("t (s)  variable  value\n");
    for (at, &time) in recording.time_seconds().iter().enumerate() {
        let rates = rates.map(|rates| row(time, "gyroscope", rates[at])).unwrap_or_default();
        rows += &(rates + &row(time, "accelerometer", recording.acceleration_m_s2()[at]));
        rows += &format!("pressure,{time},1013,,\n");
        for (name, _, channel) in channels.iter().skip(1) {
            values += &format!(" {time} {name}\t{}\n", channel[at]);
        }
    }
    [transposed.collect(), rows, values]
}

proptest! {
    #[test]
    fn any_recording_survives_any_layout(recording in recordings()) {
        prop_assume!(recording.time_seconds().len() >= 20);
        // The values are of no walk, so that nothing tells their units.
        let said = |quantity| Some(Unit::si(quantity));
        let options = TableOptions {
            acceleration_unit: said(Quantity::Acceleration),
            angular_rate_unit: said(Quantity::AngularRate),
            ..TableOptions::default()
        };
        for table in layouts(&recording) {
            let (read, _) = read(&table, "walk", &options).unwrap();
            prop_assert_eq!(&read, &recording, "{}", table);
        }
    }

    #[test]
    fn any_recording_survives_any_way_to_write_it(recording in recordings(), way in ways()) {
        let bytes = way.bytes(&recording);
        let (read, _) = read(&decode(bytes), "walk", &TableOptions::default()).unwrap();
        prop_assert_eq!(read, recording);
    }

    #[test]
    fn no_text_panics(parts in prop::collection::vec(select(PARTS), 0..60), named: bool) {
        let options = TableOptions {
            columns: named.then(|| "t=t,ax=2,ay=ay,az=4".parse().unwrap()),
            ..TableOptions::default()
        };
        for text in [parts.concat(), format!("t,ax,ay,az\r\n{}", parts.concat())] {
            if let Err(error) = read(&text, "Accelerometer", &options) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, named: bool) {
        let options = TableOptions {
            columns: named.then(|| "t=1,ax=2,ay=3,az=4".parse().unwrap()),
            ..TableOptions::default()
        };
        for bytes in [bytes.clone(), [b"t,ax,ay,az\n", &bytes[..]].concat()] {
            let _ = read(&decode(bytes), "walk", &options);
        }
    }
}

/// A line for each sample of four seconds at 25 Hz: time, and acceleration in m/s^2.
pub fn rocking(line: impl Fn(f64, [f64; 3]) -> String) -> String {
    (0..100)
        .map(|index| {
            let time = f64::from(index) * 0.04;
            line(time, [0.5 * (9.0 * time).sin(), 0.2, 9.8 + 2.0 * (12.0 * time).sin()])
        })
        .collect()
}

pub fn read_text(text: &str) -> Result<(Recording, String), FormatError> {
    read(text, "walk", &TableOptions::default())
}

#[test]
fn units_of_time_are_told_by_the_steps() {
    let units = [
        ("s", 1.0),
        ("ms", 1e3),
        ("us", 1e6),
        ("100ns", 1e7),
        ("ns", 1e9),
        ("days", 1.0 / 86_400.0),
    ];
    for (unit, per_second) in units {
        let rows = rocking(|time, [x, y, z]| {
            // A pause, and an epoch.
            let epoch = if unit == "days" { 0.0 } else { 1.7e9 };
            let time = epoch + time + if time > 2.0 { 120.0 } else { 0.0 };
            format!("{},{x},{y},{z}\n", time * per_second)
        });
        let (recording, understood) = read_text(&format!("t,ax,ay,az\n{rows}")).unwrap();
        assert!(understood.starts_with(&format!("time \"t\" in {unit} (told")), "{understood}");
        let step = recording.time_seconds()[1] - recording.time_seconds()[0];
        assert!((step - 0.04).abs() < 1e-3, "{unit}: {step}");
    }
    let rows = "0,0,0,9.8\n1,0,0,9.8\n2,0,0,9.8\n";
    let message = read_text(&format!("t,ax,ay,az\n{rows}")).unwrap_err().to_string();
    assert!(message.contains("in s, 1.00 samples a second, or in ms, 1000 samples"), "{message}");
    assert!(message.contains("--time-unit"), "{message}");
    let rows = rocking(|time, [x, y, z]| format!("{},{x},{y},{z}\n", time * 1e-9));
    let message = read_text(&format!("t,ax,ay,az\n{rows}")).unwrap_err().to_string();
    assert!(message.contains("no unit gives the sample rate"), "{message}");
    let rows = "0,0,0,9.8\n1,0,0,9.8\n2,0,0,9.8\n";
    assert!(read_text(&format!("t (s),ax,ay,az\n{rows}")).is_ok());
    let milliseconds = Unit::of(Quantity::Time, "ms").ok();
    let options = TableOptions { time_unit: milliseconds, ..TableOptions::default() };
    let (recording, _) = read(&format!("t,ax,ay,az\n{rows}"), "walk", &options).unwrap();
    assert_eq!(recording.time_seconds(), [0.0, 0.001, 0.002]);
}

#[test]
fn units_are_asked_for_if_the_values_contradict_those_of_plain_tables() {
    let table = |header: &str, acceleration: f64, rate: f64| {
        let rows = rocking(|time, value| {
            let [x, y, z] = value.map(|it| it / 9.80665 * acceleration);
            format!("{time},{x},{y},{z},{},{rate},{rate}\n", -rate)
        });
        read_text(&format!("{header}\n{rows}"))
    };
    let plain = "t,ax,ay,az,gx,gy,gz";
    assert!(table(plain, 9.80665, 1.5).is_ok());
    for (acceleration, rate, expected) in [
        (
            1.0,
            1.5,
            "in m/s^2, that is not gravity; in g, it is. Say which, with --acceleration-unit",
        ),
        (1000.0, 1.5, "in mg, it is. Say which, with --acceleration-unit"),
        (9.80665, 60.0, "in deg/s, it would be 1.8 rad/s. Say which, with --angular-rate-unit"),
    ] {
        let message = table(plain, acceleration, rate).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let said = "t,ax (g),ay (g),az (g),gx (deg/s),gy (deg/s),gz (deg/s)";
    let (recording, understood) = table(said, 1.0, 60.0).unwrap();
    assert!((recording.acceleration_m_s2()[0][2] - 9.8).abs() < 1e-5, "{recording:?}");
    assert!((recording.angular_rate_rad_s().unwrap()[0][1] - 60f32.to_radians()).abs() < 1e-5);
    assert!(
        understood
            .ends_with("angular rate \"gx (deg/s)\", \"gy (deg/s)\", \"gz (deg/s)\" in deg/s")
    );
    let unnamed = table("t,x,y,z,temperature,p,q", 0.1, 1.0).unwrap_err().to_string();
    assert!(unnamed.contains("could be acceleration without gravity, angular rate"), "{unnamed}");
}

#[test]
fn samples_of_other_sensors_in_between_are_no_samples() {
    let rows = rocking(|time, [x, y, z]| {
        format!("{time};{x};{y};{z};;;;\n{};;;;1;{time};0;\n{time};;;;;;;900\n", time + 0.01)
    });
    let header = "t;ax;ay;az;gx;gy;gz;hPa\n";
    let (recording, _) = read_text(&format!("{header}{rows}")).unwrap();
    // The first sample is before the gyroscope's first.
    assert_eq!(recording.time_seconds().len(), 99);
    let rates = recording.angular_rate_rad_s().unwrap();
    assert!((f64::from(rates[5][1]) - (recording.time_seconds()[5] - 0.01)).abs() < 1e-5);
    let table = format!("{header}0;1;2;9.8\n");
    let message = read_text(&table).unwrap_err().to_string();
    assert!(message.contains("line 2 has 4 cells, but the header has 8"), "{message}");
}

#[test]
fn times_that_a_spreadsheet_rounded_are_named() {
    let rows = rocking(|time, [x, y, z]| format!("1.7E+18,{:.1},{x},{y},{z}\n", time));
    let message =
        read_text(&format!("time,seconds_elapsed,x,y,z\n{rows}")).unwrap_err().to_string();
    let expected = "% of the samples have the same time as the one before";
    assert!(message.contains(expected) && message.contains("column seconds_elapsed"), "{message}");
    // If another column has the times, it is read.
    let rows = rocking(|time, [x, y, z]| format!("1.7E+18,{time},{x},{y},{z}\n"));
    assert!(read_text(&format!("time,seconds_elapsed,x,y,z\n{rows}")).is_ok());
    // Events that were delivered twice are not for this check.
    let twice = rocking(|time, [x, y, z]| format!("{time},{x},{y},{z}\n").repeat(2));
    let result = read_text(&format!("t,ax,ay,az\n{twice}"));
    assert!(!matches!(result, Err(FormatError::Table(_))), "{result:?}");
}

#[test]
fn acceleration_that_points_down_is_negated() {
    let options = TableOptions { acceleration_at_rest: AtRest::Down, ..TableOptions::default() };
    let table = "t (s),ax (g),ay (g),az (g),gx (rad/s),gy (rad/s),gz (rad/s)\n0,1,0,-1,1,2,3\n";
    let (recording, understood) = read(table, "walk", &options).unwrap();
    assert_eq!(recording.acceleration_m_s2()[0].map(|it| it.round()), [-10.0, 0.0, 10.0]);
    assert_eq!(recording.angular_rate_rad_s(), Some(&[[1.0, 2.0, 3.0]][..]));
    assert!(understood.ends_with("acceleration negated"), "{understood}");
}

#[test]
fn signs_of_thousands_are_not_taken_for_decimal_commas() {
    let table = "t (ms);ax;ay;az\n960;0.1;0.2;9.8\n1,000;0.1;0.2;9.8\n";
    let message = read_text(table).unwrap_err().to_string();
    assert!(message.contains("line 3") && message.contains("separators of thousands"), "{message}");
    let table = "t (s);ax;ay;az\n0,96;1.000,5;0;9,8\n";
    let message = read_text(table).unwrap_err().to_string();
    assert!(message.contains("line 2, column ax: \"1.000,5\""), "{message}");
}

#[test]
fn sensor_logger_writes_linear_acceleration_to_its_accelerometer_file() {
    let table = |gravity: f64| {
        let rows = rocking(|time, [x, y, z]| format!("{time},{},{y},{x}\n", z - 9.8 + gravity));
        format!("seconds_elapsed,z,y,x\n{rows}")
    };
    let read = |text: &str, stem| read(text, stem, &TableOptions::default());
    let message = read(&table(0.0), "Accelerometer").unwrap_err().to_string();
    assert!(message.contains("TotalAcceleration.csv"), "{message}");
    assert!(read(&table(9.8), "Accelerometer").is_ok());
    assert!(read(&table(9.8), "TotalAcceleration").is_ok());
}

#[test]
fn a_table_without_times_is_read_if_its_rate_is_said() {
    let rows = rocking(|_, [x, y, z]| format!("{x} {y} {z}\n"));
    let columns = "t=25Hz,ax=1,ay=2,az=3".parse().ok();
    let options = TableOptions { columns, ..TableOptions::default() };
    let (recording, understood) = read(&rows, "walk", &options).unwrap();
    assert_eq!((recording.rate_hz(), recording.time_seconds().len()), (25.0, 100));
    assert!(understood.starts_with("time from 25 Hz; acceleration \"1\""), "{understood}");
}

#[test]
fn counts_of_a_sensor_are_asked_for_and_read() {
    let counts = |per_g: f64| {
        let rows = rocking(|time, value| {
            let [x, y, z] = value.map(|it| (it / 9.80665 * per_g).round());
            let turn = (time.sin() * 131.0 * 60.0).round();
            format!("{time}\t{x}\t{y}\t{z}\t{turn}\t{turn}\t{turn}\n")
        });
        format!("t\tax\tay\taz\tgx\tgy\tgz\n{rows}")
    };
    let refusal = |per_g, options: &TableOptions| {
        read(&counts(per_g), "walk", options).unwrap_err().to_string()
    };
    let mut options = TableOptions::default();
    for per_g in [256.0, 16384.0] {
        let message = refusal(per_g, &options);
        assert!(message.contains(&format!("in g/{per_g}, it is")), "{message}");
    }
    let message = refusal(1024.0, &options);
    assert!(message.contains("in mg or g/1024, it is"), "{message}");
    let message = refusal(50.0, &options);
    assert!(message.contains("in counts of the sensor. If 4096"), "{message}");
    options.acceleration_unit = Unit::of(Quantity::Acceleration, "g/16384").ok();
    let message = refusal(16384.0, &options);
    assert!(message.contains("131 of them are 1 deg/s") && message.contains("--angular-rate-unit"));
    options.angular_rate_unit = Unit::of(Quantity::AngularRate, "deg/s/131").ok();
    let (recording, understood) = read(&counts(16384.0), "walk", &options).unwrap();
    assert!(understood.contains("in g/16384; angular rate"), "{understood}");
    assert!((recording.acceleration_m_s2()[0][2] - 9.8).abs() < 1e-3);
    assert!((recording.angular_rate_rad_s().unwrap()[50][1] - 0.952).abs() < 2e-3);
}

#[test]
fn a_wrong_unit_that_is_said_is_refused_with_the_option_that_mends_it() {
    let walk = Walker::new(2).walk(1, &Conditions { seconds: 10.0, ..Conditions::default() });
    let table = |header: &str, [time_unit, acceleration, rate]: [f64; 3]| {
        let rates = walk.angular_rate_rad_s().unwrap();
        let samples = walk.time_seconds().iter().zip(walk.acceleration_m_s2()).zip(rates);
        let rows = samples.map(|((time, value), rates)| {
            let [x, y, z] = value.map(|it| f64::from(it) * acceleration);
            let [p, q, r] = rates.map(|it| f64::from(it) * rate);
            format!("{},{x},{y},{z},{p},{q},{r}\n", time * time_unit)
        });
        read_text(&format!("{header}\n{}", rows.collect::<String>()))
    };
    let header = "t (s),ax (m/s^2),ay (m/s^2),az (m/s^2),gx (rad/s),gy (rad/s),gz (rad/s)";
    assert!(table(header, [1.0, 1.0, 1.0]).is_ok());
    for (factors, expected) in [
        ([1.0 / 60.0, 1.0, 1.0], "say --time-unit days/1440"),
        ([1.0, 1.0 / 9.80665, 1.0], "As if in g: say --acceleration-unit g"),
        ([1.0, 256.0 / 9.80665, 1.0], "say --acceleration-unit g/256"),
        ([1.0, 0.7, 1.0], "Say the unit, with --acceleration-unit: g/R if a phone at rest reads R"),
        ([1.0, 1.0, 57.3], "say --angular-rate-unit deg/s"),
        ([1.0, 1.0, 0.01], "Say the unit, with --angular-rate-unit"),
        ([1.0, 1.0, 0.0], "leave the gyroscope's columns out"),
    ] {
        let error = table(header, factors).unwrap_err();
        assert!(matches!(error, FormatError::Unusable(_)), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
        for field in ["acceleration_unit", "angular_rate_unit", "time_seconds", "rate_hz"] {
            assert!(!message.contains(field), "{message}");
        }
    }
}

#[test]
fn a_sample_needs_all_axes_in_one_row() {
    let message = read_text("t,ax,ay,az\n0,1,2,9.8\n1,1,nan,9.8\n").unwrap_err().to_string();
    assert!(message.contains("line 3 has no value in column ay"), "{message}");
    let rows = rocking(|time, [x, y, z]| format!("{time},{x},{y},{z}\n{time},NaN,NA,\n"));
    let (recording, _) = read_text(&format!("t,ax,ay,az\n{rows}")).unwrap();
    assert_eq!(recording.time_seconds().len(), 100);
}

#[test]
fn rows_of_several_sensors_are_told_apart_or_refused() {
    let table = |names: [&str; 3]| {
        let rows = rocking(|time, [x, y, z]| {
            let [a, b, c] = names;
            format!("{time},{a},{x},{y},{z}\n{time},{b},1,{time},0\n{time},{c},7,7,7\n")
        });
        read_text(&format!("time (s),type,x,y,z\n{rows}"))
    };
    for names in [
        ["accelerometer", "gyroscope", "magnetometer"],
        ["ACC", "GYR", "MAG"],
        ["TYPE_ACCELEROMETER", "TYPE_GYROSCOPE", "TYPE_GRAVITY"],
        ["TotalAcceleration", "Gyroscope", "LinearAcceleration"],
        ["total acceleration", "gyro", "accelerometer"],
        ["accelerometer", "gyroscope", "accelerometer_uncalibrated"],
        ["Beschleunigungssensor", "Gyroskop", "Magnetfeld"],
    ] {
        let (recording, understood) = table(names).unwrap();
        assert_eq!(recording.time_seconds().len(), 100);
        assert!((recording.acceleration_m_s2()[0][2] - 9.8).abs() < 1e-5, "{recording:?}");
        assert_eq!(recording.angular_rate_rad_s().unwrap()[0], [1.0, 0.0, 0.0]);
        assert!(understood.contains(&format!("of {:?}", names[0])), "{understood}");
    }
    for (names, expected) in [
        (["hip accelerometer", "gyroscope", "wrist accelerometer"], "\"hip accelerometer\" or"),
        (["1", "4", "2"], "of several sensors: 1 or 4 or 2"),
        (["A", "G", "M"], "of several sensors: A or G or M"),
        (["linear_acceleration", "gyroscope", "gravity"], "gravity was removed"),
        (["barometer", "gyroscope", "gravity"], "this is angular rate"),
    ] {
        let message = table(names).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_fault_of_a_channel_is_named_by_its_sample() {
    let channel = |name: &str, value: f64| format!("{name}{}\n", format!(" {value}").repeat(30));
    let table = ["ax", "ay", "az"].map(|name| channel(name, 1.0)).concat();
    let times: String = (0..30).map(|at| format!(" {}", f64::from(at) / 10.0)).collect();
    let message =
        read_text(&format!("t{times}\n{}", table.replacen(" 1 1", " 1 l", 1))).unwrap_err();
    assert!(message.to_string().contains("sample 2, column ax: \"l\""), "{message}");
}
