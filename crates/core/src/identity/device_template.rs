//! A user's templates on their own device, to verify them without the service.

use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, Reference, Tail, Tails};
use super::{FALSE_MATCH_RATES, Template, TemplateError, UserId, Verdict};

/// What a device needs to verify its owner without the service, besides the model: a JSON document.
///
/// ```json
/// {
///   "model": "<id of the model>",
///   "user": "ann",
///   "templates": [{"windows": 58, "scale": 0.0321, "values": [-3, 127, 0]}],
///   "strangers": {"mean": 0.12, "deviation": 0.09},
///   "thresholds": {"single": [1.9, 3.1, 4.2], "session": [2.3, 3.4, 4.6], "users": 12}
/// }
/// ```
///
/// It holds nothing about other users but how similar those most like the templates are, and thresholds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceTemplate {
    /// Id of the model that read the walks. Another model cannot use the templates.
    pub model: String,
    /// The user's id.
    pub user: String,
    /// One to four templates, as the model computes them: without the service's secret transform.
    pub templates: Vec<PackedTemplate>,
    /// How similar the nearest other users are to the templates.
    pub strangers: Strangers,
    /// The strengths from which on a walk is accepted.
    pub thresholds: Thresholds,
}

/// The sum of the unit feature vectors of walks, one signed byte per value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedTemplate {
    /// Number of windows.
    pub windows: u32,
    /// A value is its byte times this scale.
    pub scale: f32,
    /// One for each value of the model's feature.
    pub values: Vec<i8>,
}

/// Similarity of strangers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strangers {
    /// Mean similarity.
    pub mean: f32,
    /// Standard deviation, above 0.
    pub deviation: f32,
}

/// Rising strengths, one for each of [`FALSE_MATCH_RATES`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// For a walk that is decided once.
    pub single: [f32; FALSE_MATCH_RATES.len()],
    /// For a walk that is decided several times while it grows.
    pub session: [f32; FALSE_MATCH_RATES.len()],
    /// Number of users who refined the thresholds; 0 for those of the model.
    pub users: usize,
}

/// The result of a verification on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceVerification {
    /// Whether the walker is the user.
    pub verdict: Verdict,
    /// Cosine between the walk and the nearest template, from -1 to 1.
    pub score: f32,
    /// Upper estimate of the share of other people's walks that score at least as high.
    pub estimated_fmr: f64,
    /// Similarity above that of strangers, in standard deviations.
    pub strength: f32,
}

/// Why a document cannot be used to verify a user.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DeviceTemplateError {
    /// A false match rate that is not supported.
    #[error("a false match rate of {0} is not supported; use one of {FALSE_MATCH_RATES:?}")]
    Rate(f64),
    /// The templates are those of another model.
    #[error("the templates are those of model {found}; the device has model {wanted}")]
    OtherModel {
        /// The model of the document.
        found: String,
        /// The model of the device.
        wanted: String,
    },
    /// A template is damaged.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A part of the document is missing or out of range.
    #[error("{0} in the document is not usable; download it again")]
    Damaged(&'static str),
}

impl DeviceTemplate {
    pub(super) fn new(
        model: &str,
        user: &UserId,
        templates: &[Template],
        strangers: Reference,
        tails: Tails,
    ) -> Self {
        Self {
            model: model.to_owned(),
            user: user.to_string(),
            templates: templates.iter().map(PackedTemplate::new).collect(),
            strangers: Strangers { mean: strangers.mean, deviation: strangers.deviation },
            thresholds: Thresholds {
                single: tails.single.strengths(),
                session: tails.session.strengths(),
                users: tails.users,
            },
        }
    }

    /// Decides whether a walk is the user's.
    ///
    /// If nobody else is enrolled, the service decides the same. If others are, it also compares the
    /// walk with their templates, which do not leave it: see `docs/devices.md`.
    ///
    /// `calibration` is that of the model with the id `model`, which read the walk. `fmr` is one of
    /// [`FALSE_MATCH_RATES`]. `in_session` says that the walk is decided several times while it grows.
    ///
    /// # Errors
    /// If the rate is another one, or the document is damaged or that of another model.
    pub fn verify(
        &self,
        model: &str,
        calibration: &Calibration,
        probe: &Template,
        fmr: f64,
        in_session: bool,
    ) -> Result<DeviceVerification, DeviceTemplateError> {
        if !FALSE_MATCH_RATES.contains(&fmr) {
            return Err(DeviceTemplateError::Rate(fmr));
        }
        if self.model != model {
            let (found, wanted) = (self.model.clone(), model.to_owned());
            return Err(DeviceTemplateError::OtherModel { found, wanted });
        }
        let feature_len = probe.values().len();
        let templates: Result<Vec<Template>, TemplateError> =
            self.templates.iter().map(|packed| packed.unpack(feature_len)).collect();
        let templates = templates?;
        let Strangers { mean, deviation } = self.strangers;
        if !(mean.abs() <= 1.0 && deviation > 0.0 && deviation <= 1.0) {
            return Err(DeviceTemplateError::Damaged("strangers"));
        }
        let strengths = match in_session {
            true => self.thresholds.session,
            false => self.thresholds.single,
        };
        let tail = Tail::new(strengths).ok_or(DeviceTemplateError::Damaged("thresholds"))?;
        let (similarity, score) = calibration
            .nearest(&templates, probe)
            .ok_or(DeviceTemplateError::Damaged("templates"))?;
        // The device knows no other users, so the probe is taken to resemble as many as the templates
        // do. For walks of the user that is so.
        let strangers = Reference { mean, deviation };
        let strength = calibration.strength(similarity, strangers, strangers, probe.windows());
        Ok(DeviceVerification {
            verdict: Verdict::new(strength, probe, fmr, calibration, &tail),
            score,
            estimated_fmr: tail.fmr(strength),
            strength,
        })
    }
}

