//! Closed-set identification: naming people whom the model was trained on.

use bipedalnet_core::GaitModel;
use bipedalnet_core::bnn::Output;
use bipedalnet_core::gait::Recording;
use rayon::prelude::*;
use serde::Serialize;

use super::calibration;
use super::error_rates::{Figure, bootstrap};
use super::subjects::{Subject, TrainedSubjects};
use crate::data::SubjectRecording;
use crate::trainer::{CONSECUTIVE, NearestSubject, named};

/// How well a model names the people whom it was trained on, on some of their sessions. A window is
/// named by its largest output. A model without classes names the person with the nearest other
/// sessions.
#[derive(Clone, Debug, Serialize)]
pub struct ClosedSet {
    /// People measured.
    pub people: usize,
    /// Windows of walking, half a window apart.
    pub windows: usize,
    /// Share of windows named correctly.
    pub top1: Figure,
    /// Share of runs of five consecutive windows that are named correctly by their summed outputs.
    pub top1_of_5: Figure,
}

/// Right runs and all runs, of single windows and of five.
type Counts = [[usize; 2]; 2];

/// `None` if the model knows nobody with windows in these sessions.
pub fn closed_set(
    model: &GaitModel,
    people: &[Subject],
    sessions: &[String],
    seed: u64,
) -> Option<ClosedSet> {
    let known = TrainedSubjects::of(&model.file.metadata);
    let metadata = &model.file.metadata;
    let nearest = (metadata.architecture.classes() == 0).then(|| {
        let mut features = vec![Vec::new(); metadata.classes.len()];
        let of_people = people.par_iter().filter_map(|person| {
            let others = |walk: &&&SubjectRecording| !sessions.contains(&walk.session);
            let walks = person.walks.iter().filter(others);
            let windows = walks
                .flat_map(|walk| outputs(model, &walk.recording, |output| output.feature.to_vec()));
            Some((known.class(person)?, windows.collect()))
        });
        for (class, windows) in of_people.collect::<Vec<(usize, Vec<Vec<f32>>)>>() {
            features[class] = windows;
        }
        NearestSubject::new(&features)
    });
    let counts: Vec<Counts> = people
        .par_iter()
        .filter_map(|person| {
            Some(count(model, nearest.as_ref(), person, known.class(person)?, sessions))
        })
        .filter(|[_, [_, all]]| *all > 0)
        .collect();
    let [top1, top1_of_5] = bootstrap(counts.len(), seed, |times| {
        let share = |of: usize| {
            let sum = |part: usize| -> usize {
                counts.iter().zip(times).map(|(counts, times)| times * counts[of][part]).sum()
            };
            sum(0) as f32 / sum(1) as f32
        };
        (!counts.is_empty()).then(|| [share(0), share(1)])
    })?;
    let windows = counts.iter().map(|[[_, all], _]| all).sum();
    Some(ClosedSet { people: counts.len(), windows, top1, top1_of_5 })
}

fn count(
    model: &GaitModel,
    nearest: Option<&NearestSubject>,
    person: &Subject,
    class: usize,
    sessions: &[String],
) -> Counts {
    let mut counts = [[0; 2]; 2];
    for walk in person.walks.iter().filter(|walk| sessions.contains(&walk.session)) {
        let outputs = outputs(model, &walk.recording, |output| match nearest {
            Some(nearest) => nearest.cosines(output.feature),
            None => output.logits.to_vec(),
        });
        for ([right, all], consecutive) in counts.iter_mut().zip([1, CONSECUTIVE]) {
            let [of_walk, runs] = named(&outputs, class, consecutive);
            *right += of_walk;
            *all += runs;
        }
    }
    counts
}

/// The output for each window of walking, as `take` keeps it.
fn outputs<T>(
    GaitModel { file, recipe, .. }: &GaitModel,
    recording: &Recording,
    take: impl FnMut(Output<'_>) -> T,
) -> Vec<T> {
    calibration::outputs(&file.network, *recipe, recording, take).unwrap_or_default()
}
