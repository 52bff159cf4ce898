//! Trains a network and calibrates it on subjects that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use bipedalnet_core::bnn::{self, Architecture, Metadata, NetworkError};

use super::held_out::held_out_subjects;
use super::{Observer, Stage, TrainingError, TrainingEvent};
use crate::data::{Augmentation, DataSet, Division, Split, SubjectRecording};
use crate::evaluation::calibrate;
use crate::trainer::{Design, Trained, accuracy};

/// How to train a model.
#[derive(Clone, Debug)]
pub struct TrainModelOptions {
    /// The network.
    pub design: Design,
    /// Decides everything random.
    pub seed: u64,
    /// Passes over the data. If not given, the design chooses.
    pub epochs: Option<u16>,
    /// The recordings that train and those that test.
    pub split: Split,
    /// Subjects to leave out.
    pub leave_out: Option<SubjectPart>,
    /// Folders to leave out, by name.
    pub leave_out_folders: Vec<String>,
}

/// Every `of`th subject in the order of their names, from number `number` on, which counts from 1.
#[derive(Clone, Copy, Debug)]
pub struct SubjectPart {
    number: usize,
    of: usize,
}

impl SubjectPart {
    /// `None` unless there are two parts or more, and `number` is one of them.
    pub fn new(number: usize, of: usize) -> Option<Self> {
        (of >= 2 && (1..=of).contains(&number)).then_some(Self { number, of })
    }

    fn leave_out(self, recordings: &mut Vec<SubjectRecording>) {
        let subjects: BTreeSet<String> =
            recordings.iter().map(|recording| recording.subject.clone()).collect();
        let left_out: BTreeSet<&String> =
            subjects.iter().skip(self.number - 1).step_by(self.of).collect();
        recordings.retain(|recording| !left_out.contains(&recording.subject));
    }
}

/// A trained model.
#[derive(Debug)]
pub struct TrainedModel {
    /// The model file.
    pub file: Vec<u8>,
    /// What the file says about the network. Its metrics have a calibration, unless the run was
    /// stopped or had too few subjects.
    pub metadata: Metadata,
    /// Epochs finished.
    pub epochs: usize,
    /// Training time of the network itself.
    pub elapsed: Duration,
}

/// Trains a network, measures it on the test recordings, and calibrates it on subjects that other
/// networks were not trained on. If it is stopped after the first epoch, the model is the best so
/// far and has no calibration.
///
/// The same recordings, options and seed give the same file, whatever the number of threads.
///
/// # Errors
/// If a folder to leave out does not exist, the recordings cannot be divided, or the run is stopped
/// in the first epoch.
pub fn train_model(
    data: DataSet,
    options: &TrainModelOptions,
    observe: impl FnMut(TrainingEvent<'_>) -> ControlFlow<()>,
) -> Result<TrainedModel, TrainingError> {
    let training_data = describe(&data.folders, options)?;
    let mut recordings = data.recordings;
    recordings.retain(|recording| {
        let folder = recording.folder();
        !options.leave_out_folders.iter().any(|left_out| Some(&left_out[..]) == folder)
    });
    if let Some(part) = options.leave_out {
        part.leave_out(&mut recordings);
    }
    let (design, split) = (options.design, &options.split);
    let mut observer = Observer::new(observe);
    let division = Division::new(&recordings, design.recipe(), split)?;
    observer.left_out(&division.left_out);
    let mut schedule = design.schedule(options.seed);
    schedule.epochs = options.epochs.map_or_else(|| design.epochs(&division), usize::from);
    schedule.augmentation = Augmentation::SERVED;
    let (architecture, trained) = design
        .train(&division, &schedule, observer.progress(Stage::Network(design)))?
        .ok_or(TrainingError::StoppedInFirstEpoch)?;

    let mut metrics = BTreeMap::from([("validation_top1".to_owned(), trained.validation_accuracy)]);
    if !division.test.is_empty() {
        metrics.extend(measure(&architecture, &trained, &division)?);
        if design.recipe().rows.read_gyroscope() {
            let division = Division::new(&without_gyroscope(&recordings), design.recipe(), split)?;
            let measured = accuracy(&architecture, &trained.parameters, &division, &division.test)?;
            metrics.insert("test_top1_without_gyroscope".to_owned(), measured.top1);
        }
    }
    recordings.retain(|recording| split.trains_on(recording));
    let strangers = if observer.stopped {
        Vec::new()
    } else {
        held_out_subjects(design, &recordings, &schedule, &mut observer)?
    };
    if let Some(fit) = calibrate(&strangers) {
        metrics.extend(fit.calibration.to_metrics());
        metrics.insert("strangers_eer".to_owned(), fit.eer);
        metrics.insert("strangers_people".to_owned(), fit.people as f32);
    }
    let metadata = Metadata {
        name: design.name().to_owned(),
        rate_hz: division.recipe.rate_hz,
        rows: division.recipe.rows.name().to_owned(),
        classes: division.subjects,
        training_data,
        seed: options.seed,
        metrics,
        architecture,
    };
    let file = bnn::encode(&metadata, &trained.parameters)?;
    Ok(TrainedModel { file, metadata, epochs: trained.epochs, elapsed: trained.elapsed })
}

/// Describes the folders, sessions and subjects of the training, for the model file.
fn describe(folders: &[String], options: &TrainModelOptions) -> Result<String, TrainingError> {
    let left_out = &options.leave_out_folders;
    if let Some(unknown) = left_out.iter().find(|folder| !folders.contains(folder)) {
        return Err(TrainingError::UnknownFolder(unknown.clone()));
    }
    let trained: Vec<&str> =
        folders.iter().filter(|folder| !left_out.contains(folder)).map(|it| &it[..]).collect();
    if trained.is_empty() {
        return Err(TrainingError::NoFolder);
    }
    let mut text = trained.join(", ");
    if let Split::Sessions { train, .. } = &options.split {
        text += &format!("; sessions {}", train.join(", "));
    }
    if let Some(SubjectPart { number, of }) = options.leave_out {
        text += &format!("; without people {number}/{of}");
    }
    if !left_out.is_empty() {
        text += &format!("; without {}", left_out.join(", "));
    }
    Ok(text)
}

fn measure(
    architecture: &Architecture,
    trained: &Trained,
    division: &Division,
) -> Result<[(String, f32); 2], NetworkError> {
    let measured = accuracy(architecture, &trained.parameters, division, &division.test)?;
    Ok([("test_top1".to_owned(), measured.top1), ("test_top1_of_5".to_owned(), measured.top1_of_5)])
}

fn without_gyroscope(recordings: &[SubjectRecording]) -> Vec<SubjectRecording> {
    let without = |it: &SubjectRecording| SubjectRecording {
        recording: it.recording.clone().without_angular_rate(),
        ..it.clone()
    };
    recordings.iter().map(without).collect()
}
