//! `bipedalnet reproduce`

use std::path::PathBuf;

use bipedalnet_training::{Split, TableRow, published_table};

use super::Failure;
use super::data::TableArguments;
use super::output_file::OutputFile;
use super::progress::{TrainingDisplay, stop_flag};

/// Train and measure the three networks of the published table
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("split").required(true)))]
pub struct Arguments {
    /// Folders of recordings: each has a manifest.csv, or the subfolders of the Padova data set
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
    /// Test on the end of every recording, this share of it
    #[arg(long, group = "split", value_parser = fraction, value_name = "FRACTION")]
    test_tail: Option<f64>,
    /// Test on random windows, this share of them, as published. The figures are optimistic
    #[arg(long, group = "split", value_parser = fraction, value_name = "FRACTION")]
    random_split: Option<f64>,
    /// Also write the table as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passes over the data, for a quick look. Default: a number that suits each network
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    epochs: Option<u16>,
    #[command(flatten)]
    tables: TableArguments,
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.01..=0.9).contains(&value) => Ok(value),
        _ => Err("a fraction between 0.01 and 0.9 is needed".to_owned()),
    }
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let stopped = stop_flag()?;
    // First, so that a wrong path does not cost a training.
    let json = arguments.json.as_deref().map(OutputFile::create).transpose()?;
    let data = arguments.tables.read_folders(&arguments.data)?;
    let (seed, epochs) = (arguments.seed, arguments.epochs);
    let split = match (arguments.test_tail, arguments.random_split) {
        (Some(fraction), _) => Split::Tail { fraction },
        (_, Some(fraction)) => Split::Random { fraction, seed },
        (None, None) => {
            Split::Sessions { train: arguments.train_sessions, test: arguments.test_sessions }
        }
    };
    let mut display = TrainingDisplay::new(&stopped);
    let rows =
        published_table(&data.recordings, &split, seed, epochs, |event| display.show(event))?;
    print(&rows);
    if let Split::Random { .. } = split {
        println!(
            "\nwarning: these figures are optimistic. Windows overlap, so random test windows are \
             partly known from training. Split by session or by tail instead."
        );
    }
    if let Some(json) = json {
        json.write(&serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}

fn print(rows: &[TableRow]) {
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
