//! A service's decisions about subjects that its model does not know, and how well strengths
//! separate them.

use bipedalnet_core::identity::{
    Calibration, Candidate, Decision, FALSE_MATCH_RATES, Tails, Template, UserId, Verdict,
};
use serde::Serialize;

use super::crew::{SessionSteps, SubjectScores, TestCrew};
use super::error_rates::{Figure, Scores, bootstrap, equal_error_rate};

/// Rates of one data set, protocol and condition, each with an interval over people.
#[derive(Clone, Debug, Serialize)]
pub struct OpenSetRates {
    /// People enrolled.
    pub people: usize,
    /// Probes of ten seconds that were identified.
    pub pieces: usize,
    /// Probe sessions of at most thirty seconds that were verified.
    pub sessions: usize,
    /// Equal error rate of the strengths of pieces.
    pub eer: Figure,
    /// False non-match rate of pieces at the strength that 1 % of the impostors reach.
    pub fnmr_at_fmr_1_percent: Figure,
    /// Verification at each false match rate that a client can ask for.
    pub verification: Vec<VerificationRates>,
    /// Identification of pieces among all people.
    pub identification: IdentificationRates,
    /// Strengths of pieces, for plots.
    #[serde(skip)]
    pub strengths: Strengths,
}

/// Verifications that decide after each piece of ten seconds of a session.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct VerificationRates {
    /// False match rate asked for.
    pub asked: f64,
    /// Share of genuine sessions that are accepted.
    pub own_accepted: Figure,
    /// Share of impostor sessions that are accepted. The impostors are not enrolled.
    pub others_accepted: Figure,
}

/// Identifications of ten seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct IdentificationRates {
    /// Share of enrolled people's pieces that get the right name.
    pub right: Figure,
    /// Share that get a wrong name.
    pub wrong: Figure,
    /// Share of pieces that get a name although their owner is not enrolled.
    pub strangers_named: Figure,
}

/// Strengths of genuine and of impostor pieces.
#[derive(Clone, Debug, Default)]
pub struct Strengths {
    /// Against the owner's templates.
    pub genuine: Scores,
    /// Against other users' templates.
    pub impostors: Scores,
}

impl Strengths {
    /// Adds the strengths of another protocol.
    pub fn add(&mut self, other: &Self) {
        let joined = |a: &Scores, b: &Scores| Scores::new([a.as_slice(), b.as_slice()].concat());
        self.genuine = joined(&self.genuine, &other.genuine);
        self.impostors = joined(&self.impostors, &other.impostors);
    }
}

/// Outcomes for one person.
struct Outcomes {
    genuine: Vec<f32>,
    impostors: Vec<f32>,
    /// By false match rate: accepted and all sessions, genuine first, then impostor.
    verified: [[[usize; 2]; 2]; FALSE_MATCH_RATES.len()],
    right: usize,
    wrong: usize,
    strangers_named: usize,
}

