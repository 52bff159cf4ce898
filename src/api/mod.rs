//! Documents of the API: what requests and answers hold, in JSON or CBOR alike. The server and the
//! client share them, and the OpenAPI description is made from them.

mod answers;
mod requests;

pub use answers::{
    CandidateAnswer, ChallengeAnswer, EnrolledAnswer, EnrollmentAnswer, EnrollmentsAnswer,
    ExportAnswer, ExportedWalk, Identified, IdentifyAnswer, OutcomeAnswer, OutcomesAnswer, Problem,
    RefusedAnswer, UserAnswer, UserState, UsersAnswer, Verified, VerifyAnswer,
};
pub use requests::{
    BatchDocument, BatchItem, EnrollItem, IdentifyItem, VerifyItem, WalkDocument, Walks,
};
