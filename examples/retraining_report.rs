//! Measures the effect of retraining on users whom the model has not seen:
//!
//!     cargo run --release --example retraining_report -- --parent FILE --data DIR --keep SESSION,...
//!
//! The people of the data set are users, and the service has kept their recordings of some sessions. A
//! model is retrained on these. Then both models are evaluated as by `bipedalnet evaluate`: users enroll
//! thirty seconds of a session, and are probed with sessions that were not used for training.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use bipedalnet_core::bnn::Model;
use bipedalnet_core::gait::Recording;
use bipedalnet_training::evaluation::{Figure, Folder, ProtocolRates, evaluate};
use bipedalnet_training::retrained_model;
use bipedalnet_training::{
    Length, RetrainingOptions, SubjectRecording, TableOptions, Users, low_priority_pool, read_data,
    retrain,
};
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Folder with a manifest.csv. The parent must not have been trained on these people.
    #[arg(long)]
    data: PathBuf,
    /// Model file to start from.
    #[arg(long)]
    parent: PathBuf,
    /// Sessions with kept recordings, in the order of enrollment.
    #[arg(long, value_delimiter = ',', required = true)]
    keep: Vec<String>,
    /// Length of each kept recording.
    #[arg(long, default_value = "30")]
    recording_seconds: f64,
    /// Passes over the data, for a model with classes.
    #[arg(long, default_value = "20")]
    epochs: NonZeroU16,
    #[arg(long, default_value = "2")]
    threads: usize,
    #[arg(long, default_value = "1")]
    seed: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let file = std::fs::read(&arguments.parent)?;
    let parent = Model::from_bytes(&file)?;
    let walks =
        read_data(std::slice::from_ref(&arguments.data), &TableOptions::default())?.recordings;
    let name = arguments.data.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let recordings = kept(&walks, &arguments.keep, arguments.recording_seconds);
    let counts: Vec<usize> = recordings.iter().map(Vec::len).collect();
    let all = recordings.concat();
    let mut names = 0..;
    let recordings: Vec<Vec<i64>> =
        counts.iter().map(|&count| names.by_ref().take(count).collect()).collect();
    let read = |name: i64| Ok(all[name as usize].clone());
    let users = Users { recordings: &recordings, read: &read };
    let options = RetrainingOptions {
        last_layers_only: true,
        length: Length::Epochs(arguments.epochs),
        seed: arguments.seed,
        memory_bytes: 512 << 20,
    };

    let pool = low_priority_pool(arguments.threads)?;
    let begin = Instant::now();
    let go_on = |_: bipedalnet_training::Event<'_>| ControlFlow::Continue(());
    let retrained = pool.install(|| retrain(&file, &users, &options, None, go_on))?;
    let retrained = retrained.ok_or("stopped")?;
    println!(
        "{} users, {} recordings of {:?}, retrained in {:.1} s, validation {:.3}",
        users.recordings.len(),
        all.len(),
        arguments.keep,
        begin.elapsed().as_secs_f32(),
        retrained.validation_accuracy.unwrap_or(f32::NAN),
    );
    let retrained = retrained_model(&parent, &retrained)?;

    let folders = [Folder { name, recordings: walks }];
    println!(
        "\n| enrolled > probed | | EER, 10 s | FNMR at FMR 1 % | own / others accepted, FMR 1 % | right | wrong | strangers identified |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    for (label, file) in [("before", file), ("after", retrained)] {
        let model = Model::from_bytes(&file)?;
        let trials = evaluate(label, model, &folders, &[], arguments.seed, |_, _| ())?.trials;
        let is_new = |trial: &&ProtocolRates| {
            trial.is_as_recorded() && !arguments.keep.contains(&trial.probed)
        };
        for trial in trials.iter().filter(is_new) {
            let ProtocolRates { enrolled, probed, measured, .. } = trial;
            let verified = &measured.verification[1];
            let named = &measured.identification;
            println!(
                "| {enrolled} > {probed} | {label} | {} | {} | {} / {} | {} | {} | {} |",
                percent(&measured.eer),
                percent(&measured.fnmr_at_fmr_1_percent),
                percent(&verified.own_accepted),
                percent(&verified.others_accepted),
                percent(&named.right),
                percent(&named.wrong),
                percent(&named.strangers_named),
            );
        }
    }
    Ok(())
}

/// Each person's kept recordings, in order. People without any are left out.
fn kept(walks: &[SubjectRecording], sessions: &[String], seconds: f64) -> Vec<Vec<Recording>> {
    let mut people: BTreeMap<&str, Vec<Recording>> = BTreeMap::new();
    for session in sessions {
        for walk in walks.iter().filter(|walk| walk.session == *session) {
            let starts = (0..).map(|number| f64::from(number) * seconds);
            let starts = starts.take_while(|start| *start < walk.recording.duration_seconds());
            let parts = starts.filter_map(|start| walk.recording.part(start, seconds));
            people.entry(&walk.subject).or_default().extend(parts);
        }
    }
    people.into_values().collect()
}

fn percent(Figure { value, low, high }: &Figure) -> String {
    format!("{:.1} ({:.1} to {:.1})", value * 100.0, low * 100.0, high * 100.0)
}
