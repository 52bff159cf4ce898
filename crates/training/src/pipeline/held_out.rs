//! Subjects that are held out of a network's training, so that it can be calibrated on strangers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bipedalnet_core::bnn;

use super::{Observer, Stage, TrainingError, TrainingEvent};
use crate::data::{Division, Split, SubjectRecording};
use crate::evaluation::HeldOutSubjects;
use crate::trainer::{Design, Schedule};

/// Parts into which the subjects of one folder are divided, each held out once.
const PARTS: usize = 3;

/// Subjects that a folder needs before they are held out.
pub const FEWEST_SUBJECTS_TO_CALIBRATE: usize = 3 * PARTS;

/// Trains networks that each lack some subjects, in half the epochs. Each then reads the recordings
/// of the subjects that it lacks.
///
/// If several folders have enough subjects, each network lacks one folder. The calibration then
/// holds for phones and places that are not in the training data. Otherwise each lacks a third of the
/// subjects. The result is empty if there are too few subjects, or if the run was stopped.
pub fn held_out_subjects<F: FnMut(TrainingEvent<'_>) -> ControlFlow<()>>(
    design: Design,
    recordings: &[SubjectRecording],
    schedule: &Schedule,
    observer: &mut Observer<F>,
) -> Result<Vec<HeldOutSubjects>, TrainingError> {
    let schedule = Schedule { epochs: schedule.epochs.div_ceil(2), ..schedule.clone() };
    let Folds { held_out, of_one_folder } = Folds::new(recordings);
    let mut found: Vec<HeldOutSubjects> = Vec::new();
    for (position, subjects) in held_out.iter().enumerate() {
        let (strangers, others): (Vec<SubjectRecording>, Vec<SubjectRecording>) =
            recordings.iter().cloned().partition(|recording| subjects.contains(&recording.subject));
        let division = Division::new(&others, design.recipe(), &Split::Tail { fraction: 0.0 })?;
        let stage = Stage::HeldOut { number: position + 1, of: held_out.len() };
        let trained = design.train(&division, &schedule, observer.progress(stage))?;
        let Some((architecture, trained)) = trained.filter(|_| !observer.stopped) else {
            return Ok(Vec::new());
        };
        let network = bnn::Network::new(&architecture, &trained.parameters)?;
        let strangers = HeldOutSubjects::new(&network, division.recipe, &strangers);
        match (found.first_mut(), strangers) {
            (Some(first), Some(strangers)) if of_one_folder => first.join(strangers),
            (_, strangers) => found.extend(strangers),
        }
    }
    Ok(found)
}

struct Folds {
    /// For each network, the subjects that it lacks.
    held_out: Vec<BTreeSet<String>>,
    of_one_folder: bool,
}

impl Folds {
    fn new(recordings: &[SubjectRecording]) -> Self {
        let mut folders: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for recording in recordings {
            let folder = recording.folder().unwrap_or_default();
            folders.entry(folder).or_default().insert(recording.subject.clone());
        }
        let is_large =
            |subjects: &&BTreeSet<String>| subjects.len() >= FEWEST_SUBJECTS_TO_CALIBRATE;
        let large: Vec<_> = folders.values().filter(is_large).cloned().collect();
        if large.len() > 1 {
            return Self { held_out: large, of_one_folder: false };
        }
        let subjects: BTreeSet<String> = folders.into_values().flatten().collect();
        let part = |part| subjects.iter().skip(part).step_by(PARTS).cloned().collect();
        let parts = if is_large(&&subjects) { PARTS } else { 0 };
        Self { held_out: (0..parts).map(part).collect(), of_one_folder: true }
    }
}

#[cfg(test)]
mod tests {
    use bipedalnet_core::gait::Recording;

    use super::*;

    fn recordings(folder: &str, subjects: usize) -> Vec<SubjectRecording> {
        let recording =
            Recording::new(vec![0.0, 1.0, 2.0], vec![[0.0, 0.0, 9.8]; 3], None).unwrap();
        let recording = |subject| SubjectRecording {
            subject: format!("{folder}/{subject}"),
            session: "1".to_owned(),
            recording: recording.clone(),
        };
        (0..subjects).map(recording).collect()
    }

    fn sizes(recordings: &[SubjectRecording]) -> (Vec<usize>, bool) {
        let Folds { held_out, of_one_folder } = Folds::new(recordings);
        (held_out.iter().map(BTreeSet::len).collect(), of_one_folder)
    }

    #[test]
    fn folders_are_held_out_if_two_are_large() {
        assert_eq!(sizes(&recordings("a", 8)), (vec![], true));
        assert_eq!(sizes(&recordings("a", 10)), (vec![4, 3, 3], true));
        let small = [recordings("a", 10), recordings("b", 8)].concat();
        assert_eq!(sizes(&small), (vec![6, 6, 6], true));
        let large = [recordings("a", 10), recordings("b", 9), recordings("c", 2)].concat();
        assert_eq!(sizes(&large), (vec![10, 9], false));
    }
}
