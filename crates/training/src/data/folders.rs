//! Folders of recordings.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bipedalnet_core::gait::{Mend, Recording};
use serde::Deserialize;

use super::padova::read_padova_walk;
use super::recording_file::{FileContent, FormatError, read_recording};
use super::table::{TableOptions, delimiter};
use super::text::decode;

/// One recording of one person.
#[derive(Clone, Debug)]
pub struct SubjectRecording {
    /// The person. If several folders are read together, `folder/person`.
    pub subject: String,
    /// The session. Sessions of one person were recorded on different occasions.
    pub session: String,
    /// Raw samples.
    pub recording: Recording,
}

impl SubjectRecording {
    /// The folder of the person. `None` if only one folder was read.
    pub(crate) fn folder(&self) -> Option<&str> {
        self.subject.split_once('/').map(|(folder, _)| folder)
    }
}

/// The recordings of one or more folders.
#[derive(Debug, Default)]
pub struct DataSet {
    /// Names of the folders.
    pub folders: Vec<String>,
    /// Usable recordings.
    pub recordings: Vec<SubjectRecording>,
    /// Files whose samples are not a usable recording, and why.
    pub left_out: Vec<(PathBuf, FormatError)>,
    /// Recordings of which a fault was mended.
    pub mended: Vec<(PathBuf, Mend)>,
    /// Tables by how they were understood: their columns and units, in words.
    pub tables: BTreeMap<String, TablesRead>,
}

/// Tables that were understood in the same way.
#[derive(Debug)]
pub struct TablesRead {
    /// Number of tables.
    pub files: usize,
    /// Their lengths together.
    pub seconds: f64,
    /// Lowest mean sample rate.
    pub lowest_hz: f64,
    /// Highest mean sample rate.
    pub highest_hz: f64,
}

impl TablesRead {
    fn one(recording: &Recording) -> Self {
        let (seconds, rate) = (recording.duration_seconds(), recording.rate_hz());
        Self { files: 1, seconds, lowest_hz: rate, highest_hz: rate }
    }

    fn and(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            seconds: self.seconds + other.seconds,
            lowest_hz: self.lowest_hz.min(other.lowest_hz),
            highest_hz: self.highest_hz.max(other.highest_hz),
        }
    }
}

/// Why a folder is not a data set.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The folder, or its manifest, cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        error: std::io::Error,
    },
    /// The manifest is not a table with the columns `subject`, `session` and `file`.
    #[error("{path}: {error}; columns subject, session and file are needed", path = path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why it failed.
        error: csv::Error,
    },
    /// A file named in the manifest lies outside the folder.
    #[error("{manifest}: {file:?} leads out of the folder; give a path below it", manifest = manifest.display())]
    Outside {
        /// The manifest.
        manifest: PathBuf,
        /// The path at fault.
        file: String,
    },
    /// A file is not a recording.
    #[error("{path}: {error}", path = path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: FormatError,
    },
    /// The folder has neither a manifest nor recordings of the Padova set.
    #[error(
        "{path}: no recordings; the folder needs a manifest.csv, or subfolders such as u001_w001 of the Padova set",
        path = path.display()
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// A line of a manifest. Other columns are ignored.
#[derive(Deserialize)]
struct Entry {
    subject: String,
    session: String,
    file: String,
}

