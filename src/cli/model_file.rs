//! Reading a model file that the operator names.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bipedalnet_core::bnn::MAX_FILE_BYTES;
use rustix::fs::OFlags;

use super::Failure;

/// Reads a model file. Never waits for what is no file, such as a device or a named pipe.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let explain = |reason: &dyn std::fmt::Display| -> Failure {
        format!("model {}: {reason}", path.display()).into()
    };
    let mut options = OpenOptions::new();
    // Opening a pipe would wait for a writer.
    options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let file = options.open(path).map_err(|error| explain(&error))?;
    let metadata = file.metadata().map_err(|error| explain(&error))?;
    if metadata.is_dir() {
        return Err(explain(&"it is a directory"));
    }
    if !metadata.is_file() {
        return Err(explain(&"it is not a regular file"));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| explain(&error))?;
    if bytes.len() > MAX_FILE_BYTES {
        let size = metadata.len();
        return Err(explain(&format!("{size} bytes; at most {MAX_FILE_BYTES} are allowed")));
    }
    Ok(bytes)
}
