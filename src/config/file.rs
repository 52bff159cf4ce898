//! A file of settings under the flags and variables, and what comes of the three.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use toml::de::{DeTable, DeValue};

use super::Config;

/// Larger files are no settings.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Settings that a file gives: each is a flag's value, and good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    values: BTreeMap<String, String>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there, or not to be read.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is too long.
    #[error("{path}: {bytes} bytes; settings take at most {MAX_FILE_BYTES}", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Something is wrong in a line.
    #[error("{path}:{line}: {problem}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong there.
        problem: FileProblem,
    },
}

/// What is wrong in a line of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// It is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// No setting has this name.
    #[error("there is no setting `{key}`; the nearest is `{nearest}`")]
    UnknownKey {
        /// The name.
        key: String,
        /// The setting that was meant, perhaps.
        nearest: String,
    },
    /// A value of the wrong type.
    #[error("`{key}` is {seen}; {needed} is needed")]
    Type {
        /// The setting.
        key: String,
        /// The type of its value.
        seen: String,
        /// The type that it has to be, and the unit.
        needed: String,
    },
    /// A value that the setting cannot have.
    #[error("`{key}` cannot be `{value}`: {reason}")]
    Value {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where a value comes from, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This program.
    Default,
    /// The file.
    File,
    /// The environment.
    Variable,
    /// The command line.
    Flag,
}

/// What a setting is, all things considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// Its value as TOML; none where it has no value.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
}

impl File {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, or a line of it is no setting.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(FileError::TooLong { path: path.to_owned(), bytes });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|(at, problem)| {
            let line = text[..at].matches('\n').count() + 1;
            FileError::Line { path: path.to_owned(), line, problem }
        })
    }

    /// Fails with the place of what is wrong.
    fn parse(text: &str) -> Result<Self, (usize, FileProblem)> {
        let start = |span: Range<usize>| span.start.min(text.len());
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, start);
            (at, FileProblem::Syntax(error.message().to_owned()))
        })?;
        let settings = settings();
        let mut values = BTreeMap::new();
        // In the file's order, so that the first mistake is told first.
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let at = start(key.span());
            let key = key.get_ref().to_string();
            let Some(argument) = arguments(&settings).find(|it| it.get_long() == Some(&key)) else {
                let keys = arguments(&settings).filter_map(Arg::get_long);
                let nearest = nearest(&key, keys).unwrap_or_default().to_owned();
                return Err((at, FileProblem::UnknownKey { key, nearest }));
            };
            let value =
                of_type(argument, &key, value.get_ref()).map_err(|problem| (at, problem))?;
            let parsed = settings.clone().try_get_matches_from([format!("--{key}={value}")]);
            if let Err(error) = parsed {
                let choices = argument.get_possible_values();
                let choices: Vec<_> = choices.iter().map(|choice| choice.get_name()).collect();
                let reason = match error.source() {
                    Some(source) => source.to_string(),
                    None if choices.is_empty() => "it is no value".to_owned(),
                    None => format!("it is none of {}", choices.join(", ")),
                };
                return Err((at, FileProblem::Value { key, value, reason }));
            }
            values.insert(key, value);
        }
        Ok(Self { values })
    }

    /// A command whose arguments default to what the file says.
    pub fn beneath(&self, command: Command) -> Command {
        command.mut_args(|argument| {
            match argument.get_long().and_then(|key| self.values.get(key)) {
                Some(value) => argument.default_value(value.clone()),
                None => argument,
            }
        })
    }
}

/// All settings as flags, without their variables.
fn settings() -> Command {
    Config::augment_args(Command::new("settings").no_binary_name(true))
        .mut_args(|argument| argument.env(None::<&str>))
}

fn arguments(settings: &Command) -> impl Iterator<Item = &Arg> {
    settings.get_arguments().filter(|argument| argument.get_long().is_some())
}

/// How a type of settings is written in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Integer,
    String,
}

impl Kind {
    fn of(argument: &Arg) -> Self {
        let id = argument.get_value_parser().type_id();
        if id == TypeId::of::<bool>() {
            return Self::Bool;
        }
        let integers = [TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>()];
        if integers.into_iter().any(|integer| id == integer) { Self::Integer } else { Self::String }
    }
}

/// A value as its flag would have it.
fn of_type(argument: &Arg, key: &str, value: &DeValue<'_>) -> Result<String, FileProblem> {
    let kind = Kind::of(argument);
    let text = match (kind, value) {
        (Kind::Bool, DeValue::Boolean(value)) => Some(value.to_string()),
        (Kind::Integer, DeValue::Integer(value)) => {
            i128::from_str_radix(value.as_str(), value.radix()).ok().map(|value| value.to_string())
        }
        (Kind::String, DeValue::String(value)) => Some(value.to_string()),
        _ => None,
    };
    text.ok_or_else(|| {
        let unit =
            argument.get_value_names().and_then(<[_]>::first).map_or("", |name| name.as_str());
        let seen = match value {
            DeValue::String(text) => format!("the string {text:?}"),
            DeValue::Integer(number) => format!("the number {}", number.as_str()),
            DeValue::Float(number) => format!("the number {}", number.as_str()),
            other => format!("of the type {}", other.type_str()),
        };
        let needed = match kind {
            Kind::Bool => "true or false".to_owned(),
            Kind::Integer => format!("a whole number of {}", unit.to_lowercase()),
            Kind::String => format!("a string ({unit})"),
        };
        FileProblem::Type { key: key.to_owned(), seen, needed }
    })
}

/// The word that takes the least editing to become another, compared with its length.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(word, other);
    known.into_iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
}

/// What all settings are, by the matches of a command that has them and the file beneath it.
pub fn effective(matches: &ArgMatches, file: &File) -> Vec<Setting> {
    let settings = settings();
    let setting = |argument: &Arg| {
        let (key, id) = (argument.get_long()?, argument.get_id().as_str());
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => Source::Flag,
            Some(ValueSource::EnvVariable) => Source::Variable,
            _ if file.values.contains_key(key) => Source::File,
            _ => Source::Default,
        };
        let text = matches.get_raw(id).and_then(|mut raw| raw.next());
        let value = text.map(|text| match Kind::of(argument) {
            Kind::Bool | Kind::Integer => text.to_string_lossy().into_owned(),
            // JSON's escapes are TOML's.
            Kind::String => serde_json::Value::from(text.to_string_lossy()).to_string(),
        });
        Some(Setting { key: key.to_owned(), value, source })
    };
    arguments(&settings).filter_map(setting).collect()
}
