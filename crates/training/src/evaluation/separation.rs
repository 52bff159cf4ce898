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

#[cfg(test)]
mod tests {
    use super::*;

    /// Five people, each with two sessions and an acceleration of their own.
    fn people(seconds: usize) -> Vec<SubjectRecording> {
        let walk = |person: usize, session: &str| {
            let times = (0..seconds * 50).map(|sample| sample as f64 / 50.0).collect();
            let acceleration = vec![[person as f32, 0.0, 9.8]; seconds * 50];
            SubjectRecording {
                subject: person.to_string(),
                session: session.to_owned(),
                recording: Recording::new(times, acceleration, None).unwrap(),
            }
        };
        (0..5).flat_map(|person| ["1", "2"].map(|session| walk(person, session))).collect()
    }

    fn read(recording: &Recording) -> Windows {
        let person = recording.acceleration_m_s2()[0][0] as usize;
        let mut feature = vec![0.0; 5];
        feature[person] = 1.0;
        Some(vec![feature; recording.duration_seconds() as usize - 1])
    }

    #[test]
    fn people_whose_features_differ_are_told_apart() {
        let pairs = |seconds| {
            let found = separation(&people(seconds), read, 1);
            assert!(found.iter().all(|it| it.people == 5 && it.eer.value == 0.0), "{found:?}");
            found.into_iter().map(|it| it.protocol.is_same_session()).collect::<Vec<_>>()
        };
        assert_eq!(pairs(80), [true, true, false, false]);
        // What is enrolled takes the whole session.
        assert_eq!(pairs(45), [false, false]);
    }

    #[test]
    fn people_without_walking_are_not_measured() {
        assert!(separation(&people(80), |_| None, 1).is_empty());
    }
}
