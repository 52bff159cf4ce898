//! Compares simulated walkers with real ones:
//!
//!     cargo run --release --example simulator_report -- DATA_DIR
//!
//! DATA_DIR holds `manifest.csv` and gzipped CSV recordings with a gyroscope.

use std::collections::BTreeMap;
use std::error::Error;
use std::f64::consts::TAU;
use std::path::Path;

use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::gait::{Recipe, Recording, WINDOW_FRACTION_BITS, Window, cut_windows};
use bipedalnet_training::{TableOptions, read_data};

const RECIPE: Recipe = Recipe { samples: 200, ..Recipe::BIPEDALNET };
const ROWS: [&str; 8] = [
    "acceleration forward, m/s^2",
    "acceleration lateral",
    "acceleration vertical",
    "acceleration magnitude",
    "angular rate forward, rad/s",
    "angular rate lateral",
    "angular rate vertical",
    "angular rate magnitude",
];
/// The value of 1.0 in a window, by row.
const SCALES: [f64; 8] = [4.0, 4.0, 4.0, 4.0, 1.5, 1.5, 1.5, 1.5];
const BANDS_HZ: [(f64, f64); 4] = [(0.0, 2.5), (2.5, 5.0), (5.0, 10.0), (10.0, 20.0)];

/// Means over the windows of one recording.
struct Measures {
    cadence_hz: f64,
    /// For each row: variance, power by band, and autocovariance up to a second.
    variance: [f64; 8],
    bands: [[f64; 4]; 8],
    covariance: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: simulator_report DATA_DIR")?;
    let real = real_people(Path::new(&directory))?;
    let walks = real.iter().map(Vec::len).max().unwrap_or(0);
    let conditions = Conditions { seconds: 90.0, ..Conditions::default() };
    let simulated: Vec<Vec<Measures>> = (0..real.len() as u64)
        .map(|person| {
            let walker = Walker::new(person);
            (0..walks as u64).filter_map(|walk| measure(&walker.walk(walk, &conditions))).collect()
        })
        .collect();
    report(&real, &simulated);
    Ok(())
}

fn real_people(directory: &Path) -> Result<Vec<Vec<Measures>>, Box<dyn Error>> {
    let data = read_data(&[directory.to_owned()], &TableOptions::default())?;
    let mut people: BTreeMap<String, Vec<Measures>> = BTreeMap::new();
    for walk in data.recordings {
        people.entry(walk.subject).or_default().extend(measure(&walk.recording));
    }
    Ok(people.into_values().collect())
}

fn measure(recording: &Recording) -> Option<Measures> {
    let windows = cut_windows(recording, &RECIPE, RECIPE.samples / 2).ok()?.windows;
    let count = windows.len() as f64;
    let mut measures = Measures {
        cadence_hz: 0.0,
        variance: [0.0; 8],
        bands: [[0.0; 4]; 8],
        covariance: vec![0.0; 8 * 50],
    };
    for window in &windows {
        let rows = centred_rows(window);
        measures.cadence_hz += cadence_hz(&rows) / count;
        for (index, row) in rows.iter().enumerate() {
            measures.variance[index] += covariance(row, 0) / count;
            for lag in 0..50 {
                measures.covariance[index * 50 + lag] +=
                    covariance(row, lag) / SCALES[index].powi(2) / count;
            }
            // The spectrum has a line every 1 / (window length).
            let line_hz = 1.0 / RECIPE.window_seconds();
            for line in 1..(20.0 / line_hz) as usize {
                let hz = line as f64 * line_hz;
                let band = BANDS_HZ.iter().position(|&(from, to)| (from..to).contains(&hz));
                if let Some(band) = band {
                    measures.bands[index][band] += power(row, hz) / count;
                }
            }
        }
    }
    Some(measures)
}

fn centred_rows(window: &Window) -> Vec<Vec<f64>> {
    let one = f64::from(1u32 << WINDOW_FRACTION_BITS);
    let rows = window.values.chunks_exact(RECIPE.samples).zip(SCALES);
    rows.map(|(row, scale)| {
        let row: Vec<f64> = row.iter().map(|&value| f64::from(value) / one * scale).collect();
        let mean = mean(&row);
        row.iter().map(|value| value - mean).collect()
    })
    .collect()
}

fn covariance(row: &[f64], lag: usize) -> f64 {
    let sum: f64 = row.iter().zip(&row[lag..]).map(|(a, b)| a * b).sum();
    sum / (row.len() - lag) as f64
}

/// Hann-weighted power at one frequency.
fn power(row: &[f64], hz: f64) -> f64 {
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (index, value) in row.iter().enumerate() {
        let weight = 1.0 - (TAU * index as f64 / row.len() as f64).cos();
        let (sine, cosine) = (TAU * hz * index as f64 / RECIPE.rate_hz).sin_cos();
        real += weight * value * cosine;
        imaginary += weight * value * sine;
    }
    real * real + imaginary * imaginary
}

