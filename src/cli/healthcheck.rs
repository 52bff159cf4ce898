//! `bipedalnet healthcheck`

use super::Failure;
use crate::client::Client;

/// Tell whether a server runs, for containers that hold no other program
///
/// Exits with 0 where it does, with 1 where not.
#[derive(clap::Args)]
pub struct Arguments {
    /// URL of the server
    #[arg(
        long,
        env = "BIPEDALNET_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    url: String,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = Client::new(&arguments.url, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(client.live())?)
}
