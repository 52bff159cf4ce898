//! Training and evaluation of gait networks. This package reads files. It knows no HTTP and no
//! database.
//!
//! | module | contents |
//! |---|---|
//! | `data` | folders of recordings, and how they are divided and cut into windows |
//! | `network` | a network that learns: layers, backpropagation, Adam, compression |
//! | `trainer` | the network designs, the loop over epochs, the deflation of an open-set network |
//! | [`evaluation`] | error rates on subjects that a model knows and on strangers, calibration, plots |
//! | `pipeline` | whole runs: a model that can serve, and the published table |
//! | `retraining` | a new network for the users of a service, trained from the active one |
//!
//! Each module uses only modules above it.

mod data;
pub mod evaluation;
mod network;
mod pipeline;
mod retraining;
mod trainer;

pub use data::{
    Augmentation, ColumnNames, DataError, DataSet, Division, EnrollmentSplit, FileContent,
    FormatError, LabelledWindows, Place, Quantity, Split, SplitError, SubjectRecording, TableError,
    TableOptions, TablesRead, Unit, enrollment_splits, read_data, read_recording, sessions_exist,
};
pub use network::Compression;
pub use pipeline::{
    FEWEST_SUBJECTS_TO_CALIBRATE, Stage, SubjectPart, TableRow, TrainModelOptions, TrainedModel,
    TrainingError, TrainingEvent, published_table, train_model,
};
pub use retraining::{
    Checkpoint, CheckpointError, Event, FEWEST_WINDOWS, FEWEST_WINDOWS_A_USER, Length,
    ReadRecording, Retrained, RetrainingError, RetrainingOptions, TooLittle, Users,
    low_priority_pool, retrain, retrained_model,
};
pub use trainer::{Accuracy, Design, Progress, Schedule, Trained, accuracy, train, with_deflation};
