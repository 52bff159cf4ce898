//! `bipedalnet config`

use super::{Failure, serve, settings};
use crate::config::{Setting, Source};

/// Print the settings that `serve` would use, and where each comes from
///
/// Takes the same flags, variables and settings file as `serve`. The output is a valid settings file.
#[derive(clap::Args)]
// The group of `serve::Arguments` has the same name.
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    _serve: serve::Arguments,
}

pub fn run(_: Arguments, all: &[Setting]) -> Result<(), Failure> {
    for warning in settings::unknown_variables() {
        eprintln!("bipedalnet: {warning}");
    }
    for setting in all {
        let line = match &setting.value {
            Some(value) => format!("{} = {value}", setting.key),
            None => format!("# {} is not set", setting.key),
        };
        let source = match setting.source {
            Source::Default => "default",
            Source::File => "file",
            Source::Variable => "variable",
            Source::Flag => "flag",
        };
        println!("{line:<48} # {source}");
    }
    Ok(())
}
