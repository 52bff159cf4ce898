//! What subcommands share that ask a running server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::Failure;
use bipedalnet_client::Client;
use bipedalnet_core::gait::Recording;
use bipedalnet_training::read_recording;

/// Which server.
#[derive(clap::Args)]
pub(super) struct ServerUrl {
    /// URL of the server
    #[arg(
        long,
        env = "BIPEDALNET_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    url: String,
}

impl ServerUrl {
    /// Runs what asks the server, with a key where there is one.
    pub fn ask<T>(
        &self,
        key: Option<String>,
        question: impl AsyncFnOnce(Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let client = Client::new(&self.url, key)?;
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(question(client))
    }
}

/// Which server, who asks, and how its answer is shown.
#[derive(clap::Args)]
pub(super) struct Remote {
    #[command(flatten)]
    server: ServerUrl,
    /// API key, where the server asks for one: others on this machine see arguments, not variables
    #[arg(long, env = "BIPEDALNET_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// Print the answer as JSON, on one line
    #[arg(long)]
    json: bool,
}

impl Remote {
    /// Runs what asks the server.
    pub fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.server.ask(self.key.clone(), question)
    }

    /// Prints an answer, for people or for programs.
    pub fn print(&self, answer: &impl Serialize, line: &str) -> Result<(), Failure> {
        match self.json {
            true => println!("{}", serde_json::to_string(answer)?),
            false => println!("{line}"),
        }
        Ok(())
    }
}

/// Status of a decision: 0 where the walker is who is looked for, and 3 where not, so that scripts
/// can tell that from an error.
pub(super) fn status(is_known: bool) -> ExitCode {
    if is_known { ExitCode::SUCCESS } else { ExitCode::from(3) }
}

/// All of the files, so that nothing is sent where one of them is broken.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<(&Path, Recording)>, Failure> {
    files
        .iter()
        .map(|path| match read_recording(path) {
            Ok(recording) => Ok((path.as_path(), recording)),
            Err(error) => Err(about(path, error)),
        })
        .collect()
}

/// Says which file an error is about.
pub(super) fn about(path: &Path, error: impl std::fmt::Display) -> Failure {
    format!("{}: {error}", path.display()).into()
}
