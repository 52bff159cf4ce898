//! The subjects of an evaluation, and those that a model was trained on.

use std::collections::{BTreeMap, BTreeSet};

use bipedalnet_core::bnn::Metadata;

use super::Folder;
use crate::data::{SubjectRecording, natural_order};

/// A person in a data set, with their recordings.
pub struct Subject<'a> {
    /// Position of the folder.
    pub folder: usize,
    /// The folder's name.
    pub folder_name: &'a str,
    /// Name within the folder.
    pub subject: &'a str,
    /// In the order of their sessions.
    pub walks: Vec<&'a SubjectRecording>,
}

/// All subjects of the folders, by folder, then by name.
pub fn subjects(folders: &[Folder]) -> Vec<Subject<'_>> {
    let mut people: BTreeMap<(usize, &str), Vec<&SubjectRecording>> = BTreeMap::new();
    for (position, folder) in folders.iter().enumerate() {
        for walk in &folder.recordings {
            people.entry((position, &walk.subject)).or_default().push(walk);
        }
    }
    people
        .into_iter()
        .map(|((folder, subject), mut walks)| {
            walks.sort_by_key(|walk| natural_order(&walk.session));
            Subject { folder, folder_name: &folders[folder].name, subject, walks }
        })
        .collect()
}

/// The subjects that a model was trained on, each with its class.
pub struct TrainedSubjects<'a>(BTreeMap<(&'a str, &'a str), usize>);

impl<'a> TrainedSubjects<'a> {
    /// If several folders trained, classes are called `folder/subject`. Otherwise they are called
    /// `subject`, and the description of the training data begins with the folder.
    pub fn of(metadata: &'a Metadata) -> Self {
        let description = metadata.training_data.split(';').next().unwrap_or_default();
        let name = |class: &'a String| class.split_once('/').unwrap_or((description, class));
        Self(metadata.classes.iter().map(name).zip(0..).collect())
    }

    /// The subject's class. `None` for strangers.
    pub fn class(&self, person: &Subject) -> Option<usize> {
        self.0.get(&(person.folder_name, person.subject)).copied()
    }

    /// Warns about strangers who have the name of a known person in a folder that is not among the
    /// data: that folder may have been renamed.
    pub fn namesakes(&self, people: &[Subject]) -> Option<String> {
        let folders: BTreeSet<&str> = people.iter().map(|person| person.folder_name).collect();
        let elsewhere: BTreeMap<&str, &str> = self
            .0
            .keys()
            .filter(|(folder, _)| !folders.contains(folder))
            .map(|(folder, subject)| (*subject, *folder))
            .collect();
        let mut namesakes = people
            .iter()
            .filter(|person| self.class(person).is_none())
            .filter_map(|person| Some((person, elsewhere.get(person.subject)?)));
        let (person, folder) = namesakes.next()?;
        let (subject, here) = (person.subject, person.folder_name);
        Some(format!(
            "{subject} of {here} and {} more are taken for strangers, but the model was trained on people \
             of these names in {folder}; if they are the same people, call the folder {folder}",
            namesakes.count()
        ))
    }
}

#[cfg(test)]
mod tests {
    use bipedalnet_core::gait::simulator::{Conditions, Walker};

    use super::*;

    fn walk(subject: &str, session: &str, seconds: f64) -> SubjectRecording {
        let conditions = Conditions { seconds, ..Conditions::default() };
        let recording = Walker::new(1).walk(1, &conditions);
        SubjectRecording { subject: subject.to_owned(), session: session.to_owned(), recording }
    }

    fn folder(name: &str, walks: Vec<SubjectRecording>) -> Folder {
        Folder { name: name.to_owned(), recordings: walks }
    }

    fn metadata(classes: &[&str], training_data: &str) -> Metadata {
        let bytes = include_bytes!("../../../../models/bipedalnet-openset.safetensors");
        let metadata = bipedalnet_core::bnn::Model::from_bytes(bytes).unwrap().metadata;
        let classes = classes.iter().map(|&class| class.to_owned()).collect();
        Metadata { classes, training_data: training_data.to_owned(), ..metadata }
    }

    #[test]
    fn people_are_known_by_folder_and_name() {
        let folders = [
            folder("home", vec![walk("ann", "1", 3.0), walk("bob", "1", 3.0)]),
            folder("away", vec![walk("ann", "1", 3.0), walk("eve", "1", 3.0)]),
        ];
        let subjects = subjects(&folders);
        let classes = |metadata: &Metadata| {
            subjects
                .iter()
                .map(|person| TrainedSubjects::of(metadata).class(person))
                .collect::<Vec<_>>()
        };
        let several = metadata(&["away/eve", "home/bob"], "away, home; sessions 1");
        assert_eq!(classes(&several), [None, Some(1), None, Some(0)]);
        let single = metadata(&["ann", "eve"], "away; sessions 1");
        assert_eq!(classes(&single), [None, None, Some(0), Some(1)]);
        assert_eq!(TrainedSubjects::of(&single).namesakes(&subjects), None);

        let renamed = metadata(&["ann", "carl"], "gone");
        assert_eq!(classes(&renamed), [None; 4]);
        let warning = TrainedSubjects::of(&renamed).namesakes(&subjects).unwrap();
        assert!(warning.starts_with("ann of home and 1 more are taken for strangers"), "{warning}");
    }
}
