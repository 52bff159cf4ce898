//! `bipedalnet healthcheck`

use super::Failure;
use super::remote::ServerUrl;

/// Check whether a server runs, for containers without other tools
///
/// Exits with 0 if it runs, with 1 if not.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    server: ServerUrl,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.server.call(None, async |client| Ok(client.live().await?))
}
