//! What the subcommands that call a running server share.

use std::path::Path;
use std::process::ExitCode;

use bipedalnet_client::Client;
use bipedalnet_client::api::Doubt;
use serde::Serialize;

use super::Failure;

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
    pub fn call<T>(
        &self,
        key: Option<String>,
        work: impl AsyncFnOnce(Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let client = Client::new(&self.url, key)?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work(client))
    }
}

#[derive(clap::Args)]
pub(super) struct Remote {
    #[command(flatten)]
    server: ServerUrl,
    /// API key, if the server requires one. Prefer the variable: other users can see arguments
    #[arg(long, env = "BIPEDALNET_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// Print the response as one line of JSON
    #[arg(long)]
    json: bool,
}

impl Remote {
    pub fn call<T>(
        &self,
        work: impl AsyncFnOnce(Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.server.call(self.key.clone(), work)
    }

    /// Prints the response as JSON, or `line`.
    pub fn print(&self, answer: &impl Serialize, line: &str) -> Result<(), Failure> {
        match self.json {
            true => println!("{}", serde_json::to_string(answer)?),
            false => println!("{line}"),
        }
        Ok(())
    }
}

#[derive(clap::Args)]
pub(super) struct Within {
    /// Collection of the users [default: the only one that the key is bound to, or `default`]
    #[arg(long, value_name = "ID")]
    collection: Option<String>,
}

impl Within {
    /// A client for the users of the collection.
    pub fn of(&self, client: Client) -> Client {
        match &self.collection {
            Some(collection) => client.in_collection(collection),
            None => client,
        }
    }
}

/// Exit code of a decision: 3 tells scripts that there is no match and no error either.
pub(super) fn status(is_match: bool) -> ExitCode {
    if is_match { ExitCode::SUCCESS } else { ExitCode::from(3) }
}

/// Why a walk does not allow a decision.
pub(super) fn explain(reason: Option<Doubt>, windows: u32) -> String {
    match reason {
        Some(Doubt::Ambiguous) => "several users match about equally well".to_owned(),
        Some(Doubt::Mirrored) => {
            "only the mirror image of the walk matches a user: the axes have another order or other \
             signs than in the enrolled walks"
                .to_owned()
        }
        Some(Doubt::Unfamiliar) => {
            "the walking is unlike any that the model was calibrated on".to_owned()
        }
        Some(Doubt::TooShort) | None => {
            format!("{windows} windows of walking are too few; send a longer walk")
        }
    }
}

/// Adds the file's name to an error.
pub(super) fn about(path: &Path, error: impl std::fmt::Display) -> Failure {
    format!("{}: {error}", path.display()).into()
}
