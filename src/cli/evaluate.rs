//! `bipedalnet evaluate`

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::train::{OutputFile, read};
use super::{Failure, plots};
use crate::bnn::Model;
use crate::service::evaluation::{Evaluation, Figure, Folder, Sequential, evaluate};

/// Measure models on folders of recordings: on people that they know, and on strangers
///
/// Strangers of each model are compared among themselves, and the scores of all models pooled:
/// models from `train --leave-out` that each lack another part of the people measure all of them.
#[derive(clap::Args)]
pub struct Arguments {
    /// Model files
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    model: Vec<PathBuf>,
    /// Folders with recordings, as for `train`
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Sessions on which models name the people that they were trained on
    #[arg(long, value_delimiter = ',', value_name = "SESSION,...")]
    test_sessions: Vec<String>,
    /// Also write all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw det.svg, scores.svg and fpir.svg into a folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    // First, so that nothing is lost to a wrong path.
    let json = arguments.json.as_deref().map(OutputFile::create).transpose()?;
    if let Some(folder) = &arguments.plots {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let models = arguments.model.iter().map(|path| read_model(path)).collect::<Result<_, _>>()?;
    let folders = arguments
        .data
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Folder { name, walks: read(std::slice::from_ref(path))? })
        })
        .collect::<Result<Vec<_>, Failure>>()?;

    let template = "strangers {bar:24} {percent:>3} %  {eta} left";
    let style = ProgressStyle::with_template(template).expect("a valid template");
    let bar = ProgressBar::new(1).with_style(style);
    let progress = |done: usize, steps: usize| {
        bar.set_length(steps as u64);
        bar.set_position(done as u64);
    };
    let evaluation =
        evaluate(models, &folders, &arguments.test_sessions, arguments.seed, progress)?;
    bar.finish_and_clear();

    print(&evaluation);
    if let Some(json) = json {
        json.write(&serde_json::to_vec_pretty(&evaluation)?)?;
    }
    if let Some(folder) = &arguments.plots {
        for (name, svg) in plots::draw(&evaluation)? {
            OutputFile::create(&folder.join(name))?.write(svg.as_bytes())?;
        }
    }
    Ok(())
}

fn read_model(path: &Path) -> Result<(String, Model), Failure> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    let model = Model::from_bytes(&bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok((name, model))
}

fn print(evaluation: &Evaluation) {
    println!("| model | trained on | known people | strangers |\n|---|---|--:|--:|");
    for model in &evaluation.models {
        let (name, data) = (&model.name, &model.training_data);
        println!("| {name} | {data} | {} | {} |", model.known, model.strangers);
    }
    for warning in &evaluation.warnings {
        println!("\nwarning: {warning}");
    }
    if !evaluation.closed_set.is_empty() {
        print_closed_set(evaluation);
    }
    if !evaluation.strangers.is_empty() {
        print_strangers(evaluation);
        print_identification(evaluation);
        print_robustness(evaluation);
        print_sequential(evaluation);
    }
}

fn print_closed_set(evaluation: &Evaluation) {
    println!("\nKnown people, in % (95 % interval by person):\n");
    println!("| model | people | windows | top-1, 2 s | top-1 of 5 |\n|---|--:|--:|--:|--:|");
    for row in &evaluation.closed_set {
        println!(
            "| {} | {} | {} | {} | {} |",
            row.model,
            row.people,
            row.windows,
            percent_with_interval(&row.top1),
            percent_with_interval(&row.top1_of_5)
        );
    }
}

fn print_strangers(evaluation: &Evaluation) {
    println!(
        "\nStrangers, enrolled with 30 s, in % (95 % interval by person). Probes of those of one \
         session come from the enrolled recording, 10 s later: optimistic.\n"
    );
    let points = &evaluation.strangers[0].operating_points;
    let fmrs = points.iter().map(|point| format!(" FNMR at FMR {} % |", point.fmr * 100.0));
    println!(
        "| data set | probe | people (of one session) | probes (refused) | impostors | EER |{}",
        fmrs.collect::<String>()
    );
    println!("|---|--:|--:|--:|--:|--:|{}", "--:|".repeat(points.len()));
    for row in &evaluation.strangers {
        let fnmrs = row.operating_points.iter();
        let fnmrs = fnmrs.map(|point| format!(" {} |", percent_with_interval(&point.fnmr)));
        println!(
            "| {} | {} s | {} ({}) | {} ({}) | {} | {} |{}",
            row.data_set,
            row.probe_seconds,
            row.people,
            row.people_of_one_session,
            row.probes,
            row.refused,
            row.impostor_comparisons,
            percent_with_interval(&row.eer),
            fnmrs.collect::<String>()
        );
    }
}

fn print_identification(evaluation: &Evaluation) {
    println!("\nIdentification of 10 s among N strangers of any data set, in %:\n");
    println!(
        "| N | galleries | FPIR, fixed threshold | FNIR | 1 - (1 - FMR)^N | FPIR, threshold by N | FNIR |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for row in &evaluation.identification {
        let of_independent = row.fpir_of_independent as f32;
        let (fixed, following) = (&row.fixed, &row.following);
        let rates = [fixed.fpir, fixed.fnir, of_independent, following.fpir, following.fnir];
        let rates = rates.map(|rate| format!(" {} |", percent(rate)));
        println!("| {} | {} |{}", row.gallery_size, row.galleries, rates.concat());
    }
}

fn print_robustness(evaluation: &Evaluation) {
    println!(
        "\nProbes of 10 s unlike the enrolled walks, in %, FMR and FNMR at the threshold of a false \
         match rate of 1 % as recorded:\n"
    );
    println!("| condition | EER | FMR | FNMR | refused |\n|---|--:|--:|--:|--:|");
    for row in &evaluation.robustness {
        let rates = [row.eer, row.fmr, row.fnmr, row.refused_share];
        let rates = rates.map(|rate| format!(" {} |", percent(rate)));
        println!("| {} |{}", row.condition, rates.concat());
    }
}

fn print_sequential(evaluation: &Evaluation) {
    println!(
        "\nDecisions window by window, as the service takes them, over 30 s at most, of the last \
         recording, in %:\n"
    );
    println!("| asked | measured | missed | windows to a decision, own | others' |");
    println!("|---|--:|--:|--:|--:|");
    let row = |kind: &str, missed: &str, Sequential { asked, rates }: &Sequential| {
        let [measured, missed_rate] =
            [rates.false_positive, rates.false_negative].map(|rate| rate * 100.0);
        println!(
            "| {kind} {} | {measured:.2} | {missed} {missed_rate:.1} | {:.1} | {:.1} |",
            asked * 100.0,
            rates.genuine_windows,
            rates.impostor_windows,
        );
    };
    evaluation.verification.iter().for_each(|decided| row("FMR", "FNMR", decided));
    evaluation.sequential_identification.iter().for_each(|decided| row("FPIR", "FNIR", decided));
}

fn percent(rate: f32) -> String {
    format!("{:.1}", rate * 100.0)
}

fn percent_with_interval(figure: &Figure) -> String {
    let [value, low, high] = [figure.value, figure.low, figure.high].map(percent);
    format!("{value} ({low} to {high})")
}
