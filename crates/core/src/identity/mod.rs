//! Identification and verification: user ids, templates, the gallery, calibration and decisions.

mod calibration;
mod decision;
mod device_template;
mod gallery;
mod plausibility;
mod template;
mod transform;
mod user;
mod user_templates;

pub use calibration::{Calibration, FALSE_MATCH_RATES, STRICTEST_FMR, Tail, Tails};
pub use decision::{
    Decision, Doubt, FEATURES_FMR, FIRST_WINDOWS, LAST_WINDOWS, READY_WINDOWS, Verdict,
};
pub use device_template::{
    DeviceTemplate, DeviceTemplateError, DeviceVerification, PackedTemplate, Strangers, Thresholds,
};
pub use gallery::{Candidate, Cohort, Gallery};
pub use plausibility::{FEWEST_FEATURES, ImplausibleFeatures};
pub use template::{Template, TemplateError};
pub use transform::Transform;
pub use user::{CollectionId, UserId, UserIdError};
pub use user_templates::UserTemplates;
