//! The API's documents: the bodies of requests and responses, in JSON or CBOR.
//!
//! The server and the client share these types. The OpenAPI description is generated from them, so
//! their doc comments are its texts.

mod answers;
mod models;
mod requests;
mod training;

pub use answers::{
    CalibrationSource, CandidateAnswer, ChallengeAnswer, Doubt, EnrolledAnswer, EnrollmentAnswer,
    EnrollmentsAnswer, ExportAnswer, ExportedTemplate, ExportedWalk, Identified, IdentifyAnswer,
    NextStep, OutcomeAnswer, OutcomesAnswer, Problem, RefusedAnswer, UserAnswer, UserState,
    UsersAnswer, Verified, VerifyAnswer, WalkSource,
};
pub use models::{
    ActivateDocument, ActivatedAnswer, ComparisonAnswer, ModelAnswer, ModelsAnswer, SharesAnswer,
};
pub use requests::{
    BatchDocument, BatchItem, EnrollItem, IdentifyItem, VerifyItem, WalkDocument, Walks,
};
pub use training::{JobState, TrainDocument, TrainingJobAnswer, TrainingJobsAnswer, TrainingScope};
