//! Folders of recordings.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::recording_file::{FormatError, read_padova_walk, read_recording};
use bipedalnet_core::gait::{Recording, SignalError};

/// One recording of one person.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The person. Where several folders are read together, `folder/person`.
    pub subject: String,
    /// The occasion: sessions of one person were recorded apart.
    pub session: String,
    /// Raw samples.
    pub recording: Recording,
}

/// What folders hold.
#[derive(Debug, Default)]
pub struct DataSet {
    /// Usable recordings.
    pub walks: Vec<Walk>,
    /// Files whose samples make no recording, and why.
    pub left_out: Vec<(PathBuf, SignalError)>,
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
    #[error("{path} {error}", path = path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: FormatError,
    },
    /// Neither a manifest nor walks of the Padova set.
    #[error(
        "{path}: no recordings; a folder with a manifest.csv is needed, or one of the Padova set's u001_w001 folders",
        path = path.display()
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// A line of a manifest; other columns are for people.
#[derive(Deserialize)]
struct Entry {
    subject: String,
    session: String,
    file: String,
}

/// Reads data sets: a folder with a `manifest.csv` of subject, session and file, or the Padova
/// set's folders `u001_w001`, `u001_w002` and so on (user and walk, which is taken as session).
///
/// # Errors
/// When a folder is no data set, or a file in it is unreadable.
pub fn read_data(folders: &[PathBuf]) -> Result<DataSet, DataError> {
    let mut data = DataSet::default();
    for folder in folders {
        let mut found = if folder.join("manifest.csv").exists() {
            read_manifest(folder)?
        } else {
            read_padova(folder)?
        };
        if found.walks.is_empty() {
            return Err(DataError::Empty { path: folder.clone() });
        }
        if folders.len() > 1 {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            for walk in &mut found.walks {
                walk.subject = format!("{name}/{}", walk.subject);
            }
        }
        data.walks.extend(found.walks);
        data.left_out.extend(found.left_out);
    }
    Ok(data)
}

impl DataSet {
    fn add(
        &mut self,
        path: PathBuf,
        subject: &str,
        session: &str,
        recording: Result<Recording, FormatError>,
    ) -> Result<(), DataError> {
        match recording {
            Ok(recording) => {
                let (subject, session) = (subject.to_owned(), session.to_owned());
                self.walks.push(Walk { subject, session, recording });
            }
            Err(FormatError::Signal(error)) => self.left_out.push((path, error)),
            Err(error) => return Err(DataError::Recording { path, error }),
        }
        Ok(())
    }
}

fn read_manifest(folder: &Path) -> Result<DataSet, DataError> {
    let path = folder.join("manifest.csv");
    let wrong = |error| DataError::Manifest { path: path.clone(), error };
    let mut table = csv::Reader::from_path(&path).map_err(wrong)?;
    let mut data = DataSet::default();
    for entry in table.deserialize() {
        let Entry { subject, session, file } = entry.map_err(wrong)?;
        if !Path::new(&file).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(DataError::Outside { manifest: path, file });
        }
        let file = folder.join(file);
        let recording = read_recording(&file);
        data.add(file, &subject, &session, recording)?;
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
            let recording = read_padova_walk(&path);
            data.add(path, user, walk, recording)?;
        }
    }
    Ok(data)
}

/// One person's walks, divided as a service meets them: some enroll, a later one is unseen.
#[derive(Clone, Debug)]
pub struct Person {
    /// As [`Walk::subject`].
    pub subject: String,
    /// Recordings to enroll, one or more.
    pub enrollments: Vec<Recording>,
    /// The later recording.
    pub unseen: Recording,
}

/// Walks by person, in the order of their names. Of several sessions the last is unseen, in the
/// order `wlk_8`, `wlk_15`; a single recording enrolls with its first half.
pub fn by_person(walks: Vec<Walk>) -> Vec<Person> {
    let mut people: BTreeMap<String, Vec<Walk>> = BTreeMap::new();
    for walk in walks {
        people.entry(walk.subject.clone()).or_default().push(walk);
    }
    people
        .into_iter()
        .filter_map(|(subject, mut walks)| {
            walks.sort_by_key(|walk| natural_order(&walk.session));
            let last = walks.pop()?.recording;
            let half_seconds = last.duration_seconds() / 2.0;
            let (enrollments, unseen) = if walks.is_empty() {
                (vec![last.part(0.0, half_seconds)?], last.part(half_seconds, half_seconds)?)
            } else {
                (walks.into_iter().map(|walk| walk.recording).collect(), last)
            };
            Some(Person { subject, enrollments, unseen })
        })
        .collect()
}

