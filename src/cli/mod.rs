//! The command line: one file per subcommand. Each prints and exits; the work is done elsewhere.

mod backup;
mod demo;
mod keys;
mod progress;
mod reproduce;
mod serve;
mod simulate;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tells who is walking from a phone's accelerometer.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Keys(keys::Arguments),
    Backup(backup::Arguments),
    Demo(demo::Arguments),
    Simulate(simulate::Arguments),
    Reproduce(reproduce::Arguments),
    Train(train::Arguments),
}

/// Why a command failed, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Parses the command line and runs what it asks for.
pub fn run() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Keys(arguments) => keys::run(arguments),
        Command::Backup(arguments) => backup::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Reproduce(arguments) => reproduce::run(arguments),
        Command::Train(arguments) => train::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bipedalnet: {failure}");
            ExitCode::FAILURE
        }
    }
}
