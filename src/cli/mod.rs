//! The command line: one file per subcommand.

mod audit;
mod backup;
mod config;
mod confirm_clock;
mod copy;
mod data;
mod demo;
mod descriptors;
mod doctor;
mod enroll;
mod evaluate;
mod healthcheck;
mod identify;
mod keys;
mod migrate;
mod model_file;
mod output_file;
mod phone_demo;
mod progress;
mod reload;
mod remote;
mod renew_templates;
mod reproduce;
mod restore;
mod retrain;
mod rotate_master_key;
mod serve;
mod server_database;
mod settings;
mod simulate;
mod throwaway;
mod train;
mod trial;
mod verify;
mod watchdog;

use std::process::ExitCode;

use bipedalnet_core::bnn::Kernels;
use clap::{Parser, Subcommand};
use settings::CommandLine;

/// Identifies people by the way they walk, from the accelerometer of a phone.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
To try it:
  bipedalnet demo                              enroll and identify simulated walkers
  bipedalnet serve                             start the server on 127.0.0.1:8080
  bipedalnet simulate --seconds 40 > walk.json
  bipedalnet enroll ann walk.json
  bipedalnet simulate --walk 2 > later.json
  bipedalnet identify later.json

Exit codes:
  0  success: the walker was identified or accepted
  1  error
  2  wrong arguments
  3  no match (identify, verify), or the new model was not activated (retrain --watch)";

#[derive(Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Serve(serve::Arguments),
    Enroll(enroll::Arguments),
    Identify(identify::Arguments),
    Verify(verify::Arguments),
    Simulate(simulate::Arguments),
    Keys(keys::Arguments),
    Config(config::Arguments),
    Audit(audit::Arguments),
    ConfirmClock(confirm_clock::Arguments),
    Backup(backup::Arguments),
    Restore(restore::Arguments),
    Copy(copy::Arguments),
    Migrate(migrate::Arguments),
    RotateMasterKey(rotate_master_key::Arguments),
    RenewTemplates(renew_templates::Arguments),
    Doctor(doctor::Arguments),
    Healthcheck(healthcheck::Arguments),
    Retrain(retrain::Arguments),
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
    Trial(trial::Arguments),
    Reproduce(reproduce::Arguments),
}

/// An error that is printed and ends the program.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Forces one kind of kernels, for tests and measurements.
const KERNELS_VARIABLE: &str = "BIPEDALNET_KERNELS";

/// Runs the program with the process's arguments.
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
        Command::Audit(arguments) => audit::run(arguments).map(done),
        Command::ConfirmClock(arguments) => confirm_clock::run(arguments).map(done),
        Command::Backup(arguments) => backup::run(arguments).map(done),
        Command::Restore(arguments) => restore::run(arguments).map(done),
        Command::Copy(arguments) => copy::run(arguments).map(done),
        Command::Migrate(arguments) => migrate::run(arguments).map(done),
        Command::RotateMasterKey(arguments) => rotate_master_key::run(arguments).map(done),
        Command::RenewTemplates(arguments) => renew_templates::run(arguments).map(done),
        Command::Demo(arguments) => demo::run(arguments).map(done),
        Command::Simulate(arguments) => simulate::run(arguments).map(done),
        Command::Reproduce(arguments) => reproduce::run(arguments).map(done),
        Command::Retrain(arguments) => retrain::run(arguments),
        Command::Train(arguments) => train::run(arguments).map(done),
        Command::Evaluate(arguments) => evaluate::run(arguments).map(done),
        Command::Trial(arguments) => trial::run(arguments).map(done),
        Command::Doctor(arguments) => doctor::run(arguments),
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
