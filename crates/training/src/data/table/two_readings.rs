//! Tables that could be read in two ways.

use super::tests::{read_text, rocking};
use super::*;

/// The message with which a table is refused.
fn refusal(text: &str, options: &TableOptions) -> String {
    read(text, "walk", options).unwrap_err().to_string()
}

fn time_unit(text: &str) -> TableOptions {
    TableOptions { time_unit: Unit::of(Quantity::Time, text).ok(), ..TableOptions::default() }
}

#[test]
fn ticks_and_microseconds_are_told_apart_by_the_date_or_asked_for() {
    let table = |first: f64, per_second: f64| {
        let rows =
            rocking(|time, [x, y, z]| format!("{},{x},{y},{z}\n", first + time * per_second));
        format!("Time,ax,ay,az\n{rows}")
    };
    let plain = TableOptions::default();
    // Since the year 1, since 1601, since 1970.
    for first in [638_506_889_760_000_000.0, 133_600_000_000_000_000.0, 17_150_921_760_000_000.0] {
        let (recording, understood) = read_text(&table(first, 1e7)).unwrap();
        assert!(understood.starts_with("time \"Time\" in 100ns (told"), "{understood}");
        assert!((recording.rate_hz() - 25.0).abs() < 0.01, "{recording:?}");
    }
    let both = "in us, 2.50 samples a second, or in 100ns, 25 samples a second. Say which";
    let message = refusal(&table(0.0, 1e7), &plain);
    assert!(message.contains(both), "{message}");
    let message = refusal(&table(0.0, 1e6), &plain);
    assert!(message.contains("in us, 25 samples a second, or in 100ns, 250 samples"), "{message}");
    for (said, per_second) in [("100ns", 1e7), ("us", 1e6)] {
        let read = read(&table(0.0, per_second), "walk", &time_unit(said)).unwrap().0;
        assert!((read.rate_hz() - 25.0).abs() < 1e-6, "{read:?}");
    }
    // Nanoseconds since the boot at 100 Hz are no slow ticks.
    let (_, understood) = read_text(&table(0.0, 0.25e9)).unwrap();
    assert!(understood.starts_with("time \"Time\" in ns (told"), "{understood}");
}

#[test]
fn a_unit_of_time_that_is_said_but_not_known_is_not_guessed() {
    for (header, unit, said, per_second) in [
        ("Time (cs),ax,ay,az\n", "cs", "s/100", 100.0),
        ("Time (h),ax,ay,az\n", "h", "days/24", 1.0 / 3600.0),
        ("Time (min),ax,ay,az\n", "min", "days/1440", 1.0 / 60.0),
        ("Time (0.1 ms),ax,ay,az\n", "0.1 ms", "ms/10", 1e4),
        ("elapsed_ticks,ax,ay,az\n", "ticks", "s/1000", 1e3),
        ("t,ax,ay,az\njiffies,m/s^2,m/s^2,m/s^2\n", "jiffies", "s/100", 100.0),
    ] {
        let rows = rocking(|time, [x, y, z]| format!("{},{x},{y},{z}\n", time * per_second));
        let table = format!("{header}{rows}");
        let message = refusal(&table, &TableOptions::default());
        let expected = format!("says a unit of time that is not known, {unit:?}");
        assert!(message.contains(&expected) && message.contains("--time-unit"), "{message}");
        let (recording, _) = read(&table, "walk", &time_unit(said)).unwrap();
        assert!((recording.rate_hz() - 25.0).abs() < 1e-6, "{recording:?}");
        // Another column that says a known unit is read.
        if let Some(rest) = header.strip_prefix("Time (cs),") {
            let rows = rocking(|time, [x, y, z]| format!("{time},{time},{x},{y},{z}\n"));
            let (_, understood) = read_text(&format!("Time (cs),t (s),{rest}{rows}")).unwrap();
            assert!(understood.starts_with("time \"t (s)\" in s;"), "{understood}");
        }
    }
}

