//! `bipedalnet train`

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Failure;
use super::progress::{TrainingBar, stop_flag};
use bipedalnet_core::bnn::{self, Metadata};
use bipedalnet_core::identity::Calibration;
use bipedalnet_training::{
    Augmentation, Design, Division, Schedule, Split, Walk, accuracy, read_data,
};
use bipedalnet_training::{Strangers, calibrate};

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
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which network: bipedalnet-openset, which tells strangers apart best, or bipedalnet, the
    /// published one
    #[arg(long, default_value = Design::SERVING[0].name(), value_parser = design)]
    network: Design,
    /// Passes over the data; what suits the network where not given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    epochs: Option<u16>,
    /// Train without part K of N of the people, who stay strangers: of all in the order of their
    /// names, each Nth from the Kth on
    #[arg(long, value_name = "K/N", value_parser = part)]
    leave_out: Option<Part>,
    /// Train without the people of the folder of this name, who stay strangers. Can be given more
    /// than once
    #[arg(long, value_name = "SET")]
    leave_out_data: Vec<String>,
}

fn design(name: &str) -> Result<Design, String> {
    let names = Design::SERVING.map(Design::name).join(" or ");
    let found = Design::SERVING.into_iter().find(|design| design.name() == name);
    found.ok_or_else(|| format!("{names} is needed"))
}

/// Each `of`th person, from number `number` (from 1) on.
#[derive(Clone, Copy)]
struct Part {
    number: usize,
    of: usize,
}

fn part(text: &str) -> Result<Part, String> {
    let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    match numbers {
        Some((number, of)) if of >= 2 && (1..=of).contains(&number) => Ok(Part { number, of }),
        _ => Err("K/N is needed, such as 1/3, with K from 1 to N".to_owned()),
    }
}

impl Part {
    fn leave_out(self, walks: &mut Vec<Walk>) {
        let subjects: BTreeSet<String> = walks.iter().map(|walk| walk.subject.clone()).collect();
        let left_out: BTreeSet<&String> =
            subjects.iter().skip(self.number - 1).step_by(self.of).collect();
        walks.retain(|walk| !left_out.contains(&walk.subject));
    }
}

/// Parts into which people are divided to be strangers in turn.
const FOLDS: usize = 3;

/// Fewer people of a folder are no measure of it.
const FEWEST_PEOPLE: usize = 3 * FOLDS;

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let stopped = stop_flag()?;
    // First, so that no training is lost to a wrong path.
    let out = OutputFile::create(&arguments.out)?;
    let left_out_data = &arguments.leave_out_data;
    let trained_on = without(&arguments.data, left_out_data)?;
    // All folders are read, so that people are named as if none were left out.
    let mut walks = read(&arguments.data)?;
    walks.retain(|walk| {
        let set = walk.subject.split_once('/').map(|(set, _)| set);
        !left_out_data.iter().any(|left_out| Some(&left_out[..]) == set)
    });
    if let Some(part) = arguments.leave_out {
        part.leave_out(&mut walks);
    }
    let split = if arguments.train_sessions.is_empty() {
        Split::Tail { fraction: 0.0 }
    } else {
        Split::Sessions { train: arguments.train_sessions, test: arguments.test_sessions }
    };
    let network = arguments.network;
    let division = Division::new(&walks, network.recipe(), &split)?;
    report_left_out(&division);
    let mut schedule = network.schedule(arguments.seed);
    schedule.epochs = arguments.epochs.map_or_else(|| network.epochs(&division), usize::from);
    schedule.augmentation = Augmentation::SERVED;
    let mut bar = TrainingBar::new(network.name().to_owned(), &stopped);
    let (architecture, trained) = network
        .train(&division, &schedule, |progress| bar.update(progress))?
        .ok_or("stopped in the first epoch: there is no network yet to keep")?;

    let mut metrics = BTreeMap::from([("validation_top1".to_owned(), trained.validation_accuracy)]);
    if !division.test.is_empty() {
        let evaluation = accuracy(&architecture, &trained.parameters, &division, &division.test)?;
        metrics.insert("test_top1".to_owned(), evaluation.top1);
        metrics.insert("test_top1_of_5".to_owned(), evaluation.top1_of_5);
        if network.recipe().rows.read_gyroscope() {
            let division = Division::new(&without_gyroscope(&walks), network.recipe(), &split)?;
            let evaluation =
                accuracy(&architecture, &trained.parameters, &division, &division.test)?;
            metrics.insert("test_top1_without_gyroscope".to_owned(), evaluation.top1);
        }
    }
    walks.retain(|walk| split.trains_on(walk));
    let strangers = read_strangers(network, &walks, &schedule, &stopped)?;
    if let Some(fitted) = calibrate(&strangers) {
        metrics.extend(fitted.calibration.to_metrics());
        metrics.insert("strangers_eer".to_owned(), fitted.eer);
        metrics.insert("strangers_people".to_owned(), fitted.people as f32);
    }
    let mut training_data = describe(&trained_on.join(", "), &split, arguments.leave_out);
    if !left_out_data.is_empty() {
        training_data += &format!("; without {}", left_out_data.join(", "));
    }
    let metadata = Metadata {
        name: network.name().to_owned(),
        rate_hz: division.recipe.rate_hz,
        rows: division.recipe.rows.name().to_owned(),
        classes: division.subjects,
        training_data,
        seed: arguments.seed,
        metrics,
        architecture,
    };
    let file = bnn::encode(&metadata, &trained.parameters)?;
    out.write(&file)?;

    println!(
        "{}: {} people, {} epochs in {:.0} s, {} bytes",
        arguments.out.display(),
        metadata.classes.len(),
        trained.epochs,
        trained.elapsed.as_secs_f32(),
        file.len(),
    );
    for (name, value) in &metadata.metrics {
        println!("  {name} {value:.4}");
    }
    if stopped.load(Ordering::Relaxed) {
        println!("stopped early: the best network so far");
    }
    if Calibration::from_metrics(&metadata.metrics).is_err() {
        println!(
            "no calibration: that takes a run to the end, and {FEWEST_PEOPLE} people who each have a \
             minute and a half of walking in one session. `serve` will refuse this model"
        );
    }
    Ok(())
}

