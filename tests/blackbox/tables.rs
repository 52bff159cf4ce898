//! Tables as apps write them, read by the commands.

use std::fs;
use std::path::PathBuf;

use bipedalnet_core::gait::Recording;
use tempfile::TempDir;

use crate::support::{Server, json, program, simulated, simulated_for, text};

const GRAVITY: f32 = 9.80665;

/// A header, and a line for each sample.
fn table(
    header: &str,
    recording: &Recording,
    line: impl Fn(f64, [f32; 3], [f32; 3]) -> String,
) -> String {
    let rates = recording.angular_rate_rad_s().unwrap();
    let samples = recording.time_seconds().iter().zip(recording.acceleration_m_s2()).zip(rates);
    let lines = samples.map(|((&time, &acceleration), &rate)| line(time, acceleration, rate));
    lines.fold(format!("{header}\n"), |table, line| table + &line + "\n")
}

fn in_g(acceleration: [f32; 3]) -> [f32; 3] {
    acceleration.map(|value| value / GRAVITY)
}

/// `13:59:` and seconds, with milliseconds after `point`. The minute ends within the recording.
fn clock(time: f64, point: char) -> String {
    let milliseconds = ((time + 50.0) * 1e3).round() as u64;
    let (minutes, seconds) = (59 + milliseconds / 60_000, milliseconds / 1000 % 60);
    let (hours, minutes) = (13 + minutes / 60, minutes % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}{point}{:03}", milliseconds % 1000)
}

fn phyphox(recording: &Recording) -> String {
    let header = "\"Time (s)\",\"Acceleration x (m/s^2)\",\"Acceleration y (m/s^2)\",\
        \"Acceleration z (m/s^2)\",\"Absolute acceleration (m/s^2)\"";
    table(header, recording, |t, [x, y, z], _| {
        format!("{t:.9E},{x:.9E},{y:.9E},{z:.9E},{:.9E}", x.hypot(y).hypot(z))
    })
}

fn sensor_logger(recording: &Recording) -> String {
    table("time,seconds_elapsed,z,y,x", recording, |t, [x, y, z], _| {
        let nanoseconds = 1_716_979_893_874_983_200 + (t * 1e9) as i64;
        format!("{nanoseconds},{t},{z},{y},{x}")
    })
}

fn axivity(recording: &Recording) -> String {
    let header =
        "Time,Accel-X (g), Accel-Y (g), Accel-Z (g), Gyro-X (d/s), Gyro-Y (d/s), Gyro-Z (d/s)";
    table(header, recording, |t, a, g| {
        let ([x, y, z], [p, q, r]) = (in_g(a), g.map(f32::to_degrees));
        let clock = clock(t, '.');
        format!("2014-05-07 {clock},{x:.6},{y:.6},{z:.6},{p:.5},{q:.5},{r:.5}")
    })
}

