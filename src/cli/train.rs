//! `bipedalnet train`

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bipedalnet_core::identity::Calibration;
use bipedalnet_training::{
    Design, FEWEST_SUBJECTS_TO_CALIBRATE, Split, SubjectPart, TrainModelOptions, TrainedModel,
    train_model,
};

use super::Failure;
use super::data::TableArguments;
use super::output_file::OutputFile;
use super::progress::{TrainingDisplay, stop_flag};

/// Train a network for `serve` on folders of recordings
#[derive(clap::Args)]
pub struct Arguments {
    /// Folders of recordings: each has a manifest.csv, or the subfolders of the Padova data set
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Sessions to train on. Default: all
    #[arg(long, value_delimiter = ',', value_name = "SESSION,...")]
    train_sessions: Vec<String>,
    /// Sessions to measure the network on
    #[arg(long, value_delimiter = ',', requires = "train_sessions", value_name = "SESSION,...")]
    test_sessions: Vec<String>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The network: bipedalnet-openset recognises strangers best, bipedalnet is the published one
    #[arg(long, default_value = Design::SERVING[0].name(), value_parser = design)]
    network: Design,
    /// Passes over the data. Default: a number that suits the network
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    epochs: Option<u16>,
    /// Train without part K of N of the people. In the order of their names, the part is every Nth
    /// person from the Kth on. They stay strangers to the model
    #[arg(long, value_name = "K/N", value_parser = part)]
    leave_out: Option<SubjectPart>,
    /// Train without the people of this folder, given by name. They stay strangers to the model. Can
    /// be given more than once
    #[arg(long, value_name = "SET")]
    leave_out_data: Vec<String>,
    #[command(flatten)]
    tables: TableArguments,
}

fn design(name: &str) -> Result<Design, String> {
    let names = Design::SERVING.map(Design::name).join(" or ");
    let found = Design::SERVING.into_iter().find(|design| design.name() == name);
    found.ok_or_else(|| format!("{names} is needed"))
}

fn part(text: &str) -> Result<SubjectPart, String> {
    let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    let part = numbers.and_then(|(number, of)| SubjectPart::new(number, of));
    part.ok_or_else(|| "K/N is needed, such as 1/3, with K from 1 to N".to_owned())
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let stopped = stop_flag()?;
    // First, so that a wrong path does not cost a training.
    let out = OutputFile::create(&arguments.out)?;
    let data = arguments.tables.read_folders(&arguments.data)?;
    let options = TrainModelOptions {
        design: arguments.network,
        seed: arguments.seed,
        epochs: arguments.epochs,
        split: if arguments.train_sessions.is_empty() {
            Split::Tail { fraction: 0.0 }
        } else {
            Split::Sessions { train: arguments.train_sessions, test: arguments.test_sessions }
        },
        leave_out: arguments.leave_out,
        leave_out_folders: arguments.leave_out_data,
    };
    let mut display = TrainingDisplay::new(&stopped);
    let trained = train_model(data, &options, |event| display.show(event))?;
    out.write(&trained.file)?;

    let TrainedModel { file, metadata, epochs, elapsed } = trained;
    println!(
        "{}: {} people, {epochs} epochs in {:.0} s, {} bytes",
        arguments.out.display(),
        metadata.classes.len(),
        elapsed.as_secs_f32(),
        file.len(),
    );
    for (name, value) in &metadata.metrics {
        println!("  {name} {value:.4}");
    }
    if stopped.load(Ordering::Relaxed) {
        println!("stopped early: this is the best network so far");
    }
    if Calibration::from_metrics(&metadata.metrics).is_err() {
        println!(
            "The model has no calibration, and `serve` will refuse it. A calibration needs a complete \
             run and {FEWEST_SUBJECTS_TO_CALIBRATE} people with a minute and a half of walking in one \
             session."
        );
    }
    Ok(())
}
