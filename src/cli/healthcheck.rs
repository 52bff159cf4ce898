//! `bipedalnet healthcheck`

use super::Failure;
use super::remote::ServerUrl;

/// Tell whether a server runs, for containers that hold no other program
///
/// Exits with 0 where it does, with 1 where not.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    server: ServerUrl,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.server.ask(None, async |client| Ok(client.live().await?))
}
