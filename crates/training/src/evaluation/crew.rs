//! The test crew: subjects who are enrolled together and probed with their other recordings.

use std::collections::BTreeMap;

use bipedalnet_core::gait::Recording;
use bipedalnet_core::identity::{Calibration, Candidate, Gallery, Template, UserId};
use rayon::prelude::*;

use super::protocol::{FEWEST_PEOPLE, Protocol, SESSION_PIECES};
use crate::data::SubjectRecording;

/// Most probe sessions of one person.
const MOST_SESSIONS: usize = 12;

/// The features of a recording's windows. `None` if it has no walking.
pub type Windows = Option<Vec<Vec<f32>>>;

/// People of one data set who are tested by one protocol.
pub struct TestCrew {
    people: Vec<Participant>,
}

struct Participant {
    user: UserId,
    enrolled: Vec<Template>,
    sessions: Vec<Vec<Vec<Vec<f32>>>>,
}

/// Strengths of one probe against all templates.
pub struct ProbeScores {
    pub probe: Template,
    /// Strength against the owner's templates.
    pub genuine: f32,
    /// Strengths against the other users, with the owner in the gallery.
    pub impostors_beside_owner: Vec<f32>,
    /// Strengths against the other users, with the owner not in the gallery. All probes have the
    /// same order.
    pub impostors: Vec<f32>,
}

/// Scores of one person's probes.
pub struct SubjectScores {
    /// Each piece by itself.
    pub pieces: Vec<ProbeScores>,
    /// Each session as it grows.
    pub sessions: Vec<Vec<ProbeScores>>,
}

/// When a growing session is scored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SessionSteps {
    EachPiece,
    EachWindow,
}

impl TestCrew {
    /// Reads enrolled recordings with one function and probes with another. `None` if fewer than
    /// [`FEWEST_PEOPLE`] become ready and have a probe.
    pub fn new(
        walks: &[&SubjectRecording],
        protocol: &Protocol,
        enroll: impl Fn(&Recording) -> Windows + Sync,
        probe: impl Fn(&Recording) -> Windows + Sync,
    ) -> Option<Self> {
        let mut people: BTreeMap<&str, Vec<&SubjectRecording>> = BTreeMap::new();
        for walk in walks {
            people.entry(&walk.subject).or_default().push(walk);
        }
        let people: Vec<Vec<&SubjectRecording>> = people.into_values().collect();
        let participant = |(number, walks): (usize, &Vec<&SubjectRecording>)| {
            let user = format!("user{number}").parse().expect("letters and digits");
            let (enrolled, probes) = divide(walks, protocol, &enroll)?;
            let pieces: Vec<Vec<Vec<f32>>> = probes.iter().filter_map(&probe).collect();
            let sessions: Vec<_> =
                pieces.chunks(SESSION_PIECES).take(MOST_SESSIONS).map(<[_]>::to_vec).collect();
            (!sessions.is_empty()).then_some(Participant { user, enrolled, sessions })
        };
        let people: Vec<Participant> =
            people.par_iter().enumerate().filter_map(participant).collect();
        (people.len() >= FEWEST_PEOPLE).then_some(Self { people })
    }

    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// A template of each probe piece.
    pub fn probe_templates(&self) -> impl Iterator<Item = Template> + '_ {
        let sessions = self.people.iter().flat_map(|person| &person.sessions);
        sessions.flatten().map(|piece| sum_of(piece))
    }

    /// The gallery of all people, or of all but one.
    pub fn gallery(&self, calibration: &Calibration, without: Option<usize>) -> Gallery {
        let feature_len = self.people[0].enrolled[0].values().len();
        let mut gallery = Gallery::new(feature_len, calibration.clone());
        for (number, person) in self.people.iter().enumerate() {
            if Some(number) != without {
                person.enrolled.iter().for_each(|walk| gallery.add(&person.user, walk));
            }
        }
        gallery
    }

    /// Compares all probes with all people.
    pub fn score(&self, calibration: &Calibration, steps: SessionSteps) -> Vec<SubjectScores> {
        let everybody = self.gallery(calibration, None);
        let scores = |number: usize| {
            let person = &self.people[number];
            let without_owner = self.gallery(calibration, Some(number));
            let compare = |probe: Template| {
                let ranked = |gallery: &Gallery| gallery.rank(&probe, None, self.people.len());
                let (own, others): (Vec<_>, Vec<_>) =
                    ranked(&everybody).into_iter().partition(|it| it.user == person.user);
                let strengths = |mut candidates: Vec<Candidate>| {
                    candidates.sort_by(|a, b| a.user.cmp(&b.user));
                    candidates.into_iter().map(|candidate| candidate.strength).collect()
                };
                ProbeScores {
                    genuine: own.first().map_or(f32::MIN, |candidate| candidate.strength),
                    impostors_beside_owner: strengths(others),
                    impostors: strengths(ranked(&without_owner)),
                    probe,
                }
            };
            let pieces = person.sessions.iter().flatten();
            let pieces = pieces.map(|piece| compare(sum_of(piece))).collect();
            let grown = |session: &Vec<Vec<Vec<f32>>>| {
                let mut probe = Template::empty(everybody.feature_len());
                let mut scores = Vec::new();
                for piece in session {
                    for (position, window) in piece.iter().enumerate() {
                        probe.add_window(window);
                        if steps == SessionSteps::EachWindow || position + 1 == piece.len() {
                            scores.push(compare(probe.clone()));
                        }
                    }
                }
                scores
            };
            let sessions = person.sessions.iter().map(grown).collect();
            SubjectScores { pieces, sessions }
        };
        (0..self.people.len()).into_par_iter().map(scores).collect()
    }
}

