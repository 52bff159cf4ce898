//! Numbers to documents, and results to text: lines of fields with tabs between them.

use bipedalnet_core::gait::SignalError;
use bipedalnet_core::identity::{
    DeviceTemplate, DeviceTemplateError, DeviceVerification, Doubt, FALSE_MATCH_RATES,
    PackedTemplate, Strangers, Thresholds, Verdict,
};

use crate::Walk;

/// A line `walk`, windows. Then lines `refused`, code, windows, detail; and `mended`, fault, detail.
/// Or a line `problem`, code, field, detail.
pub fn of_walk(walk: Result<Walk, SignalError>) -> String {
    let walk = match walk {
        Ok(walk) => walk,
        Err(error) => return problem(error.code(), error.field(), &error.to_string()),
    };
    let mut lines = format!("walk\t{}", walk.windows);
    for (error, windows) in &walk.refused {
        lines += &format!("\nrefused\t{}\t{windows}\t{error}", error.code());
    }
    for mend in &walk.mends {
        lines += &format!("\nmended\t{}\t{mend}", mend.code());
    }
    lines
}

/// A line `verified`, decision, reason or nothing, score, estimated FMR, windows. Or a line `problem`.
pub fn of_verification(
    verified: Result<DeviceVerification, DeviceTemplateError>,
    windows: u32,
) -> String {
    let DeviceVerification { verdict, score, estimated_fmr, .. } = match verified {
        Ok(verified) => verified,
        Err(error) => return of_template_error(&error),
    };
    let (decision, reason) = match verdict {
        Verdict::Accept => ("accept", ""),
        Verdict::Reject => ("reject", ""),
        Verdict::SuspectedReplay => ("suspected_replay", ""),
        Verdict::Inconclusive(Doubt::TooShort) => ("inconclusive", "too_short"),
        Verdict::Inconclusive(Doubt::Unfamiliar) => ("inconclusive", "unfamiliar"),
        Verdict::Inconclusive(Doubt::Ambiguous) => ("inconclusive", "ambiguous"),
        Verdict::Inconclusive(Doubt::Mirrored) => ("inconclusive", "mirrored"),
    };
    format!("verified\t{decision}\t{reason}\t{score}\t{estimated_fmr}\t{windows}")
}

fn of_template_error(error: &DeviceTemplateError) -> String {
    let (code, field) = match error {
        DeviceTemplateError::Rate(_) => ("unknown-false-match-rate", "fmr"),
        DeviceTemplateError::OtherModel { .. } => ("other-model", "model"),
        DeviceTemplateError::Template(_) => ("invalid-field", "templates"),
        DeviceTemplateError::Damaged(field) => ("invalid-field", *field),
    };
    problem(code, field, &error.to_string())
}

fn problem(code: &str, field: &str, detail: &str) -> String {
    format!("problem\t{code}\t{field}\t{detail}")
}

/// The numbers of a [`DeviceTemplate`] in its order: two of `strangers`, all of `thresholds`, then for
/// each template its windows, scale and values.
///
/// `None` if their count or a number does not fit.
pub(crate) fn template(
    model: String,
    numbers: &[f64],
    feature_len: usize,
) -> Option<DeviceTemplate> {
    const RATES: usize = FALSE_MATCH_RATES.len();
    let (&[mean, deviation], numbers) = numbers.split_first_chunk()?;
    let (single, numbers) = numbers.split_first_chunk::<RATES>()?;
    let (session, numbers) = numbers.split_first_chunk::<RATES>()?;
    let (&users, numbers) = numbers.split_first()?;
    let templates = numbers.chunks(2 + feature_len).map(|numbers| {
        let (&[windows, scale], values) = numbers.split_first_chunk()?;
        let value = |&value: &f64| (f64::from(value as i8) == value).then_some(value as i8);
        let values = values.iter().map(value).collect::<Option<Vec<i8>>>()?;
        Some(PackedTemplate { windows: windows as u32, scale: scale as f32, values })
    });
    Some(DeviceTemplate {
        model,
        user: String::new(),
        templates: templates.collect::<Option<_>>()?,
        strangers: Strangers { mean: mean as f32, deviation: deviation as f32 },
        thresholds: Thresholds {
            single: single.map(|strength| strength as f32),
            session: session.map(|strength| strength as f32),
            users: users as usize,
        },
    })
}
