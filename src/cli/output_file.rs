//! Files that a command writes.

use std::io::Write;
use std::path::Path;

use super::Failure;

/// A file that is written whole or not at all, so that no reader sees half of it.
pub struct OutputFile<'a> {
    path: &'a Path,
    file: tempfile::NamedTempFile,
}

impl<'a> OutputFile<'a> {
    /// Checks that the path can be written to. A file that is there stays as it is.
    pub fn create(path: &'a Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Err(format!("{}: is a directory", path.display()).into());
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::NamedTempFile::new_in(folder)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, file })
    }

    pub fn write(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let explain = |error: std::io::Error| format!("{}: {error}", self.path.display());
        self.file.write_all(bytes).map_err(explain)?;
        self.file.as_file().sync_all().map_err(explain)?;
        self.file.persist(self.path).map_err(|error| explain(error.error))?;
        Ok(())
    }
}