/// Sorts sessions as people count: `wlk_8` before `wlk_15`.
pub(crate) fn natural_order(session: &str) -> (String, u64) {
    let name = session.trim_end_matches(|c: char| c.is_ascii_digit());
    (name.to_owned(), session[name.len()..].parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_manifest_names_recordings_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let manifest = |text: &str| fs::write(path.join("manifest.csv"), text).unwrap();
        fs::create_dir(path.join("walks")).unwrap();
        fs::write(path.join("walks/a.csv"), "t,ax,ay,az\n0,0,0,9.8\n0.1,0,0,9.8\n").unwrap();

        manifest("recording,subject,session,file\nx,ann,monday,walks/a.csv\n");
        let walks = read_data(std::slice::from_ref(&path)).unwrap().walks;
        assert_eq!((&walks[0].subject[..], &walks[0].session[..]), ("ann", "monday"));
        let twice = read_data(&[path.clone(), path.clone()]).unwrap().walks;
        assert!(twice.len() == 2 && twice[0].subject.ends_with("/ann"));

        fs::write(path.join("walks/c.csv"), "t,ax,ay,az\n0,0,0,9.8\n0,0,0,9.8\n").unwrap();
        manifest("subject,session,file\nann,1,walks/a.csv\nann,2,walks/c.csv\n");
        let data = read_data(std::slice::from_ref(&path)).unwrap();
        assert_eq!((data.walks.len(), data.left_out[0].1.code()), (1, "backward-time"));

        for (text, expected) in [
            ("subject,session\nann,1\n", "columns subject, session and file"),
            ("subject,session,file\nann,1,../a.csv\n", "leads out of the folder"),
            ("subject,session,file\nann,1,/etc/passwd\n", "leads out of the folder"),
            ("subject,session,file\nann,1,walks/b.csv\n", "walks/b.csv cannot be read"),
            ("subject,session,file\n", "no recordings"),
        ] {
            manifest(text);
            let message = read_data(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn padova_folders_are_walks() {
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
        let walks = read_data(&[path.to_owned()]).unwrap().walks;
        let names: Vec<_> =
            walks.iter().map(|walk| format!("{} {}", walk.subject, walk.session)).collect();
        assert_eq!(names, ["u001 w001", "u001 w002", "u002 w001"]);
        assert_eq!(walks[0].recording.time_seconds(), [0.0, 0.01]);

        fs::create_dir(path.join("u003_w001")).unwrap();
        let message = read_data(&[path.to_owned()]).unwrap_err().to_string();
        assert!(message.contains("u003_w001 cannot be read"), "{message}");
    }

    #[test]
    fn the_last_session_is_unseen() {
        let walk = |subject: &str, session: &str, seconds: f64| Walk {
            subject: subject.to_owned(),
            session: session.to_owned(),
            recording: Recording::new(vec![0.0, seconds / 2.0, seconds], vec![[0.0; 3]; 3], None)
                .unwrap(),
        };
        let people = by_person(vec![
            walk("bob", "1", 7.0),
            walk("ann", "wlk_15", 15.0),
            walk("ann", "wlk_7", 7.0),
            walk("ann", "wlk_8", 8.0),
        ]);
        let seconds: Vec<_> = people[0].enrollments.iter().map(|r| r.duration_seconds()).collect();
        assert_eq!((&people[0].subject[..], seconds), ("ann", vec![7.0, 8.0]));
        assert_eq!(people[0].unseen.duration_seconds(), 15.0);
        assert_eq!(people[1].enrollments[0].time_seconds(), [0.0, 3.5]);
        assert_eq!(people[1].unseen.time_seconds(), [3.5, 7.0]);
    }
}