/// Tables of one walk: name of the file, its bytes, and what is said about it.
fn tables(recording: &Recording) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let physics_toolbox =
        table("time,gFx,gFy,gFz,ax,ay,az,wx,wy,wz,", recording, |t, a, [p, q, r]| {
            let [x, y, z] = in_g(a);
            format!("{},{x:.4},{y:.4},{z:.4},0.1,0.2,0.3,{p:.3},{q:.3},{r:.3},", clock(t, ':'))
        });
    let androsensor = table(
        "sep=;\nACCELEROMETER X (m/s²);ACCELEROMETER Y (m/s²);ACCELEROMETER Z (m/s²);\
         GRAVITY X (m/s²);GRAVITY Y (m/s²);GRAVITY Z (m/s²);LINEAR ACCELERATION X (m/s²);\
         LINEAR ACCELERATION Y (m/s²);LINEAR ACCELERATION Z (m/s²);GYROSCOPE X (rad/s);\
         GYROSCOPE Y (rad/s);GYROSCOPE Z (rad/s);SATELLITES IN RANGE;Time since start in ms ;\
         YYYY-MO-DD HH-MI-SS_SSS",
        recording,
        |t, [x, y, z], [p, q, r]| {
            let milliseconds = (t * 1e3).round();
            let line = format!(
                "{x:.4};{y:.4};{z:.4};0.1;0.2;9.8;0.1;0.2;0.3;{p:.4};{q:.4};{r:.4};\
                 0 / 0;{milliseconds}"
            );
            format!("{};2019-09-07 {}", line.replace('.', ","), clock(t, ':'))
        },
    );
    let androsensor = androsensor.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let metabase = table(
        "epoc (ms),timestamp (-0700),elapsed (s),x-axis (g),y-axis (g),z-axis (g)",
        recording,
        |t, a, _| {
            let ([x, y, z], milliseconds) = (in_g(a), (t * 1e3).round() as i64);
            let clock = clock(t, '.').replace(':', ".");
            format!(
                "{},2018-05-14T{clock},{t:.3},{x:.3},{y:.3},{z:.3}",
                1_526_321_232_000 + milliseconds
            )
        },
    );
    let spreadsheet = phyphox(recording).replace(',', "\t").replace('.', ",").replace('\n', "\r\n");
    let spreadsheet = ['\u{feff}'].into_iter().chain(spreadsheet.chars()).collect::<String>();
    let spreadsheet = spreadsheet.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let plain = table("t,ax,ay,az,gx,gy,gz", recording, |t, [x, y, z], [p, q, r]| {
        format!("{:.0},{x},{y},{z},{p},{q},{r}", 1_716_979_893_874_983.0 + t * 1e6)
    });
    vec![
        (
            "Raw Data.csv",
            phyphox(recording).into_bytes(),
            "time \"Time (s)\" in s; acceleration \"Acceleration x (m/s^2)\", \
             \"Acceleration y (m/s^2)\", \"Acceleration z (m/s^2)\" in m/s^2; angular rate none",
        ),
        (
            "German.csv",
            phyphox(recording).replace(',', ";").replace('.', ",").into_bytes(),
            "\"Acceleration z (m/s^2)\" in m/s^2",
        ),
        (
            "TotalAcceleration.csv",
            sensor_logger(recording).into_bytes(),
            "time \"seconds_elapsed\" in s; acceleration \"x\", \"y\", \"z\" in m/s^2 (not said)",
        ),
        (
            "toolbox.csv",
            format!("\n{physics_toolbox}").into_bytes(),
            "time \"time\" as time of day; acceleration \"gFx\", \"gFy\", \"gFz\" in g; \
             angular rate \"wx\", \"wy\", \"wz\" in rad/s (not said)",
        ),
        (
            "Sensor_record_20190907_135950_AndroSensor.csv",
            androsensor,
            "time \"Time since start in ms\" in ms; acceleration \"ACCELEROMETER X (m/s²)\"",
        ),
        (
            "ann_2018-05-14T13.59.50.000_C8_Accelerometer_50.000Hz_1.4.4.csv",
            metabase.into_bytes(),
            "acceleration \"x-axis (g)\", \"y-axis (g)\", \"z-axis (g)\" in g",
        ),
        (
            "axivity.csv",
            axivity(recording).into_bytes(),
            "angular rate \"Gyro-X (d/s)\", \"Gyro-Y (d/s)\", \"Gyro-Z (d/s)\" in deg/s",
        ),
        ("Unicode.txt", spreadsheet, "\"Acceleration z (m/s^2)\" in m/s^2"),
        (
            "plain.tsv",
            plain.replace(',', "\t").into_bytes(),
            "time \"t\" in us (told by its steps)",
        ),
    ]
}

struct Shell {
    server: Server,
    folder: TempDir,
}

