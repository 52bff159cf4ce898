//! Errors of model files.

use super::super::{ArchitectureError, NetworkError};
use super::{FORMAT_VERSION, MAX_FILE_BYTES};

/// Why bytes are not a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The file is too large.
    #[error("the model file has {bytes} bytes; at most {MAX_FILE_BYTES} are allowed")]
    TooLarge {
        /// Size of the file.
        bytes: usize,
    },
    /// The file is cut short, too long, or not in safetensors format.
    #[error(
        "the model file has {bytes} bytes, but its header needs {needed}: it is incomplete, or not a safetensors file"
    )]
    Length {
        /// Size of the file.
        bytes: usize,
        /// Size according to the header.
        needed: u64,
    },
    /// The header is not that of a safetensors file.
    #[error("the model file has no safetensors header: {0}")]
    Header(#[source] serde_json::Error),
    /// Another program wrote the file.
    #[error(
        "the file is a safetensors file, but not a model of this program: its metadata has no {0:?}"
    )]
    Foreign(&'static str),
    /// Another version of this program wrote the file.
    #[error("the model file has format version {0:?}; this program reads {FORMAT_VERSION:?}")]
    Version(String),
    /// The content was changed.
    #[error(
        "the model file has the checksum {actual}, but says {recorded:?}: it was changed. Download it again"
    )]
    Checksum {
        /// The checksum that the file says it has.
        recorded: String,
        /// The checksum that it has.
        actual: String,
    },
    /// A value of the metadata cannot be used.
    #[error("the model file's {key} is {value:?}; it must be {needed}")]
    Metadata {
        /// Name of the value.
        key: &'static str,
        /// The value, or its beginning.
        value: String,
        /// What is needed instead.
        needed: &'static str,
    },
    /// There is not one name per output.
    #[error("the model file names {names} classes, but its network has {classes}")]
    ClassCount {
        /// Number of names.
        names: usize,
        /// Number of outputs.
        classes: usize,
    },
    /// The layers are not a network.
    #[error("the model file: {0}")]
    Architecture(#[from] ArchitectureError),
    /// A tensor is missing, or does not fit the architecture.
    #[error("the model file's tensor {name:?} is {found}; it must be {needed}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// What was found.
        found: String,
        /// What is needed instead.
        needed: String,
    },
    /// The architecture has no layer for a tensor.
    #[error("the model file's tensor {0:?} belongs to no layer")]
    ExtraTensor(String),
    /// The parameters do not fit the network, or it cannot run.
    #[error("the model file: {0}")]
    Network(#[from] NetworkError),
}
