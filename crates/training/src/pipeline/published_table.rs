//! Reproduces the published table (arXiv 2103.16609).

use std::ops::ControlFlow;

use bipedalnet_core::bnn::{self, Metadata};
use serde::Serialize;

use super::{Observer, Stage, TrainingError, TrainingEvent};
use crate::data::{Division, Split, SubjectRecording};
use crate::trainer::{Design, Schedule, accuracy, train};

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct TableRow {
    /// Name of the network.
    pub model: &'static str,
    /// Number of weights and other trained values.
    pub parameters: usize,
    /// Size of the model file.
    pub size_bytes: usize,
    /// Share of test windows that are named correctly.
    pub top1: f32,
    /// Share of runs of five consecutive windows that are named correctly.
    pub top1_of_5: f32,
    /// Training time.
    pub train_seconds: f32,
    /// Mean time of one window on one thread.
    pub inference_microseconds: f32,
    /// The published share of windows.
    #[serde(skip)]
    pub published_top1: Option<f32>,
    /// Training windows a second.
    #[serde(skip)]
    pub samples_per_second: f32,
}

/// Trains and measures the networks of the published table. `epochs` replaces each design's own
/// number of passes over the data.
///
/// # Errors
/// If the recordings cannot be divided, nothing is left to test on, or the run is stopped.
pub fn published_table(
    recordings: &[SubjectRecording],
    split: &Split,
    seed: u64,
    epochs: Option<u16>,
    observe: impl FnMut(TrainingEvent<'_>) -> ControlFlow<()>,
) -> Result<Vec<TableRow>, TrainingError> {
    let mut observer = Observer::new(observe);
    let mut rows = Vec::new();
    for design in Design::PUBLISHED {
        let division = Division::new(recordings, design.recipe(), split)?;
        if rows.is_empty() {
            observer.left_out(&division.left_out);
        }
        let mut schedule = design.schedule(seed);
        schedule.epochs = epochs.map_or(schedule.epochs, usize::from);
        rows.push(row(design, division, &schedule, &mut observer)?);
    }
    Ok(rows)
}

fn row<F: FnMut(TrainingEvent<'_>) -> ControlFlow<()>>(
    design: Design,
    division: Division,
    schedule: &Schedule,
    observer: &mut Observer<F>,
) -> Result<TableRow, TrainingError> {
    if division.test.is_empty() {
        return Err(TrainingError::NothingToTest);
    }
    let architecture = design.architecture(division.subjects.len());
    let progress = observer.progress(Stage::Network(design));
    let trained = train(&architecture, &division, schedule, progress)?
        .filter(|trained| trained.epochs == schedule.epochs)
        .ok_or(TrainingError::TableIncomplete)?;
    let measured = accuracy(&architecture, &trained.parameters, &division, &division.test)?;
    let metadata = Metadata {
        name: design.name().to_owned(),
        rate_hz: division.recipe.rate_hz,
        rows: division.recipe.rows.name().to_owned(),
        classes: division.subjects,
        training_data: String::new(),
        seed: schedule.seed,
        metrics: [("test_top1".to_owned(), measured.top1)].into(),
        architecture: architecture.clone(),
    };
    Ok(TableRow {
        model: design.name(),
        parameters: architecture.parameter_count()?,
        size_bytes: bnn::encode(&metadata, &trained.parameters)?.len(),
        top1: measured.top1,
        top1_of_5: measured.top1_of_5,
        train_seconds: trained.elapsed.as_secs_f32(),
        inference_microseconds: measured.inference_microseconds,
        published_top1: design.published_top1(),
        samples_per_second: trained.samples_per_second,
    })
}
