//! `bipedalnet doctor`
//!
//! | file | what it checks |
//! |---|---|
//! | `report.rs` | nothing: it holds the findings |
//! | `settings.rs` | variables, and values that contradict each other |
//! | `clock.rs` | the clock |
//! | `disk.rs` | space and file system |
//! | `files.rs` | who may read and write which file |
//! | `limits.rs` | open files, memory and processors |
//! | `certificate.rs` | certificate and key for TLS |
//! | `backup.rs` | the newest backup |
//! | `database.rs` | database, keyring, master key and models |
//! | `keys.rs` | API keys |
//! | `server.rs` | whether a server answers |

mod backup;
mod certificate;
mod clock;
mod database;
mod disk;
mod files;
mod keys;
mod limits;
mod report;
mod server;
mod settings;

use std::process::ExitCode;

use report::Report;

use super::{Failure, serve};
use crate::store::Inspection;

/// Check a deployment, and say what to mend
///
/// Takes the settings of `serve`. Works beside a running server, and changes nothing. Prints a line for
/// each check: ok, warning or problem, with the cure. Exits with 1 if there is a problem. Run it as the
/// user of the service.
#[derive(clap::Args)]
// The group of `serve::Arguments` has the same name.
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    serve: serve::Arguments,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { serve, json } = arguments;
    let config = serve.config;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let file = config.database.file();
    let inspection = match file {
        Some(path) if !path.exists() => Ok(None),
        _ => runtime
            .block_on(Inspection::of(&config.database, config.master_key_file.as_deref()))
            .map(Some),
    };
    let mut report = Report::default();
    database::check(&mut report, &config, &inspection);
    let inspection = inspection.ok().flatten();
    if let Some(inspection) = &inspection {
        if file.is_some() {
            backup::check(&mut report, inspection);
        }
        keys::check(&mut report, &config, &inspection.api_keys);
    }
    let holder = server::check(&mut report, &config);
    settings::check(&mut report, &config);
    files::check(&mut report, &config);
    if let Some(path) = file {
        disk::check(&mut report, path);
    }
    clock::check(&mut report, &config, inspection.as_ref());
    limits::check(&mut report, &config, inspection.as_ref(), holder);
    certificate::check(&mut report, &config);
    report.print(json)?;
    Ok(if report.has_problem() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
