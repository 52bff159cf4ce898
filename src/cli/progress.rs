//! The progress of a training.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bipedalnet_training::{Progress, Stage, TrainingEvent};
use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;

/// Shows a run of one or more trainings, and stops it once a flag is set.
pub struct TrainingDisplay<'a> {
    stopped: &'a AtomicBool,
    stage: Option<(Stage, TrainingBar)>,
}

impl<'a> TrainingDisplay<'a> {
    pub fn new(stopped: &'a AtomicBool) -> Self {
        Self { stopped, stage: None }
    }

    pub fn show(&mut self, event: TrainingEvent<'_>) -> ControlFlow<()> {
        match event {
            TrainingEvent::LeftOut(recordings) => {
                for (recording, reason) in recordings {
                    eprintln!("left out {recording}: {reason}");
                }
            }
            TrainingEvent::Progress(stage, progress) => {
                let bar = match self.stage.take() {
                    Some((shown, bar)) if shown == stage => bar,
                    _ => TrainingBar::new(name(stage)),
                };
                let (_, bar) = self.stage.insert((stage, bar));
                bar.update(progress);
            }
        }
        if self.stopped.load(Ordering::Relaxed) {
            if let Some((_, bar)) = &self.stage {
                bar.bar.finish_and_clear();
            }
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

fn name(stage: Stage) -> String {
    match stage {
        Stage::Network(design) => design.name().to_owned(),
        Stage::HeldOut { number, of } => format!("strangers {number}/{of}"),
    }
}

/// Shows a bar in a terminal. Prints ten lines if the output is no terminal.
struct TrainingBar {
    bar: ProgressBar,
    name: String,
    tenths: usize,
}

impl TrainingBar {
    fn new(name: String) -> Self {
        let template = "{prefix} {bar:24} {percent:>3} %  {msg}  {eta} left";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let bar = ProgressBar::new(1).with_style(style).with_prefix(name.clone());
        Self { bar, name, tenths: 0 }
    }

    fn update(&mut self, progress: &Progress) {
        let validation = match progress.validation_accuracy {
            Some(accuracy) => format!("{:.1} %", accuracy * 100.0),
            None => "not yet known".to_owned(),
        };
        let message = format!(
            "epoch {}, loss {:.3}, validation {validation}, {:.0} windows/s",
            progress.epoch,
            progress.loss.unwrap_or(f32::NAN),
            progress.samples_per_second
        );
        let tenths = progress.step * 10 / progress.steps;
        if self.bar.is_hidden() && tenths > self.tenths {
            eprintln!("{} {:>3} %  {message}", self.name, tenths * 10);
        }
        self.tenths = tenths;
        self.bar.set_length(progress.steps as u64);
        self.bar.set_position(progress.step as u64);
        self.bar.set_message(message);
        if progress.step == progress.steps {
            self.bar.finish_and_clear();
        }
    }
}

/// A flag that Ctrl-C or SIGTERM sets. A second signal ends the program at once.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping; press Ctrl-C again to stop at once");
    })?;
    Ok(stopped)
}
