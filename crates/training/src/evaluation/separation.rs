//! How well any network's features tell strangers apart, without a model file and its thresholds.

use bipedalnet_core::gait::Recording;

use super::calibration::{HeldOutSubjects, largest, without_thresholds};
use super::crew::{TestCrew, Windows};
use super::error_rates::Figure;
use super::open_set::measure;
use super::protocol::Protocol;
use crate::data::SubjectRecording;

/// How well pieces of ten seconds are told apart, by the sessions that were enrolled and probed.
#[derive(Clone, Debug)]
pub struct Separation {
    /// The sessions.
    pub protocol: Protocol,
    /// People enrolled.
    pub people: usize,
    /// Equal error rate.
    pub eer: Figure,
    /// False non-match rate at the strength that 1 % of the impostors reach.
    pub fnmr_at_fmr_1_percent: Figure,
}

/// Enrolls and probes the people of one data set as [`evaluate`](super::evaluate) does. `read` gives the
/// features of a recording's windows, or `None` if it has no walking.
///
/// Similarities are scaled by these people themselves, so networks need no calibration to be compared.
/// The result is empty if too few people have enough walking.
pub fn separation(
    recordings: &[SubjectRecording],
    read: impl Fn(&Recording) -> Windows + Sync,
    seed: u64,
) -> Vec<Separation> {
    let Some(subjects) = HeldOutSubjects::read(recordings, read) else { return Vec::new() };
    let mut calibration = without_thresholds(std::slice::from_ref(&subjects));
    let mut crews: Vec<&TestCrew> = subjects.same_session().collect();
    if crews.is_empty() {
        crews = subjects.crews.iter().map(|(_, crew)| crew).collect();
    }
    let spread =
        |crew: &TestCrew| crew.gallery(&calibration, None).cohort().similarity_of_strangers();
    let Some((similarity, deviation)) = crews.into_iter().filter_map(spread).reduce(largest) else {
        return Vec::new();
    };
    (calibration.impostor_mean, calibration.impostor_deviation) =
        (similarity.clamp(-1.0, 1.0), deviation.clamp(0.02, 1.0));
    let measured = |(protocol, crew): &(Protocol, TestCrew)| {
        let rates = measure(crew, &calibration, seed)?;
        Some(Separation {
            protocol: protocol.clone(),
            people: rates.people,
            eer: rates.eer,
            fnmr_at_fmr_1_percent: rates.fnmr_at_fmr_1_percent,
        })
    };
    subjects.crews.iter().filter_map(measured).collect()
}