/// Measures a crew with the thresholds that a service with these users would have.
pub fn measure(crew: &TestCrew, calibration: &Calibration, seed: u64) -> Option<OpenSetRates> {
    let tails = crew.gallery(calibration, None).cohort().tails();
    let scores = crew.score(calibration, SessionSteps::EachPiece);
    let people: Vec<Outcomes> =
        scores.iter().map(|scores| outcomes(scores, calibration, tails)).collect();
    let sum = |times: &[usize], of: &dyn Fn(&Outcomes) -> usize| {
        people.iter().zip(times).map(|(person, times)| times * of(person)).sum::<usize>() as f32
    };
    let rates = |times: &[usize]| {
        let strengths = |of: fn(&Outcomes) -> &[f32]| {
            let repeated = people.iter().zip(times);
            let repeated = repeated.flat_map(|(person, times)| of(person).repeat(*times));
            Scores::new(repeated.collect())
        };
        let genuine = strengths(|person| &person.genuine);
        let impostors = strengths(|person| &person.impostors);
        if genuine.as_slice().is_empty() || impostors.as_slice().is_empty() {
            return None;
        }
        let pieces = genuine.as_slice().len() as f32;
        let verified = |rate: usize, others: usize| {
            sum(times, &|person| person.verified[rate][others][0])
                / sum(times, &|person| person.verified[rate][others][1]).max(1.0)
        };
        Some([
            equal_error_rate(&genuine, &impostors),
            1.0 - genuine.share_from(impostors.threshold_at(0.01)),
            verified(0, 0),
            verified(0, 1),
            verified(1, 0),
            verified(1, 1),
            verified(2, 0),
            verified(2, 1),
            sum(times, &|person| person.right) / pieces,
            sum(times, &|person| person.wrong) / pieces,
            sum(times, &|person| person.strangers_named) / pieces,
        ])
    };
    let [eer, fnmr, a, b, c, d, e, f, right, wrong, strangers_named] =
        bootstrap(people.len(), seed, rates)?;
    let verification = FALSE_MATCH_RATES.into_iter().zip([(a, b), (c, d), (e, f)]);
    let collect =
        |of: fn(&Outcomes) -> &[f32]| Scores::new(people.iter().flat_map(of).copied().collect());
    Some(OpenSetRates {
        people: people.len(),
        pieces: scores.iter().map(|scores| scores.pieces.len()).sum(),
        sessions: scores.iter().map(|scores| scores.sessions.len()).sum(),
        eer,
        fnmr_at_fmr_1_percent: fnmr,
        verification: verification
            .map(|(asked, (own_accepted, others_accepted))| VerificationRates {
                asked,
                own_accepted,
                others_accepted,
            })
            .collect(),
        identification: IdentificationRates { right, wrong, strangers_named },
        strengths: Strengths {
            genuine: collect(|person| &person.genuine),
            impostors: collect(|person| &person.impostors),
        },
    })
}

fn outcomes(scores: &SubjectScores, calibration: &Calibration, tails: Tails) -> Outcomes {
    let accepted = |session: &[(f32, &Template)], fmr: f64| {
        let verdict = |(strength, probe): &(f32, &Template)| {
            Verdict::new(*strength, probe, fmr, calibration, &tails.session)
        };
        let decided =
            session.iter().map(verdict).find(|it| !matches!(it, Verdict::Inconclusive(_)));
        usize::from(decided == Some(Verdict::Accept))
    };
    let mut verified = [[[0; 2]; 2]; FALSE_MATCH_RATES.len()];
    for session in &scores.sessions {
        let others = session.first().map_or(0, |probe| probe.impostors.len());
        for (verified, fmr) in verified.iter_mut().zip(FALSE_MATCH_RATES) {
            let own: Vec<_> = session.iter().map(|probe| (probe.genuine, &probe.probe)).collect();
            verified[0][0] += accepted(&own, fmr);
            verified[0][1] += 1;
            for other in 0..others {
                let claim: Vec<_> =
                    session.iter().map(|probe| (probe.impostors[other], &probe.probe)).collect();
                verified[1][0] += accepted(&claim, fmr);
            }
            verified[1][1] += others;
        }
    }
    let (mut right, mut wrong, mut strangers_named) = (0, 0, 0);
    let (owner, other) = (name("owner"), name("other"));
    for piece in &scores.pieces {
        let named = |own: Option<f32>, others: &[f32]| {
            let others = others.iter().map(|strength| (&other, *strength));
            let mut candidates: Vec<Candidate> = others
                .chain(own.map(|strength| (&owner, strength)))
                .map(|(user, strength)| Candidate { user: user.clone(), score: strength, strength })
                .collect();
            candidates.sort_by(|a, b| b.strength.total_cmp(&a.strength));
            let users = candidates.len();
            Decision::new(&candidates, users, &piece.probe, calibration, &tails.single)
        };
        match named(Some(piece.genuine), &piece.impostors_beside_owner) {
            Decision::Identified(user) if user == owner => right += 1,
            Decision::Identified(_) => wrong += 1,
            Decision::Unknown | Decision::Inconclusive(_) => {}
        }
        let stranger = named(None, &piece.impostors);
        strangers_named += usize::from(matches!(stranger, Decision::Identified(_)));
    }
    Outcomes {
        genuine: scores.pieces.iter().map(|piece| piece.genuine).collect(),
        impostors: scores.pieces.iter().flat_map(|piece| piece.impostors.clone()).collect(),
        verified,
        right,
        wrong,
        strangers_named,
    }
}

fn name(text: &str) -> UserId {
    text.parse().expect("letters")
}
