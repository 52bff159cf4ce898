//! Documents of the API: what requests and answers hold, in JSON or CBOR alike. The server and the
//! client share them, and the OpenAPI description is made from them.

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
