//! People enrolled together and probed with other walks of theirs, as clients of the API do it.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::{Walk, natural_order};
use bipedalnet_core::gait::Recording;
use bipedalnet_core::identity::{Calibration, Candidate, Gallery, READY_WINDOWS, Template, UserId};

/// Length of the pieces in which walks are sent.
const PIECE_SECONDS: f64 = 10.0;

/// Shorter pieces are not sent.
const LEAST_PIECE_SECONDS: f64 = 4.0;

/// Time between the last enrolled piece and the first probe of the same session.
const PAUSE_SECONDS: f64 = 5.0;

/// Pieces of one session: thirty seconds.
pub const SESSION_PIECES: usize = 3;

/// Sessions of one person at most.
const MOST_SESSIONS: usize = 12;

/// Fewer people say nothing.
pub const FEWEST_PEOPLE: usize = 3;

/// Which session enrolls and which probes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol {
    /// The first thirty seconds of walking in this session are enrolled.
    pub enroll: String,
    /// Walks of this session probe; if it is the same, those that come later.
    pub probe: String,
}

impl Protocol {
    /// Windows of walking that are enrolled at least.
    pub const ENROLLED_WINDOWS: u64 = READY_WINDOWS;

    /// Whether probes come from the session that was enrolled, which is easier.
    pub fn is_same_session(&self) -> bool {
        self.enroll == self.probe
    }

    /// Pieces of one person to enroll, in order, until there are enough.
    pub fn to_enroll(&self, walks: &[&Walk]) -> impl Iterator<Item = Piece> {
        pieces_of(walks, &self.enroll)
    }

    /// Recordings of one person to probe with, given the last piece that was enrolled.
    pub fn probes(&self, walks: &[&Walk], last_enrolled: &Piece) -> Vec<Recording> {
        pieces_of(walks, &self.probe)
            .filter(|piece| !self.is_same_session() || piece.is_later_than(last_enrolled))
            .map(|piece| piece.recording)
            .collect()
    }
}

/// At most ten seconds of a walk, as clients send them.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The samples.
    pub recording: Recording,
    /// Number of the walk in its session.
    walk: usize,
    start_seconds: f64,
}

impl Piece {
    /// Whether it was walked after another piece of its session, with a pause between.
    fn is_later_than(&self, other: &Self) -> bool {
        let end_seconds = other.start_seconds + other.recording.duration_seconds();
        self.walk > other.walk
            || (self.walk == other.walk && self.start_seconds >= end_seconds + PAUSE_SECONDS)
    }
}

/// Pieces of a session, in order.
fn pieces_of(walks: &[&Walk], session: &str) -> impl Iterator<Item = Piece> {
    let walks = walks.iter().filter(move |walk| walk.session == session);
    walks.enumerate().flat_map(|(number, walk)| pieces(number, &walk.recording))
}

/// Pieces of walk `walk` of its session.
fn pieces(walk: usize, recording: &Recording) -> impl Iterator<Item = Piece> {
    let starts = (0..).map(|index| f64::from(index) * PIECE_SECONDS);
    let starts =
        starts.take_while(|start| start + LEAST_PIECE_SECONDS <= recording.duration_seconds());
    let piece = move |start_seconds| {
        let recording = recording.part(start_seconds, PIECE_SECONDS)?;
        Some(Piece { recording, walk, start_seconds })
    };
    starts
        .filter_map(piece)
        .filter(|piece| piece.recording.duration_seconds() >= LEAST_PIECE_SECONDS)
}

/// Every pair of sessions that several people have, those of one session first.
pub(super) fn protocols(walks: &[&Walk]) -> Vec<Protocol> {
    let mut people: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for walk in walks {
        people.entry(&walk.session).or_default().insert(&walk.subject);
    }
    let mut sessions: Vec<&str> = people.keys().copied().collect();
    sessions.sort_by_key(|session| natural_order(session));
    let pairs = sessions.iter().flat_map(|a| sessions.iter().map(move |b| (*a, *b)));
    let shared =
        |(a, b): &(&str, &str)| people[a].intersection(&people[b]).count() >= FEWEST_PEOPLE;
    let mut protocols: Vec<Protocol> = pairs
        .filter(shared)
        .map(|(enroll, probe)| Protocol { enroll: enroll.to_owned(), probe: probe.to_owned() })
        .collect();
    protocols.sort_by_key(|protocol| !protocol.is_same_session());
    protocols
}

/// The features of a recording's windows; `None` if it is no walk.
pub(super) type Windows = Option<Vec<Vec<f32>>>;

/// People of one data set.
pub(super) struct Trial {
    people: Vec<Participant>,
}

struct Participant {
    user: UserId,
    enrolled: Vec<Template>,
    sessions: Vec<Vec<Vec<Vec<f32>>>>,
}

/// A probe compared with everybody.
pub(super) struct Look {
    pub probe: Template,
    /// Strength at the owner's templates.
    pub own: f32,
    /// Strengths at the other users, the owner enrolled.
    pub rivals: Vec<f32>,
    /// Strengths at the other users as if the owner had never enrolled, in one order for all looks.
    pub strangers: Vec<f32>,
}

/// Looks at walks of one person.
pub(super) struct Looks {
    /// Pieces, each by itself.
    pub pieces: Vec<Look>,
    /// Sessions as they grow.
    pub sessions: Vec<Vec<Look>>,
}

