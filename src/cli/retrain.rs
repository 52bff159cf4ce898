//! `bipedalnet retrain`

use std::process::ExitCode;

use bipedalnet_client::api::{JobState, TrainDocument, TrainingJobAnswer, TrainingScope};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;

use super::Failure;
use super::remote::Remote;

/// Train a new model on a running server, from the recordings that it keeps
///
/// A network without classes, such as the shipped one, has its last layer refitted in seconds: what
/// varies between the walks of one user then counts for less. --scope, --epochs and --budget-seconds
/// have no effect on it.
///
/// With --watch, exits with 0 if the new model is activated (or made, with --no-activate), with 3 if it
/// is not activated, and with 1 if the job fails or is cancelled.
#[derive(clap::Args)]
pub struct Arguments {
    /// Layers to train of a network with classes
    #[arg(long, default_value = "whole", value_parser = scope_parser())]
    scope: TrainingScope,
    /// Number of epochs [default: the server's]
    #[arg(long, value_name = "NUMBER")]
    epochs: Option<u16>,
    /// Train as many epochs as fit into this time, instead of a number
    #[arg(long, value_name = "SECONDS", conflicts_with = "epochs")]
    budget_seconds: Option<u32>,
    /// Do not activate the new model
    #[arg(long)]
    no_activate: bool,
    /// Leave out users with too little walking; the new model recognises them all the same
    #[arg(long)]
    skip_users_with_too_little: bool,
    /// Seed of the random numbers
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u32>,
    /// Show progress until the job ends
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Reads the names that the API gives to scopes, with `-` for `_`.
fn scope_parser() -> impl TypedValueParser<Value = TrainingScope> {
    PossibleValuesParser::new(["whole", "last-layers"]).try_map(|name| {
        TrainingScope::deserialize(IntoDeserializer::<ValueError>::into_deserializer(
            name.replace('-', "_"),
        ))
    })
}

pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { remote, watch, .. } = arguments;
    let document = TrainDocument {
        scope: arguments.scope,
        epochs: arguments.epochs,
        budget_seconds: arguments.budget_seconds,
        activate: Some(!arguments.no_activate),
        skip_users_with_too_little: arguments.skip_users_with_too_little,
        seed: arguments.seed,
    };
    remote.call(async |client| {
        let job = client.train(&document).await?;
        if !watch {
            remote.print(&job, &line(&job))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut bar = Bar::new();
        let job = client.follow_training_job(job.job, |job| bar.show(job)).await?;
        bar.bar.finish_and_clear();
        remote.print(&job, &line(&job))?;
        Ok(match job.state {
            JobState::Succeeded if job.activate && !job.activated => ExitCode::from(3),
            JobState::Succeeded => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    })
}

/// A progress bar in a terminal; elsewhere, a line for each epoch.
struct Bar {
    bar: ProgressBar,
    epoch: u32,
}

impl Bar {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{prefix} {bar:24} {percent:>3} %  {msg}");
        let style = style.expect("a valid template");
        Self { bar: ProgressBar::new(1000).with_style(style), epoch: 0 }
    }

    fn show(&mut self, job: &TrainingJobAnswer) {
        let known =
            |value: Option<f32>, text: &dyn Fn(f32) -> String| value.map(text).unwrap_or_default();
        let loss = known(job.loss, &|loss| format!(", loss {loss:.3}"));
        let validation = known(job.validation_accuracy, &|accuracy| {
            format!(", validation {:.1} %", accuracy * 100.0)
        });
        let speed = known(job.samples_per_second, &|speed| format!(", {speed:.0} windows/s"));
        let left = known(job.seconds_left, &|seconds| format!(", {seconds:.0} s left"));
        let epochs = job.epochs.map_or(String::new(), |epochs| format!(" of {epochs}"));
        let message = format!("epoch {}{epochs}{loss}{validation}{speed}{left}", job.epoch);
        if self.bar.is_hidden() && job.epoch > self.epoch {
            eprintln!("job {}: {message}", job.job);
        }
        self.epoch = job.epoch;
        self.bar.set_prefix(format!("job {}", job.job));
        if let Some(share) = job.share_done {
            self.bar.set_position((share * 1000.0) as u64);
        }
        self.bar.set_message(message);
    }
}

fn line(job: &TrainingJobAnswer) -> String {
    let (number, model) = (job.job, job.model.as_deref().unwrap_or_default());
    let reason = job.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    match job.state {
        JobState::Queued => format!("job {number} is queued"),
        JobState::Running => format!("job {number} is running"),
        JobState::Succeeded if job.activated => format!("job {number}: model {model} is active"),
        JobState::Succeeded => {
            format!("job {number}: made model {model}, which is not active{reason}")
        }
        JobState::Failed => format!("job {number} failed{reason}"),
        JobState::Cancelled => format!("job {number} was cancelled"),
    }
}