/// Reads data sets. A folder has either a `manifest.csv` with subject, session and file, or the
/// subfolders of the Padova set: `u001_w001`, `u001_w002` and so on. These name the user and the
/// walk, which is taken as the session. The options are for tables that a manifest names.
///
/// # Errors
/// If a folder is not a data set, or a file in it cannot be read.
pub fn read_data(folders: &[PathBuf], options: &TableOptions) -> Result<DataSet, DataError> {
    let mut data = DataSet::default();
    for folder in folders {
        let mut found = if folder.join("manifest.csv").exists() {
            read_manifest(folder, options)?
        } else {
            read_padova(folder)?
        };
        if found.recordings.is_empty() {
            return Err(DataError::Empty { path: folder.clone() });
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if folders.len() > 1 {
            for walk in &mut found.recordings {
                walk.subject = format!("{name}/{}", walk.subject);
            }
        }
        data.folders.push(name);
        data.recordings.extend(found.recordings);
        data.left_out.extend(found.left_out);
        data.mended.extend(found.mended);
        for (understood, read) in found.tables {
            data.count(understood, read);
        }
    }
    Ok(data)
}

impl DataSet {
    fn count(&mut self, understood: String, read: TablesRead) {
        let read = match self.tables.remove(&understood) {
            Some(earlier) => earlier.and(read),
            None => read,
        };
        self.tables.insert(understood, read);
    }

    fn add(
        &mut self,
        path: PathBuf,
        subject: &str,
        session: &str,
        content: Result<FileContent, FormatError>,
    ) -> Result<(), DataError> {
        match content {
            Ok(FileContent { recording, understood }) => {
                if let Some(understood) = understood {
                    self.count(understood, TablesRead::one(&recording));
                }
                let mends = recording.mends().iter();
                self.mended.extend(mends.map(|mend| (path.clone(), mend.clone())));
                let (subject, session) = (subject.to_owned(), session.to_owned());
                self.recordings.push(SubjectRecording { subject, session, recording });
            }
            Err(error @ (FormatError::Signal(_) | FormatError::Unusable(_))) => {
                self.left_out.push((path, error));
            }
            Err(error) => return Err(DataError::Recording { path, error }),
        }
        Ok(())
    }
}

fn read_manifest(folder: &Path, options: &TableOptions) -> Result<DataSet, DataError> {
    let path = folder.join("manifest.csv");
    let wrong = |error| DataError::Manifest { path: path.clone(), error };
    let bytes = std::fs::read(&path).map_err(|error| wrong(error.into()))?;
    let text = decode(bytes);
    let mut table =
        csv::ReaderBuilder::new().delimiter(delimiter(&text)).from_reader(text.as_bytes());
    let mut data = DataSet::default();
    for entry in table.deserialize() {
        let Entry { subject, session, file } = entry.map_err(wrong)?;
        let below = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(&file).components().all(below) {
            return Err(DataError::Outside { manifest: path, file });
        }
        let file = folder.join(file);
        let content = read_recording(&file, options);
        data.add(file, &subject, &session, content)?;
    }
    Ok(data)
}

fn read_padova(folder: &Path) -> Result<DataSet, DataError> {
    let wrong = |error| DataError::Io { path: folder.to_owned(), error };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        names.push(entry.map_err(wrong)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let mut data = DataSet::default();
    for name in names {
        let numbered = |part: &str, letter| {
            part.strip_prefix(letter).is_some_and(|rest| rest.parse::<u32>().is_ok())
        };
        let Some((user, walk)) = name.split_once('_') else { continue };
        if numbered(user, 'u') && numbered(walk, 'w') {
            let path = folder.join(&name);
            let content = read_padova_walk(&path)
                .map(|recording| FileContent { recording, understood: None });
            data.add(path, user, walk, content)?;
        }
    }
    Ok(data)
}

/// One person's recordings as a service gets them: some to enroll, a later one as the probe.
#[derive(Clone, Debug)]
pub struct EnrollmentSplit {
    /// The name, as in [`SubjectRecording::subject`].
    pub subject: String,
    /// One recording or more.
    pub enrollments: Vec<Recording>,
    /// The later recording.
    pub probe: Recording,
}

/// Splits recordings by person, in the order of their names. The last session is the probe, in the
/// order `wlk_8`, `wlk_15`. A single recording enrolls with its first half.
pub fn enrollment_splits(recordings: Vec<SubjectRecording>) -> Vec<EnrollmentSplit> {
    let mut people: BTreeMap<String, Vec<SubjectRecording>> = BTreeMap::new();
    for walk in recordings {
        people.entry(walk.subject.clone()).or_default().push(walk);
    }
    people
        .into_iter()
        .filter_map(|(subject, mut recordings)| {
            recordings.sort_by_key(|walk| natural_order(&walk.session));
            let last = recordings.pop()?.recording;
            let half_seconds = last.duration_seconds() / 2.0;
            let (enrollments, probe) = if recordings.is_empty() {
                (vec![last.part(0.0, half_seconds)?], last.part(half_seconds, half_seconds)?)
            } else {
                (recordings.into_iter().map(|walk| walk.recording).collect(), last)
            };
            Some(EnrollmentSplit { subject, enrollments, probe })
        })
        .collect()
}

/// A key that sorts sessions by number: `wlk_8` before `wlk_15`.
pub fn natural_order(session: &str) -> (String, u64) {
    let name = session.trim_end_matches(|c: char| c.is_ascii_digit());
    (name.to_owned(), session[name.len()..].parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(folders: &[PathBuf]) -> Result<DataSet, DataError> {
        read_data(folders, &TableOptions::default())
    }

    #[test]
    fn a_manifest_names_recordings_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let manifest = |text: &str| fs::write(path.join("manifest.csv"), text).unwrap();
        fs::create_dir(path.join("recordings")).unwrap();
        fs::write(path.join("recordings/a.csv"), "t,ax,ay,az\n0,0,0,9.8\n0.1,0,0,9.8\n").unwrap();

        manifest("recording,subject,session,file\nx,ann,monday,recordings/a.csv\n");
        let recordings = read(std::slice::from_ref(&path)).unwrap().recordings;
        assert_eq!((&recordings[0].subject[..], &recordings[0].session[..]), ("ann", "monday"));
        manifest("subject,session,file\nann,monday,./recordings/./a.csv\n");
        assert_eq!(read(std::slice::from_ref(&path)).unwrap().recordings.len(), 1);
        let twice = read(&[path.clone(), path.clone()]).unwrap().recordings;
        assert!(twice.len() == 2 && twice[0].subject.ends_with("/ann"));

        // As a spreadsheet saves it.
        manifest("\u{feff}subject;session;file\r\nann;tuesday;recordings/a.csv\r\n");
        let recordings = read(std::slice::from_ref(&path)).unwrap().recordings;
        assert_eq!((&recordings[0].subject[..], &recordings[0].session[..]), ("ann", "tuesday"));

        fs::write(path.join("recordings/c.csv"), "t,ax,ay,az\n0,0,0,9.8\n0,0,0,9.8\n").unwrap();
        manifest("subject,session,file\nann,1,recordings/a.csv\nann,2,recordings/c.csv\n");
        let data = read(std::slice::from_ref(&path)).unwrap();
        let reason = data.left_out[0].1.to_string();
        assert!(data.recordings.len() == 1 && reason.contains("time of sample 2"), "{reason}");

        for (text, expected) in [
            ("subject,session\nann,1\n", "columns subject, session and file"),
            ("subject,session,file\nann,1,../a.csv\n", "leads out of the folder"),
            ("subject,session,file\nann,1,/etc/passwd\n", "leads out of the folder"),
            ("subject,session,file\nann,1,recordings/b.csv\n", "recordings/b.csv: cannot be read"),
            ("subject,session,file\n", "no recordings"),
        ] {
            manifest(text);
            let message = read(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn padova_folders_are_recordings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["u002_w001", "u001_w002", "u001_w001"] {
            fs::create_dir(path.join(name)).unwrap();
            let header = ["timestamp", "x_data", "y_data", "z_data"]
                .map(|column| format!("accelerometer_{column}"))
                .join("\t");
            let log = format!("{header}\n0\t0\t0\t9.8\n10000000\t0\t0\t9.8\n");
            fs::write(path.join(name).join(format!("{name}_accelerometer.log")), log).unwrap();
        }
        fs::create_dir(path.join("readme_first")).unwrap();
        let recordings = read(&[path.to_owned()]).unwrap().recordings;
        let names: Vec<_> =
            recordings.iter().map(|walk| format!("{} {}", walk.subject, walk.session)).collect();
        assert_eq!(names, ["u001 w001", "u001 w002", "u002 w001"]);
        assert_eq!(recordings[0].recording.time_seconds(), [0.0, 0.01]);

        fs::create_dir(path.join("u003_w001")).unwrap();
        let message = read(&[path.to_owned()]).unwrap_err().to_string();
        assert!(message.contains("u003_w001: cannot be read"), "{message}");
    }

    #[test]
    fn the_last_session_is_probe() {
        let walk = |subject: &str, session: &str, seconds: f64| SubjectRecording {
            subject: subject.to_owned(),
            session: session.to_owned(),
            recording: Recording::new(vec![0.0, seconds / 2.0, seconds], vec![[0.0; 3]; 3], None)
                .unwrap(),
        };
        let people = enrollment_splits(vec![
            walk("bob", "1", 7.0),
            walk("ann", "wlk_15", 15.0),
            walk("ann", "wlk_7", 7.0),
            walk("ann", "wlk_8", 8.0),
        ]);
        let seconds: Vec<_> = people[0].enrollments.iter().map(|r| r.duration_seconds()).collect();
        assert_eq!((&people[0].subject[..], seconds), ("ann", vec![7.0, 8.0]));
        assert_eq!(people[0].probe.duration_seconds(), 15.0);
        assert_eq!(people[1].enrollments[0].time_seconds(), [0.0, 3.5]);
        assert_eq!(people[1].probe.time_seconds(), [3.5, 7.0]);
    }
}
