//! Reads the command line, with variables and a settings file as defaults.

use std::path::PathBuf;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::KERNELS_VARIABLE;
use super::{Arguments, Command, Failure};
use crate::config::{File, Setting, effective, nearest};
use crate::store::MASTER_KEY_VARIABLE;

/// Prefix of this program's variables.
const PREFIX: &str = "BIPEDALNET_";

pub(super) struct CommandLine {
    pub command: Command,
    /// The settings of `serve` and `config`; empty for other commands.
    pub settings: Vec<Setting>,
}

impl CommandLine {
    /// Reads the process's arguments and the current settings file.
    ///
    /// # Errors
    /// [`clap::Error`] if the arguments are invalid, or ask for help or the version.
    pub fn read() -> Result<Self, Failure> {
        let command = Arguments::command();
        let mut matches = command.clone().try_get_matches()?;
        let mut file = File::default();
        if let Some((name, path)) = file_of(&matches) {
            file = match File::read(&path) {
                // A server that runs keeps the settings that it has. A restart would end it.
                Err(error) if name == "healthcheck" => {
                    eprintln!("bipedalnet: going by flags and variables alone: {error}");
                    File::default()
                }
                file => file?,
            };
            let command = command.mut_subcommand(name, |command| file.set_defaults(command));
            matches = command.try_get_matches()?;
        }
        let settings = match matches.subcommand() {
            Some(("serve" | "config", matches)) => effective(matches, &file),
            _ => Vec::new(),
        };
        Ok(Self { command: Arguments::from_arg_matches(&matches)?.command, settings })
    }
}

/// The subcommand's name and its settings file, if it has one.
fn file_of(matches: &ArgMatches) -> Option<(String, PathBuf)> {
    let (name, matches) = matches.subcommand()?;
    // An error means that this subcommand takes no settings file.
    let path = matches.try_get_one::<PathBuf>("config").ok().flatten()?;
    Some((name.to_owned(), path.clone()))
}

/// A warning for each variable that has this program's prefix but is none of its settings.
pub(super) fn unknown_variables() -> Vec<String> {
    let mut known = vec![KERNELS_VARIABLE.to_owned(), MASTER_KEY_VARIABLE.to_owned()];
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
        format!("unknown variable {name}; did you mean {nearest}?")
    };
    unknown.iter().map(explain).collect()
}