/// Names of the folders without those that are left out.
fn without(folders: &[PathBuf], left_out: &[String]) -> Result<Vec<String>, Failure> {
    let names = folders.iter().map(|folder| folder.file_name().unwrap_or_default());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    if let Some(unknown) = left_out.iter().find(|set| !names.contains(set)) {
        return Err(format!("--leave-out-data {unknown}: no folder of --data has this name").into());
    }
    names.retain(|name| !left_out.contains(name));
    if names.is_empty() {
        return Err("--leave-out-data leaves out every folder of --data".into());
    }
    Ok(names)
}

/// Trains networks that each lack some people, in half the epochs, and lets each read the walks of
/// those. If several folders have enough people, each network lacks one folder: then the calibration
/// holds on phones and places that nobody trained on. If not, each lacks a third of the people. Empty
/// if it was stopped, or if there are too few people.
fn read_strangers(
    network: Design,
    walks: &[Walk],
    schedule: &Schedule,
    stopped: &Arc<AtomicBool>,
) -> Result<Vec<Strangers>, Failure> {
    let schedule = Schedule { epochs: schedule.epochs.div_ceil(2), ..schedule.clone() };
    let (folds, of_one_folder) = folds(walks);
    let mut found: Vec<Strangers> = Vec::new();
    for (number, left_out) in folds.iter().enumerate() {
        let (strangers, others): (Vec<Walk>, Vec<Walk>) =
            walks.iter().cloned().partition(|walk| left_out.contains(&walk.subject));
        let division = Division::new(&others, network.recipe(), &Split::Tail { fraction: 0.0 })?;
        let mut bar =
            TrainingBar::new(format!("strangers {}/{}", number + 1, folds.len()), stopped);
        let trained = network.train(&division, &schedule, |state| bar.update(state))?;
        let Some((architecture, trained)) = trained.filter(|_| !stopped.load(Ordering::Relaxed))
        else {
            return Ok(Vec::new());
        };
        let network = bnn::Network::new(&architecture, &trained.parameters)?;
        let strangers = Strangers::new(&network, division.recipe, &strangers);
        match (found.first_mut(), strangers) {
            (Some(first), Some(strangers)) if of_one_folder => first.join(strangers),
            (_, strangers) => found.extend(strangers),
        }
    }
    Ok(found)
}

/// People to be left out, by network, and whether they are parts of one folder.
fn folds(walks: &[Walk]) -> (Vec<BTreeSet<String>>, bool) {
    let mut folders: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut people = BTreeSet::new();
    for walk in walks {
        let folder = walk.subject.split_once('/').map_or("", |(folder, _)| folder);
        folders.entry(folder).or_default().insert(walk.subject.clone());
        people.insert(walk.subject.clone());
    }
    let large = || folders.values().filter(|people| people.len() >= FEWEST_PEOPLE);
    if large().count() > 1 {
        return (large().cloned().collect(), false);
    }
    if people.len() < FEWEST_PEOPLE {
        return (Vec::new(), true);
    }
    let part = |fold| people.iter().skip(fold).step_by(FOLDS).cloned().collect();
    ((0..FOLDS).map(part).collect(), true)
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

fn describe(data: &str, split: &Split, left_out: Option<Part>) -> String {
    let mut text = data.to_owned();
    if let Split::Sessions { train, .. } = split {
        text += &format!("; sessions {}", train.join(", "));
    }
    if let Some(Part { number, of }) = left_out {
        text += &format!("; without people {number}/{of}");
    }
    text
}

/// A file that is written whole or not at all: a reader never sees half of it.
pub(super) struct OutputFile<'a> {
    path: &'a Path,
    file: tempfile::NamedTempFile,
}

impl<'a> OutputFile<'a> {
    /// Makes sure that the path can be written to, and leaves what is there as it is.
    pub fn create(path: &'a Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Err(format!("{}: is a directory", path.display()).into());
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::NamedTempFile::new_in(folder)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, file })
    }

    pub fn write(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let explain = |error: std::io::Error| format!("{}: {error}", self.path.display());
        self.file.write_all(bytes).map_err(explain)?;
        self.file.as_file().sync_all().map_err(explain)?;
        self.file.persist(self.path).map_err(|error| explain(error.error))?;
        Ok(())
    }
}