/// When a session is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LookAt {
    EachPiece,
    EachWindow,
}

impl Trial {
    /// Reads enrolled walks with one function and probes with another. `None` if fewer than
    /// [`FEWEST_PEOPLE`] become ready and have a probe.
    pub fn new(
        walks: &[&Walk],
        protocol: &Protocol,
        enroll: impl Fn(&Recording) -> Windows + Sync,
        probe: impl Fn(&Recording) -> Windows + Sync,
    ) -> Option<Self> {
        let mut people: BTreeMap<&str, Vec<&Walk>> = BTreeMap::new();
        for walk in walks {
            people.entry(&walk.subject).or_default().push(walk);
        }
        let people: Vec<Vec<&Walk>> = people.into_values().collect();
        let participant = |(number, walks): (usize, &Vec<&Walk>)| {
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

    /// People who take part.
    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// All probe pieces.
    pub fn probe_templates(&self) -> impl Iterator<Item = Template> + '_ {
        let sessions = self.people.iter().flat_map(|person| &person.sessions);
        sessions.flatten().map(|piece| sum_of(piece))
    }

    /// All people enrolled, but one if given.
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
    pub fn look(&self, calibration: &Calibration, at: LookAt) -> Vec<Looks> {
        let everybody = self.gallery(calibration, None);
        let looks = |number: usize| {
            let person = &self.people[number];
            let others = self.gallery(calibration, Some(number));
            let look = |probe: Template| {
                let ranked = |gallery: &Gallery| gallery.rank(&probe, None, self.people.len());
                let (own, rivals): (Vec<_>, Vec<_>) =
                    ranked(&everybody).into_iter().partition(|it| it.user == person.user);
                let strengths = |mut candidates: Vec<Candidate>| {
                    candidates.sort_by(|a, b| a.user.cmp(&b.user));
                    candidates.into_iter().map(|candidate| candidate.strength).collect()
                };
                Look {
                    own: own.first().map_or(f32::MIN, |candidate| candidate.strength),
                    rivals: strengths(rivals),
                    strangers: strengths(ranked(&others)),
                    probe,
                }
            };
            let pieces = person.sessions.iter().flatten();
            let pieces = pieces.map(|piece| look(sum_of(piece))).collect();
            let grown = |session: &Vec<Vec<Vec<f32>>>| {
                let mut probe = Template::empty(everybody.feature_len());
                let mut looks = Vec::new();
                for piece in session {
                    for (position, window) in piece.iter().enumerate() {
                        probe.add_window(window);
                        if at == LookAt::EachWindow || position + 1 == piece.len() {
                            looks.push(look(probe.clone()));
                        }
                    }
                }
                looks
            };
            let sessions = person.sessions.iter().map(grown).collect();
            Looks { pieces, sessions }
        };
        (0..self.people.len()).into_par_iter().map(looks).collect()
    }
}

fn sum_of(windows: &[Vec<f32>]) -> Template {
    let mut sum = Template::empty(windows.first().map_or(0, Vec::len));
    windows.iter().for_each(|window| sum.add_window(window));
    sum
}

/// A person's enrolled pieces and later recordings. `None` if there is too little of either.
fn divide(
    walks: &[&Walk],
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
    use super::*;
    use bipedalnet_core::gait::simulator::{Conditions, Walker};

    fn walk(subject: &str, session: &str, seconds: f64) -> Walk {
        let recording = Walker::new(1).walk(1, &Conditions { seconds, ..Conditions::default() });
        Walk { subject: subject.to_owned(), session: session.to_owned(), recording }
    }

    fn one_window_a_second(recording: &Recording) -> Windows {
        let seconds = recording.duration_seconds();
        Some(vec![vec![seconds as f32, 1.0]; seconds.round() as usize - 1])
    }

    #[test]
    fn sessions_that_several_have_are_paired() {
        let walks: Vec<Walk> = ["ann", "bob", "cem"]
            .iter()
            .flat_map(|subject| ["wlk_8", "wlk_15"].map(|session| walk(subject, session, 5.0)))
            .chain([walk("ann", "other", 5.0)])
            .collect();
        let pairs: Vec<(String, String)> = protocols(&walks.iter().collect::<Vec<_>>())
            .into_iter()
            .map(|it| (it.enroll, it.probe))
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected = [
            pair("wlk_8", "wlk_8"),
            pair("wlk_15", "wlk_15"),
            pair("wlk_8", "wlk_15"),
            pair("wlk_15", "wlk_8"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn thirty_seconds_are_enrolled_and_the_rest_probes() {
        let divided = |walks: &[Walk], enroll: &str, probe: &str| {
            let walks: Vec<&Walk> = walks.iter().collect();
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
        let mut walks: Vec<Walk> =
            ["ann", "bob", "cem"].map(|subject| walk(subject, "1", 80.0)).into();
        walks.push(walk("dan", "1", 20.0));
        let trial = |walks: &[Walk]| {
            let walks: Vec<&Walk> = walks.iter().collect();
            let protocol = Protocol { enroll: "1".to_owned(), probe: "1".to_owned() };
            Trial::new(&walks, &protocol, one_window_a_second, one_window_a_second)
        };
        let trial_of_three = trial(&walks).unwrap();
        assert_eq!(trial_of_three.people.len(), 3);
        assert!(trial(&walks[1..]).is_none());
    }
}