impl PackedTemplate {
    fn new(template: &Template) -> Self {
        let (scale, steps) = template.pack();
        let values = steps.into_iter().map(u8::cast_signed).collect();
        Self { windows: template.windows(), scale, values }
    }

    fn unpack(&self, feature_len: usize) -> Result<Template, TemplateError> {
        let values = self.values.iter().map(|&step| f32::from(step) * self.scale).collect();
        Template::from_values(values, self.windows, feature_len)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gallery, calibration::tests::calibration};
    use super::*;

    fn walk(feature: &[f32], windows: usize) -> Template {
        let mut walk = Template::empty(feature.len());
        (0..windows).for_each(|_| walk.add_window(feature));
        walk.rounded()
    }

    fn gallery() -> (Gallery, UserId) {
        let ann: UserId = "ann".parse().unwrap();
        let mut gallery = Gallery::new(3, calibration());
        gallery.add(&ann, &walk(&[1.0, 0.2, 0.0], 9));
        gallery.add(&ann, &walk(&[-0.4, 1.0, 0.1], 29));
        (gallery, ann)
    }

    fn document() -> DeviceTemplate {
        let (gallery, ann) = gallery();
        gallery.device_template("m", &ann, Template::clone).unwrap()
    }

    /// The document as a device reads it.
    fn read(document: &DeviceTemplate) -> DeviceTemplate {
        serde_json::from_str(&serde_json::to_string(document).unwrap()).unwrap()
    }

    #[test]
    fn a_device_decides_as_a_service_with_one_user() {
        let (gallery, ann) = gallery();
        let document = document();
        assert_eq!(read(&document), document);
        let mut verdicts = Vec::new();
        for step in 0..60 {
            let angle = step as f32 * 0.1;
            let probe = walk(&[angle.cos(), angle.sin(), 0.0], 4 + step % 30);
            let candidate = gallery.compare(&ann, &probe).unwrap();
            for in_session in [false, true] {
                let tails = gallery.tails();
                let tail = if in_session { tails.session } else { tails.single };
                for fmr in FALSE_MATCH_RATES {
                    let found =
                        document.verify("m", gallery.calibration(), &probe, fmr, in_session);
                    let found = found.unwrap();
                    let verdict = gallery.verdict(&candidate, &probe, fmr, &tail);
                    assert_eq!(found.verdict, verdict, "{step} {fmr} {in_session}");
                    assert_eq!(found.score, candidate.score);
                    verdicts.push(verdict);
                }
            }
        }
        assert!(verdicts.contains(&Verdict::Accept) && verdicts.contains(&Verdict::Reject));
    }

    #[test]
    fn other_users_reach_a_device_as_two_numbers() {
        let (mut gallery, ann) = gallery();
        let alone = document();
        for other in 0..40 {
            let angle = other as f32;
            let walk = walk(&[angle.cos(), angle.sin(), 0.3], 29);
            gallery.add(&format!("other-{other}").parse().unwrap(), &walk);
        }
        let among_others = gallery.device_template("m", &ann, Template::clone).unwrap();
        assert_ne!(among_others.strangers, alone.strangers);
        assert_eq!(DeviceTemplate { strangers: alone.strangers, ..among_others }, alone);
    }

    #[test]
    fn a_damaged_document_is_refused() {
        let calibration = calibration();
        let verify = |change: &dyn Fn(&mut DeviceTemplate)| {
            let mut document = document();
            change(&mut document);
            document.verify("m", &calibration, &walk(&[1.0, 0.0, 0.0], 9), 0.01, false).unwrap_err()
        };
        let other = verify(&|document| document.model = "n".into());
        assert!(matches!(other, DeviceTemplateError::OtherModel { .. }), "{other}");
        let loose = document().verify("m", &calibration, &walk(&[1.0, 0.0, 0.0], 9), 0.5, false);
        assert_eq!(loose, Err(DeviceTemplateError::Rate(0.5)));
        let short = verify(&|document| document.templates[0].values.truncate(2));
        assert!(matches!(short, DeviceTemplateError::Template(_)), "{short}");
        let strangers = verify(&|document| document.strangers.deviation = 0.0);
        assert_eq!(strangers, DeviceTemplateError::Damaged("strangers"));
        let thresholds = verify(&|document| document.thresholds.single = [1.0, 1.0, 2.0]);
        assert_eq!(thresholds, DeviceTemplateError::Damaged("thresholds"));
        let templates = verify(&|document| document.templates.clear());
        assert_eq!(templates, DeviceTemplateError::Damaged("templates"));
    }
}