#[test]
fn a_unit_of_time_that_the_steps_contradict_is_named() {
    let table = |header: &str, per_second: f64| {
        let rows = rocking(|time, [x, y, z]| format!("{},{x},{y},{z}\n", time * per_second));
        format!("{header},ax,ay,az\n{rows}")
    };
    let plain = TableOptions::default();
    let message = refusal(&table("t (ms)", 1.0), &plain);
    for expected in [
        "column \"t (ms)\" is said to be in ms, but rises by about 0.04",
        "that would be 25000 samples a second. As if in s, 25 samples a second",
        "--time-unit",
    ] {
        assert!(message.contains(expected), "{message}");
    }
    assert!(read(&table("t (ms)", 1.0), "walk", &time_unit("s")).is_ok());
    let message = refusal(&table("t (s)", 1e3), &plain);
    assert!(
        message.contains("is said to be in s") && message.contains("As if in ms, 25"),
        "{message}"
    );
    let message = refusal(&table("t", 1e3), &time_unit("ns"));
    assert!(
        message.contains("is said to be in ns") && message.contains("As if in ms, 25"),
        "{message}"
    );
    // The advice of the recording is for seconds.
    let message = refusal(&table("t (ms)", 1e6), &plain);
    assert!(message.contains("As if in us, 25 samples a second, or in 100ns, 250"), "{message}");
}

#[test]
fn cells_with_names_are_compared_with_the_first_row() {
    let plain = rocking(|time, [x, y, z]| format!("t:{time},ax:{x},ay:{y},az:{z}\n"));
    let (expected, _) = read_text(&plain).unwrap();
    for other in
        ["t:0.01,mx:30,my:4,mz:9", "t:0.01,gx:1,gy:2,gz:3", "gx:1,gy:2,gz:3,t:0", "T:20,mx:1"]
    {
        let (recording, _) = read_text(&plain.replace('\n', &format!("\n{other}\n"))).unwrap();
        assert_eq!(recording, expected, "{other}");
    }
    for (row, order) in [
        (
            "t:4,az:9.8,ay:0.2,ax:0.1",
            "line 101 has the cells t, az, ay, ax, but the first row has t, ax, ay, az",
        ),
        ("t:4,ax:0.1,ay:0.2,az:9.8,mx:3", "line 101 has the cells t, ax, ay, az, mx"),
        ("t:4,ax:0.1,az:9.8", "line 101 has the cells t, ax, az"),
        ("s:4,ax:0.1,ay:0.2,az:9.8", "line 101 has the cells s, ax, ay, az"),
    ] {
        let message = refusal(&format!("{plain}{row}\n"), &TableOptions::default());
        assert!(message.contains(order), "{message}");
    }
}

#[test]
fn rows_of_several_people_devices_or_positions_are_refused() {
    let table = |column: &str, cells: &dyn Fn(f64) -> &'static str| {
        let rows = rocking(|time, [x, y, z]| format!("{time},{},{x},{y},{z}\n", cells(time)));
        format!("t,{column},ax,ay,az\n{rows}")
    };
    let blocks = |time: f64| if time < 2.0 { "1" } else { "2" };
    let alternating = |time: f64| if (time * 12.5).fract() < 0.25 { "left" } else { "right" };
    for column in
        ["subject", "user_id", "deviceId", "Position", "person", "id", "Participant No", "phone"]
    {
        let message = refusal(&table(column, &blocks), &TableOptions::default());
        let expected = format!("column {column:?} says that rows are of several people");
        for expected in [&expected, "positions: 1 or 2", "Split the file"] {
            assert!(message.contains(expected), "{message}");
        }
        assert!(read_text(&table(column, &|_| "ann")).is_ok());
    }
    for column in ["position", "body_location"] {
        let message = refusal(&table(column, &alternating), &TableOptions::default());
        assert!(message.contains("positions: left or right"), "{message}");
        let named =
            TableOptions { columns: "t=t,ax=ax,ay=ay,az=az".parse().ok(), ..Default::default() };
        assert_eq!(refusal(&table(column, &alternating), &named), message);
    }
    // Rows that are not read, running numbers, measurements and other words.
    let rows = rocking(|time, [x, y, z]| {
        format!("{time},phone,accelerometer,{x},{y},{z}\n{time},watch,magnetometer,1,2,3\n")
    });
    assert!(read_text(&format!("t,device,sensor,x,y,z\n{rows}")).is_ok());
    let rows = rocking(|time, [x, y, z]| format!("{time},{},{time},{x},{y},{z}\n", time * 25.0));
    assert!(read_text(&format!("t,id,position,ax,ay,az\n{rows}")).is_ok());
    assert!(read_text(&table("activity", &blocks)).is_ok());
    // A row for each value.
    let rows = rocking(|time, [x, y, z]| {
        let user = blocks(time);
        format!("{time},{user},ax,{x}\n{time},{user},ay,{y}\n{time},{user},az,{z}\n")
    });
    let message = refusal(&format!("t,user,axis,value\n{rows}"), &TableOptions::default());
    assert!(message.contains("column \"user\" says that rows are of several"), "{message}");
    let rows = rocking(|time, [x, y, z]| {
        let row = (time * 75.0).round();
        format!("{row},{time},ax,{x}\n{},{time},ay,{y}\n{},{time},az,{z}\n", row + 1.0, row + 2.0)
    });
    assert!(read_text(&format!("id,t,axis,value\n{rows}")).is_ok());
}

