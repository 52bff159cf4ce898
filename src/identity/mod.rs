//! Who it is: user ids, templates, the gallery and the decision. Pure: no I/O.

mod gallery;
mod template;
mod user;

pub use gallery::{Decision, Gallery};
pub use template::{Template, TemplateError};
pub use user::{UserId, UserIdError};
