//! Whom a model knows, and how a person's walks are divided into enrollment and probes.

use std::collections::{BTreeMap, BTreeSet};

use super::Folder;
use crate::bnn::Metadata;
use crate::gait::{Recipe, Recording, cut_windows};
use crate::identity::READY_WINDOWS;
use crate::training::{Walk, natural_order};

/// Walking left out between enrollment and probes of one recording.
const PAUSE_SECONDS: f64 = 10.0;

/// A person of the data.
pub struct Person<'a> {
    /// Position of the folder.
    pub folder: usize,
    /// The folder's name.
    pub folder_name: &'a str,
    /// Name within the folder.
    pub subject: &'a str,
    /// By session.
    pub walks: Vec<&'a Walk>,
}

/// Everybody in the folders, by folder, then by name.
pub fn people(folders: &[Folder]) -> Vec<Person<'_>> {
    let mut people: BTreeMap<(usize, &str), Vec<&Walk>> = BTreeMap::new();
    for (position, folder) in folders.iter().enumerate() {
        for walk in &folder.walks {
            people.entry((position, &walk.subject)).or_default().push(walk);
        }
    }
    people
        .into_iter()
        .map(|((folder, subject), mut walks)| {
            walks.sort_by_key(|walk| natural_order(&walk.session));
            Person { folder, folder_name: &folders[folder].name, subject, walks }
        })
        .collect()
}

/// The people whom a model was trained on, each with its class.
pub struct Known<'a>(BTreeMap<(&'a str, &'a str), usize>);

impl<'a> Known<'a> {
    /// Classes are called `folder/subject` where several folders trained; else `subject`, and the
    /// folder is what the description of the training data begins with.
    pub fn to(metadata: &'a Metadata) -> Self {
        let description = metadata.training_data.split(';').next().unwrap_or_default();
        let name = |class: &'a String| class.split_once('/').unwrap_or((description, class));
        Self(metadata.classes.iter().map(name).zip(0..).collect())
    }

    /// The person's class; `None` for strangers.
    pub fn class(&self, person: &Person) -> Option<usize> {
        self.0.get(&(person.folder_name, person.subject)).copied()
    }

    /// Strangers who are called like somebody known from a folder that is not among the data: that
    /// folder may have been renamed.
    pub(super) fn namesakes(&self, people: &[Person]) -> Option<String> {
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
            "{subject} of {here} and {} more are taken for strangers, though the model was trained on \
             people of these names in {folder}: if they are the same, call the folder {folder}",
            namesakes.count()
        ))
    }
}

/// A person's walks as a service meets them.
pub struct Divided {
    /// The first 30 s of walking.
    pub enrollment: Vec<Recording>,
    /// What came later, to be cut into probes.
    pub later: Vec<Recording>,
    /// Whether what came later is of the session that was enrolled.
    pub same_session: bool,
}

/// Divides a person's walks. `None` where there are less than 30 s of walking.
pub fn divide(person: &Person, recipe: &Recipe) -> Option<Divided> {
    let mut enrollment = Vec::new();
    let mut missing = READY_WINDOWS as usize;
    let mut walks = person.walks.iter();
    let mut sessions = BTreeSet::new();
    let (last, end_seconds) = loop {
        let walk = walks.next()?;
        let cut = cut_windows(&walk.recording, recipe, recipe.samples / 2);
        let windows = cut.map_or_else(|_| Vec::new(), |cut| cut.windows);
        let taken = windows.len().min(missing);
        let Some(window) = taken.checked_sub(1).map(|last| &windows[last]) else { continue };
        let end_seconds = window.start_seconds + recipe.window_seconds();
        enrollment.extend(walk.recording.part(0.0, end_seconds));
        sessions.insert(&walk.session);
        missing -= taken;
        if missing == 0 {
            break (walk, end_seconds);
        }
    };
    let rest: Vec<&Walk> = walks.copied().collect();
    let of_other_sessions = rest.iter().filter(|walk| !sessions.contains(&walk.session));
    let later: Vec<Recording> = of_other_sessions.map(|walk| walk.recording.clone()).collect();
    if !later.is_empty() {
        return Some(Divided { enrollment, later, same_session: false });
    }
    let begin = end_seconds + PAUSE_SECONDS;
    let tail = last.recording.part(begin, last.recording.duration_seconds());
    let rest = rest.iter().map(|walk| walk.recording.clone());
    Some(Divided { enrollment, later: tail.into_iter().chain(rest).collect(), same_session: true })
}

