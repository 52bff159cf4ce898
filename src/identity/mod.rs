//! Who it is: user ids, templates, the gallery and the decision. Pure: no I/O.

mod decision;
mod gallery;
mod template;
mod user;

pub use decision::{Decision, ENOUGH_WINDOWS, READY_WINDOWS, Verdict};
pub use gallery::{Candidate, Gallery};
pub use template::{Template, TemplateError};
pub use user::{UserId, UserIdError};
