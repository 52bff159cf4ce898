//! `bipedalnet evaluate`

use std::path::{Path, PathBuf};

use bipedalnet_core::bnn::Model;
use bipedalnet_core::identity::FALSE_MATCH_RATES;
use bipedalnet_training::evaluation::plots;
use bipedalnet_training::evaluation::{
    ClosedSet, Figure, Folder, ModelEvaluation, ProtocolRates, evaluate,
};
use indicatif::{ProgressBar, ProgressStyle};

use super::data::TableArguments;
use super::output_file::OutputFile;
use super::{Failure, model_file};

/// Measure models on folders of recordings: on people whom they know, and on strangers
///
/// Each model is measured by itself. Strangers are people whom it was not trained on. The strangers
/// of a folder are enrolled together and probed in pieces of 10 s, as clients of the API send them.
#[derive(clap::Args)]
pub struct Arguments {
    /// Model files
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    model: Vec<PathBuf>,
    /// Folders of recordings, as for `train`
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Sessions on which models name the people whom they were trained on
    #[arg(long, value_delimiter = ',', value_name = "SESSION,...")]
    test_sessions: Vec<String>,
    /// Also write all figures to a JSON file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw det.svg and scores.svg in this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    tables: TableArguments,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    // First, so that a wrong path does not cost a measurement.
    let json = arguments.json.as_deref().map(OutputFile::create).transpose()?;
    if let Some(folder) = &arguments.plots {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let models =
        arguments.model.iter().map(|path| read_model(path)).collect::<Result<Vec<_>, _>>()?;
    let folders = arguments
        .data
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let data = arguments.tables.read_folders(std::slice::from_ref(path))?;
            Ok(Folder { name, recordings: data.recordings })
        })
        .collect::<Result<Vec<_>, Failure>>()?;

    let template = "strangers {bar:24} {percent:>3} %  {eta} left";
    let style = ProgressStyle::with_template(template).expect("a valid template");
    let bar = ProgressBar::new(1).with_style(style);
    let progress = |done: usize, steps: usize| {
        bar.set_length(steps as u64);
        bar.set_position(done as u64);
    };
    let mut evaluations = Vec::new();
    for (name, model) in models {
        bar.set_position(0);
        let sessions = &arguments.test_sessions;
        evaluations.push(evaluate(&name, model, &folders, sessions, arguments.seed, progress)?);
    }
    bar.finish_and_clear();

    evaluations.iter().for_each(print);
    if let Some(json) = json {
        json.write(&serde_json::to_vec_pretty(&evaluations)?)?;
    }
    if let Some(folder) = &arguments.plots {
        for (name, svg) in plots::draw(&evaluations)? {
            OutputFile::create(&folder.join(name))?.write(svg.as_bytes())?;
        }
    }
    Ok(())
}

fn read_model(path: &Path) -> Result<(String, Model), Failure> {
    let name = path.display().to_string();
    let bytes = model_file::read(path)?;
    let model = Model::from_bytes(&bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok((name, model))
}

fn print(evaluation: &ModelEvaluation) {
    let ModelEvaluation { model, training_data, known, strangers, .. } = evaluation;
    println!("\n{model}: trained on {training_data}; {known} known people, {strangers} strangers");
    for warning in &evaluation.warnings {
        println!("\nwarning: {warning}");
    }
    if let Some(ClosedSet { people, windows, top1, top1_of_5 }) = &evaluation.closed_set {
        println!("\nKnown people, in % (95 % interval by person):\n");
        println!("| people | windows | top-1, 2 s | top-1 of 5 |\n|--:|--:|--:|--:|");
        let [top1, top1_of_5] = [top1, top1_of_5].map(percent_with_interval);
        println!("| {people} | {windows} | {top1} | {top1_of_5} |");
    }
    let (recorded, changed): (Vec<_>, Vec<_>) =
        evaluation.trials.iter().partition(|trial| trial.is_as_recorded());
    if !recorded.is_empty() {
        println!(
            "\nStrangers, enrolled until ready, in % (95 % interval by person). Probes of the enrolled \
             session come 5 s later, which is optimistic.\n"
        );
        print_trials(&recorded);
    }
    if !changed.is_empty() {
        println!("\nThe same with changed probes:\n");
        print_trials(&changed);
    }
}

fn print_trials(trials: &[&ProtocolRates]) {
    print!("| data set | enrolled > probed | people | EER, 10 s | FNMR at FMR 1 % ");
    print!("| right in 10 s | wrong | strangers named, 3 % asked ");
    let [_, percent, permille] = FALSE_MATCH_RATES.map(|rate| rate * 100.0);
    println!("| own / others, FMR {percent} % | own / others, FMR {permille} % |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for trial in trials {
        let ProtocolRates { data_set, enrolled, probed, measured, .. } = trial;
        let condition = match trial.is_as_recorded() {
            true => String::new(),
            false => format!(", {}", trial.condition),
        };
        let named = &measured.identification;
        let figures = [
            &measured.eer,
            &measured.fnmr_at_fmr_1_percent,
            &named.right,
            &named.wrong,
            &named.strangers_named,
        ];
        let figures = figures.map(|figure| format!(" {} |", percent_with_interval(figure)));
        let verified = measured.verification.iter().skip(1).map(|rates| {
            let own = percent_with_interval(&rates.own_accepted);
            let others = &rates.others_accepted;
            let [value, low, high] =
                [others.value, others.low, others.high].map(|rate| rate * 100.0);
            format!(" {own} / {value:.2} ({low:.2} to {high:.2}) |")
        });
        println!(
            "| {data_set} | {enrolled} > {probed}{condition} | {} |{}{}",
            measured.people,
            figures.concat(),
            verified.collect::<String>()
        );
    }
}

fn percent(rate: f32) -> String {
    format!("{:.1}", rate * 100.0)
}

fn percent_with_interval(figure: &Figure) -> String {
    let [value, low, high] = [figure.value, figure.low, figure.high].map(percent);
    format!("{value} ({low} to {high})")
}
