//! The command line: one file per subcommand. Each prints and exits; the work is done elsewhere.

mod backup;
mod config;
mod data;
mod demo;
mod enroll;
mod evaluate;
mod healthcheck;
mod identify;
mod keys;
mod output_file;
mod progress;
mod reload;
mod remote;
mod reproduce;
mod retrain;
mod serve;
mod settings;
mod simulate;
mod systemd;
mod throwaway;
mod train;
mod trial;
mod verify;

use std::process::ExitCode;

use bipedalnet_core::bnn::Kernels;
use clap::{Parser, Subcommand};
use settings::CommandLine;

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
    Config(config::Arguments),
    Enroll(enroll::Arguments),
    Identify(identify::Arguments),
    Verify(verify::Arguments),
    Keys(keys::Arguments),
    Backup(backup::Arguments),
    Demo(demo::Arguments),
    Simulate(simulate::Arguments),
    Reproduce(reproduce::Arguments),
    Retrain(retrain::Arguments),
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
    Trial(trial::Arguments),
    Healthcheck(healthcheck::Arguments),
}

/// Why a command failed, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The variable that forces one kind of kernels, for tests and measurements.
const KERNELS_VARIABLE: &str = "BIPEDALNET_KERNELS";

/// Parses the command line and runs what it asks for.
pub fn run() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let CommandLine { command, settings } = match CommandLine::read() {
        Ok(line) => line,
        Err(failure) => match failure.downcast::<clap::Error>() {
            Ok(usage) => usage.exit(),
            Err(failure) => return failed(&failure),
        },
    };
    if let Err(failure) = choose_kernels() {
        return failed(&failure);
    }
    let result = match command {
        Command::Serve(arguments) => serve::run(arguments, settings).map(done),
        Command::Config(arguments) => config::run(arguments, &settings).map(done),
        Command::Enroll(arguments) => enroll::run(arguments).map(done),
        Command::Identify(arguments) => identify::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Keys(arguments) => keys::run(arguments).map(done),
        Command::Backup(arguments) => backup::run(arguments).map(done),
        Command::Demo(arguments) => demo::run(arguments).map(done),
        Command::Simulate(arguments) => simulate::run(arguments).map(done),
        Command::Reproduce(arguments) => reproduce::run(arguments).map(done),
        Command::Retrain(arguments) => retrain::run(arguments),
        Command::Train(arguments) => train::run(arguments).map(done),
        Command::Evaluate(arguments) => evaluate::run(arguments).map(done),
        Command::Trial(arguments) => trial::run(arguments).map(done),
        Command::Healthcheck(arguments) => healthcheck::run(arguments).map(done),
    };
    match result {
        Ok(status) => status,
        Err(failure) => failed(&failure),
    }
}

fn choose_kernels() -> Result<(), Failure> {
    let Some(name) = std::env::var_os(KERNELS_VARIABLE) else { return Ok(()) };
    Kernels::named(&name.to_string_lossy())
        .map_err(|error| format!("{KERNELS_VARIABLE}: {error}"))?
        .prefer();
    Ok(())
}

fn failed(failure: &Failure) -> ExitCode {
    eprintln!("bipedalnet: {failure}");
    ExitCode::FAILURE
}
