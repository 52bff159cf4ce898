//! The command line, with variables and a file beneath it.

use std::path::PathBuf;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::KERNELS_VARIABLE;
use super::{Arguments, Command, Failure};
use crate::config::{File, Setting, effective, nearest};

/// What all variables of this program begin with.
const PREFIX: &str = "BIPEDALNET_";

/// What to run.
pub(super) struct CommandLine {
    pub command: Command,
    /// All settings, where it is a command that has them.
    pub settings: Vec<Setting>,
}

impl CommandLine {
    /// As the program was called, with the file as it is now.
    ///
    /// # Errors
    /// [`clap::Error`] where the arguments are not good, which is also how help and version come.
    pub fn read() -> Result<Self, Failure> {
        let command = Arguments::command();
        let mut matches = command.clone().try_get_matches()?;
        let mut file = File::default();
        if let Some((name, path)) = file_of(&matches) {
            file = File::read(&path)?;
            let command = command.mut_subcommand(name, |command| file.beneath(command));
            matches = command.try_get_matches()?;
        }
        let settings = match matches.subcommand() {
            Some(("serve" | "config", matches)) => effective(matches, &file),
            _ => Vec::new(),
        };
        Ok(Self { command: Arguments::from_arg_matches(&matches)?.command, settings })
    }
}

/// The subcommand and its file, where it has one.
fn file_of(matches: &ArgMatches) -> Option<(String, PathBuf)> {
    let (name, matches) = matches.subcommand()?;
    // An error says that this subcommand takes none.
    let path = matches.try_get_one::<PathBuf>("config").ok().flatten()?;
    Some((name.to_owned(), path.clone()))
}

/// A line for each variable that looks as if it were this program's and is not.
pub(super) fn unknown_variables() -> Vec<String> {
    let mut known = vec![KERNELS_VARIABLE.to_owned()];
    let mut commands = vec![Arguments::command()];
    while let Some(command) = commands.pop() {
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        known.extend(variables.map(|name| name.to_string_lossy().into_owned()));
        commands.extend(command.get_subcommands().cloned());
    }
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let mut unknown: Vec<String> =
        names.filter(|name| name.starts_with(PREFIX) && !known.contains(name)).collect();
    unknown.sort();
    let explain = |name: &String| {
        let nearest = nearest(name, known.iter().map(String::as_str)).unwrap_or_default();
        format!("the variable {name} sets nothing; the nearest that does is {nearest}")
    };
    unknown.iter().map(explain).collect()
}
