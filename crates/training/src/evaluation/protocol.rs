//! Protocols: which recordings are enrolled and which are probes, as clients of the API send them.

use std::collections::{BTreeMap, BTreeSet};

use bipedalnet_core::gait::Recording;
use bipedalnet_core::identity::READY_WINDOWS;

use crate::data::{SubjectRecording, natural_order};

/// Length of the pieces in which recordings are sent.
const PIECE_SECONDS: f64 = 10.0;

/// Shortest piece that is sent.
const LEAST_PIECE_SECONDS: f64 = 4.0;

/// Time between the last enrolled piece and the first probe of the same session.
const PAUSE_SECONDS: f64 = 5.0;

/// Pieces of a probe session, thirty seconds in all.
pub const SESSION_PIECES: usize = 3;

/// People that a protocol needs.
pub const FEWEST_PEOPLE: usize = 3;

/// The session to enroll and the session to probe with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol {
    /// Session with the enrolled recordings: its first thirty seconds of walking.
    pub enroll: String,
    /// Session with the probes. If it is the enrolled session, only later recordings are probes.
    pub probe: String,
}

impl Protocol {
    /// Fewest windows of walking to enroll.
    pub const ENROLLED_WINDOWS: u64 = READY_WINDOWS;

    /// Whether probes come from the enrolled session, which is easier.
    pub fn is_same_session(&self) -> bool {
        self.enroll == self.probe
    }

    /// One person's pieces to enroll, in order. The caller stops once there are enough windows.
    pub fn to_enroll(&self, walks: &[&SubjectRecording]) -> impl Iterator<Item = Piece> {
        pieces_of(walks, &self.enroll)
    }

    /// One person's probes, given the last piece that was enrolled.
    pub fn probes(&self, walks: &[&SubjectRecording], last_enrolled: &Piece) -> Vec<Recording> {
        pieces_of(walks, &self.probe)
            .filter(|piece| !self.is_same_session() || piece.is_later_than(last_enrolled))
            .map(|piece| piece.recording)
            .collect()
    }
}

/// At most ten seconds of a recording, as clients send them.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The samples.
    pub recording: Recording,
    /// Number of the recording in its session.
    walk: usize,
    start_seconds: f64,
}

impl Piece {
    /// Whether it comes after another piece of its session, with a pause between.
    fn is_later_than(&self, other: &Self) -> bool {
        let end_seconds = other.start_seconds + other.recording.duration_seconds();
        self.walk > other.walk
            || (self.walk == other.walk && self.start_seconds >= end_seconds + PAUSE_SECONDS)
    }
}

/// The pieces of a session, in order.
fn pieces_of(walks: &[&SubjectRecording], session: &str) -> impl Iterator<Item = Piece> {
    let walks = walks.iter().filter(move |walk| walk.session == session);
    walks.enumerate().flat_map(|(number, walk)| pieces(number, &walk.recording))
}

/// The pieces of a recording, given its number in the session.
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

/// All pairs of sessions that several people have. Pairs of a session with itself come first.
pub fn protocols(walks: &[&SubjectRecording]) -> Vec<Protocol> {
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

#[cfg(test)]
mod tests {
    use bipedalnet_core::gait::simulator::{Conditions, Walker};

    use super::*;

    fn walk(subject: &str, session: &str, seconds: f64) -> SubjectRecording {
        let recording = Walker::new(1).walk(1, &Conditions { seconds, ..Conditions::default() });
        SubjectRecording { subject: subject.to_owned(), session: session.to_owned(), recording }
    }

    #[test]
    fn sessions_that_several_have_are_paired() {
        let walks: Vec<SubjectRecording> = ["ann", "bob", "cem"]
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
}