impl Shell {
    fn start() -> Self {
        Self { server: Server::start(), folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs a command with a table. Checks its exit status and what it prints.
    #[track_caller]
    fn asks(&self, command: &[&str], name: &str, bytes: &[u8], status: i32, expected: &str) {
        let path = self.file(name, bytes);
        let mut run = program();
        run.args(command).arg(&path).env("BIPEDALNET_URL", self.server.url(""));
        let output = run.output().unwrap();
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{command:?} {name}: {shown}");
        assert!(shown.contains(expected), "{command:?} {name}: {shown}");
    }
}

#[test]
fn tables_of_apps_are_read() {
    let shell = Shell::start();
    for (walk, (name, bytes, _)) in (1..3).zip(tables(&simulated(11, 1))) {
        let other = json(&simulated(12, walk));
        shell.asks(&["enroll", "bob"], "other.json", other.as_bytes(), 0, "bob");
        if walk == 1 {
            shell.asks(&["enroll", "ann"], name, &bytes, 0, "Hz, 20.0 s; time");
        }
    }
    let again = sensor_logger(&simulated(11, 2));
    shell.asks(&["enroll", "ann"], "again.csv", again.as_bytes(), 0, "ann is ready");
    for (name, bytes, understood) in tables(&simulated(11, 3)) {
        shell.asks(&["identify"], name, &bytes, 0, "ann (");
        shell.asks(&["identify"], name, &bytes, 0, "50.0 Hz, 20.0 s; ");
        shell.asks(&["identify"], name, &bytes, 0, understood);
    }
    let probe = axivity(&simulated(11, 4));
    shell.asks(&["verify", "ann", "--fmr", "0.1"], "probe.csv", probe.as_bytes(), 0, "accept: ");
}

#[test]
fn what_a_table_does_not_say_is_asked_for() {
    let shell = Shell::start();
    let walk = simulated(11, 1);
    let without_header = axivity(&walk).split_once('\n').unwrap().1.to_owned();
    let fails = |name: &str, table: &str, expected: &str| {
        shell.asks(&["identify"], name, table.as_bytes(), 1, expected);
    };
    let reads = |options: &[&str], name: &str, table: &str, expected: &str| {
        // The gallery is empty: nobody is known.
        shell.asks(&[&["identify"], options].concat(), name, table.as_bytes(), 3, expected);
    };

    fails("axivity.csv", &without_header, "the table has no header");
    let columns = "t=1,ax=2,ay=3,az=4";
    let options = ["--columns", columns, "--acceleration-unit", "g"];
    reads(
        &options,
        "axivity.csv",
        &without_header,
        "time \"1\" as time of day; acceleration \"2\"",
    );

    let plain = table("t,ax,ay,az", &walk, |t, a, _| {
        let [x, y, z] = in_g(a);
        format!("{t},{x},{y},{z}")
    });
    fails("g.csv", &plain, "in m/s^2, that is not gravity; in g, it is. Say which");
    let options = ["--acceleration-unit", "g", "--acceleration-at-rest", "down"];
    reads(&options, "g.csv", &plain, "angular rate none; acceleration negated");
    reads(&["--acceleration-unit", "g"], "g.csv", &plain, "\"az\" in g; angular rate none");

    let degrees = table("t,ax,ay,az,gx,gy,gz", &walk, |t, [x, y, z], g| {
        let [p, q, r] = g.map(f32::to_degrees);
        format!("{t},{x},{y},{z},{p},{q},{r}")
    });
    fails("degrees.csv", &degrees, "Say which, with --angular-rate-unit");
    reads(&["--angular-rate-unit", "deg/s"], "degrees.csv", &degrees, "\"gz\" in deg/s");

    let slow = table("t,ax,ay,az", &walk, |t, [x, y, z], _| format!("{},{x},{y},{z}", t * 50.0));
    fails(
        "slow.csv",
        &slow,
        "in s, 1.00 samples a second, or in ms, 1004 samples a second. Say which",
    );

    let two = table("t,acc1 x,acc1 y,acc1 z,acc2 x,acc2 y,acc2 z", &walk, |t, [x, y, z], _| {
        format!("{t},{x},{y},{z},{x},{y},{z}")
    });
    fails(
        "two.csv",
        &two,
        "the acceleration could be any of (\"acc1 x\", \"acc1 y\", \"acc1 z\") or",
    );
    let columns = "t=t,ax=acc2 x,ay=acc2 y,az=acc2 z";
    reads(&["--columns", columns], "two.csv", &two, "acceleration \"acc2 x\"");

    fails("linear.csv", &phyphox(&walk).replace("Acc", "Linear Acc"), "gravity was removed");
    fails("Gyroscope.csv", &sensor_logger(&walk), "this is angular rate, without acceleration");
    let both = phyphox(&walk).replace('.', ",").replace('"', "");
    fails("both.csv", &both, "the comma is both the delimiter and the decimal sign");
    let rates = table("ax,ay,az", &walk, |_, [x, y, z], _| format!("{x},{y},{z}"));
    fails("rates.csv", &rates, "say the rate if the sampling is even");
    let columns = ["--columns", "t=50Hz,ax=ax,ay=ay,az=az"];
    reads(&columns, "rates.csv", &rates, "50.0 Hz, 20.0 s; time from 50 Hz; acceleration \"ax\"");

    let counts = table("t,ax,ay,az", &walk, |t, a, _| {
        let [x, y, z] = in_g(a).map(|value| (value * 16384.0).round());
        format!("{t},{x},{y},{z}")
    });
    fails("counts.csv", &counts, "in g/16384, it is. Say which, with --acceleration-unit");
    reads(&["--acceleration-unit", "g/16384"], "counts.csv", &counts, "\"az\" in g/16384;");
    let lies = table("t (s),ax (m/s^2),ay (m/s^2),az (m/s^2)", &walk, |t, a, _| {
        let [x, y, z] = in_g(a);
        format!("{t},{x},{y},{z}")
    });
    fails("lies.csv", &lies, "As if in g: say --acceleration-unit g");
    let ids = table("t,sensor_id,x,y,z", &walk, |t, [x, y, z], [p, q, r]| {
        format!("{t},1,{x},{y},{z}\n{t},4,{p},{q},{r}")
    });
    fails("ids.csv", &ids, "says that rows are of several sensors: 1 or 4");
    let whole = table("time,x,y,z", &walk, |t, [x, y, z], _| format!("{:.0},{x},{y},{z}", t));
    fails("whole.csv", &whole, "the times were rounded, as a spreadsheet does");

    let options = ["identify", "--acceleration-unit", "g"];
    shell.asks(&options, "walk.json", json(&walk).as_bytes(), 1, "is not a table");
    let lists = br#"{"rate_hz": 50, "acceleration": [[1, 2, 3, 4], [1, 2, 3, 4], [9, 9, 9, 9]]}"#;
    shell.asks(&["identify"], "walk.json", lists, 1, "If there is one list for each axis");
    for wrong in [["--time-unit", "h"], ["--columns", "t=1"], ["--acceleration-unit", "rad/s"]] {
        shell.asks(&[&["identify"], &wrong[..]].concat(), "g.csv", plain.as_bytes(), 2, "needed");
    }
}

#[test]
fn a_table_with_two_readings_is_no_template() {
    let shell = Shell::start();
    let walk = simulated(11, 1);
    let plain = |header: &str, line: &dyn Fn(f64, String) -> String| {
        table(header, &walk, |t, [x, y, z], _| line(t, format!("{x},{y},{z}")))
    };
    let fails = |options: &[&str], table: &str, expected: &str| {
        let command = [&["enroll", "ann"], options].concat();
        shell.asks(&command, "walk.csv", table.as_bytes(), 1, expected);
    };
    let ticks = plain("t,ax,ay,az", &|t, a| format!("{:.0},{a}", t * 1e7));
    fails(&[], &ticks, "in us, 5.02 samples a second, or in 100ns, 50 samples a second. Say which");
    for unit in ["cs", "h", "0.1 ms"] {
        let header = format!("Time ({unit}),ax,ay,az");
        let unknown = plain(&header, &|t, a| format!("{},{a}", (t * 1e4).round()));
        fails(&[], &unknown, "says a unit of time that is not known");
    }
    let contradicted = plain("t (ms),ax,ay,az", &|t, a| format!("{t},{a}"));
    fails(&[], &contradicted, "As if in s, 50 samples a second. Say which, with --time-unit");
    let two = plain("t,ax,ay,az,ax2,ay2,az2", &|t, a| format!("{t},{a},{a}"));
    fails(&[], &two, "(\"ax\", \"ay\", \"az\") or (\"ax2\", \"ay2\", \"az2\")");
    fails(&["--columns", "t=t,ax=ax,ay=ax,az=ax"], &two, "column \"ax\" is named twice");
    let twice = plain("t,x,y,z,x,y,z", &|t, a| format!("{t},{a},{a}"));
    fails(&["--columns", "t=t,ax=x,ay=y,az=z"], &twice, "\"x\" is the name of columns 2 or 5");
    let labels = table("", &walk, |t, [x, y, z], _| match t < 5.0 {
        true => format!("t:{t},ax:{x},ay:{y},az:{z}"),
        false => format!("t:{t},az:{z},ay:{y},ax:{x}"),
    });
    fails(&[], &labels, "has the cells t, az, ay, ax, but the first row has t, ax, ay, az");
    let people = plain("t,subject,ax,ay,az", &|t, a| {
        format!("{t},{},{a}", if t < 10.0 { "ann" } else { "bob" })
    });
    fails(&[], &people, "people, devices or positions: ann or bob. A recording is of one. Split");
    let thousands = table("t (ms),ax (mg),ay (mg),az (mg)", &walk, |t, a, _| {
        let [x, y, z] = in_g(a).map(|value| match (value * 1e3).round() as i32 {
            mg if mg.abs() < 1000 => mg.to_string(),
            mg => format!("\"{},{:03}\"", mg / 1000, mg.abs() % 1000),
        });
        format!("{:.0},{x},{y},{z}", t * 1e3)
    });
    fails(&[], &thousands, "Export it without separators of thousands");
}

/// Tables of other layouts: name of the file, its text, the options it needs, and what is said about it.
fn layouts(walk: &Recording) -> Vec<(&'static str, String, &'static [&'static str], &'static str)> {
    let rates = walk.angular_rate_rad_s().unwrap();
    let channel = |name: &str, value: &dyn Fn(usize) -> f64| {
        let samples = (0..rates.len()).map(|at| format!(";{}", value(at)).replace('.', ","));
        format!("{name}{}\n", samples.collect::<String>())
    };
    let times = |at: usize| walk.time_seconds()[at] * 1e3;
    let mut transposed = channel("time;ms", &times);
    for (axis, name) in ["acc x;g", "acc y;g", "acc z;g"].into_iter().enumerate() {
        let value = |at: usize| f64::from(in_g(walk.acceleration_m_s2()[at])[axis]);
        transposed += &channel(name, &value);
    }
    let sensors = table("time,sensor,x,y,z", walk, |t, [x, y, z], [p, q, r]| {
        let nanoseconds = 1_716_979_893_874_983_200 + (t * 1e9) as i64;
        format!(
            "{nanoseconds},android.sensor.accelerometer,{x},{y},{z}\n\
             {nanoseconds},android.sensor.gyroscope,{p},{q},{r}\n\
             {nanoseconds},android.sensor.pressure,1013,,"
        )
    });
    let values = table("t\tsensor\taxis\tvalue", walk, |t, a, _| {
        let axes = ["x", "y", "z"].into_iter().zip(a);
        let rows: Vec<_> = axes.map(|(axis, value)| format!("{t}\tacc\t{axis}\t{value}")).collect();
        rows.join("\n")
    });
    let wisdm = table("", walk, |t, [x, y, z], _| {
        format!("33,Walking,{},{x},{y},{z};", 49_105_962_326_000 + (t * 1e9) as i64)
    });
    let savetxt =
        table("# t ax ay az", walk, |t, [x, y, z], _| format!("{t:e}  {x:e}  {y:e}  {z:e}"));
    let units = table("Time;X;Y;Z\n[ms];[g];[g];[g]", walk, |t, a, _| {
        let [x, y, z] = in_g(a);
        format!("{};{x};{y};{z}", t * 1e3).replace('.', ",")
    });
    let r = table("\"t\" \"ax\" \"ay\" \"az\"", walk, |t, [x, y, z], _| {
        format!("\"{}\" {t} {x} {y} {z}", (t * 50.0).round() as u32 + 1)
    });
    let serial = table("", walk, |t, a, _| {
        let [x, y, z] = in_g(a).map(|value| (value * 8192.0).round());
        format!("{} -> {x}\t{y}\t{z}", clock(t, '.'))
    });
    let labels = table("", walk, |t, [x, y, z], _| {
        format!("ms:{},ax:{x:.2},ay:{y:.2},az:{z:.2}", (t * 1e3).round())
    });
    let numbers = &["--columns", "t=1,ax=2,ay=3,az=4", "--acceleration-unit", "g/8192"];
    vec![
        ("channels.csv", transposed, &[], "a line for each channel; time \"time (ms)\" in ms"),
        (
            "sensors.csv",
            sensors,
            &[],
            "acceleration \"x\", \"y\", \"z\" of \"android.sensor.accelerometer\" in m/s^2 (not said); \
             angular rate \"x\", \"y\", \"z\" of \"android.sensor.gyroscope\"",
        ),
        ("values.tsv", values, &[], "a row for each value; time \"t\" in s (told by its steps)"),
        ("wisdm.txt", wisdm, &["--columns", "t=3,ax=4,ay=5,az=6"], "time \"3\" in ns"),
        ("savetxt.txt", savetxt, &[], "time \"t\" in s (told by its steps); acceleration \"ax\""),
        ("units.csv", units, &[], "acceleration \"X (g)\", \"Y (g)\", \"Z (g)\" in g"),
        ("r.dat", r, &[], "time \"t\" in s (told by its steps); acceleration \"ax\""),
        ("serial.log", serial, numbers, "time \"1\" as time of day; acceleration \"2\""),
        ("labels.txt", labels, &[], "time \"ms\" in ms; acceleration \"ax\""),
    ]
}

#[test]
fn tables_of_any_layout_are_read() {
    let shell = Shell::start();
    for walk in 1..3 {
        for (user, walker) in [("ann", 11), ("bob", 12)] {
            let other = json(&simulated(walker, walk));
            shell.asks(&["enroll", user], "walk.json", other.as_bytes(), 0, user);
        }
    }
    for (name, table, options, understood) in layouts(&simulated(11, 3)) {
        let command = [&["identify"], options].concat();
        shell.asks(&command, name, table.as_bytes(), 0, "ann (");
        shell.asks(&command, name, table.as_bytes(), 0, "50.0 Hz, 20.0 s; ");
        shell.asks(&command, name, table.as_bytes(), 0, understood);
    }
}

#[test]
fn folders_may_hold_tables_of_apps() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = String::from("subject,session,file\n");
    for person in 0..3 {
        for (walk, session) in [(1, "day_1"), (2, "day_2")] {
            let table = axivity(&simulated_for(person, walk, 14.0));
            let (_, without_header) = table.split_once('\n').unwrap();
            // One time is repeated.
            let row = without_header.lines().nth(100).unwrap();
            let time = row.split_once(',').unwrap().0;
            let repeated = format!("{row}\n{time},0,0,1,0,0,0");
            let without_header = without_header.replacen(row, &repeated, 1);
            let file = format!("{person}-{session}.csv");
            fs::write(folder.path().join(&file), without_header).unwrap();
            manifest += &format!("p{person},{session},{file}\n");
        }
    }
    fs::write(folder.path().join("manifest.csv"), manifest).unwrap();
    let model = folder.path().join("model.safetensors");
    let run = |command: &str, options: &[&str]| {
        let mut run = program();
        run.arg(command).arg("--data").arg(folder.path()).args(options);
        // After reading, trial and reproduce miss the session, and demo seven people.
        match command {
            "train" => run.args(["--epochs", "1", "--out"]).arg(&model),
            "evaluate" => run.arg("--model").arg(&model),
            "trial" => run.args(["--enroll", "day_1", "--probe", "none"]),
            "reproduce" => run.args(["--train-sessions", "day_1", "--test-sessions", "none"]),
            _ => &mut run,
        };
        text(&run.output().unwrap().stderr)
    };
    let options = ["--columns", "t=1,ax=2,ay=3,az=4", "--acceleration-unit", "g"];
    for command in ["train", "evaluate", "trial", "demo", "reproduce"] {
        let refused = run(command, &[]);
        assert!(refused.contains("0-day_1.csv: the table has no header"), "{command}: {refused}");
        let shown = run(command, &options);
        let understood = "6 tables: 50.0 to 50.0 Hz, 84.0 s; time \"1\" as time of day; \
            acceleration \"2\", \"3\", \"4\" in g; angular rate none";
        let mended = "0-day_1.csv: 1 sample was left out: it has the time of the sample before; the \
            like in 5 other recordings";
        for expected in [understood, mended] {
            assert!(shown.contains(expected), "{command}: {shown}");
        }
    }
    assert!(model.exists());
    let mut demo = program();
    let output = demo.args(["demo", "--acceleration-unit", "g"]).output().unwrap();
    assert!(text(&output.stderr).contains("need --data"), "{output:?}");
}