/// Steps per second, between 1.4 and 2.6. This is the frequency with the most power in the acceleration,
/// plus the power at half of it, the stride frequency, in the swing of the thigh.
fn cadence_hz(rows: &[Vec<f64>]) -> f64 {
    let strength = |hz: f64| -> f64 {
        let steps: f64 = rows[..3].iter().map(|row| power(row, hz)).sum();
        steps / SCALES[0].powi(2) + power(&rows[5], hz / 2.0) / SCALES[5].powi(2)
    };
    (140..260)
        .map(|hundredths| f64::from(hundredths) / 100.0)
        .max_by(|&a, &b| strength(a).total_cmp(&strength(b)))
        .unwrap_or(0.0)
}

fn report(real: &[Vec<Measures>], simulated: &[Vec<Measures>]) {
    let line = |name: &str, digits: usize, value: &dyn Fn(&[Vec<Measures>]) -> [f64; 2]| {
        let [(a, b), (c, d)] = [real, simulated].map(|people| value(people).into());
        println!("| {name} | {a:.digits$} | {b:.digits$} | {c:.digits$} | {d:.digits$} |");
    };
    println!("| | real: mean | between people | simulated: mean | between people |");
    println!("|---|---|---|---|---|");
    line("cadence, steps/s", 2, &|people| of_people(people, |m| m.cadence_hz));
    for (row, name) in ROWS.iter().enumerate() {
        line(name, 2, &|people| of_people(people, |m| m.variance[row].sqrt()));
    }

    println!("\n| share of power, % (real / simulated) | 0 to 2.5 Hz | to 5 | to 10 | to 20 |");
    println!("|---|---|---|---|---|");
    for (row, name) in ROWS.iter().enumerate() {
        let name = name.split(',').next().unwrap_or(name);
        let cells = (0..4).map(|band| {
            let share =
                |m: &Measures| 100.0 * m.bands[row][band] / m.bands[row].iter().sum::<f64>();
            let [[real, _], [simulated, _]] = [real, simulated].map(|p| of_people(p, share));
            format!("{real:.0} / {simulated:.0}")
        });
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }

    println!("\n| variance within a person's walks / between people | real | simulated |");
    println!("|---|---|---|");
    let ratios = |name: &str, ratio: &dyn Fn(&[Vec<Measures>]) -> f64| {
        println!("| {name} | {:.2} | {:.2} |", ratio(real), ratio(simulated));
    };
    ratios("cadence", &|people| variance_ratio(people, |m| vec![m.cadence_hz]));
    ratios("logarithm of the rows' deviations", &|people| {
        variance_ratio(people, |m| m.variance.iter().map(|v| v.ln()).collect())
    });
    ratios("logarithm of the rows' power by band", &|people| {
        variance_ratio(people, |m| m.bands.as_flattened().iter().map(|v| v.ln()).collect())
    });
    ratios("autocovariance of the rows", &|people| {
        variance_ratio(people, |m| m.covariance.clone())
    });
    ratios("autocovariance: walks nearest to another of the same person, %", &nearest_percent);
}

/// The mean and the standard deviation of the people's means.
fn of_people(people: &[Vec<Measures>], value: impl Fn(&Measures) -> f64) -> [f64; 2] {
    let values: Vec<f64> =
        people.iter().map(|walks| mean(&walks.iter().map(&value).collect::<Vec<_>>())).collect();
    [mean(&values), variance(&values).sqrt()]
}

/// The total variance within people, divided by the total variance between people's means.
fn variance_ratio(people: &[Vec<Measures>], values: impl Fn(&Measures) -> Vec<f64>) -> f64 {
    let people: Vec<Vec<Vec<f64>>> =
        people.iter().map(|walks| walks.iter().map(&values).collect()).collect();
    let (mut within, mut between) = (0.0, 0.0);
    for index in 0..people[0][0].len() {
        let columns: Vec<Vec<f64>> =
            people.iter().map(|walks| walks.iter().map(|values| values[index]).collect()).collect();
        within += mean(&columns.iter().map(|column| variance(column)).collect::<Vec<_>>());
        between += variance(&columns.iter().map(|column| mean(column)).collect::<Vec<_>>());
    }
    within / between
}

fn nearest_percent(people: &[Vec<Measures>]) -> f64 {
    let walks: Vec<(usize, &Measures)> = people
        .iter()
        .enumerate()
        .flat_map(|(who, walks)| walks.iter().map(move |m| (who, m)))
        .collect();
    let distance = |a: &Measures, b: &Measures| -> f64 {
        a.covariance.iter().zip(&b.covariance).map(|(a, b)| (a - b).powi(2)).sum()
    };
    let named = walks.iter().enumerate().filter(|(at, (who, walk))| {
        let others = walks.iter().enumerate().filter(|(other, _)| other != at);
        others
            .min_by(|(_, (_, a)), (_, (_, b))| distance(walk, a).total_cmp(&distance(walk, b)))
            .is_some_and(|(_, (nearest, _))| nearest == who)
    });
    100.0 * named.count() as f64 / walks.len() as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}
