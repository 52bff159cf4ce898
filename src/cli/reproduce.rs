//! `bipedalnet reproduce`

use std::path::PathBuf;

use serde::Serialize;

use super::Failure;
use super::progress::{TrainingBar, stop_flag};
use super::train::{OutputFile, read, report_left_out};
use bipedalnet_core::bnn::{self, Metadata};
use bipedalnet_training::{Design, Division, Schedule, Split, Walk, accuracy, train};

/// Train and measure the three networks of the published table
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("split").required(true)))]
pub struct Arguments {
    /// Folders with recordings: a manifest.csv, or the Padova set's folders
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Sessions to train on
    #[arg(
        long,
        value_delimiter = ',',
        requires = "test_sessions",
        group = "split",
        value_name = "SESSION,..."
    )]
    train_sessions: Vec<String>,
    /// Sessions to test on
    #[arg(long, value_delimiter = ',', requires = "train_sessions", value_name = "SESSION,...")]
    test_sessions: Vec<String>,
    /// Test on the end of every recording: this share of it
    #[arg(long, group = "split", value_parser = fraction, value_name = "FRACTION")]
    test_tail: Option<f64>,
    /// Test on random windows, this share of them, as published; optimistic
    #[arg(long, group = "split", value_parser = fraction, value_name = "FRACTION")]
    random_split: Option<f64>,
    /// Also write the table as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passes over the data, for a quick look; what suits each network where not given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    epochs: Option<u16>,
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.01..=0.9).contains(&value) => Ok(value),
        _ => Err("a fraction between 0.01 and 0.9 is needed".to_owned()),
    }
}

/// A row of the table.
#[derive(Serialize)]
struct Row {
    model: &'static str,
    parameters: usize,
    size_bytes: usize,
    top1: f32,
    top1_of_5: f32,
    train_seconds: f32,
    inference_microseconds: f32,
    #[serde(skip)]
    published_top1: Option<f32>,
    #[serde(skip)]
    samples_per_second: f32,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let stopped = stop_flag()?;
    // First, so that no training is lost to a wrong path.
    let json = arguments.json.as_deref().map(OutputFile::create).transpose()?;
    let walks = read(&arguments.data)?;
    let split = match (arguments.test_tail, arguments.random_split) {
        (Some(fraction), _) => Split::Tail { fraction },
        (_, Some(fraction)) => Split::Random { fraction, seed: arguments.seed },
        (None, None) => {
            Split::Sessions { train: arguments.train_sessions, test: arguments.test_sessions }
        }
    };
    let mut rows = Vec::new();
    for network in Design::PUBLISHED {
        let mut bar = TrainingBar::new(network.name().to_owned(), &stopped);
        let mut schedule = network.schedule(arguments.seed);
        schedule.epochs = arguments.epochs.map_or(schedule.epochs, usize::from);
        rows.push(row(network, &walks, &split, &schedule, &mut bar)?);
    }
    print(&rows);
    if let Split::Random { .. } = split {
        println!(
            "\nwarning: windows overlap, so random ones are partly known from training: these \
             figures are optimistic; a split by session or tail is not"
        );
    }
    if let Some(json) = json {
        json.write(&serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}

fn row(
    network: Design,
    walks: &[Walk],
    split: &Split,
    schedule: &Schedule,
    bar: &mut TrainingBar,
) -> Result<Row, Failure> {
    let division = Division::new(walks, network.recipe(), split)?;
    if network == Design::PUBLISHED[0] {
        report_left_out(&division);
    }
    if division.test.is_empty() {
        return Err("no window of walking to test on; choose another split".into());
    }
    let architecture = network.architecture(division.subjects.len());
    let trained = train(&architecture, &division, schedule, |progress| bar.update(progress))?
        .filter(|trained| trained.epochs == schedule.epochs)
        .ok_or("stopped before the table was whole")?;
    let evaluation = accuracy(&architecture, &trained.parameters, &division, &division.test)?;
    let metadata = Metadata {
        name: network.name().to_owned(),
        rate_hz: division.recipe.rate_hz,
        rows: division.recipe.rows.name().to_owned(),
        classes: division.subjects,
        training_data: String::new(),
        seed: schedule.seed,
        metrics: [("test_top1".to_owned(), evaluation.top1)].into(),
        architecture: architecture.clone(),
    };
    Ok(Row {
        model: network.name(),
        parameters: architecture.parameter_count()?,
        size_bytes: bnn::encode(&metadata, &trained.parameters)?.len(),
        top1: evaluation.top1,
        top1_of_5: evaluation.top1_of_5,
        train_seconds: trained.elapsed.as_secs_f32(),
        inference_microseconds: evaluation.inference_microseconds,
        published_top1: network.published_top1(),
        samples_per_second: trained.samples_per_second,
    })
}

fn print(rows: &[Row]) {
    println!(
        "| model | parameters | size (bytes) | top-1 | top-1 of 5 | published top-1 | training (s) | windows/s | inference (µs/window) |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        println!(
            "| {} | {} | {} | {:.2} % | {:.2} % | {} | {:.0} | {:.0} | {:.0} |",
            row.model,
            row.parameters,
            row.size_bytes,
            row.top1 * 100.0,
            row.top1_of_5 * 100.0,
            row.published_top1.map_or_else(String::new, |top1| format!("{:.2} %", top1 * 100.0)),
            row.train_seconds,
            row.samples_per_second,
            row.inference_microseconds
        );
    }
}
