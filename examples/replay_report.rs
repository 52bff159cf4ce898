//! Measures how often replays are detected, and how often new walks are taken for replays:
//!
//!     cargo run --release --example replay_report -- --data DIR...
//!
//! Each DIR is a data set as for `bipedalnet train`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use bipedalnet_core::gait::simulator::Replay;
use bipedalnet_core::gait::{Fingerprint, Recording};
use bipedalnet_training::{SubjectRecording, TableOptions, read_data};
use clap::Parser;

const LENGTHS_SECONDS: [f64; 4] = [4.0, 6.0, 10.0, 20.0];
/// Length of the recordings to enroll. A fingerprint covers at most so much of a walk.
const KEPT_SECONDS: f64 = 60.0;

#[derive(Parser)]
struct Arguments {
    /// Folders with a manifest.csv.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
}

/// A walk and the fingerprints of its minutes.
struct Enrolled {
    walk: SubjectRecording,
    minutes: Vec<Fingerprint>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let walks = read_data(&Arguments::parse().data, &TableOptions::default())?.recordings;
    let enrolled: Vec<Enrolled> = walks
        .into_iter()
        .map(|walk| Enrolled { minutes: minutes(&walk.recording), walk })
        .collect();
    report_new_walks(&enrolled);
    report_replays(&enrolled);
    report_cost(&enrolled);
    Ok(())
}

fn minutes(recording: &Recording) -> Vec<Fingerprint> {
    parts(recording, KEPT_SECONDS, KEPT_SECONDS, 0.0)
        .filter_map(|(_, part)| Fingerprint::of(&part))
        .collect()
}

/// Parts of a recording with their starts, one every `step_seconds`. At least `least_seconds` of the
/// recording follow each start.
fn parts(
    recording: &Recording,
    length_seconds: f64,
    step_seconds: f64,
    least_seconds: f64,
) -> impl Iterator<Item = (f64, Recording)> {
    let last = recording.duration_seconds() - least_seconds;
    (0..)
        .map(move |index| f64::from(index) * step_seconds)
        .take_while(move |&start| start <= last)
        .filter_map(move |start| Some((start, recording.part(start, length_seconds)?)))
}

fn report_new_walks(enrolled: &[Enrolled]) {
    println!("| new walking taken for a replay | of another recording | of the same recording |");
    println!("|---|---|---|");
    for length in LENGTHS_SECONDS {
        let (mut others, mut same) = (Vec::new(), Vec::new());
        for (index, this) in enrolled.iter().enumerate() {
            let recording = &this.walk.recording;
            let earlier: Vec<&Fingerprint> = enrolled
                .iter()
                .enumerate()
                .filter(|&(other, e)| other != index && e.walk.subject == this.walk.subject)
                .flat_map(|(_, e)| &e.minutes)
                .collect();
            for (start, part) in parts(recording, length, (length / 2.0).max(4.0), length) {
                let Some(probe) = Fingerprint::of(&part) else { continue };
                let replayed = |earlier: &[&Fingerprint]| {
                    earlier.iter().any(|earlier| probe.is_replay_of(earlier))
                };
                if !earlier.is_empty() {
                    others.push(replayed(&earlier));
                }
                // Leave a gap of half a second, so that not even filters see the same samples.
                let begin = (start - 0.5 - KEPT_SECONDS).max(0.0);
                let around = [
                    recording.part(begin, start - 0.5 - begin),
                    recording.part(start + length + 0.5, KEPT_SECONDS),
                ];
                let around: Vec<Fingerprint> =
                    around.iter().flatten().filter_map(Fingerprint::of).collect();
                if !around.is_empty() {
                    same.push(replayed(&around.iter().collect::<Vec<_>>()));
                }
            }
        }
        let [others, same] = [others, same]
            .map(|alarms| format!("{} of {}", alarms.iter().filter(|&&a| a).count(), alarms.len()));
        println!("| {length} s | {others} | {same} |");
    }
}

