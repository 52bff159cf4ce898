//! Data sets: recordings in folders, and how they are divided and cut into windows.

mod augmentation;
mod division;
mod folders;
mod recording_file;
mod track;

pub use augmentation::Augmentation;
pub use division::{Division, LabelledWindows, Split, SplitError, dequantise, sessions_exist};
pub use folders::{
    DataError, DataSet, EnrollmentSplit, SubjectRecording, enrollment_splits, natural_order,
    read_data,
};
pub use recording_file::{FormatError, read_recording};
pub use track::Track;