fn sum_of(windows: &[Vec<f32>]) -> Template {
    let mut sum = Template::empty(windows.first().map_or(0, Vec::len));
    windows.iter().for_each(|window| sum.add_window(window));
    sum
}

/// A person's enrolled templates and probe recordings. `None` if there is too little of either.
fn divide(
    walks: &[&SubjectRecording],
    protocol: &Protocol,
    enroll: impl Fn(&Recording) -> Windows,
) -> Option<(Vec<Template>, Vec<Recording>)> {
    let (mut enrolled, mut windows, mut last) = (Vec::new(), 0, None);
    for piece in protocol.to_enroll(walks) {
        let Some(read) = enroll(&piece.recording) else { continue };
        windows += read.len() as u64;
        enrolled.push(sum_of(&read).rounded());
        last = Some(piece);
        if windows >= Protocol::ENROLLED_WINDOWS {
            break;
        }
    }
    if windows < Protocol::ENROLLED_WINDOWS {
        return None;
    }
    Some((enrolled, protocol.probes(walks, &last?)))
}

#[cfg(test)]
mod tests {
    use bipedalnet_core::gait::simulator::{Conditions, Walker};

    use super::*;

    fn walk(subject: &str, session: &str, seconds: f64) -> SubjectRecording {
        let recording = Walker::new(1).walk(1, &Conditions { seconds, ..Conditions::default() });
        SubjectRecording { subject: subject.to_owned(), session: session.to_owned(), recording }
    }

    fn one_window_a_second(recording: &Recording) -> Windows {
        let seconds = recording.duration_seconds();
        Some(vec![vec![seconds as f32, 1.0]; seconds.round() as usize - 1])
    }

    #[test]
    fn thirty_seconds_are_enrolled_and_the_rest_probes() {
        let divided = |walks: &[SubjectRecording], enroll: &str, probe: &str| {
            let walks: Vec<&SubjectRecording> = walks.iter().collect();
            let protocol = Protocol { enroll: enroll.to_owned(), probe: probe.to_owned() };
            let (enrolled, probes) = divide(&walks, &protocol, one_window_a_second)?;
            let seconds = probes.iter().map(|it| it.duration_seconds().round()).collect::<Vec<_>>();
            Some((enrolled.iter().map(Template::windows).collect::<Vec<_>>(), seconds))
        };
        let one = [walk("ann", "1", 75.0)];
        assert_eq!(divided(&one, "1", "1"), Some((vec![9, 9, 9, 9], vec![10.0, 10.0, 5.0])));
        assert_eq!(divided(&[walk("ann", "1", 25.0)], "1", "1"), None);
        let two = [walk("ann", "1", 40.0), walk("ann", "2", 16.0), walk("ann", "2", 13.0)];
        assert_eq!(divided(&two, "1", "2"), Some((vec![9, 9, 9, 9], vec![10.0, 6.0, 10.0])));
    }

    #[test]
    fn people_who_are_not_ready_do_not_take_part() {
        let mut walks: Vec<SubjectRecording> =
            ["ann", "bob", "cem"].map(|subject| walk(subject, "1", 80.0)).into();
        walks.push(walk("dan", "1", 20.0));
        let trial = |walks: &[SubjectRecording]| {
            let walks: Vec<&SubjectRecording> = walks.iter().collect();
            let protocol = Protocol { enroll: "1".to_owned(), probe: "1".to_owned() };
            TestCrew::new(&walks, &protocol, one_window_a_second, one_window_a_second)
        };
        let trial_of_three = trial(&walks).unwrap();
        assert_eq!(trial_of_three.people.len(), 3);
        assert!(trial(&walks[1..]).is_none());
    }
}