fn report_replays(enrolled: &[Enrolled]) {
    println!(
        "\n| replays detected, % | {} s |",
        LENGTHS_SECONDS.map(|s| s.to_string()).join(" s | ")
    );
    println!("|---|{}", "---|".repeat(LENGTHS_SECONDS.len()));
    let mut by_length = BTreeMap::new();
    for (name, replay) in replays() {
        let cells = LENGTHS_SECONDS.map(|length| {
            let found: Vec<bool> =
                enrolled.iter().flat_map(|e| found(e, length, &replay)).collect();
            by_length.insert(length as u32, found.len());
            let share = found.iter().filter(|&&found| found).count() as f64 / found.len() as f64;
            format!("{:.1}", 100.0 * share)
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!("\nReplays by length in seconds: {by_length:?}");
}

/// Whether replays of three parts of a walk's first minute are detected.
fn found(enrolled: &Enrolled, length_seconds: f64, replay: &Replay) -> Vec<bool> {
    let recording = &enrolled.walk.recording;
    let room = recording.duration_seconds().min(KEPT_SECONDS) - length_seconds;
    if room < 3.0 {
        return Vec::new();
    }
    let shares = [0.1, 0.47, 0.84];
    let copies = shares.iter().zip(0..).filter_map(|(share, seed)| {
        replay.copy(&recording.part(share * room, length_seconds)?, seed)
    });
    copies
        .map(|copy| {
            Fingerprint::of(&copy).is_some_and(|copy| copy.is_replay_of(&enrolled.minutes[0]))
        })
        .collect()
}

fn replays() -> Vec<(&'static str, Replay)> {
    let eight_bits = 8.0 * 9.80665 / 128.0;
    let plain = Replay::default();
    let sampled = |rate_hz| Replay { rate_hz: Some(rate_hz), ..Replay::default() };
    let noisy = |noise| Replay { noise, ..Replay::default() };
    let fast = |speed| Replay { speed, ..Replay::default() };
    vec![
        ("cut", plain.clone()),
        ("turned, scaled by 1.2", Replay { turned: true, scale: 1.2, ..plain.clone() }),
        ("resampled to 100 Hz", sampled(100.0)),
        ("resampled to 25 Hz", sampled(25.0)),
        ("resampled to 20 Hz", sampled(20.0)),
        (
            "time stamps wrong by up to 30 % of a period",
            Replay { jitter_periods: 0.3, ..plain.clone() },
        ),
        ("5 % noise", noisy(0.05)),
        ("10 % noise", noisy(0.1)),
        ("20 % noise", noisy(0.2)),
        ("16 bits of +-8 g", Replay { step_m_s2: eight_bits / 256.0, ..plain.clone() }),
        ("8 bits of +-8 g", Replay { step_m_s2: eight_bits, ..plain.clone() }),
        ("0.5 % faster", fast(1.005)),
        ("1 % slower", fast(0.99)),
        ("2.5 % faster", fast(1.025)),
        ("5 % faster", fast(1.05)),
        (
            "25 Hz, time stamps 20 %, noise 5 %, turned, scaled, 8 bits",
            Replay {
                jitter_periods: 0.2,
                noise: 0.05,
                turned: true,
                scale: 1.08,
                step_m_s2: eight_bits,
                ..sampled(25.0)
            },
        ),
    ]
}

fn report_cost(enrolled: &[Enrolled]) {
    let minutes = enrolled.iter().flat_map(|e| &e.minutes);
    let Some(earlier) = minutes.max_by_key(|minute| minute.to_bytes().len()) else { return };
    let probes =
        enrolled.iter().filter_map(|e| Fingerprint::of(&e.walk.recording.part(0.0, 10.0)?));
    // A replay ends the search early. The minimum excludes other load on the machine.
    let seconds = probes.filter_map(|probe| {
        let start = Instant::now();
        let replay = probe.is_replay_of(earlier);
        (!replay).then(|| start.elapsed().as_secs_f64())
    });
    let microseconds = 1e6 * seconds.fold(f64::INFINITY, f64::min);
    println!("\nComparison of 10 s with {} bytes: {microseconds:.0} us", earlier.to_bytes().len());
}
