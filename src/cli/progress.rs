//! What a running training shows.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;
use bipedalnet_training::Progress;

/// A bar in a terminal, ten lines elsewhere.
pub struct TrainingBar {
    bar: ProgressBar,
    name: String,
    tenths: usize,
    stopped: Arc<AtomicBool>,
}

impl TrainingBar {
    /// A bar that ends the training once `stopped` is set.
    pub fn new(name: String, stopped: &Arc<AtomicBool>) -> Self {
        let template = "{prefix} {bar:24} {percent:>3} %  {msg}  {eta} left";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let bar = ProgressBar::new(1).with_style(style).with_prefix(name.clone());
        Self { bar, name, tenths: 0, stopped: Arc::clone(stopped) }
    }

    /// Shows a state; tells whether to go on.
    pub fn update(&mut self, progress: &Progress) -> ControlFlow<()> {
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
        if self.stopped.load(Ordering::Relaxed) {
            self.bar.finish_and_clear();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// A flag that Ctrl-C or SIGTERM sets; a second one ends the program at once.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping; once more to stop at once");
    })?;
    Ok(stopped)
}
