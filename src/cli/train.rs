//! `bipedalnet train`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::Failure;
use super::progress::{TrainingBar, stop_flag};
use crate::bnn::{self, Metadata};
use crate::gait::ROW_RECIPE;
use crate::service::{IDENTIFICATION_THRESHOLD, calibrate};
use crate::training::{
    Augmentation, Division, Published, Schedule, Split, Walk, by_person, evaluate, read_data, train,
};

/// Train a network for `serve` on folders of recordings
#[derive(clap::Args)]
pub struct Arguments {
    /// Folders with recordings: a manifest.csv, or the Padova set's folders
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Sessions to train on; all where not given
    #[arg(long, value_delimiter = ',', value_name = "SESSION,...")]
    train_sessions: Vec<String>,
    /// Sessions to measure the network on
    #[arg(long, value_delimiter = ',', requires = "train_sessions", value_name = "SESSION,...")]
    test_sessions: Vec<String>,
    /// Folders with recordings of strangers: people who are not trained on, to set the score from
    /// which a walker is an enrolled user. Without them the file cannot be served
    #[arg(long, num_args = 1.., value_name = "DIR")]
    strangers: Vec<PathBuf>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passes over the data
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..))]
    epochs: u16,
}

/// Share of training windows cut as if the phone had no gyroscope, so that one network serves
/// phones with and without.
const WITHOUT_GYROSCOPE: f32 = 0.3;

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let stopped = stop_flag()?;
    let walks = read(&arguments.data)?;
    let split = if arguments.train_sessions.is_empty() {
        Split::Tail { fraction: 0.0 }
    } else {
        Split::Sessions { train: arguments.train_sessions, test: arguments.test_sessions }
    };
    let network = Published::Bipedalnet;
    let division = Division::new(&walks, network.recipe(), &split)?;
    report_left_out(&division);
    let architecture = network.architecture(division.subjects.len());
    let schedule = network.schedule(arguments.seed);
    let schedule = Schedule {
        epochs: arguments.epochs.into(),
        augmentation: Augmentation {
            without_gyroscope: WITHOUT_GYROSCOPE,
            ..schedule.augmentation
        },
        ..schedule
    };
    let mut bar = TrainingBar::new(network.name(), &stopped);
    let Some(trained) =
        train(&architecture, &division, &schedule, |progress| bar.update(progress))?
    else {
        return Err("stopped in the first epoch: there is no network yet to keep".into());
    };

    let mut metrics = BTreeMap::from([("validation_top1".to_owned(), trained.validation_accuracy)]);
    if !division.test.is_empty() {
        let evaluation = evaluate(&architecture, &trained.parameters, &division.test)?;
        metrics.insert("test_top1".to_owned(), evaluation.top1);
        metrics.insert("test_top1_of_5".to_owned(), evaluation.top1_of_5);
        let division = Division::new(&without_gyroscope(&walks), network.recipe(), &split)?;
        let evaluation = evaluate(&architecture, &trained.parameters, &division.test)?;
        metrics.insert("test_top1_without_gyroscope".to_owned(), evaluation.top1);
    }
    if !arguments.strangers.is_empty() {
        let people = by_person(read(&arguments.strangers)?);
        let network = bnn::Network::new(&architecture, &trained.parameters)?;
        let calibration = calibrate(&network, division.recipe, &people)
            .ok_or("--strangers: two people or more with half a minute of walking are needed")?;
        metrics.insert(IDENTIFICATION_THRESHOLD.to_owned(), calibration.threshold);
        metrics.insert("strangers_fnir".to_owned(), calibration.fnir);
        metrics.insert("strangers_fpir".to_owned(), calibration.fpir);
        metrics.insert("strangers_eer".to_owned(), calibration.eer);
        metrics.insert("strangers_people".to_owned(), calibration.people as f32);
        metrics.insert("strangers_probes".to_owned(), calibration.probes as f32);
    }
    let names = arguments.data.iter().map(|path| path.file_name().unwrap_or_default());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let metadata = Metadata {
        name: network.name().to_owned(),
        rate_hz: division.recipe.rate_hz,
        rows: ROW_RECIPE.to_owned(),
        classes: division.subjects,
        training_data: describe(&names.join(", "), &split),
        seed: arguments.seed,
        metrics,
        architecture,
    };
    let file = bnn::encode(&metadata, &trained.parameters)?;
    write(&arguments.out, &file)?;

    println!(
        "{}: {} people, {} epochs in {:.0} s, {} bytes{}",
        arguments.out.display(),
        metadata.classes.len(),
        trained.epochs,
        trained.elapsed.as_secs_f32(),
        file.len(),
        if stopped.load(Ordering::Relaxed) { "; stopped early, the best so far" } else { "" }
    );
    for (name, value) in &metadata.metrics {
        println!("  {name} {value:.4}");
    }
    Ok(())
}

/// Reads data sets and tells which files are left out.
pub(super) fn read(folders: &[PathBuf]) -> Result<Vec<Walk>, Failure> {
    let data = read_data(folders)?;
    for (path, reason) in &data.left_out {
        eprintln!("left out {}: {reason}", path.display());
    }
    Ok(data.walks)
}

pub(super) fn report_left_out(division: &Division) {
    for (recording, reason) in &division.left_out {
        eprintln!("left out {recording}: {reason}");
    }
}

fn without_gyroscope(walks: &[Walk]) -> Vec<Walk> {
    walks
        .iter()
        .map(|walk| {
            let walk = walk.clone();
            Walk { recording: walk.recording.without_angular_rate(), ..walk }
        })
        .collect()
}

fn describe(data: &str, split: &Split) -> String {
    match split {
        Split::Sessions { train, .. } => format!("{data}; sessions {}", train.join(", ")),
        Split::Tail { .. } | Split::Random { .. } => data.to_owned(),
    }
}

/// Whole or not at all: a reader never sees half a file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let explain = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(explain)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(explain)?;
    file.persist(path).map_err(|error| explain(error.error))?;
    Ok(())
}