/// Parts of so many seconds, one after the other.
pub fn probes(recording: &Recording, seconds: f64) -> impl Iterator<Item = Recording> + '_ {
    // A part begins and ends up to a sample within its bounds: else it would be too short to read at
    // low rates.
    let length_seconds = seconds + 2.0 / recording.rate_hz();
    (0..)
        .take_while(move |&index| f64::from(index + 1) * seconds <= recording.duration_seconds())
        .filter_map(move |index| recording.part(f64::from(index) * seconds, length_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gait::simulator::{Conditions, Walker};

    fn walk(subject: &str, session: &str, seconds: f64) -> Walk {
        let conditions = Conditions { seconds, ..Conditions::default() };
        let recording = Walker::new(1).walk(1, &conditions);
        Walk { subject: subject.to_owned(), session: session.to_owned(), recording }
    }

    fn folder(name: &str, walks: Vec<Walk>) -> Folder {
        Folder { name: name.to_owned(), walks }
    }

    fn metadata(classes: &[&str], training_data: &str) -> Metadata {
        let bytes = include_bytes!("../../../models/bipedalnet-pooled.safetensors");
        let metadata = crate::bnn::Model::from_bytes(bytes).unwrap().metadata;
        let classes = classes.iter().map(|&class| class.to_owned()).collect();
        Metadata { classes, training_data: training_data.to_owned(), ..metadata }
    }

    #[test]
    fn people_are_known_by_folder_and_name() {
        let folders = [
            folder("home", vec![walk("ann", "1", 3.0), walk("bob", "1", 3.0)]),
            folder("away", vec![walk("ann", "1", 3.0), walk("eve", "1", 3.0)]),
        ];
        let people = people(&folders);
        let classes = |metadata: &Metadata| {
            people.iter().map(|person| Known::to(metadata).class(person)).collect::<Vec<_>>()
        };
        let several = metadata(&["away/eve", "home/bob"], "away, home; sessions 1");
        assert_eq!(classes(&several), [None, Some(1), None, Some(0)]);
        let single = metadata(&["ann", "eve"], "away; sessions 1");
        assert_eq!(classes(&single), [None, None, Some(0), Some(1)]);
        assert_eq!(Known::to(&single).namesakes(&people), None);

        let renamed = metadata(&["ann", "carl"], "gone");
        assert_eq!(classes(&renamed), [None; 4]);
        let warning = Known::to(&renamed).namesakes(&people).unwrap();
        assert!(warning.starts_with("ann of home and 1 more are taken for strangers"), "{warning}");
    }

    #[test]
    fn thirty_seconds_are_enrolled_and_later_sessions_probe() {
        let divided = |walks: Vec<Walk>| {
            let folders = [folder("home", walks)];
            let divided = divide(&people(&folders)[0], &Recipe::BIPEDALNET)?;
            let seconds = |recordings: &[Recording]| {
                let seconds = recordings.iter().map(|r| r.duration_seconds().round() as u32);
                seconds.collect::<Vec<_>>()
            };
            Some((seconds(&divided.enrollment), seconds(&divided.later), divided.same_session))
        };
        let two = vec![walk("ann", "2", 20.0), walk("ann", "10", 25.0), walk("ann", "1", 50.0)];
        assert_eq!(divided(two), Some((vec![30], vec![20, 25], false)));
        let one = vec![walk("ann", "1", 100.0), walk("ann", "1", 15.0)];
        assert_eq!(divided(one), Some((vec![30], vec![60, 15], true)));
        let pieces = vec![walk("ann", "1", 16.0), walk("ann", "2", 21.0), walk("ann", "3", 9.0)];
        assert_eq!(divided(pieces), Some((vec![16, 15], vec![9], false)));
        assert_eq!(divided(vec![walk("ann", "1", 29.0)]), None);
        let (_, later, _) = divided(vec![walk("ann", "1", 35.0)]).unwrap();
        assert!(later.is_empty());
    }

    #[test]
    fn probes_do_not_overlap() {
        let walk = walk("ann", "1", 35.0).recording;
        let starts: Vec<f64> =
            probes(&walk, 10.0).map(|probe| probe.time_seconds()[0].round()).collect();
        assert_eq!(starts, [0.0, 10.0, 20.0]);
    }
}
