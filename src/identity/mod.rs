//! Who it is: user ids, templates, the gallery and the decision. Pure: no I/O.

mod decision;
mod gallery;
mod likelihood;
mod template;
mod user;

pub use decision::{Decision, FPIR, LAST_WINDOWS, READY_WINDOWS, Verdict, fmr_among};
pub use gallery::{Candidate, Gallery};
pub use likelihood::{LikelihoodRatio, Line, WINDOW_COUNTS, unfold};
pub use template::{Template, TemplateError};
pub use user::{UserId, UserIdError};
