//! Data sets: recordings in folders, and how they are divided and cut into windows.

mod augmentation;
mod division;
mod folders;
mod padova;
mod recording_file;
mod series;
mod table;
mod text;
mod track;

pub use augmentation::Augmentation;
pub use division::{Division, LabelledWindows, Split, SplitError, dequantise, sessions_exist};
pub use folders::{
    DataError, DataSet, EnrollmentSplit, SubjectRecording, TablesRead, enrollment_splits,
    natural_order, read_data,
};
pub use recording_file::{FileContent, FormatError, read_recording};
pub use table::{ColumnNames, Place, Quantity, TableError, TableOptions, Unit};
pub use track::Track;
