//! Decisions that take window by window, as the service's do: what rates were asked for, and what
//! came of it.

use serde::Serialize;

use super::people::{Person, divide};
use crate::identity::FPIR;
use crate::service::calibration::{FALSE_MATCH_RATES, SequentialRates, StrangerScores};
use crate::service::serving::Serving;
use crate::training;

/// What came of decisions of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sequential {
    /// FMR of a verification, or FPIR of an identification, that was asked for.
    pub asked: f64,
    /// What came of it.
    #[serde(flatten)]
    pub rates: SequentialRates,
}

/// Of verifications at each of [`FALSE_MATCH_RATES`], and of identifications. Everybody of a folder
/// is enrolled as for other figures, probed with the last recording, and judged by what their model
/// says of its scores. None where nobody walks long enough.
pub(super) fn sequential<'a>(
    strangers: impl Iterator<Item = (&'a Serving, Vec<&'a Person<'a>>)>,
    folders: usize,
) -> (Vec<Sequential>, Option<Sequential>) {
    let mut scores = StrangerScores::default();
    for (serving, people) in strangers {
        for folder in 0..folders {
            let of_folder = people.iter().filter(|person| person.folder == folder);
            let divided: Vec<training::Person> = of_folder
                .filter_map(|person| {
                    let divided = divide(person, &serving.recipe)?;
                    Some(training::Person {
                        subject: person.subject.to_owned(),
                        enrollments: divided.enrollment,
                        unseen: divided.later.last()?.clone(),
                    })
                })
                .collect();
            scores.add_judged(
                &serving.model.network,
                serving.recipe,
                &divided,
                Some(serving.likelihood),
            );
        }
    }
    let verification = FALSE_MATCH_RATES
        .iter()
        .filter_map(|&asked| Some(Sequential { asked, rates: scores.verification_rates(asked)? }));
    let identification = scores.identification_rates();
    (verification.collect(), identification.map(|rates| Sequential { asked: FPIR, rates }))
}
