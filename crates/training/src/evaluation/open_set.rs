//! What a service decides about strangers, and how well strengths tell them apart.

use serde::Serialize;

use super::crew::{SessionSteps, SubjectScores, TestCrew};
use super::error_rates::{Figure, Scores, bootstrap, equal_error_rate};
use bipedalnet_core::identity::{
    Calibration, Candidate, Decision, FALSE_MATCH_RATES, Tails, Template, UserId, Verdict,
};

/// Rates of one data set, protocol and condition, each with its interval by person.
#[derive(Clone, Debug, Serialize)]
pub struct OpenSetRates {
    /// People enrolled.
    pub people: usize,
    /// Pieces of ten seconds that identified.
    pub pieces: usize,
    /// Sessions of thirty seconds at most that verified.
    pub sessions: usize,
    /// Equal error rate of pieces, by their strengths.
    pub eer: Figure,
    /// False non-match rate of pieces at the strength that 1 % of impostors reach.
    pub fnmr_at_fmr_1_percent: Figure,
    /// Verification at each false match rate.
    pub verification: Vec<VerificationRates>,
    /// Identification of pieces among all.
    pub identification: IdentificationRates,
    /// Strengths of pieces, for plots.
    #[serde(skip)]
    pub strengths: Strengths,
}

/// What verifications do that look at a session after each piece of ten seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct VerificationRates {
    /// False match rate asked for.
    pub asked: f64,
    /// Share of own sessions that are accepted.
    pub own_accepted: Figure,
    /// Share of sessions of people who are not enrolled that are accepted at others' claims.
    pub others_accepted: Figure,
}

/// What identifications of ten seconds do.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct IdentificationRates {
    /// Share of enrolled people's pieces that are given the right name.
    pub right: Figure,
    /// Share that are given a wrong one.
    pub wrong: Figure,
    /// Share of pieces that are given a name although their owner is not enrolled.
    pub strangers_named: Figure,
}

/// Strengths of genuine and of impostor pieces.
#[derive(Clone, Debug, Default)]
pub struct Strengths {
    /// At the owner's templates.
    pub genuine: Scores,
    /// At other users' templates.
    pub impostors: Scores,
}

impl Strengths {
    /// Adds those of another trial.
    pub fn add(&mut self, other: &Self) {
        let joined = |a: &Scores, b: &Scores| Scores::new([a.as_slice(), b.as_slice()].concat());
        self.genuine = joined(&self.genuine, &other.genuine);
        self.impostors = joined(&self.impostors, &other.impostors);
    }
}

/// Outcomes of one person.
struct Outcomes {
    genuine: Vec<f32>,
    impostors: Vec<f32>,
    /// Accepted and all, of own and of others' claims, by rate.
    verified: [[[usize; 2]; 2]; FALSE_MATCH_RATES.len()],
    right: usize,
    wrong: usize,
    strangers_named: usize,
}

/// Measures a trial with the thresholds that a service with these users would have.
pub fn measure(trial: &TestCrew, calibration: &Calibration, seed: u64) -> Option<OpenSetRates> {
    let tails = trial.gallery(calibration, None).cohort().tails();
    let looks = trial.look(calibration, SessionSteps::EachPiece);
    let people: Vec<Outcomes> =
        looks.iter().map(|looks| outcomes(looks, calibration, tails)).collect();
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
        pieces: looks.iter().map(|looks| looks.pieces.len()).sum(),
        sessions: looks.iter().map(|looks| looks.sessions.len()).sum(),
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

fn outcomes(looks: &SubjectScores, calibration: &Calibration, tails: Tails) -> Outcomes {
    let accepted = |session: &[(f32, &Template)], fmr: f64| {
        let verdict = |(strength, probe): &(f32, &Template)| {
            Verdict::new(*strength, probe, fmr, calibration, &tails.session)
        };
        let decided =
            session.iter().map(verdict).find(|it| !matches!(it, Verdict::Inconclusive(_)));
        usize::from(decided == Some(Verdict::Accept))
    };
    let mut verified = [[[0; 2]; 2]; FALSE_MATCH_RATES.len()];
    for session in &looks.sessions {
        let others = session.first().map_or(0, |look| look.strangers.len());
        for (verified, fmr) in verified.iter_mut().zip(FALSE_MATCH_RATES) {
            let own: Vec<_> = session.iter().map(|look| (look.own, &look.probe)).collect();
            verified[0][0] += accepted(&own, fmr);
            verified[0][1] += 1;
            for other in 0..others {
                let claim: Vec<_> =
                    session.iter().map(|look| (look.strangers[other], &look.probe)).collect();
                verified[1][0] += accepted(&claim, fmr);
            }
            verified[1][1] += others;
        }
    }
    let (mut right, mut wrong, mut strangers_named) = (0, 0, 0);
    let (owner, other) = (name("owner"), name("other"));
    for look in &looks.pieces {
        let named = |own: Option<f32>, others: &[f32]| {
            let others = others.iter().map(|strength| (&other, *strength));
            let mut candidates: Vec<Candidate> = others
                .chain(own.map(|strength| (&owner, strength)))
                .map(|(user, strength)| Candidate { user: user.clone(), score: strength, strength })
                .collect();
            candidates.sort_by(|a, b| b.strength.total_cmp(&a.strength));
            let users = candidates.len();
            Decision::new(&candidates, users, &look.probe, calibration, &tails.single)
        };
        match named(Some(look.own), &look.rivals) {
            Decision::Identified(user) if user == owner => right += 1,
            Decision::Identified(_) => wrong += 1,
            Decision::Unknown | Decision::Inconclusive(_) => {}
        }
        let stranger = named(None, &look.strangers);
        strangers_named += usize::from(matches!(stranger, Decision::Identified(_)));
    }
    Outcomes {
        genuine: looks.pieces.iter().map(|look| look.own).collect(),
        impostors: looks.pieces.iter().flat_map(|look| look.strangers.clone()).collect(),
        verified,
        right,
        wrong,
        strangers_named,
    }
}

fn name(text: &str) -> UserId {
    text.parse().expect("letters")
}
