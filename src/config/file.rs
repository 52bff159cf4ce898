//! The settings file, and the settings in effect after flags, variables and file.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use toml::de::{DeTable, DeValue};

use super::Config;

const MAX_FILE_BYTES: u64 = 1 << 20;

/// The settings in a file: valid values of flags, by the flags' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    values: BTreeMap<String, String>,
}

/// Why a settings file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file is missing or cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The file is too long.
    #[error("{path}: {bytes} bytes; at most {MAX_FILE_BYTES} are allowed", path = path.display())]
    TooLong {
        /// Path of the file.
        path: PathBuf,
        /// Length of the file.
        bytes: u64,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {problem}", path = path.display())]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line; the first is 1.
        line: usize,
        /// What is wrong in it.
        problem: FileProblem,
    },
}

/// What is wrong in a line of a settings file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// The line is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// There is no setting of this name.
    #[error("unknown setting `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// The name in the file.
        key: String,
        /// The setting with the most similar name.
        nearest: String,
    },
    /// The value has the wrong type.
    #[error("`{key}` is {found}; expected {expected}")]
    Type {
        /// Name of the setting.
        key: String,
        /// The value or its type.
        found: String,
        /// The right type, with the unit.
        expected: String,
    },
    /// The value is invalid for this setting.
    #[error("`{key}` cannot be `{value}`: {reason}")]
    Value {
        /// Name of the setting.
        key: String,
        /// The value in the file.
        value: String,
        /// What is wrong with the value.
        reason: String,
    },
}

/// Where a setting's value comes from. Later ones take precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The program's default.
    Default,
    /// The settings file.
    File,
    /// An environment variable.
    Variable,
    /// A flag on the command line.
    Flag,
}

/// A setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name of the setting: its flag without the dashes, and its key in a file.
    pub key: String,
    /// Value as TOML. `None` if the setting is not set and has no default.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
}

impl File {
    /// Reads and checks a settings file.
    ///
    /// # Errors
    /// If the file cannot be read, or if a line is not a valid setting.
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

    /// Fails with the position of the first mistake.
    fn parse(text: &str) -> Result<Self, (usize, FileProblem)> {
        let start = |span: Range<usize>| span.start.min(text.len());
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, start);
            (at, FileProblem::Syntax(error.message().to_owned()))
        })?;
        let settings = settings();
        let mut values = BTreeMap::new();
        // In the file's order, so that the first mistake is reported first.
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
                    None if choices.is_empty() => "the value is invalid".to_owned(),
                    None => format!("expected one of {}", choices.join(", ")),
                };
                return Err((at, FileProblem::Value { key, value, reason }));
            }
            values.insert(key, value);
        }
        Ok(Self { values })
    }

    /// Makes the values of the file the defaults of a command's arguments.
    pub fn set_defaults(&self, command: Command) -> Command {
        command.mut_args(|argument| {
            match argument.get_long().and_then(|key| self.values.get(key)) {
                Some(value) => argument.default_value(value.clone()),
                None => argument,
            }
        })
    }
}

/// A command that has all settings as flags, and ignores variables.
fn settings() -> Command {
    Config::augment_args(Command::new("settings").no_binary_name(true))
        .mut_args(|argument| argument.env(None::<&str>))
}

fn arguments(settings: &Command) -> impl Iterator<Item = &Arg> {
    settings.get_arguments().filter(|argument| argument.get_long().is_some())
}

/// TOML type of a setting.
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

/// Turns a value in the file into the text that its flag takes.
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
        let found = match value {
            DeValue::String(text) => format!("the string {text:?}"),
            DeValue::Integer(number) => format!("the number {}", number.as_str()),
            DeValue::Float(number) => format!("the number {}", number.as_str()),
            other => format!("of type {}", other.type_str()),
        };
        let expected = match kind {
            Kind::Bool => "true or false".to_owned(),
            Kind::Integer => format!("a whole number of {}", unit.to_lowercase()),
            Kind::String => format!("a string ({unit})"),
        };
        FileProblem::Type { key: key.to_owned(), found, expected }
    })
}

/// The known word that is most similar to `word`.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |other: &str| strsim::normalized_damerau_levenshtein(word, other);
    known.into_iter().max_by(|one, other| similarity(one).total_cmp(&similarity(other)))
}

/// All settings in effect, from a command's matches and the settings file.
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
            // TOML understands JSON's escapes.
            Kind::String => serde_json::Value::from(text.to_string_lossy()).to_string(),
        });
        Some(Setting { key: key.to_owned(), value, source })
    };
    arguments(&settings).filter_map(setting).collect()
}
