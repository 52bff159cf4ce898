//! `bipedalnet identify`

use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use super::remote::{Remote, about, read, status};
use bipedalnet_client::api::{Identified, IdentifyAnswer};

/// Tell who is walking
///
/// Exits with 0 where the walker is identified, with 3 where unknown or inconclusive, and with 1
/// where there is no answer.
#[derive(clap::Args)]
pub struct Arguments {
    /// Recording: .csv, .json or .cbor, gzipped or not
    file: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { file, remote } = arguments;
    let walks = read(std::slice::from_ref(&file))?;
    remote.ask(async |client| {
        let answer = client.identify(&walks[0].1, None).await;
        let answer = answer.map_err(|error| about(&file, error))?;
        remote.print(&answer, &line(&answer))?;
        Ok(status(answer.decision == Identified::Identified))
    })
}

fn line(answer: &IdentifyAnswer) -> String {
    let windows = answer.windows;
    match (answer.decision, &answer.user) {
        (Identified::Identified, user) => {
            let user = user.as_deref().unwrap_or_default();
            let nearest = answer.candidates.iter().flatten().next();
            let estimated = nearest.map(|nearest| {
                format!(", at an estimated false match rate of {}", nearest.estimated_fmr)
            });
            format!("{user}, by {windows} windows of walking{}", estimated.unwrap_or_default())
        }
        (Identified::Unknown, _) => format!("unknown, by {windows} windows of walking"),
        (Identified::Inconclusive, _) => {
            format!("inconclusive: {windows} windows of walking are too few to tell")
        }
    }
}