#[test]
fn a_date_beside_the_time_of_day_counts() {
    let clock = |time: f64| format!("16:29:{:06.3}", 30.0 + time);
    let day = |time: f64| if time < 2.0 { 7 } else { 9 };
    let one = rocking(|time, [x, y, z]| format!("07.05.2024 {},{x},{y},{z}\n", clock(time)));
    let two =
        rocking(|time, [x, y, z]| format!("0{}.05.2024 {},{x},{y},{z}\n", day(time), clock(time)));
    let column =
        rocking(|time, [x, y, z]| format!("2024-05-0{},{},{x},{y},{z}\n", day(time), clock(time)));
    let (recording, _) = read_text(&format!("time,ax,ay,az\n{one}")).unwrap();
    assert!(recording.mends().is_empty(), "{recording:?}");
    for (header, rows) in [("time", two), ("date,time", column)] {
        let (recording, _) = read_text(&format!("{header},ax,ay,az\n{rows}")).unwrap();
        assert!(!recording.mends().is_empty(), "{header}: {recording:?}");
    }
}

#[test]
fn commas_before_three_digits_each_may_be_of_thousands() {
    let whole = |number: f64| {
        let digits = format!("{:.0}", number.abs());
        let sign = if number < 0.0 { "-" } else { "" };
        match digits.len() {
            4.. => {
                format!("\"{sign}{},{}\"", &digits[..digits.len() - 3], &digits[digits.len() - 3..])
            }
            _ => format!("{sign}{digits}"),
        }
    };
    let rows = rocking(|time, value| {
        let [x, y, z] = value.map(|it| whole(it / 9.80665 * 1000.0));
        format!("{:.0},{x},{y},{z}\n", time * 1e3)
    });
    let times = rocking(|time, [x, y, z]| format!("{},{x:.0},{y:.0},{z:.0}\n", whole(time * 1e3)));
    let dated: String = times.lines().map(|line| format!("07.05.2024,{line}\n")).collect();
    let with_points = |rows: &str| {
        let mut is_quoted = false;
        let cells = rows.chars().map(|c| {
            is_quoted ^= c == '"';
            match c {
                ',' if is_quoted => '.',
                ',' => ';',
                other => other,
            }
        });
        cells.collect::<String>()
    };
    for table in [
        format!("t (ms),ax (mg),ay (mg),az (mg)\n{rows}"),
        format!("t (ms);ax (mg);ay (mg);az (mg)\n{}", with_points(&rows)),
        format!("t (ms),ax,ay,az\n{times}"),
        // A date is no number with decimals.
        format!("date,t (ms),ax,ay,az\n{dated}"),
        "t (ms);ax (mg);ay (mg);az (mg)\n0;1;2;1.000\n1.000.000;1;2;1.000\n".to_owned(),
    ] {
        let message = refusal(&table, &TableOptions::default());
        assert!(message.contains("Export it without separators of thousands"), "{message}");
    }
    // A decimal comma before three digits, somewhere after a 0.
    let rows = rocking(|time, [x, y, z]| format!("{time:.3};{x:.3};{y:.3};{z:.3}\n"));
    let (recording, _) = read_text(&format!("t;ax;ay;az\n{}", rows.replace('.', ","))).unwrap();
    assert!((recording.acceleration_m_s2()[0][1] - 0.2).abs() < 1e-6, "{recording:?}");
}
